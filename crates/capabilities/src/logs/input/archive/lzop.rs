//! lzop: blocks that LZO1X made, each with its checksum.
//!
//! LZO1X is read as the Linux kernel documents the stream (`Documentation/staging/lzo.rst`); the file's form
//! is that of lzop 1.04, whose numbers are big-endian.

use std::io::{self, BufRead, BufReader, Read};

use super::damaged;

/// How a file begins.
pub(in crate::logs::input) const MAGIC: &[u8; 9] = b"\x89LZO\0\r\n\x1a\n";
/// The most bytes of a block, as lzop itself allows.
const MOST_BLOCK: u32 = 64 << 20;
const ADLER_PLAIN: u32 = 1;
const ADLER_PACKED: u32 = 2;
const EXTRA: u32 = 0x40;
const CRC_PLAIN: u32 = 0x100;
const CRC_PACKED: u32 = 0x200;
const MULTIPART: u32 = 0x400;
const FILTER: u32 = 0x800;

/// The text of a file that lzop packed.
pub(in crate::logs::input) struct Lzop<R> {
    inner: BufReader<R>,
    /// What the header says of checksums; none before it was read.
    flags: Option<u32>,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Lzop<R> {
    /// Of this stream.
    pub fn new(inner: R) -> Self {
        Self {
            inner: BufReader::with_capacity(64 << 10, inner),
            flags: None,
            block: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.inner.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn header(&mut self) -> io::Result<u32> {
        if self.bytes(MAGIC.len())? != MAGIC {
            return Err(damaged("where lzop should begin there is something else"));
        }
        let version = self.bytes(2)?;
        let newer = u16::from_be_bytes([version[0], version[1]]) >= 0x0940;
        self.bytes(if newer { 4 } else { 2 })?;
        let method = self.bytes(1)?[0];
        if !(1..=3).contains(&method) {
            return Err(damaged("it is packed by a method that lzop does not have"));
        }
        if newer {
            self.bytes(1)?;
        }
        let flags = self.number()?;
        if flags & (FILTER | MULTIPART) != 0 {
            return Err(damaged("it is packed in several parts or through a filter, which is not read"));
        }
        // The mode, the time, the name, the header's checksum.
        self.bytes(if newer { 12 } else { 8 })?;
        let length = self.bytes(1)?[0];
        self.bytes(usize::from(length) + 4)?;
        if flags & EXTRA != 0 {
            let length = self.number()?;
            io::copy(&mut (&mut self.inner).take(u64::from(length) + 4), &mut io::sink())?;
        }
        Ok(flags)
    }

    /// Reads the next block; at the end of a file, another one may follow.
    fn fill(&mut self) -> io::Result<()> {
        self.at = 0;
        self.block.clear();
        let flags = match self.flags {
            Some(flags) => flags,
            None if self.inner.fill_buf()?.is_empty() => {
                self.ended = true;
                return Ok(());
            }
            None => self.header()?,
        };
        self.flags = Some(flags);
        let plain = self.number()?;
        if plain == 0 {
            self.flags = None;
            return Ok(());
        }
        let packed = self.number()?;
        if plain > MOST_BLOCK || packed > plain {
            return Err(damaged("a block says that it has more bytes than one may have"));
        }
        let sums = [(ADLER_PLAIN, true), (CRC_PLAIN, true), (ADLER_PACKED, false), (CRC_PACKED, false)];
        let mut stated = Vec::new();
        for (flag, of_plain) in sums {
            if flags & flag != 0 && (of_plain || packed < plain) {
                stated.push((flag, self.number()?));
            }
        }
        let bytes = self.bytes(packed as usize)?;
        if packed == plain {
            self.block = bytes;
        } else {
            self.block.reserve(plain as usize);
            unpack(&bytes, plain as usize, &mut self.block).ok_or_else(|| damaged("a block is damaged"))?;
        }
        for (flag, sum) in stated {
            let own = match flag {
                ADLER_PLAIN => adler32(&self.block),
                CRC_PLAIN => crc32fast::hash(&self.block),
                // What is packed was unpacked to the right bytes.
                _ => sum,
            };
            if own != sum {
                self.block.clear();
                return Err(damaged("a block has another checksum than it says"));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Lzop<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.ended {
            self.fill()?;
        }
        let take = buffer.len().min(self.block.len() - self.at);
        buffer[..take].copy_from_slice(&self.block[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

/// RFC 1950.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    // So many sums fit into 32 bits.
    for piece in bytes.chunks(5_552) {
        for byte in piece {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

/// Unpacks LZO1X to exactly so many bytes; nothing for what is damaged.
fn unpack(packed: &[u8], plain: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut from = Packed(packed);
    // How many literals the last instruction copied; four stand for four and more.
    let mut state = 0;
    if let first @ 18.. = *packed.first()? {
        from.byte()?;
        let count = usize::from(first) - 17;
        from.literals(count, plain, out)?;
        state = count.min(4);
    }
    loop {
        let code = usize::from(from.byte()?);
        let (length, distance, next) = match code {
            0..16 if state == 0 => {
                let count = 3 + from.length(code, 15)?;
                from.literals(count, plain, out)?;
                state = 4;
                continue;
            }
            0..16 => {
                let distance = (usize::from(from.byte()?) << 2) + (code >> 2);
                if state == 4 { (3, distance + 2049, code & 3) } else { (2, distance + 1, code & 3) }
            }
            16..32 => {
                let length = 2 + from.length(code & 7, 7)?;
                let low = from.pair()?;
                let distance = 16_384 + ((code & 8) << 11) + (low >> 2);
                if distance == 16_384 {
                    return (length == 3 && out.len() == plain).then_some(());
                }
                (length, distance, low & 3)
            }
            32..64 => {
                let length = 2 + from.length(code & 31, 31)?;
                let low = from.pair()?;
                (length, 1 + (low >> 2), low & 3)
            }
            64..128 => {
                (3 + (code >> 5 & 1), (usize::from(from.byte()?) << 3) + (code >> 2 & 7) + 1, code & 3)
            }
            _ => (5 + (code >> 5 & 3), (usize::from(from.byte()?) << 3) + (code >> 2 & 7) + 1, code & 3),
        };
        let start = out.len().checked_sub(distance)?;
        if out.len() + length > plain {
            return None;
        }
        // What is copied may begin in what is being copied.
        for at in start..start + length {
            out.push(out[at]);
        }
        from.literals(next, plain, out)?;
        state = next;
    }
}

struct Packed<'a>(&'a [u8]);

impl Packed<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn pair(&mut self) -> Option<usize> {
        let low = usize::from(self.byte()?);
        Some(low | usize::from(self.byte()?) << 8)
    }

    /// A length whose low bits are given; none of them says that it goes on.
    fn length(&mut self, bits: usize, most: usize) -> Option<usize> {
        if bits > 0 {
            return Some(bits);
        }
        let mut length = most;
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255)?,
                last => return length.checked_add(last.into()),
            }
        }
    }

    fn literals(&mut self, count: usize, plain: usize, out: &mut Vec<u8>) -> Option<()> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        if out.len() + count > plain {
            return None;
        }
        out.extend_from_slice(taken);
        self.0 = rest;
        Some(())
    }
}
