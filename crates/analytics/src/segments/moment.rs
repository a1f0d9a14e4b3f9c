//! Times as loggers write them, as a number and back, byte for byte.
//!
//! Only spellings that give the same bytes again are taken; the rest of a line's time stays text.

/// How a time is spelt. Its code is one printable byte of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `2026-11-21 10:15:32`, with `T` or a space, and up to six digits after a point or a comma.
    Iso { t: bool, comma: bool, digits: u8 },
    /// `081109 203518`
    Compact,
    /// `17/06/09 20:10:40`
    Slashed,
    /// `Jun  9 06:06:51`; the day after a space or after a zero. It has no year: 1972 stands for it.
    Syslog { zero: bool },
    /// `10/Oct/2000:13:55:36`
    Access,
    /// `2005-06-03-15.42.50.675872`
    Dotted,
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY: i64 = 86_400_000_000;

impl Spelling {
    /// One printable byte.
    pub fn code(self) -> u8 {
        match self {
            Self::Iso { t, comma, digits } => b'0' + digits * 4 + u8::from(t) * 2 + u8::from(comma),
            Self::Compact => b'a',
            Self::Slashed => b'b',
            Self::Syslog { zero: false } => b'c',
            Self::Syslog { zero: true } => b'd',
            Self::Access => b'e',
            Self::Dotted => b'f',
        }
    }

    /// The spelling that a code stands for.
    pub fn of(code: u8) -> Option<Self> {
        Some(match code {
            b'0'..=b'K' => {
                let n = code - b'0';
                Self::Iso { t: n & 2 != 0, comma: n & 1 != 0, digits: n / 4 }
            }
            b'a' => Self::Compact,
            b'b' => Self::Slashed,
            b'c' => Self::Syslog { zero: false },
            b'd' => Self::Syslog { zero: true },
            b'e' => Self::Access,
            b'f' => Self::Dotted,
            _ => return None,
        })
    }

    /// Writes a moment (microseconds since 1970) in this spelling.
    pub fn write(self, micros: i64, out: &mut Vec<u8>) {
        let (year, month, day) = civil(micros.div_euclid(DAY));
        let of_day = micros.rem_euclid(DAY);
        let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let clock = |out: &mut Vec<u8>, mark: u8| {
            two(out, hour);
            out.push(mark);
            two(out, minute);
            out.push(mark);
            two(out, second);
        };
        match self {
            Self::Iso { t, comma, digits } => {
                four(out, year);
                out.push(b'-');
                two(out, month);
                out.push(b'-');
                two(out, day);
                out.push(if t { b'T' } else { b' ' });
                clock(out, b':');
                if digits > 0 {
                    out.push(if comma { b',' } else { b'.' });
                    let mut rest = fraction;
                    let mut unit = 100_000;
                    for _ in 0..digits {
                        out.push(b'0' + (rest / unit) as u8);
                        rest %= unit;
                        unit /= 10;
                    }
                }
            }
            Self::Compact => {
                two(out, year % 100);
                two(out, month);
                two(out, day);
                out.push(b' ');
                two(out, hour);
                two(out, minute);
                two(out, second);
            }
            Self::Slashed => {
                two(out, year % 100);
                out.push(b'/');
                two(out, month);
                out.push(b'/');
                two(out, day);
                out.push(b' ');
                clock(out, b':');
            }
            Self::Syslog { zero } => {
                out.extend_from_slice(MONTHS[(month - 1) as usize]);
                out.push(b' ');
                if day < 10 {
                    out.push(if zero { b'0' } else { b' ' });
                    out.push(b'0' + day as u8);
                } else {
                    two(out, day);
                }
                out.push(b' ');
                clock(out, b':');
            }
            Self::Access => {
                two(out, day);
                out.push(b'/');
                out.extend_from_slice(MONTHS[(month - 1) as usize]);
                out.push(b'/');
                four(out, year);
                out.push(b':');
                clock(out, b':');
            }
            Self::Dotted => {
                four(out, year);
                out.push(b'-');
                two(out, month);
                out.push(b'-');
                two(out, day);
                out.push(b'-');
                clock(out, b'.');
                out.push(b'.');
                let mut unit = 100_000;
                let mut rest = fraction;
                while unit > 0 {
                    out.push(b'0' + (rest / unit) as u8);
                    rest %= unit;
                    unit /= 10;
                }
            }
        }
    }
}

/// The time that begins at the front of `text`, its spelling and how many bytes it takes. `start` says that
/// the text is the begin of the line, where more spellings are looked for.
pub(super) fn read(text: &[u8], start: bool) -> Option<(Spelling, i64, usize)> {
    let mark = *text.get(2)?;
    match mark {
        b'/' if text.len() >= 17 => slashed(text).or_else(|| access(text)),
        _ if text.len() >= 19 && text[4] == b'-' && text[7] == b'-' => iso(text),
        b'0'..=b'9' if start && text.len() >= 13 && text[6] == b' ' => compact(text),
        b'a'..=b'z' if text.len() >= 15 && text[3] == b' ' && text[6] == b' ' => syslog(text),
        _ => None,
    }
}

fn iso(text: &[u8]) -> Option<(Spelling, i64, usize)> {
    let day = date(number(text, 0, 4)?, number(text, 5, 2)?, number(text, 8, 2)?)?;
    let mark = text[10];
    if mark == b'-' {
        if text.len() < 26 || text[19] != b'.' {
            return None;
        }
        let clock = clock(text, 11, b'.')?;
        return Some((Spelling::Dotted, day * DAY + clock + number(text, 20, 6)?, 26));
    }
    if mark != b' ' && mark != b'T' {
        return None;
    }
    let seconds = clock(text, 11, b':')?;
    let (mut digits, mut fraction, mut comma) = (0u8, 0i64, false);
    let point = text.get(19).copied().filter(|b| matches!(b, b'.' | b','));
    if let Some(point) = point {
        let found = text[20..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
        // Nanoseconds do not fit: they stay text behind the seconds.
        if (1..=6).contains(&found) {
            digits = found as u8;
            comma = point == b',';
            fraction = number(text, 20, found)? * 10i64.pow(6 - found as u32);
        }
    }
    let length = 19 + if digits > 0 { 1 + digits as usize } else { 0 };
    Some((Spelling::Iso { t: mark == b'T', comma, digits }, day * DAY + seconds + fraction, length))
}

fn compact(text: &[u8]) -> Option<(Spelling, i64, usize)> {
    if text.get(13).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let day = date(century(number(text, 0, 2)?), number(text, 2, 2)?, number(text, 4, 2)?)?;
    let (hour, minute, second) = (number(text, 7, 2)?, number(text, 9, 2)?, number(text, 11, 2)?);
    Some((Spelling::Compact, day * DAY + of_clock(hour, minute, second)?, 13))
}

fn slashed(text: &[u8]) -> Option<(Spelling, i64, usize)> {
    if text[5] != b'/' || text[8] != b' ' {
        return None;
    }
    let day = date(century(number(text, 0, 2)?), number(text, 3, 2)?, number(text, 6, 2)?)?;
    Some((Spelling::Slashed, day * DAY + clock(text, 9, b':')?, 17))
}

fn access(text: &[u8]) -> Option<(Spelling, i64, usize)> {
    if text.len() < 20 || text[6] != b'/' || text[11] != b':' {
        return None;
    }
    let day = date(number(text, 7, 4)?, month(&text[3..6])?, number(text, 0, 2)?)?;
    Some((Spelling::Access, day * DAY + clock(text, 12, b':')?, 20))
}

fn syslog(text: &[u8]) -> Option<(Spelling, i64, usize)> {
    let month = month(&text[..3])?;
    let (day, zero) = match text[4] {
        b' ' => (number(text, 5, 1)?, false),
        b'0' => (number(text, 4, 2)?, true),
        _ => (number(text, 4, 2)?, false),
    };
    let moment = date(1972, month, day)? * DAY + clock(text, 7, b':')?;
    Some((Spelling::Syslog { zero }, moment, 15))
}

fn number(text: &[u8], at: usize, digits: usize) -> Option<i64> {
    text.get(at..at + digits)?
        .iter()
        .try_fold(0, |sum, &b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

fn month(name: &[u8]) -> Option<i64> {
    MONTHS.iter().position(|known| *known == name).map(|at| at as i64 + 1)
}

fn clock(text: &[u8], at: usize, mark: u8) -> Option<i64> {
    if *text.get(at + 2)? != mark || *text.get(at + 5)? != mark {
        return None;
    }
    of_clock(number(text, at, 2)?, number(text, at + 3, 2)?, number(text, at + 6, 2)?)
}

fn of_clock(hour: i64, minute: i64, second: i64) -> Option<i64> {
    let fits = hour < 24 && minute < 60 && second < 60;
    fits.then_some((hour * 3600 + minute * 60 + second) * 1_000_000)
}

/// Two digits of a year: 1970 to 2069.
fn century(year: i64) -> i64 {
    if year < 70 { 2000 + year } else { 1900 + year }
}

/// Days since 1970 of a date that exists (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(1000..=9999).contains(&year) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The date of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn two(out: &mut Vec<u8>, value: i64) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

fn four(out: &mut Vec<u8>, value: i64) {
    two(out, value / 100);
    two(out, value % 100);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read_and_written_back() {
        let texts = [
            "2026-11-21 10:15:32,123",
            "2024-02-29T23:59:59.999999",
            "2024-02-29T23:59:59",
            "2024-02-29 23:59:59.1",
            "081109 203518",
            "17/06/09 20:10:40",
            "Jun  9 06:06:51",
            "Jun 09 06:06:51",
            "Dec 31 23:59:59",
            "10/Oct/2000:13:55:36",
            "2005-06-03-15.42.50.675872",
        ];
        for text in texts {
            let (spelling, micros, length) = read(text.as_bytes(), true).expect(text);
            assert_eq!(length, text.len(), "{text}");
            let mut out = Vec::new();
            Spelling::of(spelling.code()).unwrap().write(micros, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        for text in [
            "2026-13-21 10:15:32",
            "2023-02-29 10:15:32",
            "2026-11-21 24:15:32",
            "Jux  9 06:06:51",
            "12345",
            "",
        ] {
            assert!(read(text.as_bytes(), true).is_none(), "{text}");
        }
        assert_eq!(read(b"2024-02-29T23:59:59.123456789Z", true).unwrap().2, 19);
        assert_eq!(read(b"1970-01-01T00:00:01", true).unwrap().1, 1_000_000);
    }
}
