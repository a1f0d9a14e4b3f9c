//! The write-ahead file: batches, one after the other, each with its length and its checksum.
//!
//! A frame is the length of its payload and the CRC-32 of it, both 32 bits in little-endian order, then the
//! payload: the streams with their labels, the rows, the texts. What follows the last whole frame was
//! never acknowledged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use opsroom_analytics::segments::{Labels, Row, Rows};

use super::Batch;

/// The most bytes of a frame.
pub(super) const MOST_FRAME: usize = 256 << 20;

/// Appends a batch as a frame.
pub(super) fn frame(batch: &Batch, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    put(out, batch.streams.len() as u64);
    for labels in &batch.streams {
        put(out, labels.len() as u64);
        for (name, value) in labels {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    put(out, batch.rows.rows.len() as u64);
    let mut before = 0i64;
    for row in &batch.rows.rows {
        let step = row.time.wrapping_sub(before);
        before = row.time;
        put(out, ((step << 1) ^ (step >> 63)) as u64);
        out.push(row.level);
        put(out, row.stream.into());
        put(out, row.len.into());
    }
    out.extend_from_slice(&batch.rows.text);
    let length = (out.len() - start - 8) as u32;
    let checksum = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the whole frames of a file; answers them and where the last one ends.
///
/// # Errors
/// Those of reading; a frame that is not whole ends the file and is none.
pub(super) fn frames(file: &mut File) -> std::io::Result<(Vec<Batch>, u64)> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, &*file);
    let (mut batches, mut end) = (Vec::new(), 0);
    let mut head = [0; 8];
    while end + 8 <= size {
        reader.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let checksum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if length > MOST_FRAME || end + 8 + length as u64 > size {
            break;
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload)?;
        if crc32fast::hash(&payload) != checksum {
            break;
        }
        let Some(batch) = read(&payload) else { break };
        batches.push(batch);
        end += 8 + length as u64;
    }
    Ok((batches, end))
}

/// Writes frames at the end of the file and waits until they are on the disk.
///
/// # Errors
/// Those of writing; then nothing of it counts as written.
pub(super) fn write(file: &mut File, end: u64, frames: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(end))?;
    file.write_all(frames)?;
    file.sync_data()
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

fn read(payload: &[u8]) -> Option<Batch> {
    let mut cursor = Cursor(payload);
    let number = cursor.number()?;
    let mut streams = Vec::new();
    for _ in 0..number {
        let labels = cursor.number()?;
        let label = |cursor: &mut Cursor<'_>| Some((cursor.text()?, cursor.text()?));
        streams.push((0..labels).map(|_| label(&mut cursor)).collect::<Option<Labels>>()?);
    }
    let number = cursor.number()?;
    let mut rows = Rows::default();
    let (mut time, mut at) = (0i64, 0u32);
    for _ in 0..number {
        let step = cursor.number()?;
        time = time.wrapping_add((step >> 1) as i64 ^ -((step & 1) as i64));
        let level = cursor.byte()?;
        let stream = u32::try_from(cursor.number()?).ok().filter(|&at| (at as usize) < streams.len())?;
        let len = u32::try_from(cursor.number()?).ok()?;
        rows.rows.push(Row { time, at, len, stream, level });
        at = at.checked_add(len)?;
    }
    rows.text = cursor.take(at as usize)?.to_vec();
    cursor.0.is_empty().then_some(Batch { streams, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &str) -> Batch {
        let mut batch = Batch::default();
        let stream = batch.stream(&Labels::from([("service".to_owned(), "api".to_owned())]));
        for (at, line) in text.lines().enumerate() {
            batch.rows.push(1_000_000 - at as i64, 3, stream, line.as_bytes());
        }
        batch
    }

    #[test]
    fn whole_frames_are_read_and_a_torn_one_ends_the_file() {
        let mut bytes = Vec::new();
        frame(&batch("one\ntwo"), &mut bytes);
        let first = bytes.len();
        frame(&batch("three"), &mut bytes);
        for length in 0..=bytes.len() {
            let mut file = tempfile::tempfile().unwrap();
            write(&mut file, 0, &bytes[..length]).unwrap();
            let (batches, end) = frames(&mut file).unwrap();
            let expected = if length == bytes.len() { 2 } else { usize::from(length >= first) };
            assert_eq!(batches.len(), expected);
            assert_eq!(end as usize, [0, first, bytes.len()][expected]);
        }
        let mut file = tempfile::tempfile().unwrap();
        bytes[first + 12] ^= 1;
        write(&mut file, 0, &bytes).unwrap();
        let (batches, _) = frames(&mut file).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].rows.rows.len(), batches[0].rows.text.as_slice()), (2, &b"onetwo"[..]));
        assert_eq!((batches[0].rows.rows[1].time, batches[0].streams.len()), (999_999, 1));
    }
}
