//! The shape of a line: its text with a mark in the place of every variable.
//!
//! A variable is a run of letters and digits that has a digit, an IPv4 address, a UUID, or a time in a
//! spelling that [`super::moment`] knows. All else is the shape's own text. A line that holds a byte that
//! serves as a mark, or that is very long, is one variable as a whole.

use super::moment::{self, Spelling};

/// In the place of a run of letters and digits.
pub(super) const TOKEN: u8 = 1;
/// In the place of an IPv4 address.
pub(super) const IP: u8 = 2;
/// In the place of a UUID in lower case.
pub(super) const UUID: u8 = 3;
/// In the place of a whole line.
pub(super) const RAW: u8 = 4;
/// In the place of a time; the byte after it is the spelling's code.
pub(super) const TIME: u8 = 5;

/// Lines longer than this are not taken apart.
const LONGEST: usize = 16 << 10;
/// The most variables of a shape.
const MOST_VARS: usize = 250;

/// A variable: where it begins, how long it is, and its value where it is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Var {
    pub at: u32,
    pub len: u32,
    pub time: i64,
}

const MARK: u8 = 0x80;
const DIGIT: u8 = 1;
const ALPHA: u8 = 2;

/// What each byte is to a shape.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' => ALPHA,
            1..=5 => MARK,
            _ => 0,
        };
        b += 1;
    }
    table
};

/// Whether a byte may be part of a token.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Writes the shape of a line over `shape` and its variables over `vars`.
pub(super) fn cut(line: &[u8], shape: &mut Vec<u8>, vars: &mut Vec<Var>) {
    shape.clear();
    vars.clear();
    if line.len() > LONGEST || !take_apart(line, shape, vars) {
        shape.clear();
        vars.clear();
        shape.push(RAW);
        vars.push(Var { at: 0, len: line.len() as u32, time: 0 });
    }
}

fn take_apart(line: &[u8], shape: &mut Vec<u8>, vars: &mut Vec<Var>) -> bool {
    let (mut at, mut copied) = (0, 0);
    while at < line.len() {
        let class = CLASS[line[at] as usize];
        if class == 0 {
            at += 1;
            continue;
        }
        if class == MARK || vars.len() == MOST_VARS {
            return false;
        }
        let start = at;
        let mut seen = 0;
        while at < line.len() && CLASS[line[at] as usize] & (DIGIT | ALPHA) != 0 {
            seen |= CLASS[line[at] as usize];
            at += 1;
        }
        let (kind, end, time) = match whole(line, start, at, seen) {
            Some(found) => found,
            None if seen & DIGIT != 0 => (TOKEN, at, None),
            None => continue,
        };
        shape.extend_from_slice(&line[copied..start]);
        shape.push(kind);
        if let Some((spelling, _)) = time {
            shape.push(Spelling::code(spelling));
        }
        vars.push(Var {
            at: start as u32,
            len: (end - start) as u32,
            time: time.map_or(0, |(_, micros)| micros),
        });
        at = end;
        copied = end;
    }
    shape.extend_from_slice(&line[copied..]);
    true
}

type Whole = (u8, usize, Option<(Spelling, i64)>);

/// The time, address or UUID that begins with the word at `start`.
fn whole(line: &[u8], start: usize, end: usize, seen: u8) -> Option<Whole> {
    let length = end - start;
    let next = line.get(end).copied();
    let digits = seen == DIGIT;
    let may_be_time = (digits && matches!(length, 2 | 4 | 6) && matches!(next, Some(b'-' | b'/' | b' ')))
        || (length == 3 && seen == ALPHA && next == Some(b' ') && line[start].is_ascii_uppercase());
    if may_be_time && let Some((spelling, micros, taken)) = moment::read(&line[start..], start == 0) {
        let after = line.get(start + taken).copied();
        if !after.is_some_and(is_word) || matches!(spelling, Spelling::Iso { .. }) && after == Some(b'Z') {
            return Some((TIME, start + taken, Some((spelling, micros))));
        }
    }
    if digits && length <= 3 && next == Some(b'.') {
        return address(line, start).map(|end| (IP, end, None));
    }
    if length == 8 && next == Some(b'-') && is_uuid(&line[start..]) {
        return Some((UUID, start + 36, None));
    }
    None
}

/// The end of the IPv4 address that begins at `start`, spelt as it is printed.
fn address(line: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for part in 0..4 {
        let digits = line[at..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        let value = line[at..at + digits].iter().fold(0u32, |sum, b| sum * 10 + u32::from(b - b'0'));
        if !(1..=3).contains(&digits) || value > 255 || (digits > 1 && line[at] == b'0') {
            return None;
        }
        at += digits;
        if part < 3 {
            if line.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    (!line.get(at).is_some_and(|&b| is_word(b))).then_some(at)
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() >= 36
        && !text.get(36).is_some_and(|&b| is_word(b))
        && text[..36].iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// A part of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Its own text.
    Text(&'a [u8]),
    /// A variable: the mark, and the code of a time's spelling.
    Var(u8, u8),
}

/// The parts of a shape, in order.
pub(super) fn pieces(shape: &[u8]) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while at < shape.len() {
        let mark = shape[at];
        if CLASS[mark as usize] != MARK {
            at += 1;
            continue;
        }
        if copied < at {
            found.push(Piece::Text(&shape[copied..at]));
        }
        let code = if mark == TIME { shape.get(at + 1).copied().unwrap_or(0) } else { 0 };
        found.push(Piece::Var(mark, code));
        at += if mark == TIME { 2 } else { 1 };
        copied = at.min(shape.len());
    }
    if copied < shape.len() {
        found.push(Piece::Text(&shape[copied..]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> (String, Vec<String>) {
        let (mut shape, mut vars) = (Vec::new(), Vec::new());
        cut(line.as_bytes(), &mut shape, &mut vars);
        let text = String::from_utf8(shape).unwrap();
        let text = text
            .replace('\u{1}', "<t>")
            .replace('\u{2}', "<ip>")
            .replace('\u{3}', "<id>")
            .replace('\u{5}', "<at>");
        let values = vars.iter().map(|v| line[v.at as usize..(v.at + v.len) as usize].to_owned()).collect();
        (text, values)
    }

    #[test]
    fn variables_are_words_with_digits_addresses_ids_and_times() {
        let (shape, values) =
            shown("081109 203518 143 INFO dfs.Data: block blk_-1608 of /10.250.19.102:50010");
        assert_eq!(shape, "<at>a <t> INFO dfs.Data: block blk_-<t> of /<ip>:<t>");
        assert_eq!(values, ["081109 203518", "143", "1608", "10.250.19.102", "50010"]);
        let (shape, values) =
            shown("2026-11-21T10:00:00.5Z req=54fadb41-2c4e-40cd-baed-9335e4c35a9e v1.2.3.4.5");
        assert_eq!(shape, "<at>6Z req=<id> <t>.<ip>");
        assert_eq!(values[1].len(), 36);
        assert_eq!(shown("no variable here"), ("no variable here".to_owned(), Vec::new()));
    }

    #[test]
    fn a_line_with_a_mark_in_it_is_one_variable() {
        let (mut shape, mut vars) = (Vec::new(), Vec::new());
        cut(b"odd \x01 line 7", &mut shape, &mut vars);
        assert_eq!((shape.as_slice(), vars.len(), vars[0].len), (&[RAW][..], 1, 12));
    }

    #[test]
    fn a_shape_falls_into_its_pieces() {
        let found = pieces(b"a \x01\x02 b \x05c");
        assert_eq!(
            found,
            [
                Piece::Text(b"a "),
                Piece::Var(TOKEN, 0),
                Piece::Var(IP, 0),
                Piece::Text(b" b "),
                Piece::Var(TIME, b'c')
            ]
        );
    }
}
