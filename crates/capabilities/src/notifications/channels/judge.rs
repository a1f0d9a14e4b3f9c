//! Whether a provider took a message: by its status, and by its body where that says otherwise.

use opsroom_core::egress::Response;
use serde_json::Value;

use super::ChannelKind;

/// The longest pause that is believed, in seconds.
const LONGEST_PAUSE: i64 = 3600;
/// The pause after a provider's own limit, in seconds, when it says none.
const LIMITED: i64 = 60;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was taken.
    Sent,
    /// It may be taken later: after so many seconds if the provider says when.
    Later(Option<i64>, String),
    /// It will never be taken.
    Never(String),
}

pub fn judge(kind: ChannelKind, response: &Response) -> Outcome {
    let status = response.status.as_u16();
    let reason = format!("the webhook answered {status}");
    match status {
        200..=299 => by_body(kind, &response.body),
        429 => Outcome::Later(Some(pause(response)), reason),
        408 | 500..=599 => {
            Outcome::Later(response.headers.contains_key("retry-after").then(|| pause(response)), reason)
        }
        _ => Outcome::Never(reason),
    }
}

/// Providers that answer 200 with an error in the body.
fn by_body(kind: ChannelKind, body: &[u8]) -> Outcome {
    let names: &[&str] = match kind {
        ChannelKind::Dingtalk | ChannelKind::Wecom => &["errcode"],
        ChannelKind::Feishu => &["code", "StatusCode"],
        ChannelKind::Slack => return slack(body),
        ChannelKind::Discord | ChannelKind::Email | ChannelKind::Webhook => return Outcome::Sent,
    };
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let code = parsed.as_ref().and_then(|body| names.iter().find_map(|name| body.get(*name)?.as_i64()));
    let Some(code) = code else {
        let reason = format!("the webhook answered 200 without `{}`", names[0]);
        return Outcome::Later(None, reason);
    };
    let said =
        parsed.as_ref().and_then(|body| ["errmsg", "msg"].iter().find_map(|name| body.get(*name)?.as_str()));
    let said: String = said.unwrap_or_default().chars().take(120).collect();
    let reason = format!("the webhook answered {} {code}: {said}", names[0]);
    match (kind, code) {
        (_, 0) => Outcome::Sent,
        // Too many messages.
        (ChannelKind::Dingtalk, 130_101 | 410_100 | 660_026)
        | (ChannelKind::Wecom, 45_009)
        | (ChannelKind::Feishu, 11_232) => Outcome::Later(Some(LIMITED), reason),
        // The provider is busy.
        (ChannelKind::Dingtalk | ChannelKind::Wecom, -1) | (ChannelKind::Feishu, 10_500) => {
            Outcome::Later(None, reason)
        }
        _ => Outcome::Never(reason),
    }
}

/// Slack answers `ok`, and those that understand its messages often JSON or nothing.
fn slack(body: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let refused = parsed.as_ref().is_some_and(|body| body.get("ok").and_then(Value::as_bool) == Some(false));
    if refused || text.starts_with("invalid_") || text.starts_with("no_") {
        let said: String = text.chars().take(120).collect();
        return Outcome::Never(format!("the webhook answered 200: {said}"));
    }
    Outcome::Sent
}

/// How many seconds a busy webhook asks for: its JSON says it more exactly than its header.
fn pause(response: &Response) -> i64 {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let exact = body.as_ref().and_then(|body| body.get("retry_after")?.as_f64());
    let header =
        response.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let seconds = exact.or(header).filter(|seconds: &f64| seconds.is_finite()).unwrap_or(10.0);
    seconds.clamp(1.0, LONGEST_PAUSE as f64).ceil() as i64
}
