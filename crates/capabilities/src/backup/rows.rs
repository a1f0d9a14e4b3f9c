//! Rows as lines of JSON. The first line of a table has its columns' names, each further one a row: an array.
//!
//! Numbers of double precision are texts, because a JSON number need not be read back as the very same one,
//! and has no infinity. Bytes are base64.

use std::io::{BufRead, Read};

use data_encoding::BASE64;
use opsroom_core::db::schema::Kind;
use opsroom_core::db::{Cell, Shape};
use opsroom_core::{Error, Result};
use serde_json::Value;

/// The longest line, in bytes: no database's row is longer.
const LONGEST: u64 = 1 << 30;

/// The first line of a table.
pub fn head(shape: &Shape, out: &mut Vec<u8>) -> Result<()> {
    let names: Vec<&str> = shape.fields.iter().map(|field| field.name.as_str()).collect();
    line(&Value::from(names), out)
}

/// A row's line.
pub fn row(cells: Vec<Cell>, out: &mut Vec<u8>) -> Result<()> {
    let value = |cell| match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => value.into(),
        Cell::Integer(value) => value.into(),
        Cell::Double(value) => format!("{value:?}").into(),
        Cell::Text(value) => value.into(),
        Cell::Bytes(value) => BASE64.encode(&value).into(),
    };
    line(&Value::from(cells.into_iter().map(value).collect::<Vec<_>>()), out)
}

fn line(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(Error::internal)?;
    out.push(b'\n');
    Ok(())
}

/// Reads the rows of a table, line by line.
pub struct Rows<'a, R> {
    shape: &'a Shape,
    from: R,
    line: Vec<u8>,
    number: u64,
}

impl<'a, R: BufRead> Rows<'a, R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// `Invalid` when the columns are not the table's.
    pub fn begin(shape: &'a Shape, from: R) -> Result<Self> {
        let mut rows = Self { shape, from, line: Vec::new(), number: 0 };
        let names = shape.fields.iter().map(|field| Value::from(field.name.as_str())).collect::<Vec<_>>();
        match rows.read()? {
            Some(Value::Array(found)) if found == names => Ok(rows),
            _ => Err(rows.wrong("it does not begin with the table's columns")),
        }
    }

    /// How many rows were read.
    pub fn count(&self) -> u64 {
        self.number.saturating_sub(1)
    }

    /// The next row.
    ///
    /// # Errors
    /// `Invalid` for a line that is no row of the table.
    pub fn next_row(&mut self) -> Result<Option<Vec<Cell>>> {
        let Some(value) = self.read()? else { return Ok(None) };
        let Value::Array(values) = value else { return Err(self.wrong("it is no array")) };
        if values.len() != self.shape.fields.len() {
            return Err(self.wrong("it has another number of columns"));
        }
        let cells = values.into_iter().zip(&self.shape.fields).map(|(value, field)| cell(value, field.kind));
        let cells: Option<Vec<Cell>> = cells.collect();
        cells.map(Some).ok_or_else(|| self.wrong("a value is of another type than its column"))
    }

    fn read(&mut self) -> Result<Option<Value>> {
        self.line.clear();
        let read = (&mut self.from).take(LONGEST).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| self.wrong(&format!("the archive cannot be read: {error}")))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.pop() != Some(b'\n') {
            return Err(self.wrong("it does not end"));
        }
        serde_json::from_slice(&self.line).map(Some).map_err(|_| self.wrong("it is no JSON"))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!(
            "line {} of the table `{}` in the archive is wrong: {what}; nothing was restored",
            self.number, self.shape.name
        ))
    }
}

fn cell(value: Value, kind: Kind) -> Option<Cell> {
    Some(match (value, kind) {
        (Value::Null, _) => Cell::Null,
        (Value::Bool(value), Kind::Bool) => Cell::Bool(value),
        (Value::Number(value), Kind::Integer) => Cell::Integer(value.as_i64()?),
        (Value::String(value), Kind::Double) => Cell::Double(value.parse().ok()?),
        (Value::String(value), Kind::Text) => Cell::Text(value),
        (Value::String(value), Kind::Bytes) => Cell::Bytes(BASE64.decode(value.as_bytes()).ok()?),
        _ => return None,
    })
}
