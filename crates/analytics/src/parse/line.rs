//! The raw line: what comes before any meaning is taken from it.

use std::borrow::Cow;

use super::mask::is_space;

/// Bytes of a line that are looked at; a longer line is read as if it ended there.
pub(super) const MAX_LINE: usize = 1 << 20;

/// The line without a carriage return at its end, without what exceeds [`MAX_LINE`] and without the
/// escape sequences that colour a terminal (ECMA-48 CSI and OSC).
pub(super) fn clean(line: &[u8]) -> Cow<'_, [u8]> {
    let line = &line[..line.len().min(MAX_LINE)];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if memchr::memchr(0x1b, line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at + escape_length(&rest[at..])..];
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

/// The length of the escape sequence that begins `text`.
fn escape_length(text: &[u8]) -> usize {
    match text.get(1) {
        Some(b'[') => {
            let parameters = text[2..].iter().take_while(|b| (0x20..0x40).contains(*b)).count();
            (parameters + 3).min(text.len())
        }
        Some(b']') => {
            let body = text[2..].iter().take(512).position(|&b| b == 7 || b == 0x1b);
            match body {
                Some(at) if text[2 + at] == 7 => at + 3,
                Some(at) => (at + 4).min(text.len()),
                None => 2,
            }
        }
        Some(0x40..=0x5f) => 2,
        _ => 1,
    }
}

/// Whether nothing is written on the line.
pub(super) fn is_empty(line: &[u8]) -> bool {
    line.iter().all(|&b| is_space(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_links_and_a_carriage_return_are_removed() {
        assert_eq!(&*clean(b"\x1b[1;31mERROR\x1b[0m disk\r"), b"ERROR disk");
        assert_eq!(&*clean(b"see \x1b]8;;http://x\x07here\x1b]8;;\x1b\\"), b"see here");
        assert_eq!(&*clean(b"cut \x1b[3"), b"cut ");
        assert_eq!(&*clean(b"\x1b"), b"");
        assert!(matches!(clean(b"plain"), Cow::Borrowed(b"plain")));
    }

    #[test]
    fn a_line_without_text_is_empty() {
        assert!(is_empty(b" \t\r") && is_empty(b"") && !is_empty(b" x"));
    }
}
