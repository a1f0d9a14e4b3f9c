//! Reading numbers, names and marks off the front of a text.

use super::super::mask::is_space;

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const DAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

impl<'a> Cursor<'a> {
    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// How many digits come next, at most 20.
    pub fn digits(&self) -> usize {
        self.text[self.at..].iter().take(20).take_while(|b| b.is_ascii_digit()).count()
    }

    /// A number of exactly `width` digits, more of which may follow.
    pub fn number(&mut self, width: usize) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + width)?;
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + u32::from(digit - b'0');
        }
        self.at += width;
        Some(number)
    }

    /// A number of one or two digits within `range`.
    pub fn short(&mut self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let width = self.digits();
        if width == 0 || width > 2 {
            return None;
        }
        self.number(width).filter(|n| range.contains(n))
    }

    /// A number of exactly two digits within `range`.
    pub fn two(&mut self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        self.number(2).filter(|n| range.contains(n))
    }

    /// One of `bytes`, which is returned.
    pub fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|b| bytes.contains(b))?;
        self.at += 1;
        Some(byte)
    }

    /// At least one space.
    pub fn spaces(&mut self) -> Option<()> {
        let count = self.text[self.at..].iter().take(8).take_while(|&&b| b == b' ' || b == b'\t').count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn name(&mut self, names: &[&[u8; 3]]) -> Option<u32> {
        let word = self.text.get(self.at..self.at + 3)?;
        let at = names.iter().position(|n| n.eq_ignore_ascii_case(word))?;
        self.at += 3;
        Some(at as u32 + 1)
    }

    /// The short English name of a month, as its number.
    pub fn month(&mut self) -> Option<u32> {
        self.name(&MONTHS)
    }

    /// The short English name of a day of the week.
    pub fn weekday(&mut self) -> Option<u32> {
        self.name(&DAYS)
    }

    /// Whether a word could not go on here: the end, a space or a mark.
    pub fn at_end_of_word(&self) -> bool {
        self.peek().is_none_or(|b| is_space(b) || !(b.is_ascii_alphanumeric() || b == b'_' || b >= 128))
    }

    /// Digits after a decimal mark, as microseconds.
    pub fn fraction(&mut self) -> i64 {
        let mut micros = 0;
        let mut scale = 100_000;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            micros += i64::from(digit - b'0') * scale;
            scale /= 10;
            self.at += 1;
        }
        micros
    }
}
