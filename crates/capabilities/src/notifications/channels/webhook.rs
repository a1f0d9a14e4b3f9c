//! A plain webhook: the message as JSON, signed over time and body when there is a secret, with a key by which
//! its receiver can tell one that it has already.

use opsroom_core::egress::Request;
use opsroom_core::id::hex;
use opsroom_core::{Result, Time};
use ring::hmac;
use serde_json::json;

use super::{Content, Target, with_headers};

pub fn requests(target: &Target, it: &Content, id: &str, now: Time) -> Result<Vec<Request>> {
    let fields: serde_json::Map<_, _> =
        it.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let actions: Vec<_> = it.actions.iter().map(|(name, url)| json!({ "name": name, "url": url })).collect();
    let body = json!({
        "id": id, "title": it.title, "text": it.text, "level": it.level, "url": it.url, "fields": fields,
        "actions": actions, "thread": it.thread,
    });
    let mut headers = vec![("idempotency-key", id.to_owned())];
    if !target.secret.is_empty() {
        let seconds = now.0.div_euclid(1_000_000);
        let key = hmac::Key::new(hmac::HMAC_SHA256, target.secret.expose().as_bytes());
        let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
        headers.push(("x-opsroom-timestamp", seconds.to_string()));
        headers.push(("x-opsroom-signature", format!("sha256={}", hex(tag.as_ref()))));
    }
    Ok(vec![with_headers(target.url.expose(), &body, &headers)?])
}
