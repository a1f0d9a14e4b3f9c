//! Groups: what one template is made of while it is being mined.
//!
//! A *pattern* is a list of fields; a field is text in which [`WILD`] stands for any run of bytes without
//! a space. A group whose pattern came from one shape is *exact*: only that shape is in it. One whose
//! pattern came from several is *open*: any shape that fits belongs to it.

use super::align;
use super::mask::WILD;
use super::template::{Template, TemplateId};

/// Bytes that a field takes besides its text.
const FIELD_OVERHEAD: usize = 32;
/// The same for an example.
pub(super) const EXAMPLE_OVERHEAD: usize = 32;

/// A field of a pattern or of a shape.
pub(super) type Field = Box<[u8]>;

/// A template in the making.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The pattern; empty once the group was folded into another.
    pub fields: Vec<Field>,
    /// Whether shapes that merely fit the pattern belong to it.
    pub open: bool,
    pub count: u64,
    pub first_line: u64,
    /// The first few distinct messages, as they came.
    pub examples: Vec<Box<[u8]>>,
}

impl Group {
    /// Takes in the counts and examples of a group that was folded into this one.
    pub fn absorb(&mut self, other: &Group, max_examples: usize) {
        self.open = true;
        self.count += other.count;
        self.first_line = self.first_line.min(other.first_line);
        for example in &other.examples {
            if self.examples.len() < max_examples && !self.examples.contains(example) {
                self.examples.push(example.clone());
            }
        }
    }

    /// The bytes that it holds.
    pub fn bytes(&self) -> usize {
        let examples: usize = self.examples.iter().map(|e| e.len() + EXAMPLE_OVERHEAD).sum();
        bytes_of(&self.fields) + examples
    }

    /// Takes everything out of the group and leaves it hollow.
    pub fn hollow(&mut self) -> Group {
        let empty = Group { fields: Vec::new(), open: false, count: 0, first_line: 0, examples: Vec::new() };
        std::mem::replace(self, empty)
    }

    /// The template that a reader sees.
    pub fn describe(self, id: TemplateId) -> Template {
        let pattern = self.fields.join(&b' ');
        let mut text = Vec::new();
        for &byte in &pattern {
            match byte {
                WILD => text.extend_from_slice(b"<*>"),
                _ => text.push(byte),
            }
        }
        Template {
            id,
            template: String::from_utf8_lossy(&text).into_owned(),
            count: self.count,
            first_line: self.first_line,
            params: params(&self.fields, &self.examples),
            examples: self.examples.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect(),
        }
    }
}

/// The distinct values that the examples show for each variable of a pattern, from left to right.
fn params(pattern: &[Field], examples: &[Box<[u8]>]) -> Vec<Vec<String>> {
    let wild = pattern.iter().map(|f| f.iter().filter(|&&b| b == WILD).count()).sum();
    let mut params = vec![Vec::new(); wild];
    for example in examples {
        let Some(values) = align::values(pattern, example) else { continue };
        for (known, value) in params.iter_mut().zip(values) {
            let value = String::from_utf8_lossy(value).into_owned();
            if !known.contains(&value) {
                known.push(value);
            }
        }
    }
    params
}

/// The fields of a shape.
pub(super) fn fields_of(shape: &[u8]) -> Vec<Field> {
    shape.split(|&b| b == b' ').map(Box::from).collect()
}

/// The bytes that a pattern holds.
pub(super) fn bytes_of(fields: &[Field]) -> usize {
    fields.iter().map(|f| f.len() + FIELD_OVERHEAD).sum()
}

/// Whether a field of a shape fits a field of a pattern.
pub(super) fn fits(pattern: &[u8], field: &[u8]) -> bool {
    if pattern == field || pattern == [WILD] {
        return true;
    }
    let mut parts = pattern.split(|&b| b == WILD);
    let first = parts.next().unwrap_or_default();
    if first.len() == pattern.len() || !field.starts_with(first) {
        return false;
    }
    let mut rest = &field[first.len()..];
    let mut last = None;
    for part in parts {
        if let Some(previous) = last.replace(part) {
            match memchr::memmem::find(rest, previous) {
                Some(at) => rest = &rest[at + previous.len()..],
                None => return false,
            }
        }
    }
    last.is_some_and(|tail| rest.ends_with(tail))
}

/// Whether all fields of a shape fit a pattern.
pub(super) fn all_fit(pattern: &[Field], fields: &[Field]) -> bool {
    pattern.len() == fields.len() && pattern.iter().zip(fields).all(|(p, f)| fits(p, f))
}

/// A mark between the words of a name: `a.b-c`.
fn is_joint(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'+' | b'~' | b'$' | b'@' | b'#')
}

/// How many bytes two fields have in common at their begin and at their end, cut at marks so that no name
/// is split, or, when that is allowed, at the joints of names too.
pub(super) fn common_ends(a: &[u8], b: &[u8], joints: bool) -> (usize, usize) {
    let cut = |&b: &u8| {
        !(b.is_ascii_alphanumeric() || b == b'_' || b >= 128 || b == WILD) && (joints || !is_joint(b))
    };
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let head = a[..common].iter().rposition(cut).map_or(0, |at| at + 1);
    let left = a.len().min(b.len()) - head;
    let common = a.iter().rev().zip(b.iter().rev()).take(left).take_while(|(x, y)| x == y).count();
    let tail = a[a.len() - common..].iter().position(cut).map_or(0, |at| common - at);
    (head, tail)
}

/// The narrowest field that both fit: `user=root` and `user=adm` give `user=*`.
pub(super) fn generalise(a: &[u8], b: &[u8]) -> Field {
    if a == b {
        return a.into();
    }
    let (head, tail) = common_ends(a, b, true);
    let mut field = a[..head].to_vec();
    if field.last() != Some(&WILD) {
        field.push(WILD);
    }
    let rest = &a[a.len() - tail..];
    field.extend_from_slice(rest.strip_prefix(&[WILD]).unwrap_or(rest));
    field.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_what_lies_between_its_constants() {
        for (pattern, field, expected) in [
            ("user=\x01", "user=root", true),
            ("user=\x01", "uid=0", false),
            ("\x01:\x01", "a:b:c", true),
            ("\x01:\x01", "ab", false),
            ("<\x01>", "<>", true),
            ("a\x01a", "a", false),
            ("same", "same", true),
            ("same", "some", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), field.as_bytes()), expected, "{pattern:?} {field}");
        }
    }

    #[test]
    fn generalising_keeps_what_is_common_between_marks() {
        for (a, b, expected) in [
            ("user=root", "user=adm", "user=\x01"),
            ("[enable]", "[enabled]", "[\x01]"),
            ("root", "rooster", "\x01"),
            ("a=x,", "a=y,", "a=\x01,"),
            ("(\x01)", "(none)", "(\x01)"),
            ("x", "", "\x01"),
        ] {
            let field = generalise(a.as_bytes(), b.as_bytes());
            assert_eq!(&*field, expected.as_bytes(), "{a} {b}");
            assert!(fits(&field, a.as_bytes()) && fits(&field, b.as_bytes()));
        }
    }
}
