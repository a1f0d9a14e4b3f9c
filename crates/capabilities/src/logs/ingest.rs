//! `ingest_logs`, and what the raw routes receive.

use bytes::Bytes;
use opsroom_analytics::segments::Labels;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Effect, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entry::{Gather, labels};
use super::push::{loki, otlp};
use super::store::LogStore;
use super::{Logs, lines};

/// The most bytes that a compressed body may unpack to.
const MOST_UNPACKED: u64 = 128 << 20;

/// Keep log lines, so that they can be searched, counted and judged. What was accepted is on the disk when
/// this answers.
///
/// Give `entries`, or `text` with plain lines or one JSON object a line. Times and levels are read off plain
/// lines; lines without a time get that of their arrival.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IngestLogs {
    /// The lines, at most 10000: objects with `message`, and where known `time` (RFC 3339 or since 1970),
    /// `level`, `service`, `host`, `source`, `labels`, `fields`, `trace_id`.
    #[serde(default)]
    #[schemars(length(max = 10000))]
    pub entries: Vec<Map<String, Value>>,
    /// Lines as text: plain, or one JSON object a line.
    #[serde(default)]
    pub text: Option<String>,
    /// The service of lines that name none.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service: Option<String>,
    /// The host of lines that name none.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub host: Option<String>,
    /// Where the lines come from, such as a file's name, for lines that do not say so.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub source: Option<String>,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Kept {
    /// How many lines.
    pub accepted: u64,
    /// What was changed about them, such as times in the future.
    pub notes: Vec<String>,
}

pub(super) async fn ingest_logs(logs: Logs, call: Call, input: IngestLogs) -> Result<Kept> {
    if input.entries.is_empty() && input.text.is_none() {
        return Err(Error::invalid("nothing to keep: give `entries` or `text`"));
    }
    let now = logs.now();
    let gather = Lifecycle::blocking(move || {
        let mut gather = Gather::at(now);
        let given = [("service", input.service), ("host", input.host), ("source", input.source)];
        let own = labels(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        input.entries.into_iter().for_each(|entry| lines::of_object(entry, &own, &mut gather));
        if let Some(text) = input.text {
            by_look(text.as_bytes(), &own, now, &mut gather);
        }
        Ok(gather)
    })
    .await?;
    keep(&logs, &call.caller, gather).await
}

/// Text whose first byte tells whether it is JSON.
fn by_look(text: &[u8], own: &Labels, now: i64, gather: &mut Gather) {
    if text.trim_ascii_start().first() == Some(&b'{') {
        lines::ndjson(text, own, now, gather);
    } else {
        lines::plain(text, own, now, gather);
    }
}

async fn keep(logs: &Logs, caller: &Caller, gather: Gather) -> Result<Kept> {
    let mut notes = Vec::new();
    let mut note = |number: u64, what: &str| {
        if number > 0 {
            notes.push(format!("{number} lines {what}"));
        }
    };
    note(gather.retimed, "had a time in the future or before 1970 and got that of their arrival");
    note(gather.cut, "were longer than 1 MiB and were cut");
    let accepted = logs.store()?.append(caller.team(), gather.batch).await?;
    Ok(Kept { accepted, notes })
}

/// How lines are sent to a raw route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Plain lines, or JSON lines where the content type or the first byte says so.
    Lines,
    /// OpenTelemetry's protocol, as JSON or protobuf.
    Otlp,
    /// Loki's push, as JSON or snappy-compressed protobuf.
    Loki,
}

/// What a raw route received.
#[derive(Debug)]
pub struct Received {
    /// How the lines are sent.
    pub format: Format,
    /// `Content-Type`, in lower case without parameters.
    pub content_type: String,
    /// `Content-Encoding`, in lower case.
    pub encoding: String,
    /// Labels that the query of the request gives.
    pub labels: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Logs {
    /// Whether this caller may send lines to a raw route: the scope is `logs:ingest`.
    ///
    /// # Errors
    /// `Forbidden` when not.
    pub fn may_send(&self, caller: &Caller) -> Result<()> {
        let role = opsroom_core::caller::Role::Operator;
        let by_operation = caller.authorise_action("logs", "ingest_logs", Effect::Write, role);
        by_operation.or_else(|_| caller.authorise_action("logs", "ingest", Effect::Write, role))
    }

    /// Keeps what was sent; it is durable when this answers.
    ///
    /// # Errors
    /// `Invalid` for a body that is not what its type says; then nothing of it is kept. `Unavailable` when
    /// it cannot be kept now.
    pub async fn receive(&self, caller: &Caller, received: Received) -> Result<Kept> {
        self.may_send(caller)?;
        let now = self.now();
        let gather = Lifecycle::blocking(move || gather(received, now)).await?;
        if gather.is_empty() {
            return Ok(Kept { accepted: 0, notes: Vec::new() });
        }
        keep(self, caller, gather).await
    }
}

fn gather(received: Received, now: i64) -> Result<Gather> {
    let body = unpacked(&received.encoding, &received.body)?;
    let mut gather = Gather::at(now);
    let json = received.content_type.ends_with("json");
    match received.format {
        Format::Lines => {
            let own = labels(received.labels);
            if received.content_type.contains("ndjson") || received.content_type.contains("jsonl") {
                lines::ndjson(&body, &own, now, &mut gather);
            } else {
                by_look(&body, &own, now, &mut gather);
            }
        }
        Format::Otlp if json => otlp::json(&body, &mut gather)?,
        Format::Otlp => otlp::protobuf(&body, &mut gather)?,
        Format::Loki if json => loki::json(&body, &mut gather)?,
        Format::Loki => loki::protobuf(&body, &mut gather)?,
    }
    Ok(gather)
}

fn unpacked(encoding: &str, body: &Bytes) -> Result<Bytes> {
    use std::io::Read;
    let stream: Box<dyn Read + '_> = match encoding {
        "" | "identity" | "snappy" => return Ok(body.clone()),
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(&body[..])),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(&body[..])),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(&body[..]).map_err(Error::internal)?),
        other => {
            return Err(Error::invalid(format!(
                "the body is packed as `{}`; gzip, deflate and zstd are read",
                other.escape_debug()
            )));
        }
    };
    let mut plain = Vec::new();
    let read = stream.take(MOST_UNPACKED + 1).read_to_end(&mut plain);
    read.map_err(|error| {
        Error::invalid(format!("the body is not whole {encoding}: {error}; nothing of it was kept"))
    })?;
    if plain.len() as u64 > MOST_UNPACKED {
        return Err(Error::invalid(format!(
            "the body unpacks to more than {MOST_UNPACKED} bytes; send less at once"
        )));
    }
    Ok(plain.into())
}
