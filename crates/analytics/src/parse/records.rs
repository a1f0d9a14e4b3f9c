//! Which lines continue the record before them.
//!
//! Loggers write one header a record, so in a log whose lines have times, a line without one goes on with
//! what came before. In logs without times only the spelling tells: indentation, the phrases of stack
//! traces, closing brackets.

use super::mask::is_space;
use super::signs;

/// What the lines so far tell about the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    /// Lines with a time in their header.
    timed: u64,
    /// Lines without, that nothing in their spelling makes a continuation.
    untimed: u64,
    /// Lines that began with a space and were heads all the same.
    indented_heads: u64,
    heads: u64,
    /// Inside a Python traceback, whose last line is not indented.
    traceback: bool,
}

/// Lines after which the counts are halved, so that a log may change its ways.
const MEMORY: u64 = 1 << 16;

impl Records {
    /// Whether `line`, which is not empty, continues the record before it.
    pub fn continues(&mut self, line: &[u8], timed: bool, structured: bool) -> bool {
        let continues =
            self.heads > 0 && !timed && !structured && !signs::is_crash(line) && self.untimed_continues(line);
        if !continues {
            self.heads += 1;
            self.traceback = false;
            self.timed += u64::from(timed);
            self.indented_heads += u64::from(is_space(line[0]));
        }
        if line.starts_with(b"Traceback (most recent call last)") {
            self.traceback = true;
        }
        if self.heads > MEMORY {
            for count in [&mut self.timed, &mut self.untimed, &mut self.indented_heads, &mut self.heads] {
                *count = count.div_ceil(2);
            }
        }
        continues
    }

    fn untimed_continues(&mut self, line: &[u8]) -> bool {
        if is_space(line[0]) {
            return self.indented_heads * 4 <= self.heads;
        }
        if is_trace(line) || is_closing(line) {
            return true;
        }
        let python = line.starts_with(b"Traceback (most recent call last)");
        if std::mem::take(&mut self.traceback) && !python {
            return true;
        }
        self.untimed += u64::from(!python);
        if python { self.timed > 0 } else { self.timed > 0 && self.untimed <= self.timed / 2 + 2 }
    }
}

/// Whether a line is spelt like the inside of a stack trace.
fn is_trace(line: &[u8]) -> bool {
    const BEGINS: [&[u8]; 7] = [
        b"Caused by: ",
        b"Suppressed: ",
        b"The above exception was the direct cause",
        b"During handling of the above exception",
        b"--- End of inner exception stack trace",
        b"stack backtrace:",
        b"   at ",
    ];
    let frame = line.strip_prefix(b"at ").is_some_and(|rest| {
        rest.iter().take(256).any(|&b| b == b'(' || b == b':') && !rest.starts_with(b" ")
    });
    let more = line.strip_prefix(b"... ").is_some_and(|rest| rest.ends_with(b" more"));
    let goroutine = line.starts_with(b"goroutine ") && line.ends_with(b"]:");
    frame || more || goroutine || BEGINS.iter().any(|begin| line.starts_with(begin))
}

/// Whether a line only closes what another opened.
fn is_closing(line: &[u8]) -> bool {
    line.len() <= 4
        && matches!(line[0], b'}' | b')' | b']')
        && line.iter().all(|b| matches!(b, b'}' | b')' | b']' | b',' | b';') || is_space(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(lines: &[(&str, bool)]) -> String {
        let mut records = Records::default();
        lines
            .iter()
            .map(|(l, timed)| if records.continues(l.as_bytes(), *timed, false) { '.' } else { 'H' })
            .collect()
    }

    #[test]
    fn a_java_trace_belongs_to_its_head_with_or_without_times() {
        for timed in [true, false] {
            let lines = [
                ("ERROR request failed", timed),
                ("\tat a.B.c(B.java:1)", false),
                ("at a.B.d(B.java:2)", false),
                ("Caused by: java.io.IOException: gone", false),
                ("\t... 12 more", false),
                ("INFO next", timed),
            ];
            assert_eq!(kinds(&lines), "H....H");
        }
    }

    #[test]
    fn a_python_traceback_ends_with_its_error() {
        let lines = [
            ("ERROR job failed", true),
            ("Traceback (most recent call last):", false),
            ("  File \"a.py\", line 1, in f", false),
            ("ValueError: no", false),
            ("INFO next", true),
        ];
        assert_eq!(kinds(&lines), "H...H");
    }

    #[test]
    fn a_crash_begins_a_record_of_its_own() {
        let lines = [
            ("polling", true),
            ("panic: runtime error: index out of range [5]", false),
            ("", false),
            ("goroutine 41 [running]:", false),
            ("\t/src/poller.go:142 +0x1d4", false),
            ("starting", true),
        ];
        let lines: Vec<_> = lines.into_iter().filter(|(line, _)| !line.is_empty()).collect();
        assert_eq!(kinds(&lines), "HH..H");
    }

    #[test]
    fn a_log_without_times_has_a_head_a_line() {
        assert_eq!(kinds(&[("one", false), ("two", false), ("at noon", false), ("three", false)]), "HHHH");
    }

    #[test]
    fn a_log_that_stops_having_times_is_not_swallowed() {
        let mut lines = vec![("first", true)];
        lines.extend([("plain", false); 20]);
        assert!(kinds(&lines).ends_with("HHHHHHHHHHHHHHH"));
    }

    #[test]
    fn a_log_whose_heads_are_indented_keeps_them() {
        let lines = [("  a", false), ("  b", false), ("  c", false)];
        assert_eq!(kinds(&lines), "HHH");
    }
}
