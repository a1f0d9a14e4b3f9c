//! Known secret values, hidden wherever they would appear: in the server's log, and in whatever else asks
//! [`redact`].
//!
//! Whoever holds a secret value in memory makes it known here. A value shorter than [`SHORTEST`] bytes is
//! not: it would be found by chance in ordinary text. Each is known as it is and in base64, hexadecimal,
//! percent and JSON encoding. A text is looked through once, by the first eight bytes of what is known.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

use crate::secret::HIDDEN;

/// The shortest value that is hidden, in bytes.
pub const SHORTEST: usize = 8;

/// The most values that are known at once, so that memory is bounded.
const MOST: usize = 20_000;

/// The longest value that is hidden; a longer one is hidden by its beginning.
const LONGEST: usize = 16 << 10;

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// Whether anything is known, so that a server without secrets pays nothing.
static ANY: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct Known {
    by_start: HashMap<[u8; SHORTEST], Vec<Entry>>,
    /// Which pairs of bytes any value begins with.
    pairs: Vec<u64>,
    count: usize,
}

struct Entry {
    owner: String,
    value: Zeroizing<Vec<u8>>,
}

/// Makes values known under a name; those that were known under it before stay known until
/// [`forget`] or until they are replaced by as many others.
pub fn remember<'a>(owner: &str, values: impl IntoIterator<Item = &'a str>) {
    let mut guard = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = guard.get_or_insert_with(Known::default);
    for value in values {
        for form in forms(value) {
            known.add(owner, form);
        }
    }
    ANY.store(known.count > 0, Ordering::Release);
}

/// Forgets what is known under a name.
pub fn forget(owner: &str) {
    let mut guard = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = guard.as_mut() else { return };
    known.by_start.retain(|_, entries| {
        entries.retain(|entry| entry.owner != owner);
        !entries.is_empty()
    });
    known.count = known.by_start.values().map(Vec::len).sum();
    ANY.store(known.count > 0, Ordering::Release);
}

/// The text with every known value replaced by `[hidden]`.
pub fn redact(text: &str) -> Cow<'_, str> {
    if text.len() < SHORTEST || !ANY.load(Ordering::Acquire) {
        return Cow::Borrowed(text);
    }
    let guard = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = guard.as_ref() else { return Cow::Borrowed(text) };
    let bytes = text.as_bytes();
    let (mut kept, mut from, mut at) = (String::new(), 0, 0);
    while at + SHORTEST <= bytes.len() {
        // A value begins and ends with whole characters, so what is cut out is whole too.
        match known.found_at(&bytes[at..]) {
            Some(length) => {
                kept.push_str(&text[from..at]);
                kept.push_str(HIDDEN);
                at += length;
                from = at;
            }
            None => at += 1,
        }
    }
    if from == 0 && kept.is_empty() {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[from..]);
    Cow::Owned(kept)
}

impl Known {
    fn add(&mut self, owner: &str, value: Zeroizing<Vec<u8>>) {
        let Some(start) = value.first_chunk::<SHORTEST>().copied() else { return };
        let entries = self.by_start.entry(start).or_default();
        if self.count >= MOST || entries.iter().any(|entry| *entry.value == *value && entry.owner == owner) {
            return;
        }
        entries.push(Entry { owner: owner.to_owned(), value });
        // The longest first: of `password1` and `password12` the second is hidden whole.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.value.len()));
        self.count += 1;
        self.pairs.resize(1024, 0);
        let pair = usize::from(u16::from_be_bytes([start[0], start[1]]));
        self.pairs[pair / 64] |= 1 << (pair % 64);
    }

    fn found_at(&self, bytes: &[u8]) -> Option<usize> {
        let start = bytes.first_chunk::<SHORTEST>()?;
        let pair = usize::from(u16::from_be_bytes([start[0], start[1]]));
        if self.pairs.get(pair / 64)? & (1 << (pair % 64)) == 0 {
            return None;
        }
        let entries = self.by_start.get(start)?;
        entries.iter().find(|entry| bytes.starts_with(&entry.value)).map(|entry| entry.value.len())
    }
}

/// How a value may stand in a text.
fn forms(value: &str) -> Vec<Zeroizing<Vec<u8>>> {
    if value.len() < SHORTEST {
        return Vec::new();
    }
    let value = &value[..value.floor_char_boundary(LONGEST)];
    let bytes = value.as_bytes();
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut forms: Vec<Zeroizing<Vec<u8>>> = [
        value.to_owned(),
        BASE64.encode(bytes).trim_end_matches('=').to_owned(),
        data_encoding::BASE64URL_NOPAD.encode(bytes),
        HEXLOWER.encode(bytes),
        HEXUPPER.encode(bytes),
        percent(bytes),
        json.trim_matches('"').to_owned(),
    ]
    .into_iter()
    .map(|form| Zeroizing::new(form.into_bytes()))
    .collect();
    forms.sort_by(|one, other| one.as_slice().cmp(other.as_slice()));
    forms.dedup_by(|one, other| **one == **other);
    forms
}

fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(*byte))
            }
            other => {
                text.push('%');
                text.push_str(&HEXUPPER.encode(&[*other]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_value_is_hidden_in_every_form_and_forgotten_when_told() {
        let value = "tr0ub4dor & \"3\" ünd so";
        remember("test/forms", [value]);
        for form in forms(value) {
            let form = std::str::from_utf8(&form).unwrap().to_owned();
            let hidden = redact(&format!("before {form} after, and {form}")).into_owned();
            assert_eq!(hidden, "before [hidden] after, and [hidden]", "{form}");
        }
        assert_eq!(redact("nothing to see here"), "nothing to see here");
        assert_eq!(redact("tr0ub4do"), "tr0ub4do", "a part of it is not it");
        forget("test/forms");
        assert_eq!(redact(value), value);
    }

    #[test]
    fn short_values_are_left_alone_and_the_longest_match_wins() {
        remember("test/short", ["1234567", "correct-horse", "correct-horse-battery"]);
        assert_eq!(redact("1234567 correct-horse-battery!"), "1234567 [hidden]!");
        assert_eq!(redact("ü correct-horse ü"), "ü [hidden] ü");
        forget("test/short");
    }

    #[test]
    fn two_owners_of_one_value_keep_it_hidden_until_both_forget() {
        remember("test/a", ["shared-value-1"]);
        remember("test/b", ["shared-value-1"]);
        forget("test/a");
        assert_eq!(redact("x shared-value-1"), "x [hidden]");
        forget("test/b");
        assert_eq!(redact("x shared-value-1"), "x shared-value-1");
    }
}
