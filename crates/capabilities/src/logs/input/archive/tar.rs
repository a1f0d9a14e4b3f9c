//! tar, as POSIX (ustar, pax) and GNU write it.

use std::io::{self, Read};

use super::{Archive, damaged, skip};

const BLOCK: usize = 512;
/// The most bytes of a long name, or of the records before a member.
const MOST_NAME: u64 = 1 << 20;

/// Whether bytes begin like a tar archive.
pub(in crate::logs::input) fn is_tar(head: &[u8]) -> bool {
    head.len() >= BLOCK && &head[257..262] == b"ustar" && sum_is_right(&head[..BLOCK])
}

/// A tar archive.
pub(in crate::logs::input) struct Tar<R> {
    inner: R,
    /// Bytes of the member, and of what fills its last block.
    left: u64,
    padding: u64,
}

impl<R: Read> Tar<R> {
    /// Of this stream.
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                // Some writers leave the empty blocks at the end out.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(block.iter().any(|byte| *byte != 0).then_some(block))
    }

    fn whole(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MOST_NAME {
            return Err(damaged("a name is longer than any name"));
        }
        let mut bytes = Vec::new();
        let wanted = self.left;
        (&mut self.inner).take(wanted).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = 0;
        Ok(bytes)
    }
}

impl<R: Read + Send> Archive for Tar<R> {
    fn advance(&mut self) -> io::Result<Option<String>> {
        let (mut long_name, mut long_size) = (None, None);
        loop {
            skip(&mut self.inner, self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(block) = self.block()? else { return Ok(None) };
            if !sum_is_right(&block) {
                return Err(damaged("a header has another checksum than it says"));
            }
            let kind = block[156];
            let stated = number(&block[124..136]).ok_or_else(|| damaged("a size is no number"))?;
            let size =
                if matches!(kind, b'x' | b'g' | b'L' | b'K') { stated } else { long_size.unwrap_or(stated) };
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK as u64) - size;
            match kind {
                b'L' => long_name = Some(text(&self.whole()?)),
                b'x' => {
                    let records = self.whole()?;
                    long_name = record(&records, b"path").map(|name| text(&name)).or(long_name);
                    let size = record(&records, b"size").and_then(|size| text(&size).parse().ok());
                    long_size = size.or(long_size);
                }
                b'0' | 0 | b'7' => return Ok(Some(long_name.unwrap_or_else(|| name(&block)))),
                _ => {
                    // Folders, links, devices, and names of links.
                    if !matches!(kind, b'g' | b'K') {
                        (long_name, long_size) = (None, None);
                    }
                }
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn sum_is_right(block: &[u8]) -> bool {
    let own = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let sum: u64 = block.iter().enumerate().map(|(at, byte)| u64::from(own(at, *byte))).sum();
    number(&block[148..156]) == Some(sum)
}

/// Octal digits, or with the first bit set the number itself.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let low = &field[field.len() - 8..];
        return Some(low.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) & (u64::MAX >> 1));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn name(block: &[u8; BLOCK]) -> String {
    let name = text(&block[..100]);
    let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The value of a key among records of `LENGTH KEY=VALUE\n`.
fn record(records: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = records;
    let mut found = None;
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&rest[..space]).ok()?.parse::<usize>().ok()?;
        let line = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(value) = line.strip_prefix(wanted).and_then(|rest| rest.strip_prefix(b"=")) {
            found = Some(value.to_vec());
        }
        rest = &rest[length..];
    }
    found
}
