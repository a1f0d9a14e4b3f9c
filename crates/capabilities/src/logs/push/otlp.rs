//! OpenTelemetry's protocol for logs, as protobuf and as JSON.
//! <https://opentelemetry.io/docs/specs/otlp/>, <https://opentelemetry.io/docs/specs/otel/logs/data-model/>

use opsroom_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::protobuf::{Field, fields};
use crate::logs::entry::{Gather, labels, level_of};

/// How deep values of attributes may be.
const DEEPEST: usize = 16;
/// Attributes of a resource that become labels, and under which names.
const FROM: [(&str, &str); 8] = [
    ("service.name", "service"),
    ("host.name", "host"),
    ("service.namespace", "namespace"),
    ("deployment.environment", "env"),
    ("deployment.environment.name", "env"),
    ("k8s.namespace.name", "namespace"),
    ("k8s.pod.name", "pod"),
    ("container.name", "container"),
];

/// The level of a severity: 1 to 4 are trace, then debug, info, warn, error, fatal.
fn level(number: u64, text: &str) -> u8 {
    match number {
        1..=24 => ((number - 1) / 4 + 1) as u8,
        _ => level_of(text),
    }
}

/// A record, however it was sent.
#[derive(Default)]
struct Record {
    nanos: u64,
    observed: u64,
    severity: u64,
    severity_text: String,
    body: Value,
    attributes: Map<String, Value>,
    trace: String,
    span: String,
}

struct Origin {
    labels: opsroom_analytics::segments::Labels,
    /// What the resource says beyond the labels.
    rest: Map<String, Value>,
}

fn origin(attributes: Map<String, Value>) -> Origin {
    let mut given = Vec::new();
    let mut rest = Map::new();
    for (name, value) in attributes {
        match (FROM.iter().find(|(known, _)| *known == name), &value) {
            (Some((_, label)), Value::String(text)) => given.push(((*label).to_owned(), text.clone())),
            // What tells of the library that sends is the same on every line and tells nothing of it.
            _ if name.starts_with("telemetry.sdk.") => {}
            _ => drop(rest.insert(name, value)),
        }
    }
    Origin { labels: labels(given), rest }
}

fn push(record: Record, origin: &Origin, gather: &mut Gather) {
    let mut fields = origin.rest.clone();
    fields.extend(record.attributes);
    for (name, value) in [("trace_id", record.trace), ("span_id", record.span)] {
        if value.bytes().any(|b| b != b'0') {
            fields.insert(name.to_owned(), Value::String(value));
        }
    }
    let text = match record.body {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let nanos = if record.nanos > 0 { record.nanos } else { record.observed };
    let time = (nanos > 0).then_some((nanos / 1_000) as i64);
    let stream = gather.stream(&origin.labels);
    gather.push(time, level(record.severity, &record.severity_text), stream, text.as_bytes(), &fields);
}

/// Reads an export request as protobuf.
///
/// # Errors
/// `Invalid` for what is none.
pub fn protobuf(body: &[u8], gather: &mut Gather) -> Result<()> {
    fields(body, |number, resource_logs| match number {
        1 => resource(resource_logs.bytes(), gather),
        _ => Ok(()),
    })
}

fn resource(message: &[u8], gather: &mut Gather) -> Result<()> {
    let mut attributes = Map::new();
    fields(message, |number, field| match number {
        1 => fields(field.bytes(), |number, field| match number {
            1 => attribute(field.bytes(), &mut attributes),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    let origin = origin(attributes);
    fields(message, |number, scope| match number {
        2 => fields(scope.bytes(), |number, field| match number {
            2 => {
                push(record(field.bytes())?, &origin, gather);
                Ok(())
            }
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

fn record(message: &[u8]) -> Result<Record> {
    let mut record = Record::default();
    fields(message, |number, field| {
        match number {
            1 => record.nanos = field.number(),
            2 => record.severity = field.number(),
            3 => record.severity_text = field.text(),
            5 => record.body = value(field.bytes(), 0)?,
            6 => attribute(field.bytes(), &mut record.attributes)?,
            9 => record.trace = hex(field.bytes()),
            10 => record.span = hex(field.bytes()),
            11 => record.observed = field.number(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(record)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(message: &[u8], into: &mut Map<String, Value>) -> Result<()> {
    let (name, value) = pair(message, 0)?;
    into.insert(name, value);
    Ok(())
}

fn pair(message: &[u8], depth: usize) -> Result<(String, Value)> {
    let (mut name, mut held) = (String::new(), Value::Null);
    fields(message, |number, field| {
        match number {
            1 => name = field.text(),
            2 => held = value(field.bytes(), depth)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, held))
}

fn value(message: &[u8], depth: usize) -> Result<Value> {
    if depth > DEEPEST {
        return Err(Error::invalid(format!(
            "a value is deeper than {DEEPEST}; nothing of the request was kept"
        )));
    }
    let mut held = Value::Null;
    fields(message, |number, field| {
        held = match (number, field) {
            (1, field) => Value::String(field.text()),
            (2, field) => Value::Bool(field.number() != 0),
            (3, field) => json!(field.number() as i64),
            (4, Field::Fixed64(bits)) => json!(f64::from_bits(bits)),
            (5, field) => {
                let mut items = Vec::new();
                fields(field.bytes(), |_, item| {
                    items.push(value(item.bytes(), depth + 1)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            (6, field) => {
                let mut pairs = Map::new();
                fields(field.bytes(), |_, item| {
                    let (name, held) = pair(item.bytes(), depth + 1)?;
                    pairs.insert(name, held);
                    Ok(())
                })?;
                Value::Object(pairs)
            }
            (7, field) => Value::String(hex(field.bytes())),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(held)
}

/// Reads an export request as JSON.
///
/// # Errors
/// `Invalid` for what is none.
pub fn json(body: &[u8], gather: &mut Gather) -> Result<()> {
    let request: Value = serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("the body is not JSON: {error}; nothing of it was kept")))?;
    let Some(resources) = request["resourceLogs"].as_array() else {
        return Err(Error::invalid("the body is no request of OTLP for logs: it has no list `resourceLogs`"));
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for resource in resources {
        let origin = origin(attributes_of(&resource["resource"]["attributes"]));
        for record in list(&resource["scopeLogs"]).iter().flat_map(|scope| list(&scope["logRecords"])) {
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let record = Record {
                nanos: number_of(&record["timeUnixNano"]),
                observed: number_of(&record["observedTimeUnixNano"]),
                severity: number_of(&record["severityNumber"]),
                severity_text: text("severityText"),
                body: value_of(&record["body"], 0),
                attributes: attributes_of(&record["attributes"]),
                trace: text("traceId").to_ascii_lowercase(),
                span: text("spanId").to_ascii_lowercase(),
            };
            push(record, &origin, gather);
        }
    }
    Ok(())
}

/// Numbers of 64 bits come as text.
fn number_of(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn attributes_of(list: &Value) -> Map<String, Value> {
    let pairs = list.as_array().map_or(&[][..], Vec::as_slice);
    let pair = |pair: &Value| Some((pair["key"].as_str()?.to_owned(), value_of(&pair["value"], 0)));
    pairs.iter().filter_map(pair).collect()
}

fn value_of(value: &Value, depth: usize) -> Value {
    let Some((kind, held)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        _ if depth > DEEPEST => Value::Null,
        "intValue" => {
            held.as_str().and_then(|text| text.parse::<i64>().ok()).map_or(held.clone(), |n| json!(n))
        }
        "arrayValue" => {
            let items = held["values"].as_array().cloned().unwrap_or_default();
            Value::Array(items.iter().map(|item| value_of(item, depth + 1)).collect())
        }
        "kvlistValue" => {
            let pairs = held["values"].as_array().cloned().unwrap_or_default();
            let pair =
                |pair: &Value| Some((pair["key"].as_str()?.to_owned(), value_of(&pair["value"], depth + 1)));
            Value::Object(pairs.iter().filter_map(pair).collect())
        }
        _ => held.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::parts;
    use super::*;

    fn check(gather: &Gather) {
        let rows = &gather.batch.rows;
        assert_eq!((rows.rows.len(), rows.rows[0].level, rows.rows[0].time), (1, 5, 1_763_719_200_000_000));
        let (text, fields) = parts(rows.text_of(&rows.rows[0]));
        let fields = fields.unwrap();
        assert_eq!((text, fields["n"].as_i64()), (&b"disk full"[..], Some(7)));
        assert_eq!(fields["trace_id"], "0102030405060708090a0b0c0d0e0f10");
        assert_eq!(gather.batch.streams[0]["service"], "api");
    }

    #[test]
    fn json_and_protobuf_say_the_same() {
        let request = json!({ "resourceLogs": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "api" } }] },
            "scopeLogs": [{ "logRecords": [{
                "timeUnixNano": "1763719200000000000", "severityNumber": 17, "body": { "stringValue": "disk full" },
                "traceId": "0102030405060708090A0B0C0D0E0F10", "attributes": [{ "key": "n", "value": { "intValue": "7" } }],
            }] }],
        }] });
        let mut gather = Gather::at(1_763_719_300_000_000);
        json(request.to_string().as_bytes(), &mut gather).unwrap();
        check(&gather);

        let tag = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
        let pair = |name: &str, value: Vec<u8>| [tag(1, name.as_bytes()), tag(2, &value)].concat();
        let time = [&[0x09][..], &1_763_719_200_000_000_000u64.to_le_bytes()].concat();
        let trace: Vec<u8> = (1..=16).collect();
        let record = [
            time,
            vec![0x10, 17],
            tag(5, &tag(1, b"disk full")),
            tag(6, &pair("n", vec![0x18, 7])),
            tag(9, &trace),
        ]
        .concat();
        let resource = tag(1, &tag(1, &pair("service.name", tag(1, b"api"))));
        let scope = tag(2, &tag(2, &record));
        let body = tag(1, &[resource, scope].concat());
        let mut gather = Gather::at(1_763_719_300_000_000);
        protobuf(&body, &mut gather).unwrap();
        check(&gather);
        for length in 1..body.len() {
            assert!(protobuf(&body[..length], &mut Gather::at(1)).is_err(), "{length}");
        }
    }

    #[test]
    fn values_that_are_too_deep_are_refused() {
        let mut deep = vec![0x0a, 0];
        for _ in 0..20 {
            let list = [&[0x0a, deep.len() as u8][..], &deep].concat();
            deep = [&[0x2a, list.len() as u8][..], &list].concat();
        }
        assert!(value(&deep, 0).unwrap_err().message.contains("deeper"));
        assert!(json(b"{}", &mut Gather::at(1)).is_err() && json(b"{", &mut Gather::at(1)).is_err());
    }
}
