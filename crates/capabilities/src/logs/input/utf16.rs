//! UTF-16 to UTF-8, as a stream.

use std::io::{self, Read};

/// Reads UTF-16 (without its mark) and gives UTF-8; what is no character becomes U+FFFD.
pub(super) struct Utf16<R> {
    inner: R,
    big: bool,
    odd: Option<u8>,
    high: Option<u16>,
    out: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Utf16<R> {
    pub(super) fn new(inner: R, big: bool) -> Self {
        Self { inner, big, odd: None, high: None, out: Vec::new(), at: 0, ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut raw = [0u8; 16 << 10];
        self.out.clear();
        self.at = 0;
        while self.out.is_empty() && !self.ended {
            let read = self.inner.read(&mut raw)?;
            if read == 0 {
                self.ended = true;
                if self.odd.take().is_some() || self.high.take().is_some() {
                    self.put(char::REPLACEMENT_CHARACTER);
                }
            }
            for &byte in &raw[..read] {
                match self.odd.take() {
                    None => self.odd = Some(byte),
                    Some(first) if self.big => self.unit(u16::from_be_bytes([first, byte])),
                    Some(first) => self.unit(u16::from_le_bytes([first, byte])),
                }
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: u16) {
        let pending = self.high.take();
        match (pending, unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                self.put(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                return;
            }
            (Some(_), _) => self.put(char::REPLACEMENT_CHARACTER),
            (None, _) => {}
        }
        match unit {
            0xd800..=0xdbff => self.high = Some(unit),
            _ => self.put(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn put(&mut self, character: char) {
        self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.out.len() {
            self.fill()?;
        }
        let take = buffer.len().min(self.out.len() - self.at);
        buffer[..take].copy_from_slice(&self.out[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], big: bool) -> String {
        let mut text = String::new();
        Utf16::new(bytes, big).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn both_byte_orders_and_pairs_are_read() {
        let text = "Zürich 🚆 ok\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decoded(&little, false), text);
        assert_eq!(decoded(&big, true), text);
    }

    #[test]
    fn half_characters_become_the_replacement_character() {
        assert_eq!(decoded(&[0x3d, 0xd8, b'a', 0], false), "\u{fffd}a");
        assert_eq!(decoded(&[0x00, 0xdc], false), "\u{fffd}");
        assert_eq!(decoded(b"a\0b", false), "a\u{fffd}");
    }
}
