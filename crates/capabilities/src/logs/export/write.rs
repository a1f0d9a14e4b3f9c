//! Writing lines in a format, through a compressor, to a file or to objects of a source.

use std::io::Write;

use opsroom_core::files::{NewFile, Roots};
use opsroom_core::{Error, Result};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::parquet::Parquet;
use super::{Compression, ExportFormat};
use crate::logs::entry::{LEVELS, parts, shown_time};
use crate::logs::sources::Reached;
use crate::logs::store::Line;

/// Bytes of an object, as it is sent, from which on another one begins.
const OBJECT: usize = 64 << 20;
/// The columns of Parquet besides the time.
const COLUMNS: [&str; 7] = ["level", "service", "host", "source", "labels", "text", "fields"];

/// Where lines are written to.
pub(super) enum Target {
    File(Roots, String),
    Source(Box<Reached>, String, Handle),
}

impl Target {
    /// A new file below the roots.
    pub fn file(roots: Roots, path: String) -> Self {
        Target::File(roots, path)
    }

    /// New objects of a source, written with the help of this runtime.
    pub fn source(reached: Reached, key: String, handle: Handle) -> Self {
        Target::Source(Box::new(reached), key, handle)
    }

    fn open(&self) -> Result<Sink> {
        let Target::File(roots, path) = self else { return Ok(Sink::Memory(Vec::new())) };
        if roots.open_read(path).is_ok() {
            return Err(Error::conflict(format!(
                "`{}` is there already; choose another name",
                path.escape_debug()
            )));
        }
        roots.create(path).map(Sink::File)
    }
}

/// The key of an object: the first has it as it is, `logs/a.csv.gz`, the second is `logs/a.2.csv.gz`.
fn key_of(key: &str, number: usize) -> String {
    if number == 1 {
        return key.to_owned();
    }
    let name = key.rfind('/').map_or(0, |at| at + 1);
    let end = key[name..].find('.').filter(|at| *at > 0).map_or(key.len(), |at| name + at);
    format!("{}.{number}{}", &key[..end], &key[end..])
}

/// Writes lines.
pub(super) struct Writer {
    target: Target,
    format: ExportFormat,
    compress: Compression,
    out: Option<Out>,
    parquet: Option<Parquet>,
    /// A line as it is written.
    text: Vec<u8>,
    bytes: u64,
    objects: Vec<String>,
}

impl Writer {
    /// # Errors
    /// `Conflict` when there is such a file already.
    pub fn begin(target: Target, format: ExportFormat, compress: Compression) -> Result<Self> {
        let (bytes, text) = (0, Vec::new());
        let mut writer =
            Self { target, format, compress, out: None, parquet: None, text, bytes, objects: Vec::new() };
        writer.open()?;
        Ok(writer)
    }

    fn open(&mut self) -> Result<()> {
        self.out = Some(Out::new(self.target.open()?, self.compress)?);
        self.text.clear();
        match self.format {
            ExportFormat::Csv => {
                self.text.extend_from_slice(b"time,level,service,host,source,text,fields\r\n");
            }
            ExportFormat::Parquet => self.parquet = Some(Parquet::new(&COLUMNS, &mut self.text)),
            ExportFormat::Ndjson | ExportFormat::Plain => {}
        }
        self.give()
    }

    /// Writes what is ready.
    fn give(&mut self) -> Result<()> {
        if let Some(out) = &mut self.out {
            self.bytes += out.write(&self.text)?;
        }
        Ok(())
    }

    /// # Errors
    /// `Unavailable` when it cannot be written.
    pub fn line(&mut self, line: &Line) -> Result<()> {
        if self.out.is_none() {
            self.open()?;
        }
        self.text.clear();
        match &mut self.parquet {
            Some(parquet) => row(line, parquet, &mut self.text)?,
            None => one(line, self.format, &mut self.text),
        }
        self.give()?;
        // Files grow as they like; an object is in memory until it is sent.
        if self.out.as_ref().is_some_and(|out| out.held() >= OBJECT) { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        self.text.clear();
        if let Some(parquet) = self.parquet.take() {
            parquet.finish(&mut self.text)?;
            self.give()?;
        }
        let Some(out) = self.out.take() else { return Ok(()) };
        match (out.finish()?, &self.target) {
            (Sink::File(file), _) => file.finish_new().map(drop),
            (Sink::Memory(body), Target::Source(reached, key, handle)) => {
                let key = key_of(key, self.objects.len() + 1);
                handle.block_on(reached.put(&key, body.into()))?;
                self.objects.push(key);
                Ok(())
            }
            (Sink::Memory(_), Target::File(..)) => Err(Error::internal("a file that was held in memory")),
        }
    }

    /// All is there when it answers: the bytes before they were compressed, and the objects of a source.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written, `Conflict` when there is such a file or object by now.
    pub fn finish(mut self) -> Result<(u64, Vec<String>)> {
        self.close()?;
        Ok((self.bytes, self.objects))
    }
}

fn row(line: &Line, parquet: &mut Parquet, out: &mut Vec<u8>) -> Result<()> {
    let (text, fields) = parts(&line.text);
    let label = |name: &str| line.labels.get(name).map_or("", String::as_str);
    let labels = json!(line.labels).to_string();
    let fields = fields.map_or(String::new(), |fields| Value::Object(fields).to_string());
    let level = LEVELS[line.level.min(6) as usize];
    let text = String::from_utf8_lossy(text);
    let texts = [level, label("service"), label("host"), label("source"), &labels, &text, &fields];
    parquet.row(line.time, &texts, out)
}

/// Writes a line.
fn one(line: &Line, format: ExportFormat, out: &mut Vec<u8>) {
    let (text, fields) = parts(&line.text);
    match format {
        ExportFormat::Plain => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
        ExportFormat::Ndjson => {
            let mut object = json!({
                "time": shown_time(line.time),
                "level": LEVELS[line.level.min(6) as usize],
                "labels": line.labels,
                "message": String::from_utf8_lossy(text),
            });
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                object["fields"] = Value::Object(fields);
            }
            out.extend_from_slice(object.to_string().as_bytes());
            out.push(b'\n');
        }
        // Rows of Parquet are not lines; who writes them has columns.
        ExportFormat::Parquet => {}
        ExportFormat::Csv => {
            let label = |name: &str| line.labels.get(name).cloned().unwrap_or_default();
            let fields = fields.map_or(String::new(), |fields| Value::Object(fields).to_string());
            let values = [
                shown_time(line.time),
                LEVELS[line.level.min(6) as usize].to_owned(),
                label("service"),
                label("host"),
                label("source"),
                String::from_utf8_lossy(text).into_owned(),
                fields,
            ];
            let cells: Vec<String> = values.iter().map(|value| cell(value)).collect();
            out.extend_from_slice(cells.join(",").as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A value of CSV (RFC 4180) that no spreadsheet takes for a formula, whatever somebody got logged.
fn cell(value: &str) -> String {
    let formula =
        value.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
            || value.starts_with(['\t', '\r', '\n']);
    let safe = if formula { format!("'{value}") } else { value.to_owned() };
    if safe.contains([',', '"', '\n', '\r']) || formula {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

/// What is written through a compressor.
enum Out {
    Plain(Sink),
    Gzip(flate2::write::GzEncoder<Sink>),
    Zstd(zstd::stream::write::Encoder<'static, Sink>),
}

/// Where bytes go in the end.
enum Sink {
    File(NewFile),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Sink::File(file) => file.write(bytes).map_err(std::io::Error::other)?,
            Sink::Memory(held) => held.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Out {
    fn new(sink: Sink, compress: Compression) -> Result<Self> {
        Ok(match compress {
            Compression::None => Out::Plain(sink),
            Compression::Gzip => {
                Out::Gzip(flate2::write::GzEncoder::new(sink, flate2::Compression::default()))
            }
            Compression::Zstd => {
                Out::Zstd(zstd::stream::write::Encoder::new(sink, 3).map_err(Error::internal)?)
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        let written = match self {
            Out::Plain(sink) => sink.write_all(bytes),
            Out::Gzip(sink) => sink.write_all(bytes),
            Out::Zstd(sink) => sink.write_all(bytes),
        };
        written.map_err(unwritten)?;
        Ok(bytes.len() as u64)
    }

    /// Bytes that are held in memory.
    fn held(&self) -> usize {
        let sink = match self {
            Out::Plain(sink) => sink,
            Out::Gzip(encoder) => encoder.get_ref(),
            Out::Zstd(encoder) => encoder.get_ref(),
        };
        match sink {
            Sink::File(_) => 0,
            Sink::Memory(held) => held.len(),
        }
    }

    fn finish(self) -> Result<Sink> {
        match self {
            Out::Plain(sink) => Ok(sink),
            Out::Gzip(encoder) => encoder.finish().map_err(unwritten),
            Out::Zstd(encoder) => encoder.finish().map_err(unwritten),
        }
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::unavailable(format!("the file cannot be written: {error}; nothing of it was kept"))
}

#[cfg(test)]
mod tests {
    use opsroom_analytics::segments::Labels;

    use super::*;

    #[test]
    fn a_formula_that_somebody_got_logged_is_text_in_a_spreadsheet() {
        for value in
            ["=HYPERLINK(\"http://evil\")", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", " =1", "\t=1"]
        {
            let cell = cell(value);
            assert!(cell.starts_with("\"'"), "{cell}");
        }
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("plain text"), "plain text");
    }

    #[test]
    fn further_objects_have_their_number_before_the_endings() {
        assert_eq!(key_of("logs/a.csv.gz", 1), "logs/a.csv.gz");
        assert_eq!(key_of("logs/a.csv.gz", 2), "logs/a.2.csv.gz");
        assert_eq!(
            (key_of("a.b/all", 3), key_of(".hidden", 2)),
            ("a.b/all.3".to_owned(), ".hidden.2".to_owned())
        );
    }

    #[test]
    fn a_line_is_written_in_each_format() {
        let line = Line {
            time: 1_763_719_200_000_000,
            level: 5,
            labels: Labels::from([("service".to_owned(), "api".to_owned())]),
            text: b"disk, full\x1f{\"n\":1}".to_vec(),
            template: String::new(),
            before: Vec::new(),
            after: Vec::new(),
        };
        let written = |format| {
            let mut out = Vec::new();
            one(&line, format, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(ExportFormat::Plain), "disk, full\n");
        assert_eq!(
            written(ExportFormat::Csv),
            "2025-11-21T10:00:00Z,error,api,,,\"disk, full\",\"{\"\"n\"\":1}\"\r\n"
        );
        let json: Value = serde_json::from_str(&written(ExportFormat::Ndjson)).unwrap();
        assert_eq!((json["message"].as_str(), json["fields"]["n"].as_i64()), (Some("disk, full"), Some(1)));
    }
}
