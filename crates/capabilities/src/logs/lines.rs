//! Lines as they are sent: plain text, or one JSON object a line.

use opsroom_analytics::parse::{LogParser, MinerConfig, ParserConfig};
use opsroom_analytics::segments::Labels;
use serde_json::{Map, Value};

use super::entry::{Gather, labels, level_number, level_of, time_of};

/// Keys that hold a line's text, the likeliest first.
const TEXT: [&str; 6] = ["message", "msg", "log", "line", "body", "text"];
/// Keys that hold its time.
pub(super) const TIME: [&str; 7] = ["timestamp", "time", "ts", "@timestamp", "date", "datetime", "eventTime"];
/// Keys that hold its level.
const LEVEL: [&str; 5] = ["level", "severity", "lvl", "loglevel", "log.level"];
/// Keys that say where it comes from, and the labels that they become.
const FROM: [(&str, &str); 11] = [
    ("service", "service"),
    ("service_name", "service"),
    ("service.name", "service"),
    ("app", "service"),
    ("host", "host"),
    ("hostname", "host"),
    ("host.name", "host"),
    ("source", "source"),
    ("env", "env"),
    ("namespace", "namespace"),
    ("pod", "pod"),
];

/// How dates are read that state no year, at a time (microseconds since 1970).
pub fn dated(now: i64) -> ParserConfig {
    let year = jiff::Timestamp::from_microsecond(now)
        .map_or(1970, |now| i32::from(jiff::tz::TimeZone::UTC.to_datetime(now).year()));
    let latest = Some(now.saturating_add(86_400_000_000));
    ParserConfig { default_year: year, latest, ..ParserConfig::default() }
}

/// Adds plain lines of one stream. Their times and levels are read off them; a line without a time has that
/// of the line before it, as in a stack trace, or of its arrival.
pub fn plain(text: &[u8], stream: &Labels, latest: i64, gather: &mut Gather) {
    let miner =
        MinerConfig { max_templates: 64, max_examples: 0, max_bytes: 1 << 16, ..MinerConfig::default() };
    let mut parser = LogParser::new(ParserConfig { miner, ..dated(latest) });
    let stream = gather.stream(stream);
    let (mut time, mut level) = (None, 0);
    let none = Map::new();
    for line in text.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let parsed = parser.push(line);
        if parsed.kind == opsroom_analytics::parse::Kind::Head {
            time = parsed.time;
            level = level_number(parsed.level);
        }
        gather.push(time, level, stream, line, &none);
    }
}

/// Adds lines of JSON objects. A line that is none is kept as it is, as plain text.
pub fn ndjson(text: &[u8], stream: &Labels, latest: i64, gather: &mut Gather) {
    for line in text.split(|&b| b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => of_object(object, stream, gather),
            _ => plain(line, stream, latest, gather),
        }
    }
}

/// Adds a line that is a JSON object.
pub fn of_object(mut object: Map<String, Value>, stream: &Labels, gather: &mut Gather) {
    let key = |object: &Map<String, Value>, names: &[&str]| {
        names.iter().find(|name| object.contains_key(**name)).map(|name| (*name).to_owned())
    };
    let mut time = None;
    if let Some(name) = key(&object, &TIME)
        && let Some(found) = object.get(&name).and_then(time_of)
    {
        time = Some(found);
        object.remove(&name);
    }
    let mut level = 0;
    if let Some(name) = key(&object, &LEVEL)
        && let Some(found) =
            object.get(&name).and_then(Value::as_str).map(level_of).filter(|level| *level > 0)
    {
        level = found;
        object.remove(&name);
    }
    let mut own = stream.clone();
    let mut given = Vec::new();
    for (name, label) in FROM {
        if let Some(Value::String(value)) = object.get(name) {
            given.push((label.to_owned(), value.clone()));
            object.remove(name);
        }
    }
    own.extend(labels(given));
    if let Some(Value::Object(more)) = object.get("labels")
        && more.values().all(Value::is_string)
    {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        own.extend(labels(more.iter().map(|(name, value)| (name.clone(), text(value)))));
        object.remove("labels");
    }
    if let Some(Value::Object(more)) = object.remove("fields") {
        object.extend(more);
    }
    let text = match key(&object, &TEXT) {
        Some(name) => match object.remove(&name) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        },
        // Without a text of its own the whole object is what it says.
        None => Value::Object(std::mem::take(&mut object)).to_string(),
    };
    let at = gather.stream(&own);
    gather.push(time, level, at, text.as_bytes(), &object);
}

#[cfg(test)]
mod tests {
    use super::super::entry::parts;
    use super::*;

    fn lines(gather: &Gather) -> Vec<(i64, u8, String)> {
        let rows = &gather.batch.rows;
        let text = |row| String::from_utf8_lossy(rows.text_of(row)).into_owned();
        rows.rows.iter().map(|row| (row.time / 1_000_000, row.level, text(row))).collect()
    }

    #[test]
    fn a_stack_trace_has_the_time_and_the_level_of_its_first_line() {
        let mut gather = Gather::at(1_763_800_000_000_000);
        let text = b"2025-11-21 10:00:00 ERROR request failed\n\tat a.B.c(B.java:1)\r\n\n2025-11-21 10:00:01 INFO next\n";
        plain(text, &Labels::new(), 1_763_800_000_000_000, &mut gather);
        let lines = lines(&gather);
        assert_eq!(
            lines.iter().map(|l| (l.0, l.1)).collect::<Vec<_>>(),
            [(1_763_719_200, 5), (1_763_719_200, 5), (1_763_719_201, 3)]
        );
        assert_eq!(lines[1].2, "\tat a.B.c(B.java:1)");
    }

    #[test]
    fn json_lines_fall_into_their_parts_and_other_lines_are_kept() {
        let mut gather = Gather::at(1_763_800_000_000_000);
        let text = br#"{"ts":"2025-11-21T10:00:00Z","level":"warn","service":"api","msg":"slow","took_ms":17}
{"half": "a
{"n":1}
"#;
        ndjson(
            text,
            &Labels::from([("host".to_owned(), "h1".to_owned())]),
            1_763_800_000_000_000,
            &mut gather,
        );
        let found = lines(&gather);
        assert_eq!((found[0].0, found[0].1), (1_763_719_200, 4));
        let (text, fields) = parts(found[0].2.as_bytes());
        assert_eq!((text, fields.unwrap()["took_ms"].as_i64()), (&b"slow"[..], Some(17)));
        assert_eq!((found[1].2.as_str(), found[2].2.as_str()), ("{\"half\": \"a", "{\"n\":1}"));
        let labels = &gather.batch.streams[gather.batch.rows.rows[0].stream as usize];
        assert_eq!((labels["service"].as_str(), labels["host"].as_str()), ("api", "h1"));
    }
}
