//! The shape of our tables, and what is in them as values that are no database's own.
//!
//! The shape is the same on every database: it is read from a scratch SQLite database in memory, in which
//! the migrations have just been made. What those put in it is known from there too.

use sea_query::{Alias, Expr, ExprTrait as _, Query, SelectStatement, Value};
use sqlx::Row as _;
use sqlx::sqlite::SqlitePoolOptions;

use super::{Db, Migration, RECORDS, Row, failed};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no.
    Bool,
    /// A whole number of up to 64 bits.
    Integer,
    /// A number of double precision.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Its columns, in the order in which rows have them.
    pub fields: Vec<Field>,
    /// How many rows the migrations put in it.
    pub made: u64,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Cell {
    /// How many bytes of memory it takes, about.
    pub fn weight(&self) -> usize {
        match self {
            Cell::Text(text) => text.len() + 16,
            Cell::Bytes(bytes) => bytes.len() + 16,
            _ => 16,
        }
    }

    /// The value to bind for a column; `None` when it is none of that column's.
    pub(super) fn bound(self, kind: Kind) -> Option<Value> {
        Some(match (self, kind) {
            (Cell::Null, Kind::Bool) => Value::Bool(None),
            (Cell::Null, Kind::Integer) => Value::BigInt(None),
            (Cell::Null, Kind::Double) => Value::Double(None),
            (Cell::Null, Kind::Text) => Value::String(None),
            (Cell::Null, Kind::Bytes) => Value::Bytes(None),
            (Cell::Bool(value), Kind::Bool) => Value::Bool(Some(value)),
            (Cell::Integer(value), Kind::Integer) => Value::BigInt(Some(value)),
            (Cell::Double(value), Kind::Double) => Value::Double(Some(value)),
            (Cell::Text(value), Kind::Text) => Value::String(Some(value)),
            (Cell::Bytes(value), Kind::Bytes) => Value::Bytes(Some(value)),
            _ => return None,
        })
    }
}

impl Shape {
    /// The tables that these migrations make, by name, without the table of their records.
    ///
    /// # Errors
    /// `Internal` for a column of a type that no table has had yet.
    pub async fn all(capabilities: &[(&'static str, &[Migration])]) -> Result<Vec<Shape>> {
        // One connection that is never replaced: the database is gone with it.
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect("sqlite::memory:").await.map_err(failed)?;
        let db = Db::Sqlite { writer: pool.clone(), readers: pool.clone() };
        db.migrate(&Clock::System, capabilities).await?;
        let names = db.tables().await?;
        let mut shapes = Vec::new();
        for name in names.into_iter().filter(|name| name != RECORDS) {
            let columns = sqlx::query("SELECT name, type FROM pragma_table_info($1) ORDER BY cid");
            let columns = columns.bind(&name).fetch_all(&pool).await.map_err(failed)?;
            let field = |row: &sqlx::sqlite::SqliteRow| {
                let (name, declared): (String, String) =
                    (row.try_get("name").map_err(failed)?, row.try_get("type").map_err(failed)?);
                Ok(Field { kind: kind_of(&declared)?, name })
            };
            let fields = columns.iter().map(field).collect::<Result<_>>()?;
            let made = db.count(&name).await?;
            shapes.push(Shape { name, fields, made });
        }
        pool.close().await;
        Ok(shapes)
    }

    /// The query of all its rows.
    pub(super) fn select(&self) -> SelectStatement {
        Query::select()
            .columns(self.fields.iter().map(|field| Alias::new(&field.name)))
            .from(Alias::new(&self.name))
            .to_owned()
    }

    /// A row's values, in the order of the fields.
    pub(super) fn cells(&self, row: &Row) -> Result<Vec<Cell>> {
        let cell = |field: &Field| {
            let name = field.name.as_str();
            let found = match field.kind {
                Kind::Bool => row.get::<Option<bool>>(name)?.map(Cell::Bool),
                // PostgreSQL's columns of 32 bits are read as such or not at all.
                Kind::Integer => match row.get::<Option<i64>>(name) {
                    Ok(value) => value.map(Cell::Integer),
                    Err(_) => row.get::<Option<i32>>(name)?.map(|value| Cell::Integer(value.into())),
                },
                Kind::Double => row.get::<Option<f64>>(name)?.map(Cell::Double),
                Kind::Text => row.get::<Option<String>>(name)?.map(Cell::Text),
                Kind::Bytes => row.get::<Option<Vec<u8>>>(name)?.map(Cell::Bytes),
            };
            Ok(found.unwrap_or(Cell::Null))
        };
        self.fields.iter().map(cell).collect()
    }
}

fn kind_of(declared: &str) -> Result<Kind> {
    let word = declared.to_ascii_lowercase();
    Ok(match word.split(['(', ' ']).next().unwrap_or_default() {
        "boolean" => Kind::Bool,
        "integer" | "bigint" => Kind::Integer,
        "double" => Kind::Double,
        "varchar" | "text" => Kind::Text,
        "blob" => Kind::Bytes,
        _ => return Err(Error::internal(format!("no kind is known for columns of type {declared:?}"))),
    })
}

impl Db {
    /// The names of the tables that are there, ours and others'.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let names: sqlx::Result<Vec<String>> = match self {
            Db::Sqlite { readers, .. } => {
                sqlx::query_scalar(
                    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
                )
                .fetch_all(readers)
                .await
            }
            Db::Postgres(pool) => {
                sqlx::query_scalar(
                    "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1",
                )
                .fetch_all(pool)
                .await
            }
            Db::MySql(pool) => {
                sqlx::query_scalar(
                    "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() \
                     ORDER BY 1",
                )
                .fetch_all(pool)
                .await
            }
        };
        names.map_err(failed)
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> Result<u64> {
        let count = Expr::col(sea_query::Asterisk).count();
        let query = Query::select().expr_as(count, Alias::new("n")).from(Alias::new(table)).to_owned();
        let row = self.first(&query).await?.ok_or_else(|| Error::internal("a count gave no row"))?;
        u64::try_from(row.get::<i64>("n")?).map_err(Error::internal)
    }

    /// The first of these tables that has rows besides those that the migrations made; `None` for a database
    /// that nobody has used.
    pub async fn used(&self, shapes: &[Shape]) -> Result<Option<String>> {
        let there = self.tables().await?;
        for shape in shapes.iter().filter(|shape| there.contains(&shape.name)) {
            if self.count(&shape.name).await? > shape.made {
                return Ok(Some(shape.name.clone()));
            }
        }
        Ok(None)
    }
}
