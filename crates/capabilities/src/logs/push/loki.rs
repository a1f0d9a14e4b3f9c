//! Loki's push: JSON, or protobuf compressed with snappy.
//! <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>

use opsroom_analytics::segments::Labels;
use opsroom_core::{Error, Result};
use serde_json::{Map, Value};

use super::protobuf::fields;
use crate::logs::entry::{Gather, labels, level_of, time_of_text};

/// The most bytes that a push unpacks to.
const MOST_UNPACKED: usize = 128 << 20;
/// Labels by which senders name what we call service and host.
const FROM: [(&str, &str); 6] = [
    ("service_name", "service"),
    ("app", "service"),
    ("job", "service"),
    ("hostname", "host"),
    ("instance", "host"),
    ("filename", "source"),
];

/// The labels of a stream; what senders call otherwise is found under our names too.
fn stream(given: Vec<(String, String)>) -> Labels {
    let mut labels = labels(given);
    for (theirs, ours) in FROM {
        if let Some(value) = labels.get(theirs).filter(|_| !labels.contains_key(ours)) {
            labels.insert(ours.to_owned(), value.clone());
        }
    }
    labels
}

fn push(line: &[u8], time: Option<i64>, labels: &Labels, meta: Map<String, Value>, gather: &mut Gather) {
    let stated = ["level", "detected_level", "severity"].iter().find_map(|name| {
        labels.get(*name).map(String::as_str).or_else(|| meta.get(*name).and_then(Value::as_str))
    });
    let level = match stated.map(level_of) {
        Some(level) if level > 0 => level,
        // Most senders leave the level in the line.
        _ => level_in(line),
    };
    let at = gather.stream(labels);
    gather.push(time, level, at, line, &meta);
}

/// The first word of a line's begin that names a level.
fn level_in(line: &[u8]) -> u8 {
    let head = &line[..line.len().min(160)];
    let words = head.split(|b| !b.is_ascii_alphabetic()).filter(|word| (3..=11).contains(&word.len()));
    let loud = |word: &&[u8]| word.iter().all(u8::is_ascii_uppercase);
    let named = |word: &[u8]| level_of(&String::from_utf8_lossy(word));
    let capital = words.clone().filter(loud).map(named).find(|level| *level > 0);
    // In lower case only after `level=` or `"level":"`, so that prose is not taken for a level.
    capital.unwrap_or_else(|| {
        let at = head.windows(5).position(|word| word == b"level").map(|at| at + 5);
        at.map_or(0, |at| {
            let value = head[at..].split(|b| !b.is_ascii_alphabetic()).find(|word| !word.is_empty());
            value.map_or(0, named)
        })
    })
}

/// Reads a push as JSON.
///
/// # Errors
/// `Invalid` for what is none.
pub fn json(body: &[u8], gather: &mut Gather) -> Result<()> {
    let wrong =
        |what: &str| Error::invalid(format!("the body is no push of Loki: {what}; nothing of it was kept"));
    let request: Value =
        serde_json::from_slice(body).map_err(|error| wrong(&format!("not JSON ({error})")))?;
    let streams = request["streams"].as_array().ok_or_else(|| wrong("it has no list `streams`"))?;
    for given in streams {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = given["stream"].as_object().ok_or_else(|| wrong("a stream has no labels `stream`"))?;
        let labels = stream(labels.iter().map(|(name, value)| (name.clone(), text(value))).collect());
        for value in given["values"].as_array().ok_or_else(|| wrong("a stream has no list `values`"))? {
            let time =
                value[0].as_str().and_then(time_of_text).ok_or_else(|| wrong("a value has no time"))?;
            let line = value[1].as_str().ok_or_else(|| wrong("a value has no line"))?;
            let meta = value[2].as_object().cloned().unwrap_or_default();
            push(line.as_bytes(), Some(time), &labels, meta, gather);
        }
    }
    Ok(())
}

/// Reads a push as protobuf that snappy compressed.
///
/// # Errors
/// `Invalid` for what is none, or unpacks to too much.
pub fn protobuf(body: &[u8], gather: &mut Gather) -> Result<()> {
    let wrong =
        |what: String| Error::invalid(format!("the body is no push of Loki: {what}; nothing of it was kept"));
    let length = snap::raw::decompress_len(body).map_err(|error| wrong(format!("not snappy ({error})")))?;
    if length > MOST_UNPACKED {
        return Err(wrong(format!("it unpacks to {length} bytes, at most {MOST_UNPACKED}")));
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|error| wrong(format!("not snappy ({error})")))?;
    fields(&plain, |number, given| match number {
        1 => of_stream(given.bytes(), gather),
        _ => Ok(()),
    })
}

fn of_stream(message: &[u8], gather: &mut Gather) -> Result<()> {
    let mut selector = String::new();
    fields(message, |number, field| {
        if number == 1 {
            selector = field.text();
        }
        Ok(())
    })?;
    let labels = stream(parse_selector(&selector)?);
    fields(message, |number, entry| {
        if number != 2 {
            return Ok(());
        }
        let (mut seconds, mut nanos, mut line, mut meta) = (0i64, 0i64, &[][..], Map::new());
        fields(entry.bytes(), |number, field| match number {
            1 => fields(field.bytes(), |number, field| {
                match number {
                    1 => seconds = field.number() as i64,
                    2 => nanos = field.number() as i64,
                    _ => {}
                }
                Ok(())
            }),
            2 => {
                line = field.bytes();
                Ok(())
            }
            3 => {
                let (mut name, mut value) = (String::new(), String::new());
                fields(field.bytes(), |number, field| {
                    match number {
                        1 => name = field.text(),
                        2 => value = field.text(),
                        _ => {}
                    }
                    Ok(())
                })?;
                meta.insert(name, Value::String(value));
                Ok(())
            }
            _ => Ok(()),
        })?;
        let time = seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000);
        push(line, Some(time), &labels, meta, gather);
        Ok(())
    })
}

/// `{job="api", host="a\"b"}`
fn parse_selector(text: &str) -> Result<Vec<(String, String)>> {
    let wrong = || Error::invalid(format!("`{}` are no labels such as {{job=\"api\"}}", text.escape_debug()));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let mut found = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(wrong)?;
        let after = after.trim_start();
        let mut end = None;
        let mut escaped = false;
        for (at, c) in after.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == '"' {
                end = Some(at);
                break;
            }
        }
        let end = end.filter(|_| after.starts_with('"')).ok_or_else(wrong)?;
        // A label's value is quoted as in Go, of which JSON's texts are the most.
        let value =
            serde_json::from_str::<String>(&after[..=end]).unwrap_or_else(|_| after[1..end].to_owned());
        found.push((name.trim().to_owned(), value));
        rest = after[end + 1..].trim_start().trim_start_matches(',').trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gather: &Gather) {
        let rows = &gather.batch.rows;
        assert_eq!((rows.rows.len(), rows.rows[0].time, rows.rows[0].level), (1, 1_763_719_200_000_001, 5));
        assert_eq!(gather.batch.streams[0]["service"], "a\"b");
        assert!(rows.text.starts_with(b"ERROR disk full\x1f{\"user\":\"ann\"}"));
    }

    #[test]
    fn json_and_snappy_protobuf_say_the_same() {
        let body = br#"{"streams":[{"stream":{"job":"a\"b"},"values":[["1763719200000001000","ERROR disk full",{"user":"ann"}]]}]}"#;
        let mut gather = Gather::at(1_763_719_300_000_000);
        json(body, &mut gather).unwrap();
        check(&gather);

        let tag = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
        let mut time = vec![0x08];
        let mut seconds = 1_763_719_200u64;
        while seconds >= 0x80 {
            time.push(seconds as u8 | 0x80);
            seconds >>= 7;
        }
        time.extend([seconds as u8, 0x10, 0xe8, 0x07]);
        let meta = [tag(1, b"user"), tag(2, b"ann")].concat();
        let entry = [tag(1, &time), tag(2, b"ERROR disk full"), tag(3, &meta)].concat();
        let plain = tag(1, &[tag(1, br#"{job="a\"b"}"#), tag(2, &entry)].concat());
        let body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let mut gather = Gather::at(1_763_719_300_000_000);
        protobuf(&body, &mut gather).unwrap();
        check(&gather);
        assert!(
            protobuf(&body[..body.len() - 1], &mut gather).is_err() && protobuf(b"", &mut gather).is_err()
        );
    }

    #[test]
    fn a_push_that_claims_to_unpack_to_gigabytes_is_refused() {
        let error = protobuf(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], &mut Gather::at(1)).unwrap_err();
        assert!(error.message.contains("at most"), "{error}");
        for body in
            [&b"{}"[..], b"[]", br#"{"streams":[{}]}"#, br#"{"streams":[{"stream":{},"values":[[1]]}]}"#]
        {
            assert!(json(body, &mut Gather::at(1)).is_err());
        }
        assert!(
            parse_selector("{a=b}").is_err()
                && parse_selector("a").is_err()
                && parse_selector("{}").unwrap().is_empty()
        );
    }

    #[test]
    fn the_level_is_found_in_the_line_where_no_label_says_it() {
        assert_eq!(
            (level_in(b"2026 WARN slow"), level_in(b"level=error x"), level_in(b"an error in prose")),
            (4, 5, 0)
        );
    }
}
