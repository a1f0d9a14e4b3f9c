//! Whether a place in a family of messages is a variable.
//!
//! What speaks for it: some of its values are masked already; its values are spelt like names of things
//! (dots, inner digits); they are many and new ones keep coming. What speaks against it: it is the first
//! word, the values are plain words that come again and again, or little else in the message is constant.

use super::group::{self, Field};
use super::mask::WILD;

/// Fields from which on messages may be one though they differ in several places.
pub(super) const LONG: usize = 8;
/// Messages that must differ in the same places to be one.
pub(super) const SIMILAR: usize = 4;
/// Plain words at one place from which on it may be a variable.
const WORDS: usize = 6;
/// The same at the message's first word.
const FIRST_WORDS: usize = 16;
/// Plain words from which on it is one though all of them keep coming again.
const MANY_WORDS: usize = 24;

/// In how many places of `length` similar messages may differ.
pub(super) fn places_that_may_differ(length: usize) -> usize {
    length * 3 / 10
}

/// What a value is by its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Masked as a whole.
    Wild,
    /// Masked in part, or with marks inside: an id, a host, a class, a file.
    Name,
    /// Anything else.
    Word,
}

/// Whether `place` of the messages like `pattern` is a variable, by the values that stand there and how
/// often each does.
pub(super) fn varies(pattern: &[Field], place: usize, values: &[(&[u8], u64)]) -> bool {
    let common = values[1..].iter().fold(Field::from(values[0].0), |c, (v, _)| group::generalise(&c, v));
    let (head, tail) = around(&common);
    let middles: Vec<&[u8]> = values.iter().map(|(v, _)| inner(v, head, tail)).collect();
    let spellings: Vec<Spelling> = middles.iter().map(|m| spelling(m)).collect();
    let words = spellings.iter().filter(|&&s| s == Spelling::Word).count();
    let constants = pattern.iter().enumerate().filter(|(at, f)| *at != place && is_text(f)).count()
        + usize::from(is_text(head) || is_text(tail));
    if words == 0 {
        return true;
    }
    if constants == 0 {
        return false;
    }
    if spellings.contains(&Spelling::Wild) && place > 0 {
        return true;
    }
    let needed = if place == 0 && head.is_empty() { FIRST_WORDS } else { WORDS };
    if values.len() < needed {
        return false;
    }
    let rare = values.iter().filter(|(_, count)| *count <= 2).count();
    values.len() >= MANY_WORDS || rare * 4 >= values.len()
}

/// What a pattern's field has before its first and after its last variable.
fn around(common: &[u8]) -> (&[u8], &[u8]) {
    let first = common.iter().position(|&b| b == WILD).unwrap_or(common.len());
    let last = common.iter().rposition(|&b| b == WILD).map_or(common.len(), |at| at + 1);
    (&common[..first], &common[last..])
}

fn inner<'v>(value: &'v [u8], head: &[u8], tail: &[u8]) -> &'v [u8] {
    let value = value.strip_prefix(head).unwrap_or(value);
    value.strip_suffix(tail).unwrap_or(value)
}

fn spelling(value: &[u8]) -> Spelling {
    if value == [WILD] {
        return Spelling::Wild;
    }
    let inside = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
    if let Some(at) = value.iter().position(|&b| b == WILD) {
        // `en*` is one of a few kinds, `rdd_*` and `*.example.com` are ids.
        let kind = at + 1 == value.len() && value[..at].iter().all(u8::is_ascii_alphabetic);
        return if kind { Spelling::Word } else { Spelling::Name };
    }
    let dotted = inside.windows(3).any(|w| w[1] == b'.' && w[0].is_ascii_alphanumeric() && w[2].is_ascii_alphanumeric());
    if dotted || inside.iter().any(|b| matches!(b, b'@' | b'/' | b'\\')) { Spelling::Name } else { Spelling::Word }
}

/// Whether a field has a letter that does not vary.
fn is_text(field: &[u8]) -> bool {
    field.iter().any(|b| b.is_ascii_alphabetic() || *b >= 128)
}
