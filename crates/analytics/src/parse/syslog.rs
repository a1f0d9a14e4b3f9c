//! What RFC 5424 lays down for the begin of a syslog line, and the priority of the older form too.

use super::level::Level;
use super::mask::is_space;
use super::time::{self, Found};

/// The length of a priority (`<34>`) and the level that is in it; the rest of it is the facility.
pub(super) fn priority(line: &[u8]) -> (usize, Option<Level>) {
    let digits = line.iter().skip(1).take(4).take_while(|b| b.is_ascii_digit()).count();
    if line.first() != Some(&b'<') || !(1..=3).contains(&digits) || line.get(digits + 1) != Some(&b'>') {
        return (0, None);
    }
    let number = line[1..=digits].iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    (digits + 2, Level::from_number(number % 8))
}

/// What follows the priority of an RFC 5424 line: where its message begins, and its time if it has one.
/// Version, time, host, program, process and message id are words; then comes structured data.
pub(super) fn header(line: &[u8]) -> Option<(usize, Option<Found>)> {
    let mut at = line.strip_prefix(b"1 ").map(|_| 2)?;
    let found = time::scan(&line[at..]).map(|(_, found)| found);
    if found.is_none() && !line[at..].starts_with(b"- ") {
        return None;
    }
    for _ in 0..5 {
        at += memchr::memchr(b' ', &line[at..])? + 1;
    }
    if line.get(at) == Some(&b'-') {
        at += 1;
    } else {
        while line.get(at) == Some(&b'[') {
            at += element_length(&line[at..])?;
        }
    }
    at += line[at..].iter().take_while(|&&b| is_space(b)).count();
    if line[at..].starts_with(b"\xef\xbb\xbf") {
        at += 3;
    }
    Some((at, found))
}

/// The length of an element of structured data, `[id name="value"]`, in whose values a bracket is escaped.
fn element_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b']' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rfc_5424_line_is_cut_where_its_message_begins() {
        for (line, message) in [
            ("1 2003-10-11T22:14:15.003Z m.example.com su - ID47 - \u{feff}failed", "failed"),
            ("1 2003-10-11T22:14:15.003Z m app 77 ID47 [a b=\"x\\]\"][c] An event", "An event"),
            ("1 - - - - - -", ""),
        ] {
            let (end, _) = header(line.as_bytes()).unwrap();
            assert_eq!(&line[end..], message);
        }
        assert_eq!(header(b"1 of 7 steps done"), None);
        assert_eq!(header(b"1 - - - - - [open"), None);
    }

    #[test]
    fn a_priority_tells_the_level() {
        assert_eq!(priority(b"<34>x"), (4, Some(Level::Fatal)));
        assert_eq!(priority(b"<6>x"), (3, Some(Level::Info)));
        for line in [&b"<>x"[..], b"<1234>x", b"<6", b"x", b""] {
            assert_eq!(priority(line), (0, None));
        }
    }
}
