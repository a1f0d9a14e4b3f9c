//! Of a log, only the lines of a range of time. Those before and after become empty lines, so that the
//! numbers of the lines stay what they are.

use std::io::{self, BufRead, BufReader, Read};

use opsroom_analytics::parse::{Kind, LogParser, ParserConfig};

/// The most bytes of a line that are looked at and passed on.
const LINE_BYTES: usize = 64 << 10;

/// Passes on the lines of a range.
pub struct Ranged<R> {
    lines: BufReader<R>,
    parser: LogParser,
    range: std::ops::Range<i64>,
    within: bool,
    out: Vec<u8>,
    at: usize,
    /// At which reading ended, after what is in `out`.
    failure: Option<io::Error>,
}

impl<R: Read> Ranged<R> {
    /// Of this log; a line without a time belongs to the one before it. Lines before the first time are
    /// passed on.
    pub fn new(log: R, config: ParserConfig, range: std::ops::Range<i64>) -> Self {
        let lines = BufReader::with_capacity(256 << 10, log);
        let parser = LogParser::new(config);
        Self { lines, parser, range, within: true, out: Vec::new(), at: 0, failure: None }
    }

    /// What comes before an error is passed on first.
    fn fill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.at = 0;
        if self.failure.is_none() {
            self.failure = self.more().err();
        }
        match self.failure.take() {
            Some(failure) if self.out.is_empty() => Err(failure),
            failure => {
                self.failure = failure;
                Ok(())
            }
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        while self.out.len() < 128 << 10 {
            line.clear();
            let read = (&mut self.lines).take(LINE_BYTES as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            let ended = line.last() == Some(&b'\n');
            if !ended {
                self.skip_line()?;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let parsed = self.parser.push(text);
            if let (Kind::Head, Some(time)) = (parsed.kind, parsed.time) {
                self.within = self.range.contains(&time);
            }
            if self.within {
                self.out.extend_from_slice(text);
            }
            self.out.push(b'\n');
        }
        Ok(())
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.lines.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let (used, done) = match memchr::memchr(b'\n', buffer) {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            self.lines.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}

impl<R: Read> Read for Ranged<R> {
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

    /// Gives its text, then an error.
    struct Breaking(&'static [u8]);

    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn whole_lines_before_an_error_are_passed_on_and_then_the_error() {
        let mut log = Ranged::new(Breaking(b"one\ntwo\ncut"), ParserConfig::default(), 0..1);
        let mut out = Vec::new();
        let failure = log.read_to_end(&mut out).unwrap_err();
        assert_eq!((out.as_slice(), failure.kind()), (&b"one\ntwo\n"[..], io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn lines_of_other_times_become_empty_and_traces_stay_whole() {
        let text = "2025-11-21 09:59:59 INFO before\n2025-11-21 10:00:00 ERROR within\n\tat a.B\n2025-11-21 10:10:00 INFO after\n\tat c.D\n";
        let ten = 1_763_719_200_000_000;
        let mut log = Ranged::new(text.as_bytes(), ParserConfig::default(), ten..ten + 600_000_000);
        let mut out = String::new();
        log.read_to_string(&mut out).unwrap();
        assert_eq!(out, "\n2025-11-21 10:00:00 ERROR within\n\tat a.B\n\n\n");
        let long = [vec![b'x'; LINE_BYTES * 3], b"\nnext\n".to_vec()].concat();
        let mut out = Vec::new();
        Ranged::new(long.as_slice(), ParserConfig::default(), 0..1).read_to_end(&mut out).unwrap();
        assert_eq!((out.len(), out.ends_with(b"\nnext\n")), (LINE_BYTES + 6, true));
    }
}
