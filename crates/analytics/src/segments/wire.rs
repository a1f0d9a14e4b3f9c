//! The small parts of the format: numbers of variable length, and reading that never goes past the end.

/// Why bytes could not be written or read as a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It is not a segment, or it is damaged.
    #[error("the segment is damaged: {0}")]
    Damaged(&'static str),
    /// What was given does not fit into one.
    #[error("a segment cannot hold this: {0}")]
    TooLarge(&'static str),
    /// The bytes could not be had.
    #[error("the segment cannot be read")]
    Unread(#[source] std::io::Error),
    /// They could not be compressed.
    #[error("the segment cannot be packed")]
    Packing(#[source] std::io::Error),
}

/// The result of reading or writing a segment.
pub(super) type Result<T> = std::result::Result<T, SegmentError>;

/// Appends a number, seven bits a byte, the low ones first (LEB128).
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative: zigzag, then as [`put`].
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

/// Small numbers of either sign become small numbers.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// What [`zigzag`] made it of.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends bytes with their length before them.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.0.split_first().ok_or(SegmentError::Damaged("it ends too soon"))?;
        self.0 = rest;
        Ok(first)
    }

    pub fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SegmentError::Damaged("a number has too many bytes"))
    }

    pub fn signed(&mut self) -> Result<i64> {
        Ok(unzigzag(self.number()?))
    }

    /// A number of things of which each takes a byte at least, or that `most` bounds.
    pub fn count(&mut self, most: usize) -> Result<usize> {
        let number = self.number()?;
        if number > most as u64 {
            return Err(SegmentError::Damaged("it counts more than it may hold"));
        }
        Ok(number as usize)
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.0.len() {
            return Err(SegmentError::Damaged("it ends too soon"));
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count(self.0.len())?;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| SegmentError::Damaged("a name is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(Reader(&out).number().unwrap(), value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(Reader(&out).signed().unwrap(), value);
        }
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        assert!(Reader(&[0x80]).number().is_err());
        assert!(Reader(&[5, 1]).bytes().is_err());
        assert!(Reader(&[0xff; 12]).number().is_err());
    }
}
