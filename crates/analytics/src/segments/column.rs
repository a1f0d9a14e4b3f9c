//! A column: the variables of one place of a shape, in the form that suits them.

use std::collections::HashMap;

use super::bits::Bits;
use super::moment::Spelling;
use super::numbers::{is_grouped, pack, unpack};
use super::shape::{IP, RAW, TIME, UUID};
use super::wire::{Reader, Result, SegmentError, put, put_bytes, put_signed};

const CONST: u8 = 0;
const ROW_TIME: u8 = 1;
const TIMES: u8 = 2;
const INTS: u8 = 3;
const DICT: u8 = 4;
const TEXTS: u8 = 5;
const HEX: u8 = 6;

/// Digits that fit into a number.
const MOST_DIGITS: usize = 19;

/// What is known of a column without reading it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Meta {
    pub form: u8,
    /// Of `CONST` the value; of numbers and hexadecimal what stands before every value.
    pub prefix: Vec<u8>,
    /// Of `ROW_TIME`, what is added to the row's time.
    pub offset: i64,
    /// The shortest and the longest value, in bytes.
    pub lengths: (u32, u32),
    /// The smallest and the largest number.
    pub range: (u64, u64),
    /// Which kinds of bytes there are: digits 1, lower case 2, upper case 4, others 8.
    pub kinds: u8,
    /// A time's spelling.
    pub code: u8,
}

impl Meta {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.form, self.kinds, self.code]);
        put_bytes(out, &self.prefix);
        put_signed(out, self.offset);
        put(out, self.lengths.0.into());
        put(out, self.lengths.1.into());
        put(out, self.range.0);
        put(out, self.range.1);
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let (form, kinds, code) = (reader.byte()?, reader.byte()?, reader.byte()?);
        if form > HEX {
            return Err(SegmentError::Damaged("a column of an unknown form"));
        }
        let prefix = reader.bytes()?.to_vec();
        let offset = reader.signed()?;
        let lengths = (reader.count(super::MOST_TEXT)? as u32, reader.count(super::MOST_TEXT)? as u32);
        let range = (reader.number()?, reader.number()?);
        Ok(Self { form, prefix, offset, lengths, range, kinds, code })
    }

    /// Whether a value may be such, as far as can be told without reading.
    pub fn may(&self, want: Want, needle: &[u8]) -> bool {
        if matches!(self.form, ROW_TIME | TIMES) {
            return true;
        }
        let length = needle.len() as u32;
        let fits = match want {
            Want::Equal => (self.lengths.0..=self.lengths.1).contains(&length),
            _ => length <= self.lengths.1,
        };
        let kinds = needle.iter().fold(0, |kinds, &b| kinds | kind(b));
        let known = if self.kinds & 6 != 0 { self.kinds | 6 } else { self.kinds };
        if !fits || kinds & !known != 0 {
            return false;
        }
        if self.form == CONST {
            return want.met(&self.prefix, needle);
        }
        // Of numbers and hexadecimal all letters are known but those of the prefix.
        let known = |b: &u8| match self.form {
            INTS => b.is_ascii_digit() || *b == b'.',
            HEX => b.is_ascii_hexdigit() || *b == b'-',
            _ => true,
        };
        if !needle.iter().all(|b| known(b) || self.prefix.iter().any(|own| own.eq_ignore_ascii_case(b))) {
            return false;
        }
        if self.form == INTS
            && want == Want::Contains
            && let Some((wanted, _)) = digits_of(needle)
            && wanted > self.range.1
            && !contains(&self.prefix, needle)
        {
            return false;
        }
        if self.form == INTS && want == Want::Equal && self.prefix.is_empty() {
            return number(needle).is_none_or(|n| (self.range.0..=self.range.1).contains(&n));
        }
        true
    }

    /// Columns of the same likeness are kept together: those of times, of few values, of short and long ones;
    /// apart from numbers that compress those that do not.
    pub fn likeness(&self, data: &[u8]) -> (u8, u8) {
        if self.form == INTS && is_grouped(data) {
            return (self.form, 3);
        }
        let length = match self.lengths.1 {
            0..=5 => 0,
            6..=12 => 1,
            _ => 2,
        };
        (self.form, length)
    }

    /// Whether the values stand in a chunk.
    pub fn has_data(&self) -> bool {
        !matches!(self.form, CONST | ROW_TIME)
    }
}

/// What is wanted of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// All of it.
    Equal,
    /// Its begin.
    Begins,
    /// Its end.
    Ends,
    /// A part of it.
    Contains,
}

impl Want {
    /// Whether a value is such; ASCII case is not looked at.
    pub fn met(self, value: &[u8], needle: &[u8]) -> bool {
        let (have, want) = (value.len(), needle.len());
        if want > have {
            return false;
        }
        match self {
            Want::Equal => value.eq_ignore_ascii_case(needle),
            Want::Begins => value[..want].eq_ignore_ascii_case(needle),
            Want::Ends => value[have - want..].eq_ignore_ascii_case(needle),
            Want::Contains => contains(value, needle),
        }
    }
}

/// Whether a text contains another, whatever their ASCII case.
pub(super) fn contains(text: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    let (low, high) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    let last = match text.len().checked_sub(needle.len()) {
        Some(last) => last,
        None => return false,
    };
    memchr::memchr2_iter(low, high, &text[..=last])
        .any(|at| text[at..at + needle.len()].eq_ignore_ascii_case(needle))
}

/// Calls `found` with where a text lies in another, whatever their ASCII case: its begins and ends, in order.
fn places(text: &[u8], needle: &[u8], mut found: impl FnMut(usize, usize)) {
    let Some(last) = text.len().checked_sub(needle.len()).filter(|_| !needle.is_empty()) else { return };
    if !needle.iter().any(u8::is_ascii_alphabetic) {
        let finder = memchr::memmem::Finder::new(needle);
        let mut from = 0;
        while let Some(at) = finder.find(&text[from..]) {
            found(from + at, from + at + needle.len());
            from += at + 1;
        }
        return;
    }
    let (low, high) = (needle[0].to_ascii_lowercase(), needle[0].to_ascii_uppercase());
    for at in memchr::memchr2_iter(low, high, &text[..=last]) {
        if text[at..at + needle.len()].eq_ignore_ascii_case(needle) {
            found(at, at + needle.len());
        }
    }
}

/// The number that digits are, and ten to the power of how many they are; none that begins with a zero.
fn digits_of(needle: &[u8]) -> Option<(u64, u64)> {
    let value = number(needle).filter(|_| needle[0] != b'0')?;
    Some((value, 10u64.pow(needle.len() as u32)))
}

/// Whether no end of the prefix is a begin of the text.
fn is_apart(prefix: &[u8], needle: &[u8]) -> bool {
    (1..=prefix.len().min(needle.len()))
        .all(|taken| !prefix[prefix.len() - taken..].eq_ignore_ascii_case(&needle[..taken]))
}

/// Packed digits as text, row after row.
fn hexadecimal(bytes: &[u8], digits: usize) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(bytes.len() * 2);
    for row in bytes.chunks_exact(digits.div_ceil(2)) {
        text.extend(row.iter().flat_map(|pair| [HEX[usize::from(pair >> 4)], HEX[usize::from(pair & 15)]]));
        // With an odd number of digits the last half is none.
        text.truncate(text.len() - (row.len() * 2 - digits));
    }
    text
}

fn kind(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 1,
        b'a'..=b'z' => 2,
        b'A'..=b'Z' => 4,
        _ => 8,
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = (1..=MOST_DIGITS).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0')))
}

/// Writes a column of times. `rows` are the times of the rows that hold them.
pub(super) fn encode_times(times: &[i64], rows: &[i64], code: u8, out: &mut Vec<u8>) -> Meta {
    let offset = times[0].wrapping_sub(rows[0]);
    if times.iter().zip(rows).all(|(time, row)| time.wrapping_sub(*row) == offset) {
        return Meta { form: ROW_TIME, offset, code, ..Meta::default() };
    }
    let values: Vec<u64> = times.iter().map(|&time| (time as u64) ^ (1 << 63)).collect();
    pack(&values, out);
    Meta { form: TIMES, code, ..Meta::default() }
}

/// Writes a column of texts of this mark.
pub(super) fn encode(values: &[&[u8]], mark: u8, out: &mut Vec<u8>) -> Meta {
    let first = values[0];
    let (mut shortest, mut longest, mut kinds, mut same) = (u32::MAX, 0, 0, true);
    let (mut digits, mut prefix) = (true, first.len());
    for value in values {
        shortest = shortest.min(value.len() as u32);
        longest = longest.max(value.len() as u32);
        let of_value = value.iter().fold(0, |kinds, &b| kinds | kind(b));
        kinds |= of_value;
        digits &= of_value == 1;
        same &= *value == first;
        if !digits && prefix > 0 {
            prefix = value.iter().zip(&first[..prefix]).take_while(|(a, b)| a == b).count();
        }
    }
    let meta = Meta { lengths: (shortest, longest), kinds, ..Meta::default() };
    if same {
        return Meta { form: CONST, prefix: first.to_vec(), ..meta };
    }
    if mark == IP {
        let numbers: Vec<u64> = values.iter().map(|value| of_address(value)).collect();
        return few_or(values, meta, out, |meta, out| ints(&numbers, meta, out));
    }
    // What stands before a number is the longest common begin without the number's own digits.
    let mut before = if digits { 0 } else { prefix };
    while before > 0 && first[before - 1].is_ascii_digit() {
        before -= 1;
    }
    let of_number = |value: &&[u8]| number(&value[before..]);
    if mark != UUID && mark != RAW && values.iter().all(|value| of_number(value).is_some()) {
        let numbers: Vec<u64> = values.iter().filter_map(of_number).collect();
        let meta = Meta { prefix: first[..before].to_vec(), ..meta };
        let canonical = values.iter().all(|v| v.len() == before + 1 || v[before] != b'0');
        let wide = numbers.iter().max() > Some(&255);
        let write = |meta: Meta, out: &mut Vec<u8>| {
            let meta = ints(&numbers, meta, out);
            widths(values, before, canonical, out);
            meta
        };
        if !wide {
            return write(meta, out);
        }
        // Numbers that are grouped are as small as they get; a dictionary would come on top.
        let start = out.len();
        let meant = write(meta.clone(), out);
        if is_grouped(&out[start..]) {
            return meant;
        }
        out.truncate(start);
        return few_or(values, meta, out, write);
    }
    let hex = if mark == UUID { Some(0) } else { hex_after(values, prefix) };
    few_or(values, meta, out, |meta, out| match hex {
        Some(before) => packed(values, before, meta, out),
        None => texts(values, meta, out),
    })
}

/// A dictionary where there are few values, else what `other` makes.
fn few_or(
    values: &[&[u8]],
    meta: Meta,
    out: &mut Vec<u8>,
    other: impl FnOnce(Meta, &mut Vec<u8>) -> Meta,
) -> Meta {
    let most = (values.len() / 3).min(1 << 16);
    let mut known: HashMap<&[u8], u64> = HashMap::new();
    let mut index = Vec::with_capacity(values.len());
    for (at, &value) in values.iter().enumerate() {
        let next = known.len() as u64;
        index.push(*known.entry(value).or_insert(next));
        if known.len() > most || (known.len() > 512 && known.len() * 2 > at) {
            return other(meta, out);
        }
    }
    let mut entries = vec![&[][..]; known.len()];
    known.iter().for_each(|(value, &at)| entries[at as usize] = value);
    put(out, entries.len() as u64);
    entries.iter().for_each(|entry| put_bytes(out, entry));
    pack(&index, out);
    Meta { form: DICT, ..meta }
}

fn ints(numbers: &[u64], meta: Meta, out: &mut Vec<u8>) -> Meta {
    pack(numbers, out);
    let range = numbers.iter().fold((u64::MAX, 0), |(low, high), &n| (low.min(n), high.max(n)));
    Meta { form: INTS, range, ..meta }
}

/// How many digits each number is written with: 0 for as many as it needs.
fn widths(values: &[&[u8]], before: usize, canonical: bool, out: &mut Vec<u8>) {
    if canonical {
        return put(out, 0);
    }
    let width = values[0].len() - before;
    if values.iter().all(|value| value.len() - before == width) {
        return put(out, width as u64);
    }
    put(out, 99);
    out.extend(values.iter().map(|value| (value.len() - before) as u8));
}

/// Where hexadecimal of one length begins in every value.
fn hex_after(values: &[&[u8]], prefix: usize) -> Option<usize> {
    let length = values[0].len();
    let mut before = prefix;
    while before > 0 && is_hex(values[0][before - 1]) {
        before -= 1;
    }
    let all = length - before >= 8
        && values.iter().all(|value| value.len() == length && value[before..].iter().all(|&b| is_hex(b)));
    all.then_some(before)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn packed(values: &[&[u8]], before: usize, meta: Meta, out: &mut Vec<u8>) -> Meta {
    let prefix = values[0][..before].to_vec();
    for value in values {
        let digits: Vec<u8> = value[before..]
            .iter()
            .filter(|b| **b != b'-')
            .map(|&b| (b as char).to_digit(16).unwrap_or(0) as u8)
            .collect();
        out.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)));
    }
    Meta { form: HEX, prefix, ..meta }
}

fn texts(values: &[&[u8]], meta: Meta, out: &mut Vec<u8>) -> Meta {
    let lengths: Vec<u64> = values.iter().map(|value| value.len() as u64).collect();
    pack(&lengths, out);
    values.iter().for_each(|value| out.extend_from_slice(value));
    Meta { form: TEXTS, ..meta }
}

fn of_address(text: &[u8]) -> u64 {
    text.split(|&b| b == b'.')
        .fold(0, |sum, part| sum << 8 | part.iter().fold(0, |value, b| value * 10 + u64::from(b - b'0')))
}

/// A column that was read.
pub(super) enum Column {
    Const(Vec<u8>),
    Times(Spelling, Vec<i64>),
    Ints { prefix: Vec<u8>, numbers: Vec<u64>, widths: Widths },
    Addresses(Vec<u64>),
    Dict { entries: Vec<Vec<u8>>, index: Vec<u64> },
    Texts { bytes: Vec<u8>, ends: Vec<usize> },
    Hex { prefix: Vec<u8>, bytes: Vec<u8>, digits: usize, dashes: bool },
}

/// How many digits numbers are written with.
pub(super) enum Widths {
    /// As many as they need.
    Own,
    /// All the same.
    All(u8),
    /// Each its own.
    Each(Vec<u8>),
}

/// Reads the column of a variable with this mark. `rows` gives the times of its rows.
pub(super) fn decode(
    meta: &Meta,
    mark: u8,
    data: &[u8],
    count: usize,
    rows: impl FnOnce() -> Result<Vec<i64>>,
) -> Result<Column> {
    let mut reader = Reader(data);
    let spelling = || Spelling::of(meta.code).ok_or(SegmentError::Damaged("an unknown spelling of a time"));
    Ok(match meta.form {
        CONST => Column::Const(meta.prefix.clone()),
        ROW_TIME => {
            let times = rows()?.iter().map(|time| time.wrapping_add(meta.offset)).collect();
            Column::Times(spelling()?, times)
        }
        TIMES if mark == TIME => {
            let times = unpack(&mut reader, count)?.iter().map(|&v| (v ^ (1 << 63)) as i64).collect();
            Column::Times(spelling()?, times)
        }
        INTS => {
            let numbers = unpack(&mut reader, count)?;
            if mark == IP {
                return Ok(Column::Addresses(numbers));
            }
            let widths = match reader.number()? {
                0 => Widths::Own,
                99 => Widths::Each(reader.take(count)?.to_vec()),
                width if width <= MOST_DIGITS as u64 => Widths::All(width as u8),
                _ => return Err(SegmentError::Damaged("a number of too many digits")),
            };
            Column::Ints { prefix: meta.prefix.clone(), numbers, widths }
        }
        DICT => {
            let number = reader.count(data.len())?;
            let entries = (0..number).map(|_| Ok(reader.bytes()?.to_vec())).collect::<Result<Vec<_>>>()?;
            let index = unpack(&mut reader, count)?;
            if index.iter().any(|&at| at >= number as u64) {
                return Err(SegmentError::Damaged("a column names a value that it does not have"));
            }
            Column::Dict { entries, index }
        }
        TEXTS => {
            let lengths = unpack(&mut reader, count)?;
            let mut end = 0usize;
            let ends: Vec<usize> = lengths
                .iter()
                .map(|&length| {
                    end = end.saturating_add(length as usize);
                    end
                })
                .collect();
            Column::Texts { bytes: reader.take(end)?.to_vec(), ends }
        }
        HEX => {
            let dashes = mark == UUID;
            let length = meta.lengths.0 as usize;
            let digits = if dashes { 32 } else { length.saturating_sub(meta.prefix.len()) };
            let bytes = reader.take(digits.div_ceil(2).saturating_mul(count))?.to_vec();
            Column::Hex { prefix: meta.prefix.clone(), bytes, digits, dashes }
        }
        _ => return Err(SegmentError::Damaged("a column of an unknown form")),
    })
}

impl Column {
    /// Appends the text of a row's value.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Column::Const(value) => out.extend_from_slice(value),
            Column::Times(spelling, times) => spelling.write(times[row], out),
            Column::Ints { prefix, numbers, widths } => {
                out.extend_from_slice(prefix);
                let width = match widths {
                    Widths::Own => 1,
                    Widths::All(width) => *width,
                    Widths::Each(widths) => widths[row],
                };
                decimal(numbers[row], width as usize, out);
            }
            Column::Addresses(numbers) => {
                for place in [24, 16, 8, 0] {
                    decimal(numbers[row] >> place & 255, 1, out);
                    if place > 0 {
                        out.push(b'.');
                    }
                }
            }
            Column::Dict { entries, index } => out.extend_from_slice(&entries[index[row] as usize]),
            Column::Texts { bytes, ends } => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                out.extend_from_slice(&bytes[start..ends[row]]);
            }
            Column::Hex { prefix, bytes, digits, dashes } => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(prefix);
                let width = digits.div_ceil(2);
                let value = &bytes[row * width..(row + 1) * width];
                for at in 0..*digits {
                    if *dashes && matches!(at, 8 | 12 | 16 | 20) {
                        out.push(b'-');
                    }
                    let pair = value[at / 2];
                    out.push(HEX[if at.is_multiple_of(2) { pair >> 4 } else { pair & 15 } as usize]);
                }
            }
        }
    }

    /// The rows of `count` whose value is such.
    pub fn find(&self, want: Want, needle: &[u8], count: usize) -> Bits {
        let mut found = Bits::none(count);
        match self {
            Column::Const(value) => {
                if want.met(value, needle) {
                    return Bits::all(count);
                }
            }
            Column::Dict { entries, index } => {
                let meant: Vec<bool> = entries.iter().map(|entry| want.met(entry, needle)).collect();
                if meant.contains(&true) {
                    index
                        .iter()
                        .enumerate()
                        .filter(|(_, at)| meant[**at as usize])
                        .for_each(|(row, _)| found.set(row));
                }
            }
            Column::Ints { prefix, numbers, widths: Widths::Own }
                if want == Want::Equal && prefix.is_empty() =>
            {
                let canonical = needle.len() == 1 || needle.first() != Some(&b'0');
                if let Some(wanted) = number(needle).filter(|_| canonical) {
                    numbers
                        .iter()
                        .enumerate()
                        .filter(|(_, n)| **n == wanted)
                        .for_each(|(row, _)| found.set(row));
                }
            }
            Column::Ints { prefix, numbers, .. } if want == Want::Contains && digits_of(needle).is_some() => {
                // The prefix does not end with a digit: what is wanted lies in it or behind it.
                if contains(prefix, needle) {
                    return Bits::all(count);
                }
                let (wanted, unit) = digits_of(needle).unwrap_or_default();
                // What ends with these digits agrees with them in its last bits: ten to the n-th can be halved
                // n times. Few numbers are divided for it.
                let last = (1u64 << needle.len()) - 1;
                for (row, &number) in numbers.iter().enumerate() {
                    let mut rest = number;
                    while rest >= wanted {
                        if (rest ^ wanted) & last == 0 && rest % unit == wanted {
                            found.set(row);
                            break;
                        }
                        rest /= 10;
                    }
                }
            }
            Column::Texts { bytes, ends } if want == Want::Contains => {
                let mut row = 0;
                places(bytes, needle, |from, to| {
                    row += ends[row..].partition_point(|end| *end <= from);
                    if ends.get(row).is_some_and(|end| to <= *end) {
                        found.set(row);
                    }
                });
            }
            Column::Hex { prefix, bytes, digits, dashes: false }
                if want == Want::Contains
                    && *digits > 0
                    && !contains(prefix, needle)
                    && is_apart(prefix, needle) =>
            {
                let text = hexadecimal(bytes, *digits);
                places(&text, needle, |from, to| {
                    if from / digits == (to - 1) / digits {
                        found.set(from / digits);
                    }
                });
            }
            Column::Texts { bytes, ends } => {
                let mut start = 0;
                for (row, &end) in ends.iter().enumerate() {
                    if want.met(&bytes[start..end], needle) {
                        found.set(row);
                    }
                    start = end;
                }
            }
            _ => {
                let mut text = Vec::with_capacity(64);
                for row in 0..count {
                    text.clear();
                    self.write(row, &mut text);
                    if want.met(&text, needle) {
                        found.set(row);
                    }
                }
            }
        }
        found
    }
}

fn decimal(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let (mut at, mut rest) = (20, value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    let at = at.min(20usize.saturating_sub(width));
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::super::shape::TOKEN;
    use super::*;

    fn back(values: &[&str], mark: u8) -> (Meta, Vec<String>) {
        let values: Vec<&[u8]> = values.iter().map(|v| v.as_bytes()).collect();
        let mut out = Vec::new();
        let meta = encode(&values, mark, &mut out);
        let mut written = Vec::new();
        meta.write(&mut written);
        assert_eq!(Meta::read(&mut Reader(&written)).unwrap(), meta);
        let column = decode(&meta, mark, &out, values.len(), || Ok(Vec::new())).unwrap();
        let texts = (0..values.len()).map(|row| {
            let mut text = Vec::new();
            column.write(row, &mut text);
            let found = column.find(Want::Equal, values[row], values.len());
            assert!(found.has(row) && meta.may(Want::Equal, values[row]), "{:?}", values[row]);
            String::from_utf8(text).unwrap()
        });
        (meta.clone(), texts.collect())
    }

    fn check(values: &[&str], mark: u8, form: u8) {
        let (meta, texts) = back(values, mark);
        assert_eq!(texts, values);
        assert_eq!(meta.form, form, "{values:?}");
    }

    #[test]
    fn every_form_gives_its_values_back() {
        check(&["7x", "7x"], TOKEN, CONST);
        check(&["1", "22", "0"], TOKEN, INTS);
        check(&["007", "022", "100"], TOKEN, INTS);
        check(&["07", "022", "1000", "9"], TOKEN, INTS);
        check(&["vm1234", "vm1299", "vm17777", "vm9"], TOKEN, INTS);
        check(&["a1", "b2", "a1", "b2", "a1", "b2", "a1"], TOKEN, DICT);
        check(&["x1y", "22z", "3"], TOKEN, TEXTS);
        check(&["00ff00ff0", "123456789", "abcdef01a"], TOKEN, HEX);
        check(&["0x00ff00ff", "0x12345678", "0xabcdef01"], TOKEN, HEX);
        check(&["999999999999999999999", "1"], TOKEN, TEXTS);
        check(&["10.0.0.1", "255.255.255.255", "1.2.3.4"], IP, INTS);
        check(&["54fadb41-2c4e-40cd-baed-9335e4c35a9e", "00000000-0000-0000-0000-000000000001"], UUID, HEX);
        check(&["whole \u{1} line", "another"], RAW, TEXTS);
    }

    #[test]
    fn parts_of_values_are_found_and_bounds_rule_out() {
        let values: Vec<&[u8]> = vec![b"1608", b"22", b"9160"];
        let mut out = Vec::new();
        let meta = encode(&values, TOKEN, &mut out);
        let column = decode(&meta, TOKEN, &out, 3, || Ok(Vec::new())).unwrap();
        let rows = |want, needle: &[u8]| column.find(want, needle, 3).iter().collect::<Vec<_>>();
        assert_eq!(rows(Want::Contains, b"160"), [0, 2]);
        assert_eq!(rows(Want::Begins, b"160"), [0]);
        assert_eq!(rows(Want::Ends, b"160"), [2]);
        assert!(!meta.may(Want::Equal, b"99999") && !meta.may(Want::Contains, b"a"));
        assert!(!meta.may(Want::Equal, b"9999"));
    }

    #[test]
    fn what_is_found_in_a_column_is_what_its_texts_contain() {
        let columns: [&[&[u8]]; 5] = [
            &[b"1608", b"22", b"9160", b"160160", b"0160", b"16"],
            &[b"vm1608", b"vm22", b"vm9160"],
            &[b"x1Y160", b"16", b"0z", b"160z16", b"Y1602y1"],
            &[b"00ff1600", b"12345678", b"ab160f01"],
            &[b"0x00ff160", b"0x1234567", b"0x160f01a"],
        ];
        let needles: [&[u8]; 14] = [
            b"160", b"16", b"0", b"60", b"6016", b"22", b"vm16", b"m1", b"y1", b"Y1", b"f1", b"0x16", b"x0",
            b"78ab",
        ];
        for values in columns {
            let mut out = Vec::new();
            let meta = encode(values, TOKEN, &mut out);
            let column = decode(&meta, TOKEN, &out, values.len(), || Ok(Vec::new())).unwrap();
            for needle in needles {
                let found: Vec<usize> = column.find(Want::Contains, needle, values.len()).iter().collect();
                let expected: Vec<usize> =
                    (0..values.len()).filter(|at| contains(values[*at], needle)).collect();
                assert_eq!(found, expected, "{:?} in {:?}", needle.escape_ascii(), values[0].escape_ascii());
            }
        }
    }

    #[test]
    fn damaged_columns_are_errors() {
        let values: Vec<&[u8]> = vec![b"a1", b"b2", b"a1", b"b2", b"a1", b"b2", b"a1"];
        let mut out = Vec::new();
        let meta = encode(&values, TOKEN, &mut out);
        for length in 0..out.len() {
            assert!(decode(&meta, TOKEN, &out[..length], 7, || Ok(Vec::new())).is_err());
        }
    }
}
