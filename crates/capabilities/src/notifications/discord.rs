//! A message as Discord's webhooks take it, within its bounds: a title of 256 characters, a text of 4096,
//! 25 fields of 256 and 1024, 6000 in all. Nobody is mentioned, whatever a text says.

use opsroom_core::Time;
use serde_json::{Value, json};

use super::{Message, NotificationsConfig};

/// The red of the older system's messages.
const RED: u32 = 0x00E5_3935;

/// The body of the request.
pub fn payload(message: &Message, config: &NotificationsConfig, now: Time) -> Value {
    let fields: Vec<Value> = message
        .fields
        .iter()
        .take(12)
        .map(|(name, value)| json!({ "name": cut(name, 100), "value": cut(value, 300), "inline": false }))
        .collect();
    let mut embed = json!({
        "title": cut(&message.title, 200),
        "description": cut(&message.text, 1000),
        "color": RED,
        "timestamp": now.to_rfc3339(),
        "fields": fields,
        "footer": { "text": cut(&message.key, 300) },
    });
    if message.url.starts_with("https://") || message.url.starts_with("http://") {
        embed["url"] = json!(cut(&message.url, 1000));
    }
    json!({
        "username": cut(&config.discord_bot_name, 80),
        "avatar_url": config.discord_bot_avatar,
        "embeds": [embed],
        "allowed_mentions": { "parse": [] },
    })
}

/// At most so many characters, control characters written out; Discord refuses empty texts.
fn cut(text: &str, most: usize) -> String {
    let shown = |character: char| match character {
        '\n' => "\n".to_owned(),
        other if other.is_control() => other.escape_default().to_string(),
        other => other.to_string(),
    };
    let cut: String = text.chars().take(most).map(shown).collect();
    if cut.trim().is_empty() { "-".to_owned() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_within_discords_bounds_and_mentions_nobody() {
        let long = "@everyone ".repeat(10_000);
        let message = Message {
            team: "default".to_owned(),
            key: long.clone(),
            title: long.clone(),
            text: long.clone(),
            url: "javascript:alert(1)".to_owned(),
            fields: vec![(long.clone(), String::new()); 100],
        };
        let body = payload(&message, &NotificationsConfig::default(), Time(0));
        let embed = &body["embeds"][0];
        assert!(embed.to_string().chars().count() < 8000);
        let texts = embed["fields"].as_array().unwrap().iter().flat_map(|f| [&f["name"], &f["value"]]);
        let total: usize = texts
            .chain([&embed["title"], &embed["description"], &embed["footer"]["text"]])
            .map(|text| text.as_str().unwrap().chars().count())
            .sum();
        assert!(total <= 6000, "{total}");
        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
        assert_eq!(embed["url"], Value::Null);
        assert_eq!(embed["fields"][0]["value"], "-");
        assert_eq!(body["username"], "MCP-dangerous");
    }
}
