//! Where a line's header ends, learnt from the log itself.
//!
//! A header is a time, perhaps more times, and then *units*: a level, a host, a process with its number, a
//! thread in brackets, a component with a colon. No format is named here. Units that only loggers write (a
//! level, `sshd[24200]:`) end the header wherever they stand near its begin; units that a message may begin
//! with too (`word:`, `[x]`, a dash) do so only at a place where nearly every line of the log has one.

use super::level::Level;
use super::mask::is_space;
use super::syslog;
use super::time::{self, Found, Years};
use super::units::{Kind, MAX_UNITS, Unit, Units};

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Where the message begins.
    pub end: usize,
    /// Microseconds since 1970 in UTC.
    pub time: Option<i64>,
    pub level: Option<Level>,
    /// Whether there is a time at all, perhaps without a day.
    pub timed: bool,
}

/// Fields from the begin of a line in which a time is looked for.
const TIME_FIELDS: usize = 9;
/// Lines after which the counts are halved, so that a log may change its ways.
const MEMORY: u32 = 4096;
/// Lines at the begin of a log that are all learnt from.
const LEARNT_FIRST: u64 = 256;
/// After them, one line in so many.
const LEARNT_EACH: u64 = 16;
/// In how many of a hundred lines a unit must stand at its place.
const USUAL: u32 = 85;

/// Reads the headers of one log and learns its layout.
#[derive(Debug, Clone)]
pub(super) struct HeaderReader {
    years: Years,
    /// Lines read.
    read: u64,
    /// Lines learnt from.
    lines: u32,
    /// At which field a time began, in how many lines.
    times: [u32; TIME_FIELDS],
    /// How many fields must be looked at to see all the times that headers have.
    time_fields: usize,
    timed: u32,
    /// Which kind of unit followed the time at which place, in how many timed lines.
    kinds: [[u32; Kind::COUNT]; MAX_UNITS],
}

impl HeaderReader {
    /// Reads a new log whose dates, when they have no year, are placed by these.
    pub fn new(years: Years) -> Self {
        Self {
            years,
            read: 0,
            lines: 0,
            times: [0; TIME_FIELDS],
            time_fields: TIME_FIELDS,
            timed: 0,
            kinds: [[0; Kind::COUNT]; MAX_UNITS],
        }
    }

    /// The years that dates without one are placed in.
    pub fn years(&mut self) -> &mut Years {
        &mut self.years
    }

    /// The header of the next line, which begins a record or may.
    pub fn read(&mut self, line: &[u8]) -> Header {
        let (skipped, level) = syslog::priority(line);
        if skipped > 0
            && let Some((end, found)) = syslog::header(&line[skipped..])
        {
            let time = match found {
                Some(Found::Moment(civil)) => Some(self.years.place(&civil)),
                _ => None,
            };
            return Header { end: end + skipped, time, level, timed: true };
        }
        let header = self.read_plain(&line[skipped..]);
        Header { end: header.end + skipped, level: header.level.or(level), ..header }
    }

    fn read_plain(&mut self, line: &[u8]) -> Header {
        // A layout that is known is only looked at now and then, to see whether it changes.
        let learning = self.read < LEARNT_FIRST || self.read.is_multiple_of(LEARNT_EACH);
        self.read += 1;
        self.lines += u32::from(learning);
        let mut header = Header::default();
        let mut open = self.times(line, &mut header, learning);
        if line[header.end..].first().is_some_and(|b| matches!(b, b']' | b')')) {
            header.end += 1;
            open = false;
        }
        let units = Units::new(line, header.end, open);
        if learning {
            self.learn(header.timed, units.clone());
        }
        self.end(line, units, open, &mut header);
        header.end += line[header.end..].iter().take_while(|&&b| is_space(b)).count();
        header
    }

    /// Moves the header's end over its times and says whether a bracket before the last one is open.
    fn times(&mut self, line: &[u8], header: &mut Header, learning: bool) -> bool {
        if let Some((end, civil, level)) = time::scan_klog(line) {
            *header = Header { end, time: Some(self.years.place(&civil)), level: Some(level), timed: true };
            return true;
        }
        let mut open = false;
        let mut at = 0;
        let mut prose = false;
        for field in 0..if learning { TIME_FIELDS } else { self.time_fields } {
            at += line[at..].iter().take_while(|&&b| is_space(b)).count();
            let bracket = line[at..].first().is_some_and(|b| matches!(b, b'[' | b'(' | b'<'));
            let start = at + usize::from(bracket);
            if let Some((length, found)) = line.get(start..).and_then(time::scan) {
                let strong = matches!(found, Found::Moment(_));
                if self.is_header_time(field, found, prose, learning) {
                    header.end = start + length;
                    header.timed |= field == 0 || found != Found::Part;
                    open = bracket;
                    match found {
                        Found::Moment(civil) if header.time.is_none() => {
                            header.time = Some(self.years.place(&civil))
                        }
                        Found::Epoch(micros) if header.time.is_none() => header.time = Some(micros),
                        _ => {}
                    }
                }
                at = start + length;
                if strong && line.get(at).is_none_or(|&b| !is_space(b)) {
                    at = skip_field(line, at);
                }
                continue;
            }
            let end = skip_field(line, at);
            prose |= !is_cryptic(&line[at..end]);
            at = end;
            if at == line.len() {
                break;
            }
        }
        open
    }

    /// Whether a time that begins at a field is the header's, and not one that the message tells of.
    fn is_header_time(&mut self, field: usize, found: Found, prose: bool, learning: bool) -> bool {
        if field == 0 {
            return true;
        }
        self.times[field] += u32::from(learning);
        let usual = self.times[field] * 100 >= self.lines * USUAL;
        match found {
            Found::Moment(_) | Found::Epoch(_) => usual && (!prose || self.lines > 8 || field <= 4),
            Found::Part => usual && !prose,
        }
    }

    fn learn(&mut self, timed: bool, units: Units<'_>) {
        if timed {
            self.timed += 1;
            for (place, unit) in units.enumerate() {
                self.kinds[place][unit.kind as usize] += 1;
            }
        }
        let usual = self.times.iter().rposition(|&n| n * 100 >= self.lines * USUAL);
        self.time_fields = usual.unwrap_or(0) + 1;
        if self.lines >= MEMORY {
            self.lines /= 2;
            self.timed /= 2;
            self.times.iter_mut().for_each(|n| *n /= 2);
            self.kinds.iter_mut().flatten().for_each(|n| *n /= 2);
        }
    }

    /// Moves the header's end over the units that belong to it, but not over the whole line: there is a
    /// message, if only a level's word.
    fn end(&self, line: &[u8], units: Units<'_>, open: bool, header: &mut Header) {
        let mut gap = Gap::default();
        let mut named = false;
        for (place, unit) in units.enumerate() {
            let text = &line[unit.start..unit.end];
            let usual = header.timed && self.is_usual(place, unit.kind);
            let belongs = match unit.kind {
                Kind::Level => {
                    let first = header.level.is_none() && gap.prose == 0;
                    if first {
                        header.level = unit.level;
                    }
                    let alone = header.timed || is_loud(text);
                    (usual && gap.words == 0) || (first && !named && alone)
                }
                Kind::Process => !named && place <= 2,
                Kind::Close => true,
                // `sandboxd[129] ([31211]):`
                Kind::Bracket if named && line[header.end - 1] == b']' && text.ends_with(b":") => true,
                Kind::Name | Kind::Bracket => usual && gap.may_be_header(place, 0),
                Kind::Dash | Kind::Pipe => usual && gap.may_be_header(place, usize::from(self.timed >= 16)),
                Kind::Number | Kind::Word => false,
            };
            if belongs && line[unit.end..].iter().any(|&b| !is_space(b)) {
                header.end = unit.end;
                named |= matches!(unit.kind, Kind::Process | Kind::Name);
                gap = Gap::default();
            } else {
                gap.add(&unit, text);
            }
            let untimed_ends = !header.timed && (place > 2 || !belongs);
            if untimed_ends || (place > 2 && !open && gap.ends_header()) {
                break;
            }
        }
    }

    /// Whether nearly all lines have such a unit at a place. A process without a number is a name, and a
    /// dash may come a little earlier or later.
    fn is_usual(&self, place: usize, kind: Kind) -> bool {
        let at = |place: usize, kind: Kind| self.kinds[place][kind as usize];
        let count = match kind {
            Kind::Name => at(place, Kind::Name) + at(place, Kind::Process),
            Kind::Dash if place < 4 => (0..4).map(|p| at(p, Kind::Dash)).sum(),
            _ => at(place, kind),
        };
        count * 100 >= self.timed * USUAL
    }
}

/// The units since the header's last sure end that are no marks.
#[derive(Default)]
struct Gap {
    words: usize,
    /// Those that could begin a message.
    prose: usize,
}

impl Gap {
    fn add(&mut self, unit: &Unit, text: &[u8]) {
        if !matches!(unit.kind, Kind::Number | Kind::Bracket | Kind::Dash) {
            self.words += 1;
            let dotted = text.windows(3).any(|w| w[1] == b'.' && w[0] != b'.' && w[2] != b'.');
            let odd = text.iter().any(|b| matches!(b, b'<' | b'>' | b'(' | b')' | b'"' | b'=' | b',' | b'{'));
            self.prose += usize::from(odd || (!is_cryptic(text) && !dotted));
        }
    }

    /// Whether nothing after this gap can be the header's.
    fn ends_header(&self) -> bool {
        self.prose > 1 || (self.prose == 1 && self.words > 2)
    }

    /// Whether a mark after this gap may still be the header's: words that could begin a message must be
    /// few, except that the first after the time is a host or a program.
    fn may_be_header(&self, place: usize, allowed: usize) -> bool {
        self.words <= 2 && self.prose <= allowed.max(usize::from(place == 1))
    }
}

/// Without a time, a level opens a header only as `ERROR`, `[error]` or `error:`.
fn is_loud(text: &[u8]) -> bool {
    let letters = text.iter().filter(|b| b.is_ascii_alphabetic());
    letters.clone().all(u8::is_ascii_uppercase) || text.starts_with(b"[") || text.ends_with(b":")
}

fn skip_field(line: &[u8], at: usize) -> usize {
    at + line[at..].iter().take_while(|&&b| !is_space(b)).count()
}

/// Whether a field is not a plain word: hosts, ids, numbers, marks, codes in capitals.
fn is_cryptic(field: &[u8]) -> bool {
    field.iter().any(u8::is_ascii_digit) || !field.iter().any(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests;
