//! What a message itself tells of how bad it is, where its logger states no level: the status of an answered
//! request (RFC 9110, 15.6), a crash, a kernel that runs out of memory.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::level::Level;

/// Words that nothing but trouble writes. Most are looked for by their letters alone, so that a message
/// without them costs one pass.
static TROUBLE: LazyLock<Regex> = LazyLock::new(|| {
    let words = concat!(
        r#"HTTP/[0-9](?:\.[0-9])?"? 5[0-9][0-9](?: |$)"#,
        r"|Out of memory: |invoked oom-killer|segfault at |Kernel panic|\(core dumped\)",
        r"|^panic: |^fatal error: |Traceback \(most recent call last\)|Exception in thread "
    );
    Regex::new(words).expect("the words are a pattern")
});

/// `Error` for a message that tells of trouble.
pub(super) fn level(message: &[u8]) -> Option<Level> {
    TROUBLE.is_match(message).then_some(Level::Error)
}

/// Whether an untimed line begins a record of its own whatever came before: a crash belongs to no record.
pub(super) fn is_crash(line: &[u8]) -> bool {
    line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ")
}

/// Names of the status of an answered request in lines that are data.
const STATUS: [&[u8]; 7] =
    [b"status", b"status_code", b"statuscode", b"http_status", b"response_status", b"code", b"response_code"];

/// Whether a field of data says that a request failed by the server's fault.
pub(super) fn is_failed_request(key: &[u8], value: &[u8]) -> bool {
    value.len() == 3
        && value[0] == b'5'
        && value.iter().all(u8::is_ascii_digit)
        && STATUS.iter().any(|name| name.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_seen_and_its_words_alone_are_not() {
        for (message, expected) in [
            (r#"10.0.0.1 - - "GET / HTTP/1.1" 502 150 "-" "curl""#, true),
            (r#"10.0.0.1 - - "GET / HTTP/1.1" 200 502 "-" "curl""#, false),
            (r#"10.0.0.1 - - "GET / HTTP/1.1" 404 150"#, false),
            (r#""GET / HTTP/2" 500"#, true),
            ("Out of memory: Killed process 12 (java)", true),
            ("app[7]: segfault at 0 ip 00007f", true),
            ("panic: runtime error: index out of range", true),
            ("no reason to panic: all is well", false),
            ("exported 502 rows", false),
        ] {
            assert_eq!(level(message.as_bytes()), expected.then_some(Level::Error), "{message}");
        }
    }

    #[test]
    fn a_status_of_data_is_a_number_of_three_digits_under_a_usual_name() {
        assert!(is_failed_request(b"statusCode", b"503") && is_failed_request(b"status", b"500"));
        for (key, value) in [("status", "200"), ("status", "5000"), ("status", "5xx"), ("user", "500")] {
            assert!(!is_failed_request(key.as_bytes(), value.as_bytes()), "{key}={value}");
        }
    }
}
