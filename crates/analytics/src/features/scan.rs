//! Hand-written scanners for ids in messages; they run on every line of a log.

use memchr::memchr_iter;
use memchr::memmem::Finder;

/// Bytes that make up an id.
pub(super) const fn in_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The first id that starts with the finder's text.
pub(super) fn prefixed<'a>(message: &'a [u8], finder: &Finder) -> Option<&'a [u8]> {
    let prefix = finder.needle().len();
    finder.find_iter(message).find_map(|at| {
        let starts = at == 0 || !in_id(message[at - 1]);
        let rest = &message[at + prefix..];
        let len = rest.iter().take_while(|&&byte| in_id(byte)).count();
        let id = &message[at..at + prefix + len];
        (starts && rest[..len].iter().any(u8::is_ascii_digit)).then_some(id)
    })
}

/// The value of the first field with the finder's text as its name.
pub(super) fn field<'a>(message: &'a [u8], finder: &Finder) -> Option<&'a [u8]> {
    finder.find_iter(message).find_map(|at| {
        let starts = at == 0 || !in_id(message[at - 1]);
        starts.then(|| value(&message[at + finder.needle().len()..])).flatten()
    })
}

/// The value that follows a field's name: after `=` or `:`, with or without quotes and blanks; a blank
/// alone will do before something that looks like an id.
pub(super) fn value(after: &[u8]) -> Option<&[u8]> {
    let skip = |text: &[u8], set: &[u8]| text.iter().take_while(|b| set.contains(b)).count();
    let quote = skip(after, b"\"'").min(1);
    let mut rest = &after[quote..];
    let blank = skip(rest, b" ").min(2);
    let sign = rest.get(blank).is_some_and(|b| matches!(b, b'=' | b':'));
    rest = if sign { &rest[blank + 1..] } else { &rest[blank..] };
    if !sign && (blank == 0 || quote == 1) {
        return None;
    }
    rest = &rest[skip(rest, b" ").min(2)..];
    rest = &rest[skip(rest, b"\"'[").min(1)..];
    let len = rest.iter().take_while(|&&b| in_value(b)).count();
    let value = rest[..len].strip_suffix(b".").unwrap_or(&rest[..len]);
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let is_id = if sign { digits > 0 } else { digits > 0 && value.len() >= 4 };
    is_id.then_some(value)
}

const fn in_value(byte: u8) -> bool {
    in_id(byte) || matches!(byte, b'.' | b':' | b'/' | b'@' | b'#' | b'+')
}

/// The first UUID: 8-4-4-4-12 hexadecimal digits with nothing of an id's kind right after them.
pub(super) fn uuid(message: &[u8]) -> Option<&[u8]> {
    memchr_iter(b'-', message).find_map(|dash| {
        let start = dash.checked_sub(8)?;
        let text = message.get(start..start + 36)?;
        let ends = message.get(start + 36).is_none_or(|&b| !b.is_ascii_alphanumeric());
        (ends && is_uuid(text)).then_some(text)
    })
}

/// Whether a text is a UUID in its usual form.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(found: Option<&[u8]>) -> Option<String> {
        found.map(|id| String::from_utf8_lossy(id).into_owned())
    }

    #[test]
    fn a_prefixed_id_is_taken_whole_and_only_where_a_word_starts() {
        let finder = Finder::new("blk_");
        let line = b"Receiving block blk_-1608999687919862906 src: /10.250.19.102:54106";
        assert_eq!(text(prefixed(line, &finder)), Some("blk_-1608999687919862906".into()));
        assert_eq!(text(prefixed(b"myblk_12 then blk_34.", &finder)), Some("blk_34".into()));
        assert_eq!(text(prefixed(b"blk_ alone", &finder)), None);
    }

    #[test]
    fn a_field_is_found_in_every_usual_writing() {
        let finder = Finder::new("trace_id");
        for line in [
            "GET /a trace_id=9f3c1 ok",
            r#"{"trace_id":"9f3c1","a":1}"#,
            "trace_id: 9f3c1, more",
            "[trace_id 9f3c1x] b",
            "other_trace_id=77x trace_id='9f3c1'",
        ] {
            assert!(text(field(line.as_bytes(), &finder)).unwrap().starts_with("9f3c1"), "{line}");
        }
        assert_eq!(text(field(b"trace_id=none", &finder)), None);
        assert_eq!(text(field(b"trace_id", &finder)), None);
    }

    #[test]
    fn a_uuid_is_found_after_a_prefix_and_not_inside_longer_hex() {
        let id = "3ea4052c-895d-4b64-9e2d-04d64c4d94ab";
        assert_eq!(text(uuid(format!("[req-{id} -]").as_bytes())), Some(id.into()));
        assert_eq!(text(uuid(format!("{id}ff").as_bytes())), None);
        assert_eq!(text(uuid(b"----------------------------------------")), None);
    }
}
