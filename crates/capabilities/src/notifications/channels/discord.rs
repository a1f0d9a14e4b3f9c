//! Messages as Discord's webhooks take them: embeds of at most 4096 characters, 6000 in all.

use opsroom_core::Time;
use serde_json::{Value, json};

use super::chat::markdown;
use super::split::{characters, cut, split};
use super::{Content, Level, Target, is_web};

/// Of the 4096 characters of a description.
const LONGEST: usize = 4000;

pub fn bodies(target: &Target, it: &Content, now: Time) -> Vec<Value> {
    let colour = match it.level {
        Level::Critical => 0x00E5_3935,
        Level::Warning => 0x00FB_8C00,
        Level::Info => 0x001E_88E5,
        Level::Resolved => 0x0043_A047,
    };
    let mut text = markdown(&it.text);
    for (name, url) in &it.actions {
        text.push_str(&format!("\n[{name}]({url})"));
    }
    let body = |(at, piece): (usize, &str)| {
        let mut embed = json!({ "color": colour, "timestamp": now.to_rfc3339() });
        if !piece.trim().is_empty() {
            embed["description"] = json!(piece);
        }
        if at == 0 {
            embed["title"] = json!(shown(&markdown(&it.title), 256));
            // Ten fields of 64 and 100 characters fit beside the description.
            let fields = it.fields.iter().take(10);
            let field = |(name, value): &(String, String)| json!({ "name": shown(&markdown(name), 64), "value": shown(&markdown(value), 100) });
            embed["fields"] = fields.map(field).collect();
            if is_web(&it.url) {
                embed["url"] = json!(it.url);
            }
        }
        let mut body = json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } });
        if !target.username.is_empty() {
            body["username"] = json!(cut(&target.username, 80, characters));
        }
        if is_web(&target.avatar) {
            body["avatar_url"] = json!(target.avatar);
        }
        body
    };
    split(&text, LONGEST, characters).into_iter().enumerate().map(body).collect()
}

/// Discord refuses empty texts.
fn shown(text: &str, longest: usize) -> String {
    if text.trim().is_empty() { "-".to_owned() } else { cut(text, longest, characters) }
}
