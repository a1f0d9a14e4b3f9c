//! Laying a raw message beside its pattern, to read off the values of its variables.
//!
//! A message has more than its pattern: runs of spaces, lists that were drawn together, units. So a
//! variable takes the shortest run of bytes, spaces included, that lets the rest of the pattern match; the
//! search is leftmost and never steps back, so it takes time linear in the message for each constant.

use super::group::Field;
use super::mask::{WILD, is_space};

/// The values of the variables, or nothing when the message was cut too short to show them all.
pub(super) fn values<'m>(pattern: &[Field], message: &'m [u8]) -> Option<Vec<&'m [u8]>> {
    let mut pieces = Vec::new();
    for (at, field) in pattern.iter().enumerate() {
        if at > 0 {
            pieces.push(Piece::Space);
        }
        for part in field.chunk_by(|&a, &b| (a == WILD) == (b == WILD)) {
            if part[0] == WILD {
                pieces.extend(part.iter().map(|_| Piece::Value));
            } else {
                pieces.push(Piece::Text(part));
            }
        }
    }
    let mut found = Vec::new();
    let mut rest = message.trim_ascii_start();
    let mut value: Option<&[u8]> = None;
    let mut run: Vec<Piece<'_>> = Vec::new();
    for piece in pieces.into_iter().chain([Piece::End]) {
        if !matches!(piece, Piece::Value | Piece::End) {
            run.push(piece);
            continue;
        }
        let (start, end) = find(rest, &run, value.is_none(), matches!(piece, Piece::End))?;
        if value.take().is_some() {
            found.push(&rest[..start]);
        }
        rest = &rest[end..];
        value = Some(rest);
        run.clear();
    }
    Some(found)
}

enum Piece<'p> {
    Text(&'p [u8]),
    Space,
    Value,
    End,
}

/// Where the constants of `run` lie in `text`, one right after the other: at its begin if `anchored`, at
/// its end if `last`.
fn find(text: &[u8], run: &[Piece<'_>], anchored: bool, last: bool) -> Option<(usize, usize)> {
    if run.is_empty() {
        return Some(if last && !anchored { (text.len(), text.len()) } else { (0, 0) });
    }
    // An unanchored variable is not empty, unless nothing else is left for it.
    let starts = if anchored { 0..1 } else { 0..text.len() + 1 };
    let mut skip = 0;
    for start in starts {
        if start < skip {
            continue;
        }
        if let Some(end) = matches(&text[start..], run) {
            if !last || text[start + end..].iter().all(|&b| is_space(b)) {
                return Some((start, start + end));
            }
        } else if let Some(Piece::Text(first)) = run.first() {
            skip = start + memchr::memmem::find(&text[start..], first)?.max(1);
        }
    }
    None
}

fn matches(text: &[u8], run: &[Piece<'_>]) -> Option<usize> {
    let mut at = 0;
    for piece in run {
        match piece {
            Piece::Text(constant) => {
                if !text[at..].starts_with(constant) {
                    return None;
                }
                at += constant.len();
            }
            _ => {
                let spaces = text[at..].iter().take_while(|&&b| is_space(b)).count();
                if spaces == 0 {
                    return None;
                }
                at += spaces;
            }
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::super::group::fields_of;
    use super::*;

    fn shown(pattern: &str, message: &str) -> Option<Vec<String>> {
        let pattern = fields_of(pattern.replace('*', "\x01").as_bytes());
        let values = values(&pattern, message.as_bytes())?;
        Some(values.into_iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect())
    }

    #[test]
    fn values_are_read_off_between_the_constants() {
        assert_eq!(shown("a * b=* c", "a x1 b=7  c").unwrap(), ["x1", "7"]);
        assert_eq!(shown("speeds ( * )", "speeds ( 1 2 3 )").unwrap(), ["1 2 3"]);
        assert_eq!(shown("*:* up", "10.0.0.1:80 up").unwrap(), ["10.0.0.1", "80"]);
        assert_eq!(shown("took *", "  took 5.2 KB").unwrap(), ["5.2 KB"]);
        assert_eq!(shown("no variable", "no   variable").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_message_that_was_cut_shows_nothing() {
        assert_eq!(shown("a * b", "a x"), None);
    }
}
