//! The headers of 2026-07-28 that repeat what the body says (SEP-2243).
//!
//! Whoever stands between reads the headers, and whoever acts reads the body: a request whose two halves
//! differ is refused.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::message::{Members, text};

/// A value as it stands in a header: as it is when it is plain, else `=?base64?...?=`.
pub fn encode(value: &str) -> Cow<'_, str> {
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain { Cow::Borrowed(value) } else { Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(value))) }
}

/// The value that a header stands for; `None` for one that cannot be.
pub fn decode(header: &[u8]) -> Option<Cow<'_, str>> {
    let value = std::str::from_utf8(header).ok()?;
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t') {
        return None;
    }
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(Cow::Borrowed(value)),
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
    }
}

/// The arguments of a tool that a client repeats in `Mcp-Param-*` headers: `(header, path)` of each
/// `x-mcp-header` in its input schema; `None` when the schema uses it in a way that is not allowed, for
/// which a client drops the tool.
pub fn annotated(definition: &RawValue) -> Option<Vec<(String, Vec<String>)>> {
    if !definition.get().contains("x-mcp-header") {
        return Some(Vec::new());
    }
    let tool: serde_json::Value = serde_json::from_str(definition.get()).ok()?;
    let mut found = Vec::new();
    let schema = tool.get("inputSchema")?;
    collect(schema, &mut Vec::new(), &mut found, true)?;
    let mut names: Vec<String> = found.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    (names.len() == found.len()).then_some(found)
}

fn collect(
    schema: &serde_json::Value,
    path: &mut Vec<String>,
    found: &mut Vec<(String, Vec<String>)>,
    reachable: bool,
) -> Option<()> {
    use serde_json::Value;
    let Value::Object(members) = schema else {
        if let Value::Array(items) = schema {
            items.iter().try_for_each(|item| collect(item, path, found, false))?;
        }
        return Some(());
    };
    if let Some(annotation) = members.get("x-mcp-header") {
        let name = annotation.as_str().filter(|name| is_token(name))?;
        let kind = members.get("type").and_then(Value::as_str);
        if !reachable || path.is_empty() || !matches!(kind, Some("string" | "integer" | "boolean")) {
            return None;
        }
        found.push((name.to_owned(), path.clone()));
    }
    for (keyword, value) in members {
        if keyword == "properties" {
            for (name, property) in value.as_object().into_iter().flatten() {
                path.push(name.clone());
                collect(property, path, found, reachable)?;
                path.pop();
            }
        } else if !matches!(keyword.as_str(), "default" | "examples" | "enum" | "const") {
            collect(value, path, found, false)?;
        }
    }
    Some(())
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What the headers of a call are: `(Mcp-Param-Name, value)` of every annotated argument that is there.
pub fn of_arguments(
    annotated: &[(String, Vec<String>)],
    arguments: Option<&RawValue>,
) -> Vec<(String, String)> {
    let found = annotated.iter().filter_map(|(name, path)| {
        let value = argument(arguments?, path)?;
        Some((format!("Mcp-Param-{name}"), encode(&value).into_owned()))
    });
    found.collect()
}

/// Whether the headers of a request say what its arguments say.
pub fn agree(
    annotated: &[(String, Vec<String>)],
    arguments: Option<&RawValue>,
    headers: &http::HeaderMap,
) -> Result<(), String> {
    for (name, path) in annotated {
        let header = format!("mcp-param-{name}");
        let mut given = headers.get_all(header.as_str()).iter();
        let said = arguments.and_then(|arguments| argument(arguments, path));
        match (given.next(), said) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("the header Mcp-Param-{name} is missing")),
            (Some(_), None) => {
                return Err(format!("the header Mcp-Param-{name} repeats an argument that is not there"));
            }
            (Some(header), Some(said)) => {
                let meant = decode(header.as_bytes());
                let same = meant.is_some_and(|meant| meant == said || same_integer(&meant, &said));
                if !same || given.next().is_some() {
                    return Err(format!("the header Mcp-Param-{name} does not say what the body says"));
                }
            }
        }
    }
    Ok(())
}

fn same_integer(one: &str, other: &str) -> bool {
    match (one.parse::<i128>(), other.parse::<i128>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The argument at a path as a header says it; `null` is as good as absent.
fn argument(arguments: &RawValue, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let members = Members::of(arguments)?;
    let value = members.get(first)?;
    if !rest.is_empty() {
        return argument(value, rest);
    }
    match value.get().as_bytes().first()? {
        b'"' => text(value).map(Cow::into_owned),
        b'n' | b'{' | b'[' => None,
        // `1.0` and `1e0` are the integer 1.
        b't' | b'f' => Some(value.get().to_owned()),
        _ => match value.get().parse::<i128>() {
            Ok(number) => Some(number.to_string()),
            Err(_) => {
                let number = value.get().parse::<f64>().ok()?;
                Some(if number.fract() == 0.0 && number.abs() < 9e15 {
                    format!("{number:.0}")
                } else {
                    value.get().to_owned()
                })
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn odd_values_are_encoded_and_come_back() {
        for value in ["plain", "", " padded ", "größe", "=?base64?eA==?=", "tab\there", "line\nbreak"] {
            let header = encode(value).into_owned();
            assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
            assert_eq!(decode(header.as_bytes()).as_deref(), Some(value));
        }
        assert_eq!(encode("plain"), "plain");
        assert_eq!(decode("größe".as_bytes()), None);
        assert_eq!(decode(b"=?base64?not base64?="), None);
    }

    #[test]
    fn header_and_body_that_differ_are_told() {
        let tool = raw(
            r#"{"inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}}"#,
        );
        let annotated = annotated(&tool).unwrap();
        let arguments = raw(r#"{"region":"eu","deep":{"n":7}}"#);
        let mut headers = http::HeaderMap::new();
        assert!(agree(&annotated, Some(&arguments), &headers).is_err(), "missing");
        for (name, value) in of_arguments(&annotated, Some(&arguments)) {
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        assert_eq!(agree(&annotated, Some(&arguments), &headers), Ok(()));
        headers.insert("mcp-param-n", "07".parse().unwrap());
        assert_eq!(agree(&annotated, Some(&arguments), &headers), Ok(()), "integers compare as numbers");
        headers.insert("mcp-param-region", "us".parse().unwrap());
        assert!(agree(&annotated, Some(&arguments), &headers).is_err(), "another value");
        assert!(agree(&annotated, Some(&raw("{}")), &headers).is_err(), "no such argument");
    }

    #[test]
    fn an_annotation_where_none_may_be_makes_a_tool_unusable() {
        for schema in [
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}"#,
            r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
        ] {
            assert_eq!(annotated(&raw(&format!(r#"{{"inputSchema":{schema}}}"#))), None, "{schema}");
        }
    }
}
