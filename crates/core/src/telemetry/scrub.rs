//! Hiding what looks like a secret. A net below the rule that no secret is logged: drivers and
//! servers put passwords into their own messages.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::secret::HIDDEN;

/// What is kept, and what is hidden after it.
static PATTERNS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let regex = |text: &str| Regex::new(text).expect("the pattern is a constant that a test compiles");
    [
        // The password of a URL.
        (regex(r"(://[^\s/:@]*:)[^\s/@]+@"), "${1}[hidden]@"),
        // A header's credential.
        (regex(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), "${1} [hidden]"),
        // `password=...`, `"token": "..."`.
        (
            regex(
                r#"(?i)\b((?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|cookie)["']?\s*[=:]\s*["']?)[^\s"'&,;}\[]+"#,
            ),
            "${1}[hidden]",
        ),
        // Our own keys and tokens: a word and 256 bits.
        (regex(r"\b([A-Za-z]+_)[0-9a-f]{64}\b"), "${1}[hidden]"),
    ]
});

/// A text without what looks like a password, a key or a token.
pub fn scrub(text: &str) -> Cow<'_, str> {
    match super::known::redact(text) {
        Cow::Borrowed(text) => by_pattern(text),
        Cow::Owned(text) => Cow::Owned(by_pattern(&text).into_owned()),
    }
}

fn by_pattern(text: &str) -> Cow<'_, str> {
    // Most lines have none of the characters that every pattern needs.
    if !text.contains([':', '=', '_']) && !text.contains("earer") && !text.contains("asic") {
        return Cow::Borrowed(text);
    }
    let mut text = Cow::Borrowed(text);
    for (pattern, kept) in PATTERNS.iter() {
        if let Cow::Owned(hidden) = pattern.replace_all(&text, *kept) {
            text = Cow::Owned(hidden);
        }
    }
    text
}

/// Whether a field of this name holds a secret, whatever its value.
pub(super) fn is_secret_name(name: &str) -> bool {
    const LAST_WORDS: [&str; 9] = [
        "password",
        "passwd",
        "secret",
        "token",
        "authorization",
        "cookie",
        "credentials",
        "api_key",
        "apikey",
    ];
    let name = name.to_ascii_lowercase();
    LAST_WORDS.iter().any(|word| {
        name.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with(['.', '_', '-']))
    })
}

/// What stands for a secret.
pub(super) const INSTEAD: &str = HIDDEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_keys_and_tokens_are_hidden_wherever_they_stand() {
        let token = format!("opk_{}", "0f".repeat(32));
        for text in [
            "cannot open postgres://ada:hunter2@db:5432/ops".to_owned(),
            "sent Authorization: Bearer hunter2hunter2 to it".to_owned(),
            "basic aHVudGVyMjpodW50ZXIy".to_owned(),
            "GET /hook?token=hunter2&x=1".to_owned(),
            "body {\"db_password\": \"hunter2\", \"a\": 1}".to_owned(),
            "access_token: hunter2".to_owned(),
            "X-Api-Key: hunter2".to_owned(),
            format!("key {token} was used"),
        ] {
            let hidden = scrub(&text);
            assert!(!hidden.contains("hunter2") && !hidden.contains("aHVu"), "{hidden}");
            assert!(!hidden.contains("0f0f") && hidden.contains(HIDDEN), "{hidden}");
        }
        assert_eq!(scrub("x://ada:hunter2@db/ops"), "x://ada:[hidden]@db/ops");
    }

    #[test]
    fn ordinary_lines_stay_as_they_are() {
        for text in [
            "listening on http://127.0.0.1:8008/",
            "3 tokens were revoked",
            "mail to ada@example.com: sent",
            "took_ms=12 tokens_used=7",
            "a basic check",
            "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn fields_are_known_by_their_names() {
        for name in ["password", "db.password", "setup_token", "Authorization", "api_key", "x-api_key"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["tokens", "token_count", "key", "message", "secretary"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
