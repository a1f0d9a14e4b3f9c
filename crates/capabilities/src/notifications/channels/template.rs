//! A channel's own words: texts with places such as `{{title}}` that each message fills.
//!
//! There are places and nothing else: no loop, no condition, no call, so that a template takes as long as it is and
//! can reach nothing. What fills a place is escaped after, as the channel's form asks.

use opsroom_core::{Error, Result};

use super::split::{bytes, cut};
use super::{Content, Level};

/// The longest text that comes of a template, in bytes.
const LONGEST: usize = 64 << 10;

/// # Errors
/// `Invalid`, naming the place that there is not.
pub fn check(template: &str) -> Result<()> {
    let wrong = |what: &str| {
        Error::invalid(format!(
            "{what}; a template has the places {{{{title}}}}, {{{{text}}}}, {{{{level}}}}, {{{{url}}}}, {{{{fields}}}} and \
             {{{{fields.NAME}}}}"
        ))
    };
    let mut rest = template;
    while let Some((_, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| wrong("`{{` has no `}}`"))?;
        let name = name.trim();
        let known = ["title", "text", "level", "url", "fields"].contains(&name);
        if !known && name.strip_prefix("fields.").is_none_or(|field| field.is_empty()) {
            let name: String = name.chars().take(40).collect();
            return Err(wrong(&format!("there is no place {name:?}")));
        }
        rest = after;
    }
    Ok(())
}

/// The text of a template for a message. What a message has not is left out.
pub fn fill(template: &str, it: &Content) -> String {
    let (mut out, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push_str(&value(name.trim(), it));
        rest = after;
        if out.len() > LONGEST {
            return cut(&out, LONGEST, bytes);
        }
    }
    out.push_str(rest);
    cut(&out, LONGEST, bytes)
}

fn value(name: &str, it: &Content) -> String {
    let level = match it.level {
        Level::Critical => "critical",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Resolved => "resolved",
    };
    match name {
        "title" => it.title.clone(),
        "text" => it.text.clone(),
        "level" => level.to_owned(),
        "url" => it.url.clone(),
        "fields" => {
            let lines: Vec<String> =
                it.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            lines.join("\n")
        }
        other => {
            let field = other.strip_prefix("fields.").unwrap_or_default();
            let found = it.fields.iter().find(|(name, _)| name == field);
            found.map_or_else(String::new, |(_, value)| value.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            title: "disk {{text}}".to_owned(),
            text: "full".to_owned(),
            level: Level::Warning,
            fields: vec![("host".to_owned(), "db-1".to_owned())],
            ..Content::default()
        }
    }

    #[test]
    fn places_are_filled_once_and_a_message_cannot_bring_its_own() {
        let text = fill("[{{level}}] {{ title }} on {{fields.host}}{{fields.none}} {{url}}!", &content());
        assert_eq!(text, "[warning] disk {{text}} on db-1 !");
        assert_eq!(fill("{{fields}} }} {{", &content()), "host: db-1 }} {{");
    }

    #[test]
    fn a_template_that_would_grow_without_end_is_cut() {
        let long = Content { text: "x".repeat(60_000), ..content() };
        let text = fill(&"{{text}}".repeat(500), &long);
        assert!(text.len() <= LONGEST, "{}", text.len());
    }

    #[test]
    fn a_place_that_there_is_not_is_named() {
        check("plain {{title}} {{ fields.a b }}").unwrap();
        for (template, words) in
            [("{{title", "`{{` has no"), ("{{7*7}}", "\"7*7\""), ("{{fields.}}", "\"fields.\"")]
        {
            let message = check(template).unwrap_err().message;
            assert!(message.contains(words) && message.contains("{{title}}"), "{message}");
        }
    }
}
