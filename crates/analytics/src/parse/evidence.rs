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
    let middle =
        |value: &'_ [u8]| spelling(&value[head.min(value.len())..value.len().max(head + tail) - tail]);
    let spellings: Vec<Spelling> = values.iter().map(|(value, _)| middle(value)).collect();
    let (head, tail) = (&first[..head], &first[first.len() - tail..]);
    let words = spellings.iter().filter(|&&s| s == Spelling::Word).count();
    let constants = pattern.iter().enumerate().filter(|(at, f)| *at != place && is_text(f)).count()
        + usize::from(is_text(head) || is_text(tail));
    if words == 0 || (constants > 0 && words * 4 <= values.len()) {
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
    [&b"user"[..], b"username", b"host", b"hostname"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(&word[start..]))
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
    // `android.intent.action.SCREEN_ON` is one of a few constants.
    let last = memchr::memrchr(b'.', value).map_or(value, |at| &value[at + 1..]);
    if last.len() > 2 && last.iter().all(|b| b.is_ascii_uppercase() || *b == b'_') {
        return Spelling::Word;
    }
    let dotted = inside
        .windows(3)
        .any(|w| w[1] == b'.' && w[0].is_ascii_alphanumeric() && w[2].is_ascii_alphanumeric());
    if dotted || inside.iter().any(|b| matches!(b, b'@' | b'/' | b'\\')) {
        Spelling::Name
    } else {
        Spelling::Word
    }
}

/// Whether a field has a letter that does not vary.
fn is_text(field: &[u8]) -> bool {
    field.iter().any(|b| b.is_ascii_alphabetic() || *b >= 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the `?` of a message is a variable, by its values, each with its count.
    fn varies_in(message: &str, values: &[(&str, u64)]) -> bool {
        let message = message.replace('*', "\x01");
        let place = message.split(' ').position(|f| f.contains('?')).unwrap();
        let field = message.split(' ').nth(place).unwrap();
        let values: Vec<(String, u64)> =
            values.iter().map(|(v, n)| (field.replace('?', &v.replace('*', "\x01")), *n)).collect();
        let pattern = group::fields_of(message.replace('?', &values[0].0).as_bytes());
        let values: Vec<(&[u8], u64)> = values.iter().map(|(v, n)| (v.as_bytes(), *n)).collect();
        varies(&pattern, place, &values)
    }

    #[test]
    fn states_that_come_again_and_again_are_constant() {
        let states = [("NEW", 90), ("RUNNING", 80), ("FAILED", 70), ("DONE", 60)];
        assert!(!varies_in("task * went to ?", &states));
        assert!(!varies_in("power of the fan is [?]", &[("on", 5), ("off", 5)]));
        assert!(!varies_in("link on ? is up", &[("en*", 5), ("awdl*", 5)]));
    }

    #[test]
    fn many_words_of_which_new_ones_keep_coming_vary() {
        let words: Vec<(String, u64)> = (0..8).map(|n| (format!("w{}", "x".repeat(n)), 1)).collect();
        let words: Vec<(&str, u64)> = words.iter().map(|(w, n)| (w.as_str(), *n)).collect();
        assert!(varies_in("lease for ? was lost", &words));
        assert!(!varies_in("? lease was lost", &words));
        let frequent: Vec<(&str, u64)> = words.iter().map(|(w, _)| (*w, 1000)).collect();
        assert!(!varies_in("lease for ? was lost", &frequent));
    }

    #[test]
    fn a_place_that_is_masked_once_varies_for_words_too() {
        assert!(varies_in("cannot open ? for writing", &[("*", 3), ("pwd", 1)]));
        assert!(!varies_in("? opened for writing", &[("*", 3), ("pwd", 1)]));
        assert!(!varies_in("?", &[("active", 3), ("blocked", 1), ("*", 4)]));
    }

    #[test]
    fn names_vary_and_constants_with_dots_do_not() {
        assert!(varies_in("resolved ? to rack", &[("a.example.com", 9), ("b.example.org", 9)]));
        assert!(!varies_in(
            "action ? received",
            &[("android.intent.SCREEN_ON", 9), ("android.intent.SCREEN_OFF", 9)]
        ));
        assert!(varies_in("session for user ? closed", &[("root", 90), ("news", 90)]));
    }

    #[test]
    fn long_messages_vary_together_only_when_their_values_do_not_return() {
        let fields = |text: &str| group::fields_of(text.as_bytes());
        let hives: Vec<_> = ["sam", "system", "default", "software"]
            .iter()
            .map(|h| fields(&format!("loading hive {h} from path x/{h} into the registry")))
            .collect();
        assert!(vary_together(&hives.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let states: Vec<_> = ["a a", "a b", "b a", "b b"]
            .iter()
            .map(|s| fields(&format!("the state of the vote is {s} as of now")))
            .collect();
        assert!(!vary_together(&states.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }
}
