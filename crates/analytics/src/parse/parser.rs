//! The line parser: raw lines in, records with time, level, message and template out.

use std::borrow::Cow;

use super::header::{Header, HeaderReader};
use super::level::Level;
use super::line;
use super::miner::{Miner, MinerConfig};
use super::records::Records;
use super::signs;
use super::structured::{self, Fields};
use super::template::{Template, TemplateId};
use super::time::Years;

/// How lines are read. The default serves every log.
#[derive(Debug, Clone)]
pub struct ParserConfig {
    /// The year in which dates begin that state none (syslog). Default 1970; callers that know a better
    /// one, such as the year in which the file was last written, set it.
    pub default_year: i32,
    /// The moment after which no such date is placed, in microseconds since 1970: those that would be are
    /// taken for the year before. Default none.
    pub latest: Option<i64>,
    /// How the messages' templates are mined.
    pub miner: MinerConfig,
}

impl Default for ParserConfig {
    fn default() -> Self {
        Self { default_year: 1970, latest: None, miner: MinerConfig::default() }
    }
}

/// What a line is to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It begins a record.
    Head,
    /// It continues the record of the last head.
    Continuation,
    /// Nothing is written on it.
    Empty,
}

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The line's number, from 1.
    pub line: u64,
    /// What it is to its record.
    pub kind: Kind,
    /// Its template; a continuation has its head's, an empty line none.
    pub template: Option<TemplateId>,
    /// Whether it is the first line of its template.
    pub new_template: bool,
    /// Microseconds since 1970 in UTC; a time without a zone is taken as UTC. A continuation has none.
    pub time: Option<i64>,
    /// The level that its header states; else what its text tells, such as a request that was answered 502.
    pub level: Option<Level>,
    /// The text after the header; all of a continuation.
    pub message: Cow<'a, [u8]>,
}

/// Reads the lines of one log, in order.
pub struct LogParser {
    miner: Miner,
    headers: HeaderReader,
    records: Records,
    lines: u64,
    head: Option<TemplateId>,
}

/// `stdout F `: where a container runtime's line came from, and whether it is whole, before the program's own
/// line (the CRI format of Kubernetes).
const CONTAINER_PREFIX: usize = 9;

fn is_container_prefix(text: &[u8]) -> bool {
    (text.starts_with(b"stdout ") || text.starts_with(b"stderr "))
        && matches!(text.get(7), Some(b'F' | b'P'))
        && text.get(8) == Some(&b' ')
        && text.len() > CONTAINER_PREFIX
}

impl LogParser {
    /// A parser that has read nothing.
    pub fn new(config: ParserConfig) -> Self {
        Self {
            miner: Miner::new(config.miner),
            headers: HeaderReader::new(Years::starting(config.default_year, config.latest)),
            records: Records::default(),
            lines: 0,
            head: None,
        }
    }

    /// What the next line says. `line` is without its newline and may hold any bytes; beyond the first
    /// mebibyte it is not looked at.
    pub fn push<'a>(&mut self, line: &'a [u8]) -> Parsed<'a> {
        self.lines += 1;
        match line::clean(line) {
            Cow::Borrowed(line) => self.read(line),
            Cow::Owned(line) => {
                let parsed = self.read(&line);
                Parsed { message: Cow::Owned(parsed.message.into_owned()), ..parsed }
            }
        }
    }

    /// All templates in order of their ids, folded as they would be if the log ended now.
    pub fn templates(&self) -> Vec<Template> {
        self.miner.templates()
    }

    /// Where an id would be if the log ended now: itself, or the template that it was folded into.
    pub fn resolve(&self, id: TemplateId) -> TemplateId {
        self.miner.resolve(id)
    }

    /// How many lines were read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    fn read<'a>(&mut self, line: &'a [u8]) -> Parsed<'a> {
        let number = self.lines;
        if line::is_empty(line) {
            let message = Cow::Borrowed(&line[..0]);
            let kind = Kind::Empty;
            return Parsed {
                line: number,
                kind,
                template: None,
                new_template: false,
                time: None,
                level: None,
                message,
            };
        }
        let (header, fields) = self.meaning(line);
        let structured = fields.is_some();
        if self.records.continues(line, header.timed, structured) {
            let (kind, message) = (Kind::Continuation, Cow::Borrowed(line));
            let template = self.head;
            return Parsed {
                line: number,
                kind,
                template,
                new_template: false,
                time: None,
                level: None,
                message,
            };
        }
        let fields = fields.unwrap_or_default();
        let message = fields.message.unwrap_or(Cow::Borrowed(&line[header.end..]));
        let mined = self.miner.mine_line(&message, number);
        self.head = Some(mined.template);
        let told = if fields.failed { Some(Level::Error) } else { None };
        let level = fields.level.or(header.level).max(told);
        Parsed {
            line: number,
            kind: Kind::Head,
            template: Some(mined.template),
            new_template: mined.new,
            time: fields.time.or(header.time),
            level: level.or_else(|| signs::level(&message)),
            message,
        }
    }

    /// The header of a line and, where the line or what follows its header is data, the data's fields.
    /// A message within data may have a header of its own (a container's log wrapped in JSON).
    fn meaning<'a>(&mut self, line: &'a [u8]) -> (Header, Option<Fields<'a>>) {
        let begin = line.trim_ascii_start();
        if let Some(mut fields) = self.data(begin) {
            let wrapped = match &mut fields.message {
                Some(Cow::Borrowed(text)) => {
                    let header = self.inner_header(text);
                    *text = &text[header.end..];
                    header
                }
                Some(Cow::Owned(text)) => {
                    let header = self.inner_header(text);
                    text.drain(..header.end);
                    header
                }
                None => Header::default(),
            };
            fields.time = fields.time.or(wrapped.time);
            fields.level = fields.level.or(wrapped.level);
            return (Header::default(), Some(fields));
        }
        let mut header = self.headers.read(line);
        if header.timed && is_container_prefix(&line[header.end..]) {
            let begin = header.end + CONTAINER_PREFIX;
            let inner = self.inner_header(&line[begin..]);
            header = Header { end: begin + inner.end, level: inner.level.or(header.level), ..header };
        }
        let rest = &line[header.end..];
        // A container runtime puts its words before the data: `stdout F {...}`.
        let brace =
            if rest.ends_with(b"}") { memchr::memchr(b'{', &rest[..rest.len().min(64)]) } else { None };
        let fields = self.data(&rest[brace.filter(|&at| at > 0 && rest[at - 1] == b' ').unwrap_or(0)..]);
        (header, fields)
    }

    fn data<'a>(&mut self, text: &'a [u8]) -> Option<Fields<'a>> {
        match text.first()? {
            b'{' => structured::json(text, self.headers.years()),
            _ => structured::logfmt(text, self.headers.years()),
        }
    }

    /// The header of a message that was found within data; only one with a time counts.
    fn inner_header(&mut self, text: &[u8]) -> Header {
        let header = self.headers.read(text);
        if header.timed && !line::is_empty(&text[header.end..]) { header } else { Header::default() }
    }
}

#[cfg(test)]
mod tests;
