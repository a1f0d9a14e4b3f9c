//! Cutting a stream of bytes into batches of whole lines.

use std::io::Read;

use memchr::{memchr_iter, memrchr};

/// How many bytes a batch holds.
const BATCH_BYTES: usize = 256 << 10;

/// A piece of a source, cut at line ends.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of the first line, from 1 over all sources.
    pub first_line: u64,
    /// Which source it is from.
    pub source: usize,
    /// Where in each line the marked part lies; empty when nothing was marked.
    marks: Vec<Option<(u32, u32)>>,
    text: Vec<u8>,
    lines: Vec<(u32, u32)>,
    /// The byte in the unpacked source at which the first line begins.
    pub(super) offset: u64,
    pub(super) long_lines: u64,
}

impl Batch {
    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The line at this place (from 0), without its end; at most the kept length of it.
    pub fn line(&self, at: usize) -> &[u8] {
        let (start, end) = self.lines[at];
        &self.text[start as usize..end as usize]
    }

    /// The lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_line..)
            .zip(self.lines.iter().map(|&(start, end)| &self.text[start as usize..end as usize]))
    }

    /// Marks in every line the part that `find` gives.
    pub fn mark(&mut self, find: impl Fn(&[u8]) -> Option<&[u8]>) {
        self.marks.clear();
        for &(start, end) in &self.lines {
            let line = &self.text[start as usize..end as usize];
            self.marks.push(find(line).map(|part| {
                // The part is a piece of the line, so the distance of their beginnings is its place.
                let at = part.as_ptr().addr().wrapping_sub(line.as_ptr().addr());
                (at as u32, part.len() as u32)
            }));
        }
    }

    /// The marked part of the line at this place.
    pub fn marked(&self, at: usize) -> Option<&[u8]> {
        let (start, length) = (*self.marks.get(at)?)?;
        self.line(at).get(start as usize..)?.get(..length as usize)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.marks.clear();
        self.long_lines = 0;
    }
}

/// Cuts what it reads into batches.
pub(super) struct Splitter<R> {
    reader: R,
    line_bytes: usize,
    /// The beginning of the line that the last batch ended in.
    carry: Vec<u8>,
    /// Bytes of that line that were read and not kept.
    dropped: u64,
    /// The byte of the source at which that line begins.
    offset: u64,
    first_line: u64,
    next_line: u64,
    ended: bool,
    failure: Option<std::io::Error>,
    /// Whether reading broke off in a line, which was left out.
    cut: bool,
}

impl<R: Read> Splitter<R> {
    /// Lines are numbered from `first_line`, and the reader stands at the byte `offset` of its source.
    pub(super) fn new(reader: R, line_bytes: usize, first_line: u64, offset: u64) -> Self {
        let line_bytes = line_bytes.clamp(64, BATCH_BYTES / 2);
        Self {
            reader,
            line_bytes,
            carry: Vec::new(),
            dropped: 0,
            offset,
            first_line,
            next_line: first_line,
            ended: false,
            failure: None,
            cut: false,
        }
    }

    /// Fills a batch; `false` at the end. Reading ends at an error too, after the lines that came before
    /// it; [`Splitter::failure`] tells.
    pub(super) fn next(&mut self, batch: &mut Batch) -> bool {
        loop {
            batch.clear();
            batch.first_line = self.next_line;
            batch.offset = self.offset;
            batch.text.append(&mut self.carry);
            self.fill(&mut batch.text);
            let whole = match memrchr(b'\n', &batch.text) {
                Some(at) => at + 1,
                None if self.ended => 0,
                None => {
                    self.keep_start(&mut batch.text);
                    continue;
                }
            };
            self.mark_lines(batch, whole);
            if self.ended && whole < batch.text.len() {
                // What came after the last whole line is a line only where the source really ends.
                let broken =
                    self.failure.as_ref().is_some_and(|e| e.kind() != std::io::ErrorKind::InvalidInput);
                if broken && self.next_line + batch.len() as u64 > self.first_line {
                    self.cut = true;
                } else {
                    self.mark_last(batch, whole);
                }
            } else {
                self.carry.extend_from_slice(&batch.text[whole..]);
            }
            self.next_line += batch.len() as u64;
            return !batch.is_empty();
        }
    }

    /// The error at which reading ended, if it was one.
    pub(super) fn failure(&mut self) -> Option<std::io::Error> {
        self.failure.take()
    }

    /// Whether the last line was left out because reading broke off in it.
    pub(super) fn cut(&self) -> bool {
        self.cut
    }

    fn fill(&mut self, text: &mut Vec<u8>) {
        let mut filled = text.len();
        text.resize(BATCH_BYTES, 0);
        while filled < BATCH_BYTES && !self.ended {
            match self.reader.read(&mut text[filled..]) {
                Ok(0) => self.ended = true,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.failure = Some(error);
                }
            }
        }
        text.truncate(filled);
    }

    /// A line longer than a batch: keeps its beginning and counts the rest.
    fn keep_start(&mut self, text: &mut Vec<u8>) {
        self.dropped += (text.len() - self.line_bytes.min(text.len())) as u64;
        text.truncate(self.line_bytes);
        std::mem::swap(&mut self.carry, text);
    }

    fn mark_lines(&mut self, batch: &mut Batch, whole: usize) {
        let text = std::mem::take(&mut batch.text);
        let mut start = 0;
        for end in memchr_iter(b'\n', &text[..whole]) {
            self.offset += (end + 1 - start) as u64 + self.dropped;
            let stripped = if end > start && text[end - 1] == b'\r' { end - 1 } else { end };
            self.push(batch, start, stripped);
            start = end + 1;
        }
        batch.text = text;
    }

    /// Marks the last line of a source, which has no end.
    fn mark_last(&mut self, batch: &mut Batch, start: usize) {
        let end = batch.text.len();
        self.offset += (end - start) as u64 + self.dropped;
        let stripped = if batch.text.last() == Some(&b'\r') { end - 1 } else { end };
        self.push(batch, start, stripped);
    }

    fn push(&mut self, batch: &mut Batch, start: usize, end: usize) {
        let kept = end.min(start + self.line_bytes);
        if kept < end || self.dropped > 0 {
            batch.long_lines += 1;
        }
        self.dropped = 0;
        batch.lines.push((start as u32, kept as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8], line_bytes: usize) -> (Vec<(u64, Vec<u8>)>, Vec<u64>) {
        let mut splitter = Splitter::new(text, line_bytes, 1, 0);
        let mut batch = Batch::default();
        let (mut lines, mut offsets) = (Vec::new(), Vec::new());
        while splitter.next(&mut batch) {
            offsets.push(batch.offset);
            lines.extend(batch.lines().map(|(number, line)| (number, line.to_vec())));
        }
        (lines, offsets)
    }

    #[test]
    fn lines_end_with_a_newline_with_a_carriage_return_too_or_with_the_text() {
        let (lines, _) = split(b"a\r\n\nb\n\r\nlast", 100);
        let expected: [&[u8]; 5] = [b"a", b"", b"b", b"", b"last"];
        assert_eq!(lines.iter().map(|(_, line)| line.as_slice()).collect::<Vec<_>>(), expected);
        assert_eq!(lines.last().unwrap().0, 5);
        assert!(split(b"", 100).0.is_empty());
    }

    #[test]
    fn lines_that_cross_batches_are_whole_and_batches_know_where_they_begin() {
        let text: Vec<u8> =
            (0..40_000).flat_map(|i| format!("line number {i} of many\n").into_bytes()).collect();
        let (lines, offsets) = split(&text, 1000);
        assert_eq!(lines.len(), 40_000);
        assert_eq!(lines[31_234].1, b"line number 31234 of many");
        assert!(offsets.len() > 2);
        for offset in offsets {
            assert!(offset == 0 || text[offset as usize - 1] == b'\n');
        }
    }

    #[test]
    fn a_line_longer_than_memory_is_cut_and_the_next_one_is_found() {
        let mut text = vec![b'x'; BATCH_BYTES * 5 + 17];
        text.extend_from_slice(b"\nnext\n");
        let mut splitter = Splitter::new(text.as_slice(), 100, 1, 0);
        let mut batch = Batch::default();
        assert!(splitter.next(&mut batch));
        assert_eq!((batch.line(0).len(), batch.line(1)), (100, b"next".as_slice()));
        assert_eq!((batch.long_lines, splitter.next_line), (1, 3));
        assert_eq!(splitter.offset, text.len() as u64);
    }
}
