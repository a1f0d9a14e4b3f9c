//! JSON-RPC messages, read without copying and changed without losing what we do not know.
//!
//! What passes through keeps its bytes: numbers keep their digits, members their order, and fields that no
//! revision of the protocol knows survive. A member that stands twice in an object is refused, because the
//! one who reads it next may take the other one.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How deep a message may be nested.
pub const DEEPEST: usize = 128;

/// A parse error (JSON-RPC 2.0).
pub const PARSE_ERROR: i64 = -32700;
/// A message that is JSON and no request.
pub const INVALID_REQUEST: i64 = -32600;
/// A method that is not there.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Parameters that cannot be used.
pub const INVALID_PARAMS: i64 = -32602;
/// A fault of ours or of the service.
pub const INTERNAL_ERROR: i64 = -32603;
/// A resource that is not there, in the legacy era.
pub const LEGACY_RESOURCE_NOT_FOUND: i64 = -32002;
/// A header that does not say what the body says (SEP-2243).
pub const HEADER_MISMATCH: i64 = -32020;
/// A client without a capability that is needed.
pub const MISSING_CAPABILITY: i64 = -32021;
/// A revision of the protocol that is not spoken.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// Ours: a limit was reached, the service does not answer; the same call may work later.
pub const UNAVAILABLE: i64 = -31000;

/// A text that is borrowed where it has no escapes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any JSON-RPC message.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// `2.0`.
    #[serde(borrow, default)]
    pub jsonrpc: Option<Text<'a>>,
    /// The id, as it was written.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// The method of a request or a notification.
    #[serde(borrow, default)]
    pub method: Option<Text<'a>>,
    /// Its parameters.
    #[serde(borrow, default)]
    pub params: Option<&'a RawValue>,
    /// The result of a response.
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    /// Its error.
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// What the gateway looks at in a request's parameters; the rest passes through.
#[derive(Debug, Default, Deserialize)]
pub struct Params<'a> {
    /// The tool or the prompt.
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    /// The resource.
    #[serde(borrow, default)]
    pub uri: Option<&'a RawValue>,
    /// The arguments of a call.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
    /// What is not the method's own.
    #[serde(borrow, default, rename = "_meta", deserialize_with = "optional_object")]
    pub meta: Option<Meta<'a>>,
    /// The task, for requests about one.
    #[serde(borrow, default, rename = "taskId")]
    pub task: Option<&'a RawValue>,
    /// Where a list goes on.
    #[serde(borrow, default)]
    pub cursor: Option<Text<'a>>,
    /// What a server wanted to have back.
    #[serde(borrow, default, rename = "requestState")]
    pub request_state: Option<Text<'a>>,
    /// The answers to what a server asked for.
    #[serde(borrow, default, rename = "inputResponses")]
    pub input_responses: Option<&'a RawValue>,
}

/// What the gateway looks at in `_meta`.
#[derive(Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// The revision; its presence makes a request modern.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub version: Option<Text<'a>>,
    /// What the client can do.
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub capabilities: Option<&'a RawValue>,
    /// By what it knows the progress of this request.
    #[serde(borrow, default, rename = "progressToken")]
    pub progress: Option<&'a RawValue>,
    /// The W3C trace.
    #[serde(borrow, default)]
    pub traceparent: Option<Text<'a>>,
}

/// Reads a whole message.
///
/// # Errors
/// The code and the words of a JSON-RPC error.
pub fn parse(bytes: &[u8]) -> Result<Envelope<'_>, (i64, String)> {
    if !shallow(bytes) {
        return Err((INVALID_REQUEST, format!("the message is nested more than {DEEPEST} deep")));
    }
    match serde_json::from_slice::<Object<Envelope<'_>>>(bytes).map(|object| object.0) {
        Ok(envelope) if envelope.jsonrpc.as_ref().is_some_and(|version| version.as_str() == "2.0") => {
            Ok(envelope)
        }
        Ok(_) => Err((INVALID_REQUEST, "the message is not JSON-RPC 2.0".to_owned())),
        Err(error) if error.is_syntax() || error.is_eof() => {
            Err((PARSE_ERROR, format!("the message is not JSON: {error}")))
        }
        Err(_) if bytes.trim_ascii_start().first() == Some(&b'[') => {
            Err((INVALID_REQUEST, "a batch is not taken; send one message at a time".to_owned()))
        }
        Err(error) => Err((INVALID_REQUEST, format!("the message is no JSON-RPC request: {error}"))),
    }
}

/// Reads parameters; none at all are empty ones.
///
/// # Errors
/// The words for an `INVALID_PARAMS` error.
pub fn params(raw: Option<&RawValue>) -> Result<Params<'_>, String> {
    let Some(raw) = raw else { return Ok(Params::default()) };
    let read = serde_json::from_str::<Object<Params<'_>>>(raw.get());
    let params = read.map_err(|error| format!("the parameters cannot be used: {error}"))?.0;
    match params.arguments {
        Some(arguments) if !arguments.get().starts_with('{') => {
            Err("params.arguments is not an object of the tool's or prompt's arguments by their names"
                .to_owned())
        }
        _ => Ok(params),
    }
}

/// What is read from an object alone: a derived reader takes an array of the members' values too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

fn optional_object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// The text that a raw JSON string holds.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// Whether nothing in a JSON text is nested deeper than [`DEEPEST`]. Texts within strings do not count.
pub fn shallow(bytes: &[u8]) -> bool {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEEPEST {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at + 1),
            _ => {}
        }
        at += 1;
    }
    true
}

/// Where a string that began before `at` ends: the place of its closing quote, or the end of the text.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// The members of an object, in their order, their values as they were written.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Members<'a> {
    /// The members of a JSON object; `None` for what is no object.
    pub fn of(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The text of a member.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).and_then(text)
    }

    /// Sets a member, in its place where there is one.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((Cow::Owned(name.to_owned()), Cow::Owned(value))),
        }
    }

    /// Sets a member unless there is one.
    pub fn fill(&mut self, name: &str, value: Box<RawValue>) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Takes a member away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    /// The object as JSON.
    pub fn to_raw(&self) -> Box<RawValue> {
        let size: usize = self.0.iter().map(|(key, value)| key.len() + value.get().len() + 4).sum();
        let mut out = String::with_capacity(size + 2);
        out.push('{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_string(&mut out, key);
            out.push(':');
            out.push_str(value.get());
        }
        out.push('}');
        RawValue::from_string(out).unwrap_or_else(|_| null())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, Cow<'de, RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if members.iter().any(|(known, _)| *known == key.0) {
                        return Err(de::Error::custom("a member stands twice"));
                    }
                    members.push((key.0, Cow::Borrowed(value)));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Appends a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    // Writing JSON of a text cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// `null`.
pub fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// Any value as raw JSON.
pub fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| null())
}

/// A text as raw JSON.
pub fn raw_text(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| null())
}

/// A request or, without an id, a notification.
pub fn request(id: Option<&RawValue>, method: &str, params: Option<&RawValue>) -> Bytes {
    let mut out = String::with_capacity(64 + method.len() + params.map_or(0, |params| params.get().len()));
    out.push_str(r#"{"jsonrpc":"2.0""#);
    if let Some(id) = id {
        out.push_str(r#","id":"#);
        out.push_str(id.get());
    }
    out.push_str(r#","method":"#);
    push_string(&mut out, method);
    if let Some(params) = params {
        out.push_str(r#","params":"#);
        out.push_str(params.get());
    }
    out.push('}');
    Bytes::from(out)
}

/// A response with a result.
pub fn result(id: &RawValue, result: &RawValue) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, id.get(), result.get()))
}

/// A response with an error object that somebody else made.
pub fn error_raw(id: Option<&RawValue>, error: &RawValue) -> Bytes {
    let id = id.map_or("null", RawValue::get);
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, error.get()))
}

/// An error object.
pub fn error_object(code: i64, message: &str, data: Option<Value>) -> Box<RawValue> {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    raw(&error)
}

/// A response with an error.
pub fn error(id: Option<&RawValue>, code: i64, message: &str) -> Bytes {
    error_raw(id, &error_object(code, message, None))
}

/// Replaces parts of a text, given as slices of it in their order.
pub fn splice(whole: &[u8], edits: &[(&str, &str)]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = Vec::with_capacity(whole.len() + grown);
    let mut done = 0;
    for (old, new) in edits {
        let begin = (old.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        // A slice of another text would be a fault of ours; the text stays as it is.
        if begin < done || begin + old.len() > whole.len() {
            continue;
        }
        out.extend_from_slice(&whole[done..begin]);
        out.extend_from_slice(new.as_bytes());
        done = begin + old.len();
    }
    out.extend_from_slice(&whole[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_their_digits_and_what_is_unknown() {
        let raw = RawValue::from_string(
            r#"{"z":1.000000000000000000001,"_meta":{"x":1},"a":[12345678901234567890123]}"#.to_owned(),
        )
        .unwrap();
        let mut members = Members::of(&raw).unwrap();
        members.set("_meta", raw_text("changed"));
        members.fill("z", null());
        members.fill("new\"", null());
        assert_eq!(
            members.to_raw().get(),
            r#"{"z":1.000000000000000000001,"_meta":"changed","a":[12345678901234567890123],"new\"":null}"#
        );
    }

    #[test]
    fn a_member_that_stands_twice_is_refused() {
        assert!(parse(br#"{"jsonrpc":"2.0","method":"a","method":"b"}"#).is_err());
        let raw = RawValue::from_string(r#"{"name":"echo","name":"printEnv"}"#.to_owned()).unwrap();
        assert!(params(Some(&raw)).is_err() && Members::of(&raw).is_none());
    }

    #[test]
    fn deep_json_is_told_apart_from_texts_with_brackets() {
        let deep = format!("{}{}", "[".repeat(DEEPEST + 1), "]".repeat(DEEPEST + 1));
        assert!(!shallow(deep.as_bytes()));
        let text = format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(500), "{".repeat(500));
        assert!(shallow(text.as_bytes()));
        assert!(shallow(br#"{"a":"ends in a backslash\"#));
    }

    #[test]
    fn parts_are_replaced_in_place() {
        let whole = br#"{"name":"a__b","other":1}"#;
        let text = std::str::from_utf8(whole).unwrap();
        let out = splice(whole, &[(&text[8..14], "\"b\"")]);
        assert_eq!(out, br#"{"name":"b","other":1}"#);
    }

    #[test]
    fn what_is_not_a_request_has_its_code() {
        for (text, code) in [
            ("{", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("1", INVALID_REQUEST),
            (r#"{"id":1,"method":"x"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":7}"#, INVALID_REQUEST),
            (r#"["2.0",1,"ping"]"#, INVALID_REQUEST),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().0, code, "{text}");
        }
        for text in [r#"["echo"]"#, r#"{"_meta":["2026-07-28"]}"#, r#"{"name":"echo","arguments":[1]}"#, "7"]
        {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert!(params(Some(&raw)).is_err(), "{text}");
        }
    }
}
