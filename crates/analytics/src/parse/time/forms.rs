//! The forms of dates, times and zones that are known.

use super::super::level::Level;
use super::Civil;
use super::cursor::Cursor;

/// What stands at the begin of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Found {
    /// A day and a time.
    Moment(Civil),
    /// A count since 1970, in microseconds.
    Epoch(i64),
    /// Only a day, or only a time of day.
    Part,
}

/// The longest time or date at the begin of `text`, and its length. What follows it cannot be part of the
/// same word.
pub(in super::super) fn scan(text: &[u8]) -> Option<(usize, Found)> {
    let mut cursor = Cursor { text, at: 0 };
    let first = *text.first()?;
    let found = if first.is_ascii_digit() {
        numeric(&mut cursor)
    } else if first.is_ascii_alphabetic() {
        named(&mut cursor)
    } else {
        None
    }?;
    cursor.at_end_of_word().then_some((cursor.at, found))
}

/// The header of klog and glog: `I0102 15:04:05.000000`, with the level that its letter stands for.
pub(in super::super) fn scan_klog(text: &[u8]) -> Option<(usize, Civil, Level)> {
    let level = Level::from_letter(*text.first()?)?;
    let mut cursor = Cursor { text, at: 1 };
    if cursor.digits() != 4 {
        return None;
    }
    let month = cursor.two(1..=12)?;
    let day = cursor.two(1..=31)?;
    cursor.spaces()?;
    let micros = clock(&mut cursor)?;
    Some((cursor.at, Civil { year: None, month, day, micros, offset: 0 }, level))
}

fn moment(cursor: &mut Cursor<'_>, year: Option<i32>, month: u32, day: u32, micros: i64) -> Found {
    Found::Moment(Civil { year, month, day, micros, offset: zone(cursor) })
}

fn numeric(cursor: &mut Cursor<'_>) -> Option<Found> {
    let width = cursor.digits();
    let next = cursor.peek_at(width);
    match (width, next) {
        (4, Some(b'-' | b'/' | b'.')) => year_first(cursor),
        (8, Some(b' ' | b'-' | b'T' | b':' | b'_')) => compact(cursor),
        (6, Some(b' ')) => six_and_six(cursor),
        (1 | 2, Some(b'/' | b'-' | b'.')) => two_first(cursor),
        (1 | 2, Some(b':')) if cursor.peek_at(width + 2).is_some_and(|b| b.is_ascii_digit()) => clock(cursor)
            .map(|_| {
                zone(cursor);
                Found::Part
            }),
        (1 | 2, Some(b' ')) => day_first(cursor, b" "),
        (10 | 13 | 16 | 19, _) => epoch(cursor, width),
        _ => None,
    }
}

/// `2015-10-18 18:01:47,978`, `2005-06-03-15.42.50.675872`, `2020-01-02T03:04:05.6Z`, `2005.06.03`.
fn year_first(cursor: &mut Cursor<'_>) -> Option<Found> {
    let year = cursor.number(4).filter(|y| (1900..2200).contains(y))? as i32;
    let mark = cursor.one_of(b"-/.")?;
    let month = cursor.short(1..=12)?;
    cursor.one_of(&[mark])?;
    let day = cursor.short(1..=31)?;
    Some(with_clock(cursor, Some(year), month, day))
}

/// The time that may follow a day.
fn with_clock(cursor: &mut Cursor<'_>, year: Option<i32>, month: u32, day: u32) -> Found {
    let mut ahead = *cursor;
    ahead.one_of(b",");
    if ahead.spaces().is_none() && ahead.one_of(b"Tt_-:@").is_none() {
        return Found::Part;
    }
    match clock(&mut ahead) {
        Some(micros) => {
            *cursor = ahead;
            moment(cursor, year, month, day, micros)
        }
        None => Found::Part,
    }
}

/// `20171223-22:15:29:606`, `20200102T030405Z`, `20200102 03:04:05`.
fn compact(cursor: &mut Cursor<'_>) -> Option<Found> {
    let year = cursor.number(4).filter(|y| (1900..2200).contains(y))? as i32;
    let month = cursor.two(1..=12)?;
    let day = cursor.two(1..=31)?;
    let mut ahead = *cursor;
    if ahead.one_of(b"T-_ ").is_some() && ahead.digits() == 6 {
        let micros = six(&mut ahead)?;
        *cursor = ahead;
        return Some(moment(cursor, Some(year), month, day, micros));
    }
    match with_clock(cursor, Some(year), month, day) {
        Found::Part => None,
        found => Some(found),
    }
}

/// `081109 203615`: year, month and day, then hour, minute and second.
fn six_and_six(cursor: &mut Cursor<'_>) -> Option<Found> {
    let year = 2000 + cursor.number(2)? as i32;
    let month = cursor.two(1..=12)?;
    let day = cursor.two(1..=31)?;
    cursor.spaces()?;
    if cursor.digits() != 6 {
        return None;
    }
    let micros = six(cursor)?;
    Some(moment(cursor, Some(year), month, day, micros))
}

fn six(cursor: &mut Cursor<'_>) -> Option<i64> {
    let (hour, minute, second) = (cursor.two(0..=23)?, cursor.two(0..=59)?, cursor.two(0..=60)?);
    let mut micros = of_day(hour, minute, second);
    if matches!(cursor.peek(), Some(b'.' | b',')) && cursor.peek_at(1).is_some_and(|b| b.is_ascii_digit()) {
        cursor.at += 1;
        micros += cursor.fraction();
    }
    Some(micros)
}

/// `17/06/09 20:10:40`, `03/17 16:13:38`, `01/02/2020 03:04:05 PM`, `10/Oct/2000:13:55:36 -0700`,
/// `03-17 16:13:38.811`, `10.30 16:49:06`, `04-Dec-2005 04:47:44`.
fn two_first(cursor: &mut Cursor<'_>) -> Option<Found> {
    let mark = cursor.peek_at(cursor.digits())?;
    if cursor.peek_at(cursor.digits() + 1).is_some_and(|b| b.is_ascii_alphabetic()) {
        return day_first(cursor, &[mark]);
    }
    let a = cursor.short(0..=99)?;
    cursor.one_of(&[mark])?;
    let b = cursor.short(1..=31)?;
    if cursor.one_of(&[mark]).is_none() {
        if !(1..=12).contains(&a) {
            return None;
        }
        return Some(with_clock(cursor, None, a, b)).filter(|f| *f != Found::Part);
    }
    let (year, month, day) = if cursor.digits() == 4 {
        let year = cursor.number(4).filter(|y| (1900..2200).contains(y))? as i32;
        // Day and month are told apart where they can be; otherwise the month comes first, unless the
        // mark is the full stop of European dates.
        let day_leads = a > 12 || (mark == b'.' && b <= 12);
        if day_leads { (year, b, a) } else { (year, a, b) }
    } else {
        let c = cursor.two(0..=99)?;
        if b <= 12 && (1..=31).contains(&c) { (2000 + a as i32, b, c) } else { (2000 + c as i32, a, b) }
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(with_clock(cursor, Some(year), month, day)).filter(|f| *f != Found::Part)
}

/// `10/Oct/2000:13:55:36 -0700`, `4 Dec 2005 04:47:44`.
fn day_first(cursor: &mut Cursor<'_>, mark: &[u8]) -> Option<Found> {
    let day = cursor.short(1..=31)?;
    cursor.one_of(mark)?;
    let month = cursor.month()?;
    cursor.one_of(mark)?;
    let year = cursor.number(4).filter(|y| (1900..2200).contains(y))? as i32;
    Some(with_clock(cursor, Some(year), month, day)).filter(|f| *f != Found::Part)
}

/// `Dec  9 06:55:46`, `Sun Dec 04 04:47:44 2005`, `Sun, 04 Dec 2005 04:47:44 GMT`,
/// `Jun 12, 2015 1:05:00 PM`.
fn named(cursor: &mut Cursor<'_>) -> Option<Found> {
    if cursor.weekday().is_some() {
        cursor.one_of(b",");
        cursor.spaces()?;
        if cursor.peek()?.is_ascii_digit() {
            return day_first(cursor, b" -");
        }
    }
    let month = cursor.month()?;
    cursor.spaces()?;
    let day = cursor.short(1..=31)?;
    let comma = cursor.one_of(b",").is_some();
    cursor.spaces()?;
    if cursor.digits() == 4 {
        let year = cursor.number(4).filter(|y| (1900..2200).contains(y))? as i32;
        return Some(with_clock(cursor, Some(year), month, day)).filter(|f| *f != Found::Part);
    }
    if comma {
        return None;
    }
    let micros = clock(cursor)?;
    let mut ahead = *cursor;
    if ahead.spaces().is_some() && ahead.digits() == 4 {
        // `04:47:44 2005`; a number that is no year belongs to the text.
        if let Some(year) = ahead.number(4).filter(|y| (1970..2100).contains(y))
            && ahead.at_end_of_word()
        {
            *cursor = ahead;
            return Some(moment(cursor, Some(year as i32), month, day, micros));
        }
    }
    Some(moment(cursor, None, month, day, micros))
}

fn of_day(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3_600 + minute * 60 + second) * 1_000_000
}

/// A time of day: `4:05`, `04:05:06.789`, `04.05.06.789`, `4:5:6:78`, `4:05:06 PM`, as microseconds since midnight.
fn clock(cursor: &mut Cursor<'_>) -> Option<i64> {
    let hour = cursor.short(0..=24)?;
    let mark = cursor.one_of(b":.")?;
    let minute = cursor.short(0..=59)?;
    let mut second = 0;
    let mut micros = 0;
    if cursor.peek() == Some(mark) {
        cursor.at += 1;
        second = cursor.short(0..=60)?;
        if matches!(cursor.peek(), Some(b'.' | b',' | b':'))
            && cursor.peek_at(1).is_some_and(|b| b.is_ascii_digit())
        {
            cursor.at += 1;
            micros = cursor.fraction();
        }
    } else if mark == b'.' {
        // `10.30` alone is a number.
        return None;
    }
    Some(of_day(half_of_day(cursor, hour), minute, second) + micros)
}

/// The hour on the clock of 24 hours, when AM or PM follows.
fn half_of_day(cursor: &mut Cursor<'_>, hour: u32) -> u32 {
    let mut ahead = *cursor;
    ahead.one_of(b" ");
    let half = ahead.one_of(b"AaPp");
    if half.is_none() || ahead.one_of(b"Mm").is_none() || !ahead.at_end_of_word() || hour > 12 {
        return hour;
    }
    *cursor = ahead;
    match half {
        Some(b'P' | b'p') => hour % 12 + 12,
        _ => hour % 12,
    }
}

/// The zone that may follow a time, in seconds east of UTC; 0 when there is none.
fn zone(cursor: &mut Cursor<'_>) -> i64 {
    let mut ahead = *cursor;
    let spaced = ahead.one_of(b" ").is_some();
    for name in [&b"UTC"[..], b"GMT", b"Z", b"z"] {
        if ahead.text[ahead.at..].starts_with(name) && !(spaced && name.len() == 1) {
            ahead.at += name.len();
            if ahead.at_end_of_word() {
                *cursor = ahead;
                return 0;
            }
            return 0;
        }
    }
    let Some(sign) = ahead.one_of(b"+-") else { return 0 };
    let width = ahead.digits();
    let hours = match width {
        2 | 4 => ahead.two(0..=14),
        _ => None,
    };
    let Some(hours) = hours else { return 0 };
    let minutes = if width == 4 {
        ahead.two(0..=59)
    } else if ahead.peek() == Some(b':') {
        ahead.at += 1;
        ahead.two(0..=59)
    } else if spaced {
        // ` -07` may as well begin the text.
        None
    } else {
        Some(0)
    };
    let Some(minutes) = minutes.filter(|_| ahead.at_end_of_word()) else { return 0 };
    *cursor = ahead;
    let seconds = i64::from(hours * 3_600 + minutes * 60);
    if sign == b'-' { -seconds } else { seconds }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their number of digits;
/// seconds and milliseconds may have a fraction. Before 2001 and after 2065 a number is just a number.
fn epoch(cursor: &mut Cursor<'_>, width: usize) -> Option<Found> {
    let digits = std::str::from_utf8(&cursor.text[cursor.at..cursor.at + width]).ok()?;
    let count: i64 = digits.parse().ok()?;
    cursor.at += width;
    let mut micros = match width {
        10 => count * 1_000_000,
        13 => count * 1_000,
        16 => count,
        _ => count / 1_000,
    };
    if width == 10
        && matches!(cursor.peek(), Some(b'.' | b','))
        && cursor.peek_at(1).is_some_and(|b| b.is_ascii_digit())
    {
        cursor.at += 1;
        micros += cursor.fraction();
    }
    (1_000_000_000_000_000..3_000_000_000_000_000).contains(&micros).then_some(Found::Epoch(micros))
}
