//! The units of a header: the pieces between a line's time and its message.

use super::level::Level;
use super::mask::is_space;

/// Units that are looked at after the time.
pub(super) const MAX_UNITS: usize = 10;
/// Bytes of a unit in brackets.
const MAX_BRACKET: usize = 512;

/// What a unit is by its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `INFO`, `[error]`, `warn:`, or one letter after numbers.
    Level,
    /// `sshd[24200]:`, `sandboxd[129]`.
    Process,
    /// `dfs.FSNamesystem:`.
    Name,
    /// `[main]`, `(x)`, `<x>`.
    Bracket,
    /// `-`, `---`, `:`.
    Dash,
    /// A column that a `|` ends.
    Pipe,
    /// The bracket that was open before the time ends here: `mycrate]`.
    Close,
    /// `148`, `0x1f`.
    Number,
    /// Anything else.
    Word,
}

impl Kind {
    pub const COUNT: usize = 9;
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    pub level: Option<Level>,
}

/// The units after a time, one by one; no more than [`MAX_UNITS`].
#[derive(Clone)]
pub(super) struct Units<'a> {
    line: &'a [u8],
    at: usize,
    open: bool,
    piped: bool,
    /// Whether only numbers came so far, so that one letter is a level.
    numbers: bool,
    left: usize,
}

impl<'a> Units<'a> {
    /// The units of `line` from `at`. `open` says that a bracket before them is still to be closed.
    pub fn new(line: &'a [u8], at: usize, open: bool) -> Self {
        let piped = line.get(at) == Some(&b'|');
        Self { line, at, open, piped, numbers: true, left: MAX_UNITS }
    }
}

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let between = |&&b: &&u8| is_space(b) || b == b',' || (self.piped && b == b'|');
        self.at += self.line[self.at..].iter().take_while(between).count();
        if self.left == 0 || self.at == self.line.len() {
            return None;
        }
        let unit = unit(self.line, self.at, self.open, self.piped, self.numbers);
        self.open &= unit.kind != Kind::Close;
        self.numbers &= unit.kind == Kind::Number;
        self.at = unit.end;
        self.left -= 1;
        Some(unit)
    }
}

fn unit(line: &[u8], start: usize, open: bool, piped: bool, after_number: bool) -> Unit {
    if let Some(end) = bracket_end(line, start) {
        let inside = line[start + 1..end - 1].trim_ascii();
        let level = Level::from_word(inside);
        let kind = if level.is_some() { Kind::Level } else { Kind::Bracket };
        // `[thread]:` is one unit.
        let end = end + usize::from(line.get(end) == Some(&b':'));
        return Unit { kind, start, end, level };
    }
    let rest = &line[start..];
    let length = rest.iter().take_while(|&&b| !(is_space(b) || piped && b == b'|')).count();
    let field = &rest[..length];
    let mut end = start + length;
    if piped && line.get(end) == Some(&b'|') {
        end += 1;
    }
    let (kind, level) = kind_of(field, open, after_number && end < line.len());
    // `INFO:root:text` has its message in the same field.
    if kind == Kind::Word
        && let Some(colon) = memchr::memchr(b':', field)
        && let Some(level) = Level::from_word(&field[..colon])
    {
        let name = field[colon + 1..].iter().take_while(|b| is_name(**b)).count();
        let more = usize::from(name > 0 && field.get(colon + 1 + name) == Some(&b':')) * (name + 1);
        return Unit { kind: Kind::Level, start, end: start + colon + 1 + more, level: Some(level) };
    }
    if matches!(kind, Kind::Word | Kind::Number) && end > start + length {
        return Unit { kind: Kind::Pipe, start, end, level: None };
    }
    Unit { kind, start, end, level }
}

fn kind_of(field: &[u8], open: bool, letter: bool) -> (Kind, Option<Level>) {
    if field.iter().all(|b| matches!(b, b'-' | b':' | b'|' | b'>' | b'*' | b'=' | b'/')) {
        return (Kind::Dash, None);
    }
    let bare = field.strip_suffix(b":").unwrap_or(field);
    if let Some(level) = Level::from_word(bare) {
        return (Kind::Level, Some(level));
    }
    if letter
        && let [one] = bare
        && let Some(level) = Level::from_letter(*one)
    {
        return (Kind::Level, Some(level));
    }
    if open && field.ends_with(b"]") {
        return (Kind::Close, None);
    }
    let number = bare.strip_prefix(b"0x").unwrap_or(bare);
    if !number.is_empty() && number.iter().all(|b| b.is_ascii_digit() || *b == b'#') {
        return (if bare.len() < field.len() { Kind::Name } else { Kind::Number }, None);
    }
    let inside =
        bare.strip_suffix(b"]").and_then(|b| Some(&b[memchr::memrchr(b'[', b).filter(|&at| at > 0)? + 1..]));
    if inside.is_some_and(|id| bare.len() < field.len() || id.iter().all(u8::is_ascii_digit)) {
        return (Kind::Process, None);
    }
    (if bare.len() < field.len() { Kind::Name } else { Kind::Word }, None)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'$')
}

/// The end of the bracket that opens at `start`, brackets within it included.
fn bracket_end(line: &[u8], start: usize) -> Option<usize> {
    let (open, close) = match line[start] {
        b'[' => (b'[', b']'),
        b'(' => (b'(', b')'),
        b'<' => (b'<', b'>'),
        _ => return None,
    };
    let mut depth = 0;
    for (at, &byte) in line[start..].iter().take(MAX_BRACKET).enumerate() {
        if byte == open {
            depth += 1;
        } else if byte == close {
            depth -= 1;
            if depth == 0 {
                let end = start + at + 1;
                let alone = line.get(end).is_none_or(|&b| is_space(b) || matches!(b, b':' | b'[' | b'|'));
                return alone.then_some(end);
            }
        }
    }
    None
}
