//! Finds the id in a message that says which session the line belongs to.

use std::borrow::Cow;

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use super::scan;

/// Ids longer than this are cut, and the cut is marked with a hash of the whole.
const MAX_KEY: usize = 128;
const MAX_PATTERN: usize = 1 << 12;
const MAX_COMPILED: usize = 1 << 20;

/// Why a session pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The pattern is longer than is accepted.
    #[error("the session pattern has {0} bytes, at most {MAX_PATTERN} are accepted")]
    TooLong(usize),
    /// The pattern does not compile, or compiles to something too large.
    #[error("the session pattern `{pattern}` is not usable: {reason}")]
    Invalid {
        /// The pattern as given.
        pattern: String,
        /// What the compiler said, on one line.
        reason: String,
    },
    /// The pattern matches the empty text, so it would find an empty id in every line.
    #[error(
        "the session pattern `{0}` matches the empty text, write one that matches an id such as `req-[0-9a-f]+`"
    )]
    MatchesNothing(String),
}

/// Finds the session id in a message.
#[derive(Debug, Clone)]
pub struct SessionKey(Finds);

#[derive(Debug, Clone)]
pub(super) enum Finds {
    Pattern(Box<Regex>),
    Prefix { finder: Finder<'static> },
    Field { finder: Finder<'static> },
    Uuid,
}

impl SessionKey {
    /// A user's own pattern: the id is its first capture group, or the whole match when it has none.
    pub fn regex(pattern: &str) -> Result<Self, KeyError> {
        if pattern.len() > MAX_PATTERN {
            return Err(KeyError::TooLong(pattern.len()));
        }
        let built = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
        let regex = built.map_err(|error| KeyError::Invalid {
            pattern: pattern.to_owned(),
            reason: error.to_string().lines().last().unwrap_or("it does not compile").trim().to_owned(),
        })?;
        if regex.is_match(b"") {
            return Err(KeyError::MatchesNothing(pattern.to_owned()));
        }
        Ok(Self(Finds::Pattern(Box::new(regex))))
    }

    /// Ids that start with `prefix`, such as `blk_` or `req-`, and go on with letters, digits, `_` and `-`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self(Finds::Prefix { finder: Finder::new(prefix).into_owned() })
    }

    /// The value of a field, as in `name=value`, `name: value` or `"name":"value"`.
    pub fn field(name: &[u8]) -> Self {
        Self(Finds::Field { finder: Finder::new(name).into_owned() })
    }

    /// The first UUID.
    pub const fn uuid() -> Self {
        Self(Finds::Uuid)
    }

    /// The id in this message, if it carries one.
    pub fn find<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        let id = match &self.0 {
            Finds::Pattern(regex) if regex.captures_len() > 1 => regex.captures(message)?.get(1)?.as_bytes(),
            Finds::Pattern(regex) => regex.find(message)?.as_bytes(),
            Finds::Prefix { finder } => scan::prefixed(message, finder)?,
            Finds::Field { finder } => scan::field(message, finder)?,
            Finds::Uuid => scan::uuid(message)?,
        };
        (!id.is_empty()).then_some(id)
    }

    /// What is looked for, in words.
    pub fn describe(&self) -> String {
        match &self.0 {
            Finds::Pattern(regex) => format!("the pattern {}", regex.as_str()),
            Finds::Prefix { finder } => {
                format!("ids that start with {}", String::from_utf8_lossy(finder.needle()))
            }
            Finds::Field { finder } => format!("the field {}", String::from_utf8_lossy(finder.needle())),
            Finds::Uuid => "UUIDs".to_owned(),
        }
    }
}

/// Cuts an id that is too long to keep. Different ids stay different: the cut ends in a hash of the whole.
pub(super) fn shorten(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() <= MAX_KEY {
        return Cow::Borrowed(key);
    }
    let mut cut = key[..MAX_KEY - 18].to_vec();
    // FNV-1a, twice with different starts: this names an id, it protects nothing.
    let hash = |start: u64| {
        key.iter().fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    cut.extend_from_slice(format!("..{:016x}", hash(0xcbf2_9ce4_8422_2325)).as_bytes());
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &SessionKey, message: &str) -> Option<String> {
        key.find(message.as_bytes()).map(|id| String::from_utf8_lossy(id).into_owned())
    }

    #[test]
    fn a_pattern_gives_its_first_group_or_its_whole_match() {
        let whole = SessionKey::regex(r"job-\d+").unwrap();
        assert_eq!(found(&whole, "start job-12 now"), Some("job-12".into()));
        let group = SessionKey::regex(r"user=(\w+) job").unwrap();
        assert_eq!(found(&group, "user=ann job 7"), Some("ann".into()));
        assert_eq!(found(&group, "nobody"), None);
    }

    #[test]
    fn unusable_patterns_are_refused_with_a_reason() {
        assert!(SessionKey::regex("(").unwrap_err().to_string().contains("`(`"));
        assert!(SessionKey::regex("x*").unwrap_err().to_string().contains("empty text"));
        assert!(SessionKey::regex(r"(\w{1000}){1000}").is_err());
        assert!(SessionKey::regex(&"a".repeat(5000)).unwrap_err().to_string().contains("5000 bytes"));
    }

    #[test]
    fn a_group_that_took_no_part_finds_nothing() {
        assert_eq!(found(&SessionKey::regex("a(b)?c").unwrap(), "ac"), None);
    }

    #[test]
    fn an_id_of_a_megabyte_is_cut_and_stays_itself() {
        let (one, two) = (vec![b'a'; 1 << 20], [vec![b'a'; 1 << 20], b"b".to_vec()].concat());
        assert!(shorten(&one).len() <= MAX_KEY);
        assert_ne!(shorten(&one), shorten(&two));
        assert_eq!(shorten(b"short"), Cow::Borrowed(b"short"));
    }
}
