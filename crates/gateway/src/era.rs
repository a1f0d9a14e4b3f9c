//! Words of one era in those of the other. Within an era nothing is changed.

use serde_json::json;
use serde_json::value::RawValue;

use crate::catalogue::{Era, Service};
use crate::client::{Client, Speech};
use crate::message::{self, Members, raw, raw_text};
use crate::upstream::call::Reply;
use crate::upstream::legacy::NEWEST;
use crate::upstream::modern::VERSION;

/// The namespace of `_meta` that belongs to the protocol: what stands in it is said anew on each hop.
const RESERVED: &str = "io.modelcontextprotocol/";
/// Methods whose results a client may keep, and must be told for how long.
const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// The parameters of a request as the service's era wants them.
pub fn params(client: &Client, service: Era, params: Option<&RawValue>) -> Box<RawValue> {
    let empty = raw(&json!({}));
    let given = params.unwrap_or(&empty);
    match (&client.speech, service) {
        (Speech::Modern(_), Era::Modern) => given.to_owned(),
        (Speech::Legacy(_), Era::Legacy) => given.to_owned(),
        (_, Era::Legacy) => to_legacy(given),
        (_, Era::Modern) => to_modern(client, given),
    }
}

/// Takes out of `_meta` what only the modern era says there.
fn remove_reserved(members: &mut Members) {
    let meta = members.get("_meta").map(ToOwned::to_owned);
    if let Some(mut meta) = meta.as_deref().and_then(Members::of) {
        meta.0.retain(|(name, _)| !name.starts_with(RESERVED));
        if meta.0.is_empty() {
            members.remove("_meta");
        } else {
            let meta = meta.to_raw();
            members.set("_meta", meta);
        }
    }
}

fn to_legacy(params: &RawValue) -> Box<RawValue> {
    let Some(mut members) = Members::of(params) else { return params.to_owned() };
    members.remove("requestState");
    members.remove("inputResponses");
    remove_reserved(&mut members);
    members.to_raw()
}

fn to_modern(client: &Client, params: &RawValue) -> Box<RawValue> {
    let mut members = Members::of(params).unwrap_or_default();
    let given = members.get("_meta").map(ToOwned::to_owned);
    let mut meta = given.as_deref().and_then(Members::of).unwrap_or_default();
    let own = raw(&json!({ "name": "opsroom", "version": env!("CARGO_PKG_VERSION") }));
    let (capabilities, info, level) = match client.session() {
        Some(session) => {
            (session.abilities.to_raw(), session.hello.info.clone().unwrap_or(own), session.level())
        }
        None => (raw(&json!({})), own, None),
    };
    meta.set("io.modelcontextprotocol/protocolVersion", raw_text(VERSION));
    meta.set("io.modelcontextprotocol/clientCapabilities", capabilities);
    meta.set("io.modelcontextprotocol/clientInfo", info);
    if let Some(level) = level {
        meta.set("io.modelcontextprotocol/logLevel", raw_text(&level));
    }
    let meta = meta.to_raw();
    members.set("_meta", meta);
    members.to_raw()
}

/// What a service answered, as the client's era wants it.
pub fn reply(client: &Client, era: Era, service: &Service, method: &str, reply: Reply) -> Reply {
    match (reply, client.is_modern(), era) {
        (Reply::Result(result), true, _) => Reply::Result(result_to_modern(service, method, result)),
        (Reply::Result(result), false, Era::Modern) => Reply::Result(result_to_legacy(result)),
        (Reply::Error(error), true, Era::Legacy) => Reply::Error(error_to_modern(error)),
        (Reply::Error(error), false, Era::Modern) => Reply::Error(error_to_legacy(method, error)),
        (reply, _, _) => reply,
    }
}

/// What every result of 2026-07-28 has. A result that has it already stays as it is.
fn result_to_modern(service: &Service, method: &str, result: Box<RawValue>) -> Box<RawValue> {
    let Some(mut members) = Members::of(&result) else { return result };
    let cacheable = CACHEABLE.contains(&method);
    let missing = |name: &str| members.get(name).is_none();
    if !missing("resultType") && !(cacheable && (missing("ttlMs") || missing("cacheScope"))) {
        return result;
    }
    members.fill("resultType", raw_text("complete"));
    if cacheable {
        members.fill("ttlMs", raw(&json!(0)));
        members.fill("cacheScope", raw_text("private"));
    }
    if let Some(info) = &service.info {
        let given = members.get("_meta").map(ToOwned::to_owned);
        let mut meta = given.as_deref().and_then(Members::of).unwrap_or_default();
        meta.fill("io.modelcontextprotocol/serverInfo", (**info).to_owned());
        let meta = meta.to_raw();
        members.set("_meta", meta);
    }
    members.to_raw()
}

fn result_to_legacy(result: Box<RawValue>) -> Box<RawValue> {
    let Some(mut members) = Members::of(&result) else { return result };
    for name in ["resultType", "ttlMs", "cacheScope"] {
        members.remove(name);
    }
    remove_reserved(&mut members);
    members.to_raw()
}

/// The code of an error object.
pub fn code(error: &RawValue) -> i64 {
    let code = Members::of(error).and_then(|members| members.get("code")?.get().parse().ok());
    code.unwrap_or(message::INTERNAL_ERROR)
}

/// Codes that 2026-07-28 no longer has.
fn error_to_modern(error: Box<RawValue>) -> Box<RawValue> {
    match (code(&error), Members::of(&error)) {
        (message::LEGACY_RESOURCE_NOT_FOUND, Some(mut members)) => {
            members.set("code", raw(&json!(message::INVALID_PARAMS)));
            members.to_raw()
        }
        _ => error,
    }
}

/// Codes that the legacy era does not know: what they mean is in the message.
fn error_to_legacy(method: &str, error: Box<RawValue>) -> Box<RawValue> {
    let other = match code(&error) {
        message::HEADER_MISMATCH | message::MISSING_CAPABILITY | message::UNSUPPORTED_VERSION => {
            message::INVALID_PARAMS
        }
        message::INVALID_PARAMS if method == "resources/read" => message::LEGACY_RESOURCE_NOT_FOUND,
        _ => return error,
    };
    match Members::of(&error) {
        Some(mut members) => {
            members.set("code", raw(&json!(other)));
            members.to_raw()
        }
        None => error,
    }
}

/// The revision that is offered to a client that wants another.
pub fn negotiated(wanted: &str) -> &'static str {
    crate::upstream::legacy::VERSIONS.into_iter().find(|known| *known == wanted).unwrap_or(NEWEST)
}
