//! Masking: a message becomes its shape, in one pass over its bytes.
//!
//! A shape is the message with single spaces between its fields and [`WILD`] where a variable is evident
//! from its spelling: numbers, addresses, ids, paths, URLs. What only comparison with other messages can
//! tell is left to the groups.
//!
//! Invariants: a shape holds no byte below 32 other than [`WILD`], no two spaces in a row and none at its
//! ends; it has at most `max_fields` fields and is not longer than the message plus a few bytes.

/// Stands for a variable part in a shape. It cannot come from a message: control bytes separate fields.
pub(super) const WILD: u8 = 1;

/// How messages are cut into shapes.
#[derive(Debug, Clone)]
pub(super) struct Masker {
    /// Whether variables inside fields are masked; otherwise every field with a digit is one.
    pub inside: bool,
    /// Bytes of a message that are looked at.
    pub max_bytes: usize,
    /// Fields of a message that are looked at; the rest is one variable.
    pub max_fields: usize,
}

const SPACE: u8 = 1;
const WORD: u8 = 2;
const DIGIT: u8 = 4;
const OTHER: u8 = 8;
/// Beyond ASCII: scripts that put no spaces between words.
const WIDE: u8 = 16;
/// Letters from which on a word is data.
const LONG_WORD: usize = 100;

/// What each byte is: a separator of fields, part of a word, a digit (part of a word too), or a mark.
const CLASS: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = match b {
            0..=32 | 127 => SPACE,
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' | b'$' | b'~' | b'+' => WORD,
            128.. => WORD | WIDE,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

/// Whether a byte separates fields.
pub(super) fn is_space(byte: u8) -> bool {
    CLASS[byte as usize] == SPACE
}

impl Masker {
    /// Writes the shape of `message` over `shape`.
    pub fn mask(&self, message: &[u8], shape: &mut Vec<u8>) {
        shape.clear();
        let cut = message.len() > self.max_bytes;
        let message = if cut { &message[..self.max_bytes] } else { message };
        let mut at = 0;
        let mut fields = 0;
        let mut starts = Starts::default();
        loop {
            while at < message.len() && CLASS[message[at] as usize] == SPACE {
                at += 1;
            }
            if at == message.len() {
                break;
            }
            if fields == self.max_fields {
                shape.extend_from_slice(&[b' ', WILD]);
                return;
            }
            if fields > 0 {
                shape.push(b' ');
            }
            starts.push(shape.len());
            at = if self.inside { mask_field(message, at, shape) } else { plain_field(message, at, shape) };
            fields += 1;
            fields -= starts.fold_list(shape);
        }
        if cut {
            shape.extend_from_slice(&[b' ', WILD]);
        }
    }
}

/// Where the last fields of a shape begin, to see when it repeats itself: a list.
#[derive(Default)]
struct Starts {
    at: [usize; REMEMBERED],
    count: usize,
    /// How many at the begin were overwritten.
    lost: usize,
}

/// Fields whose begin is remembered.
const REMEMBERED: usize = 32;

/// Fields of a list's item.
const MAX_PERIOD: usize = 6;

impl Starts {
    fn push(&mut self, start: usize) {
        self.at[self.count % REMEMBERED] = start;
        self.count += 1;
        self.lost = self.lost.max(self.count.saturating_sub(REMEMBERED));
    }

    /// Where the field `back` before the end begins; the last is 1 back.
    fn back(&self, back: usize) -> usize {
        self.at[(self.count - back) % REMEMBERED]
    }

    /// Takes the last fields off the shape if they are the same as the ones before and vary; says how many
    /// they were.
    fn fold_list(&mut self, shape: &mut Vec<u8>) -> usize {
        let last = self.back(1);
        for period in 1..=MAX_PERIOD.min((self.count - self.lost) / 2) {
            // Most fields are unlike the one a period before.
            let before = self.back(period + 1);
            let end = if period == 1 { last } else { self.back(period) };
            if end - before - 1 != shape.len() - last || shape[before..end - 1] != shape[last..] {
                continue;
            }
            let (first, second) = (self.back(2 * period), self.back(period));
            if shape[first..second - 1] == shape[second..] && memchr::memchr(WILD, &shape[second..]).is_some()
            {
                shape.truncate(second - 1);
                self.count -= period;
                return period;
            }
        }
        0
    }
}

/// One field without inner masks: a variable if it has a digit.
fn plain_field(message: &[u8], start: usize, shape: &mut Vec<u8>) -> usize {
    let mut end = start;
    let mut seen = 0;
    while end < message.len() {
        let class = CLASS[message[end] as usize];
        if class == SPACE {
            break;
        }
        seen |= class;
        end += 1;
    }
    if seen & DIGIT != 0 {
        shape.push(WILD);
    } else {
        shape.extend_from_slice(&message[start..end]);
    }
    end
}

/// One field with its inner variables masked; returns where it ends, which for a size with its unit
/// (`5.2 KB`) is after the unit.
fn mask_field(message: &[u8], start: usize, shape: &mut Vec<u8>) -> usize {
    let mut at = start;
    while at < message.len() {
        let byte = message[at];
        match CLASS[byte as usize] {
            SPACE => break,
            OTHER => {
                if (byte == b'/' || byte == b'\\') && begins_path(message, start, at) {
                    shape.push(WILD);
                    at = path_end(message, at);
                } else {
                    shape.push(byte);
                    at += 1;
                }
            }
            _ => at = mask_word(message, start, at, shape),
        }
    }
    at
}

/// One word: a run of letters, digits and joiners.
fn mask_word(message: &[u8], field: usize, start: usize, shape: &mut Vec<u8>) -> usize {
    let mut end = start;
    let mut seen = 0;
    while end < message.len() {
        let class = CLASS[message[end] as usize];
        if class & (WORD | DIGIT) == 0 {
            break;
        }
        seen |= class;
        end += 1;
    }
    if message.get(end) == Some(&b':') {
        if message[end + 1..].starts_with(b"//") {
            shape.push(WILD);
            return path_end(message, end);
        }
        if message.get(end + 1) == Some(&b'\\') && end - start == 1 {
            shape.push(WILD);
            return path_end(message, end);
        }
        if let Some(end) = colon_hex_end(message, start, end) {
            shape.push(WILD);
            return end;
        }
    }
    let word = &message[start..end];
    if seen & (DIGIT | WIDE) == DIGIT | WIDE {
        mask_wide_word(word, shape);
        return end;
    }
    if seen & DIGIT == 0 {
        if is_data(word) || is_date_word(message, start, end) {
            shape.push(WILD);
        } else {
            shape.extend_from_slice(word);
        }
        return end;
    }
    // A full stop that ends the sentence is not part of the number.
    let dots = word.iter().rev().take_while(|&&b| b == b'.').count();
    let word = &word[..word.len() - dots];
    let kept = kept_prefix(word);
    shape.extend_from_slice(&word[..kept]);
    if shape.last() != Some(&WILD) {
        shape.push(WILD);
    }
    shape.extend_from_slice(&message[end - dots..end]);
    if start == field && dots == 0 && kept == 0 { size_unit_end(message, end) } else { end }
}

/// How much of a word with digits is its name: `blk_` of `blk_-1608`, `en` of `en0`.
fn kept_prefix(word: &[u8]) -> usize {
    let letters = word.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    if letters < 2 {
        return 0;
    }
    match word[letters] {
        b'_' | b'-' | b'.' => {
            // Names of several words are kept up to the last joiner before the first digit.
            let digit = word.iter().position(u8::is_ascii_digit).unwrap_or(word.len());
            let joiner = word[..digit].iter().rposition(|b| matches!(b, b'_' | b'-' | b'.'));
            let mut name = joiner.map_or(0, |j| j + 1);
            // The minus of a negative number is not part of the name.
            if name >= 2 && word[name - 1] == b'-' && word[name - 2] == b'_' {
                name -= 1;
            }
            let hex = word.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
            if hex && word.len() >= 8 { 0 } else { name }
        }
        b'0'..=b'9' if word[letters..].iter().all(u8::is_ascii_digit) => {
            if word.iter().all(u8::is_ascii_hexdigit) && word.len() > 4 { 0 } else { letters }
        }
        _ => 0,
    }
}

/// Whether a word without digits is a hash, an address or encoded data all the same.
fn is_data(word: &[u8]) -> bool {
    word.len() >= 8 && word.iter().all(u8::is_ascii_hexdigit)
        || word.len() >= LONG_WORD && word.iter().all(u8::is_ascii_alphabetic)
}

/// A word in which letters beyond ASCII and digits meet: only the runs with digits are variables.
fn mask_wide_word(word: &[u8], shape: &mut Vec<u8>) {
    for run in word.chunk_by(|a, b| a.is_ascii() == b.is_ascii()) {
        if run.iter().any(u8::is_ascii_digit) {
            shape.push(WILD);
        } else {
            shape.extend_from_slice(run);
        }
    }
}

/// Whether a word is the month or the day of the week of a date: `Jul 01`, `Fri Jul 01`.
fn is_date_word(message: &[u8], start: usize, end: usize) -> bool {
    if end - start != 3 || !message[start].is_ascii_uppercase() || message.get(end) != Some(&b' ') {
        return false;
    }
    let rest = &message[end..].trim_ascii_start();
    match &message[start..end] {
        b"Jan" | b"Feb" | b"Mar" | b"Apr" | b"May" | b"Jun" | b"Jul" | b"Aug" | b"Sep" | b"Oct" | b"Nov"
        | b"Dec" => rest.first().is_some_and(u8::is_ascii_digit),
        b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun" => {
            rest.len() > 3 && is_date_word(rest, 0, 3)
        }
        _ => false,
    }
}

/// The end of a hardware address, an IPv6 address or a time of day: short hexadecimal groups between
/// colons, at least three of them, with a digit among them.
fn colon_hex_end(message: &[u8], start: usize, first_end: usize) -> Option<usize> {
    if first_end - start > 4 {
        return None;
    }
    let mut at = start;
    let (mut groups, mut digit, mut end) = (0, false, start);
    loop {
        let group = at;
        while at < message.len() && at - group < 5 && message[at].is_ascii_hexdigit() {
            digit |= message[at].is_ascii_digit();
            at += 1;
        }
        if at - group > 4 || (at < message.len() && CLASS[message[at] as usize] & (WORD | DIGIT) != 0) {
            // A fraction may follow a time of day; anything else is not an address.
            if groups >= 2 && message.get(at) == Some(&b'.') && at > group {
                let run = message[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                end = at + 1 + run;
                groups += 1;
            }
            break;
        }
        if at > group {
            groups += 1;
            end = at;
        }
        if message.get(at) != Some(&b':') {
            break;
        }
        at += 1;
        if message.get(at) == Some(&b':') {
            groups += 1;
            at += 1;
            end = at;
        }
    }
    (groups >= 3 && digit).then_some(end)
}

/// Whether the slash at `at` begins a path: at the field's begin or after a mark, with more to follow.
fn begins_path(message: &[u8], field: usize, at: usize) -> bool {
    let before = at == field || CLASS[message[at - 1] as usize] == OTHER && message[at - 1] != b'/';
    let rest = &message[at + 1..];
    if message[at] == b'\\' {
        return before && rest.first().is_some_and(|&b| b == b'\\');
    }
    let name = rest.iter().take_while(|&&b| CLASS[b as usize] & (WORD | DIGIT) != 0).count();
    before && name > 0 && rest.get(name) == Some(&b'/')
}

/// Where a path or the rest of a URL ends.
fn path_end(message: &[u8], start: usize) -> usize {
    let mut end = start;
    while end < message.len()
        && CLASS[message[end] as usize] != SPACE
        && !matches!(message[end], b'"' | b'\'' | b'<' | b'>' | b')' | b']' | b',' | b';' | b'}' | b'|')
    {
        end += 1;
    }
    while end > start && matches!(message[end - 1], b':' | b'.') {
        end -= 1;
    }
    end.max(start + 1)
}

/// After a number: the end of the unit of size that follows it, or the number's own end.
fn size_unit_end(message: &[u8], end: usize) -> usize {
    if message.get(end) != Some(&b' ') {
        return end;
    }
    let rest = &message[end + 1..];
    let letters = rest.iter().take(4).take_while(|b| b.is_ascii_alphabetic()).count();
    let unit = matches!(
        &rest[..letters],
        b"B" | b"KB" | b"MB" | b"GB" | b"TB" | b"kB" | b"KiB" | b"MiB" | b"GiB" | b"TiB"
    );
    if unit && rest.get(letters).is_none_or(|&b| CLASS[b as usize] & (WORD | DIGIT) == 0 || b == b'.') {
        end + 1 + letters
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(inside: bool, message: &str) -> String {
        let masker = Masker { inside, max_bytes: 16 << 10, max_fields: 128 };
        let mut shape = Vec::new();
        masker.mask(message.as_bytes(), &mut shape);
        String::from_utf8(shape).unwrap().replace(WILD as char, "*")
    }

    #[test]
    fn evident_variables_are_masked_inside_fields() {
        for (message, shape) in [
            (
                "Receiving block blk_-1608999687919862906 src: /10.250.19.102:54106",
                "Receiving block blk_* src: /*:*",
            ),
            ("machine check: 0x00002000, bit=3", "machine check: *, bit=*"),
            ("took 5.2 KB. done in 17ms", "took *. done in *"),
            ("link en0 up, node-24 lost", "link en* up, node-* lost"),
            ("load /p/gb1/stella: no such file", "load *: no such file"),
            ("from hdfs://h:9000/a/b to C:\\Windows\\x.dll", "from * to *"),
            ("peer 5c:50:15:4c:18:13 and fe80::1 at 12:00:01.25", "peer * and * at *"),
            ("id 7bb1e3a0-9c1f-4c55-a0b4-2f6a7e12d001 of abcdefab", "id * of *"),
            ("changed Fri Jul 01 08:16:53 in May", "changed * in May"),
            ("用户123登录失败 für 7.5°C", "用户*登录失败 für *°C"),
            ("read/write ratio for a/b", "read/write ratio for a/b"),
        ] {
            assert_eq!(shape_of(true, message), shape, "{message}");
        }
    }

    #[test]
    fn a_list_of_variables_is_one() {
        assert_eq!(shape_of(true, "speeds ( 3552 3534 3391 ) @0x1 @0x2"), "speeds ( * ) @*");
        assert_eq!(
            shape_of(true, "set node-1 0x1 <ok> node-2 0x2 <ok> node-3 0x3 <ok>"),
            "set node-* * <ok>"
        );
        assert_eq!(shape_of(true, &"a 1 b ".repeat(100)), "a * b");
        assert_eq!(shape_of(true, "no no no it is it is"), "no no no it is it is");
    }

    #[test]
    fn without_inner_masks_a_field_with_a_digit_is_a_variable() {
        assert_eq!(shape_of(false, "user=7 at /a/b  x"), "* at /a/b x");
    }

    #[test]
    fn a_message_beyond_the_limits_is_cut() {
        let masker = Masker { inside: true, max_bytes: 8, max_fields: 2 };
        let mut shape = Vec::new();
        masker.mask(b"aaaa bbbb cccc", &mut shape);
        assert_eq!(shape, b"aaaa bbb \x01");
        masker.mask(b"a b c", &mut shape);
        assert_eq!(shape, b"a b \x01");
    }

    #[test]
    fn every_byte_alone_and_in_pairs_is_masked() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for inside in [false, true] {
                    let masker = Masker { inside, max_bytes: 64, max_fields: 8 };
                    let mut shape = Vec::new();
                    masker.mask(&[a, b, b'\\', b'/', a, b':', b], &mut shape);
                    assert!(shape.iter().all(|&b| b >= 32 || b == WILD));
                }
            }
        }
    }
}
