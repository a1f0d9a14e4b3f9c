//! `export_logs`: lines that are kept, as a file for others.

use std::io::Write;

use opsroom_core::files::NewFile;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry::{LEVELS, parts, shown_time};
use super::input::Watch;
use super::store::{Line, LogStore};
use super::{Logs, search};

/// Write the log lines that a query means to a file below the server's configured roots: as JSON lines, CSV
/// or plain text, compressed if asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportLogs {
    /// The file, below the server's configured roots. One that is there is not replaced.
    #[schemars(length(min = 1, max = 4096))]
    path: String,
    /// Which lines, as for `search_logs`; empty for all.
    #[serde(default)]
    #[schemars(length(max = 8192))]
    query: String,
    /// From when: RFC 3339, a date, or `-1h`.
    #[serde(default)]
    from: Option<String>,
    /// Until when, not included.
    #[serde(default)]
    until: Option<String>,
    /// How lines are written.
    #[serde(default)]
    format: ExportFormat,
    /// How the file is compressed.
    #[serde(default)]
    compress: Compression,
    /// The most lines.
    #[serde(default = "default_lines")]
    #[schemars(range(min = 1))]
    limit: u64,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated, with a first line that names the columns. Values that a spreadsheet would take for a
    /// formula stand behind an apostrophe.
    Csv,
    /// The lines as they came.
    Plain,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As gzip.
    Gzip,
    /// As zstd.
    Zstd,
}

fn default_lines() -> u64 {
    10_000_000
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Exported {
    /// The file.
    pub path: String,
    /// How many lines it has.
    pub lines: u64,
    /// How many bytes they are, before they were compressed.
    pub bytes: u64,
    /// Whether there were more lines than `limit`.
    pub more: bool,
}

pub(super) async fn export_logs(logs: Logs, call: Call, input: ExportLogs) -> Result<Exported> {
    let wanted = search::wanted(&logs, &call, &input.query, input.from.as_deref(), input.until.as_deref())?;
    let (store, roots) = (logs.store()?, logs.roots().clone());
    Lifecycle::blocking(move || {
        let watch = Watch { progress: call.progress, cancel: call.cancel };
        if roots.open_read(&input.path).is_ok() {
            return Err(Error::conflict(format!(
                "`{}` is there already; choose another name",
                input.path.escape_debug()
            )));
        }
        let file = roots.create(&input.path)?;
        let mut out = Out::new(file, input.compress)?;
        let mut done = Exported { path: input.path.clone(), lines: 0, bytes: 0, more: false };
        let mut text = Vec::new();
        if input.format == ExportFormat::Csv {
            text.extend_from_slice(b"time,level,service,host,source,text,fields\r\n");
            done.bytes += out.write(&text)?;
        }
        store.scan(&wanted, &watch, &mut |line| {
            if done.lines == input.limit {
                done.more = true;
                return Ok(false);
            }
            text.clear();
            one(&line, input.format, &mut text);
            done.bytes += out.write(&text)?;
            done.lines += 1;
            if done.lines.is_multiple_of(65_536) {
                watch.progress.report(None, format!("wrote {} lines", done.lines));
            }
            Ok(true)
        })?;
        out.finish()?;
        Ok(done)
    })
    .await
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

/// A file that is written through a compressor.
enum Out {
    Plain(Sink),
    Gzip(flate2::write::GzEncoder<Sink>),
    Zstd(zstd::stream::write::Encoder<'static, Sink>),
}

struct Sink(NewFile);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Out {
    fn new(file: NewFile, compress: Compression) -> Result<Self> {
        Ok(match compress {
            Compression::None => Out::Plain(Sink(file)),
            Compression::Gzip => {
                Out::Gzip(flate2::write::GzEncoder::new(Sink(file), flate2::Compression::default()))
            }
            Compression::Zstd => {
                Out::Zstd(zstd::stream::write::Encoder::new(Sink(file), 3).map_err(Error::internal)?)
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

    fn finish(self) -> Result<()> {
        let sink = match self {
            Out::Plain(sink) => sink,
            Out::Gzip(encoder) => encoder.finish().map_err(unwritten)?,
            Out::Zstd(encoder) => encoder.finish().map_err(unwritten)?,
        };
        sink.0.finish_new().map(drop)
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
