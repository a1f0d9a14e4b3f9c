//! Messages as the robots of DingTalk, WeCom, Feishu and Slack take them.
//!
//! What comes from outside is escaped for each, so that a text can neither call people by name nor lead them
//! elsewhere than it says.

use opsroom_core::Time;
use serde_json::{Value, json};

use super::split::{bytes, characters, cut, json_bytes, split};
use super::{Content, Level, Target, is_web, sign};

/// Of the 20,000 bytes that DingTalk takes; the rest is for the frame.
const DINGTALK: usize = 16_000;
/// Of WeCom's 4096 bytes of markdown and 2048 of text.
const WECOM_MARKDOWN: usize = 4096;
const WECOM_TEXT: usize = 2048;
/// Of the 20 KiB of Feishu's requests.
const FEISHU: usize = 12_000;
/// The longest address that is linked to, in bytes.
const LONGEST_URL: usize = 2000;
/// Slack's sections, and how many of its 50 blocks are sections.
const SLACK: usize = 3000;
const SLACK_SECTIONS: usize = 40;

/// The pieces of a text, each with its number when there are several.
fn numbered(title: &str, pieces: usize, at: usize) -> String {
    if pieces == 1 { title.to_owned() } else { format!("{title} ({}/{pieces})", at + 1) }
}

/// Markdown's own characters, written so that they are shown.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => out.extend(['\\', character]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

/// One line, for titles.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn links(it: &Content) -> Vec<(String, String)> {
    let look = is_web(&it.url).then(|| ("Open".to_owned(), it.url.clone()));
    let all = look.into_iter().chain(it.actions.iter().cloned());
    all.filter(|(_, url)| url.len() <= LONGEST_URL).take(4).collect()
}

/// A link of markdown whose address cannot end it.
fn link(name: &str, url: &str) -> String {
    let url: String = url
        .chars()
        .flat_map(|character| match character {
            '(' => "%28".chars().collect::<Vec<_>>(),
            ')' => "%29".chars().collect(),
            other if other.is_whitespace() || other.is_control() => Vec::new(),
            other => vec![other],
        })
        .collect();
    format!("[{name}]({url})")
}

/// The text, fields and links as lines of markdown.
fn body(it: &Content, escape: fn(&str) -> String) -> String {
    let mut lines: Vec<String> = it.text.lines().map(escape).collect();
    lines.extend(it.fields.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(&line(value)))));
    lines.extend(links(it).iter().map(|(name, url)| link(name, url)));
    lines.join("\n")
}

pub fn dingtalk(target: &Target, it: &Content) -> Vec<Value> {
    let everybody = target.mentions.iter().any(|who| who == "all");
    let is_number = |who: &&String| who.trim_start_matches('+').bytes().all(|byte| byte.is_ascii_digit());
    let named: Vec<&String> = target.mentions.iter().filter(|who| *who != "all").collect();
    let (mobiles, users): (Vec<&String>, Vec<&String>) = named.into_iter().partition(is_number);
    // Who is called must stand in the text as well.
    let mut called: String = mobiles.iter().chain(&users).map(|who| format!("@{who} ")).collect();
    if everybody {
        called.push_str("@all");
    }
    // Single ends of lines are no lines in DingTalk's markdown.
    let text = body(it, markdown).replace('\n', "\n\n");
    let pieces = split(&text, DINGTALK, json_bytes);
    let count = pieces.len();
    let piece = |(at, piece): (usize, &str)| {
        let title = numbered(&cut(&line(&it.title), 500, bytes), count, at);
        let text = format!("### {}\n\n{piece}\n\n{}", markdown(&title), called.trim_end());
        json!({
            "msgtype": "markdown",
            "markdown": { "title": title, "text": text.trim_end() },
            "at": { "atMobiles": mobiles, "atUserIds": users, "isAtAll": everybody },
        })
    };
    pieces.into_iter().enumerate().map(piece).collect()
}

pub fn wecom(target: &Target, it: &Content) -> Vec<Value> {
    let title = cut(&line(&it.title), 300, bytes);
    if !target.mentions.is_empty() {
        return wecom_text(target, it, &title);
    }
    let colour = match it.level {
        Level::Critical | Level::Warning => "warning",
        Level::Info => "comment",
        Level::Resolved => "info",
    };
    let text = body(it, markdown);
    let pieces = split(&text, WECOM_MARKDOWN - 80 - markdown(&title).len(), bytes);
    let count = pieces.len();
    let piece = |(at, piece): (usize, &str)| {
        let title = markdown(&numbered(&title, count, at));
        let content = format!("<font color=\"{colour}\">{title}</font>\n{piece}");
        json!({ "msgtype": "markdown", "markdown": { "content": content } })
    };
    pieces.into_iter().enumerate().map(piece).collect()
}

/// WeCom's markdown calls nobody; its text does.
fn wecom_text(target: &Target, it: &Content, title: &str) -> Vec<Value> {
    let is_number = |who: &&String| who.trim_start_matches('+').bytes().all(|byte| byte.is_ascii_digit());
    let everybody = |who: &String| if who == "all" { "@all".to_owned() } else { who.clone() };
    let (mobiles, users): (Vec<&String>, Vec<&String>) = target.mentions.iter().partition(is_number);
    let users: Vec<String> = users.into_iter().map(everybody).collect();
    let text = it.body();
    let pieces = split(&text, WECOM_TEXT - title.len() - 16, bytes);
    let count = pieces.len();
    let piece = |(at, piece): (usize, &str)| {
        json!({ "msgtype": "text", "text": {
            "content": format!("{}\n{piece}", numbered(title, count, at)),
            "mentioned_list": users, "mentioned_mobile_list": mobiles,
        } })
    };
    pieces.into_iter().enumerate().map(piece).collect()
}

pub fn feishu(target: &Target, it: &Content, now: Time) -> Vec<Value> {
    let template = match it.level {
        Level::Critical => "red",
        Level::Warning => "orange",
        Level::Info => "blue",
        Level::Resolved => "green",
    };
    let seconds = now.0.div_euclid(1_000_000);
    let mut lines: Vec<String> = it.text.lines().map(markdown).collect();
    lines
        .extend(it.fields.iter().map(|(name, value)| format!("**{}**: {}", markdown(name), markdown(value))));
    for who in &target.mentions {
        lines.push(format!("<at id={}></at>", who.replace(['<', '>', ' '], "")));
    }
    let text = lines.join("\n");
    let pieces = split(&text, FEISHU, json_bytes);
    let count = pieces.len();
    let piece = |(at, piece): (usize, &str)| {
        let title = numbered(&cut(&line(&it.title), 500, bytes), count, at);
        let mut elements = vec![json!({ "tag": "div", "text": { "tag": "lark_md", "content": piece } })];
        let button = |(name, url): &(String, String)| {
            let text = json!({ "tag": "plain_text", "content": name });
            json!({ "tag": "button", "text": text, "url": url, "type": "default" })
        };
        let buttons: Vec<Value> = links(it).iter().map(button).collect();
        if at + 1 == count && !buttons.is_empty() {
            elements.push(json!({ "tag": "action", "actions": buttons }));
        }
        let header = json!({ "title": { "tag": "plain_text", "content": title }, "template": template });
        let card = json!({ "config": { "wide_screen_mode": true }, "header": header, "elements": elements });
        let mut body = json!({ "msg_type": "interactive", "card": card });
        if !target.secret.is_empty() {
            body["timestamp"] = json!(seconds.to_string());
            body["sign"] = json!(sign::feishu(target.secret.expose(), seconds));
        }
        body
    };
    pieces.into_iter().enumerate().map(piece).collect()
}

/// The three characters that mean something to Slack.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub fn slack(it: &Content) -> Vec<Value> {
    let mark = match it.level {
        Level::Critical => ":red_circle:",
        Level::Warning => ":large_orange_circle:",
        Level::Info => ":large_blue_circle:",
        Level::Resolved => ":large_green_circle:",
    };
    let title = slack_text(&cut(&line(&it.title), 250, characters));
    let mut lines: Vec<String> = it.text.lines().map(slack_text).collect();
    lines.extend(
        it.fields.iter().map(|(name, value)| format!("*{}*: {}", slack_text(name), slack_text(value))),
    );
    let address = |url: &str| slack_text(url).replace('|', "%7C");
    lines.extend(links(it).iter().map(|(name, url)| format!("<{}|{name}>", address(url))));
    let text = lines.join("\n");
    let pieces = split(&text, SLACK, characters);
    let section = |piece: &&str| json!({ "type": "section", "text": { "type": "mrkdwn", "text": piece } });
    let messages: Vec<&[&str]> = pieces.chunks(SLACK_SECTIONS).collect();
    let count = messages.len();
    let message = |(at, pieces): (usize, &&[&str])| {
        let title = numbered(&title, count, at);
        let head =
            json!({ "type": "section", "text": { "type": "mrkdwn", "text": format!("{mark} *{title}*") } });
        let sections = pieces.iter().filter(|piece| !piece.trim().is_empty()).map(section);
        let blocks: Vec<Value> = std::iter::once(head).chain(sections).collect();
        json!({ "text": title, "blocks": blocks })
    };
    messages.iter().enumerate().map(message).collect()
}
