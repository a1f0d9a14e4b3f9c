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
const SIMILAR: usize = 4;
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
    let first = values[0].0;
    let (head, tail) = values[1..].iter().fold((first.len(), first.len()), |(head, tail), (value, _)| {
        let common = group::common_ends(first, value, false);
        (head.min(common.0), tail.min(common.1))
    });
    let middle = |value: &'_ [u8]| spelling(&value[head.min(value.len())..value.len().max(head + tail) - tail]);
    let spellings: Vec<Spelling> = values.iter().map(|(value, _)| middle(value)).collect();
    let (head, tail) = (&first[..head], &first[first.len() - tail..]);
    let words = spellings.iter().filter(|&&s| s == Spelling::Word).count();
    let constants = pattern.iter().enumerate().filter(|(at, f)| *at != place && is_text(f)).count()
        + usize::from(is_text(head) || is_text(tail));
    if words == 0 {
        return true;
    }
    if constants == 0 {
        return false;
    }
    let opens = !is_text(head) && !pattern[..place].iter().any(|f| is_text(f));
    if spellings.contains(&Spelling::Wild) && !opens || names_someone(pattern, place, head) {
        return true;
    }
    let needed = if opens { FIRST_WORDS } else { WORDS };
    if values.len() < needed {
        return false;
    }
    let rare = values.iter().filter(|(_, count)| *count <= 2).count();
    values.len() >= MANY_WORDS || rare * 4 >= values.len()
}

/// Whether messages of one length that differ in the same few places are one: in each of these places
/// hardly two have the same value, as they would if it told of a state.
pub(super) fn vary_together(patterns: &[&[Field]]) -> bool {
    let Some(first) = patterns.first().filter(|_| patterns.len() >= SIMILAR) else { return false };
    (0..first.len()).all(|place| {
        let mut values: Vec<&[u8]> = patterns.iter().map(|p| &*p[place]).collect();
        values.sort_unstable();
        values.dedup();
        values.len() == 1 || values.len() * 4 >= patterns.len() * 3
    })
}

/// Whether what stands before a value says that it is a name: `for user root`, `host=a`.
fn names_someone(pattern: &[Field], place: usize, head: &[u8]) -> bool {
    let before = if head.is_empty() { place.checked_sub(1).map_or(&[][..], |at| &pattern[at]) } else { head };
    let word = before.strip_suffix(b"=").or_else(|| before.strip_suffix(b":")).unwrap_or(before);
    let start = word.iter().rposition(|b| !b.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    [&b"user"[..], b"username", b"host", b"hostname"].iter().any(|name| name.eq_ignore_ascii_case(&word[start..]))
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
