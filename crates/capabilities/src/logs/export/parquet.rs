//! Parquet, as far as an export of log lines needs it: required columns of times and texts, plain values,
//! one page a column and row group, packed with zstd.
//!
//! The format is that of <https://parquet.apache.org/docs/file-format/>; its footer and page headers are
//! Thrift structs in the compact protocol.

use opsroom_core::{Error, Result};

/// The word that a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// Rows of a row group.
const GROUP_ROWS: usize = 131_072;
/// Bytes of a row group before it is packed.
const GROUP_BYTES: usize = 16 << 20;
/// The column of times; all others are of texts.
const TIME: &str = "time";
// Numbers of the format: physical types, encodings, a codec, what columns mean.
const INT64: i64 = 2;
const BYTE_ARRAY: i64 = 6;
const PLAIN: i64 = 0;
const RLE: i64 = 3;
const ZSTD: i64 = 6;
const UTF8: i64 = 0;
const TIMESTAMP_MICROS: i64 = 10;
const REQUIRED: i64 = 0;

/// A file that is written: rows in, bytes out.
pub(super) struct Parquet {
    names: &'static [&'static str],
    /// The values of each column, as a page has them.
    columns: Vec<Vec<u8>>,
    rows: usize,
    /// Bytes that were given out.
    written: u64,
    groups: Vec<Group>,
}

struct Group {
    rows: usize,
    /// For each column where it begins, and its bytes packed and plain, headers included.
    columns: Vec<(u64, u64, u64)>,
}

impl Parquet {
    /// A file with a column of times, and columns of texts with these names.
    pub fn new(names: &'static [&'static str], out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(MAGIC);
        let columns = vec![Vec::new(); names.len() + 1];
        Self { names, columns, rows: 0, written: MAGIC.len() as u64, groups: Vec::new() }
    }

    /// Adds a row; its time is in microseconds since 1970. What is ready is appended to `out`.
    ///
    /// # Errors
    /// `Internal` when it cannot be packed.
    pub fn row(&mut self, time: i64, texts: &[&str], out: &mut Vec<u8>) -> Result<()> {
        let (times, columns) = self.columns.split_first_mut().expect("the column of times is always there");
        times.extend_from_slice(&time.to_le_bytes());
        for (column, text) in columns.iter_mut().zip(texts) {
            column.extend_from_slice(&(text.len() as u32).to_le_bytes());
            column.extend_from_slice(text.as_bytes());
        }
        self.rows += 1;
        let bytes: usize = self.columns.iter().map(Vec::len).sum();
        if self.rows >= GROUP_ROWS || bytes >= GROUP_BYTES { self.group(out) } else { Ok(()) }
    }

    fn group(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = Group { rows: self.rows, columns: Vec::new() };
        for column in &mut self.columns {
            let packed = zstd::bulk::compress(column, 3).map_err(Error::internal)?;
            let mut header = Thrift::default();
            header.int(1, 0).int(2, column.len() as i64).int(3, packed.len() as i64);
            header.begin(5).int(1, self.rows as i64).int(2, PLAIN).int(3, RLE).int(4, RLE).end();
            let header = header.done();
            let (packed_bytes, plain) = (header.len() + packed.len(), header.len() + column.len());
            group.columns.push((self.written, packed_bytes as u64, plain as u64));
            out.extend_from_slice(&header);
            out.extend_from_slice(&packed);
            self.written += packed_bytes as u64;
            column.clear();
        }
        self.rows = 0;
        self.groups.push(group);
        Ok(())
    }

    /// The end of the file, appended to `out`.
    ///
    /// # Errors
    /// `Internal` when it cannot be packed.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        self.group(out)?;
        let footer = self.footer();
        out.extend_from_slice(&footer);
        out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        out.extend_from_slice(MAGIC);
        Ok(())
    }

    fn footer(&self) -> Vec<u8> {
        let all: Vec<&str> = std::iter::once(TIME).chain(self.names.iter().copied()).collect();
        let mut footer = Thrift::default();
        footer.int(1, 2);
        footer.list(2, STRUCT, all.len() + 1);
        footer.item().text(4, "log").int(5, all.len() as i64).end();
        for name in &all {
            let (physical, meant) =
                if *name == TIME { (INT64, TIMESTAMP_MICROS) } else { (BYTE_ARRAY, UTF8) };
            footer.item().int(1, physical).int(3, REQUIRED).text(4, name).int(6, meant).end();
        }
        footer.long(3, self.groups.iter().map(|group| group.rows as i64).sum());
        footer.list(4, STRUCT, self.groups.len());
        for group in &self.groups {
            footer.item().list(1, STRUCT, all.len());
            for (name, &(at, packed, plain)) in all.iter().zip(&group.columns) {
                footer.item().long(2, at as i64).begin(3);
                footer.int(1, if *name == TIME { INT64 } else { BYTE_ARRAY });
                footer.list(2, INT, 1).number(PLAIN).list(3, BINARY, 1).bytes(name.as_bytes());
                footer.int(4, ZSTD).long(5, group.rows as i64).long(6, plain as i64).long(7, packed as i64);
                footer.long(9, at as i64).end().end();
            }
            let plain: u64 = group.columns.iter().map(|(_, _, plain)| plain).sum();
            footer.long(2, plain as i64).long(3, group.rows as i64).end();
        }
        footer.text(6, concat!("opsroom ", env!("CARGO_PKG_VERSION")));
        footer.done()
    }
}

// Kinds of fields in the compact protocol.
const INT: u8 = 5;
const LONG: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Thrift's compact protocol, of what is needed here: structs, lists, numbers and texts.
#[derive(Default)]
struct Thrift {
    out: Vec<u8>,
    /// The number of the last field of each struct that is open, but for the innermost.
    outer: Vec<i16>,
    last: i16,
}

impl Thrift {
    fn field(&mut self, id: i16, kind: u8) {
        match id - self.last {
            step @ 1..=15 => self.out.push((step as u8) << 4 | kind),
            _ => {
                self.out.push(kind);
                self.number(id.into());
            }
        }
        self.last = id;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn number(&mut self, value: i64) -> &mut Self {
        self.varint((value << 1 ^ value >> 63) as u64);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    fn int(&mut self, id: i16, value: i64) -> &mut Self {
        self.field(id, INT);
        self.number(value)
    }

    fn long(&mut self, id: i16, value: i64) -> &mut Self {
        self.field(id, LONG);
        self.number(value)
    }

    fn text(&mut self, id: i16, text: &str) -> &mut Self {
        self.field(id, BINARY);
        self.bytes(text.as_bytes())
    }

    fn list(&mut self, id: i16, kind: u8, length: usize) -> &mut Self {
        self.field(id, LIST);
        if length < 15 {
            self.out.push((length as u8) << 4 | kind);
        } else {
            self.out.push(0xf0 | kind);
            self.varint(length as u64);
        }
        self
    }

    /// A struct that is a field.
    fn begin(&mut self, id: i16) -> &mut Self {
        self.field(id, STRUCT);
        self.item()
    }

    /// A struct in a list.
    fn item(&mut self) -> &mut Self {
        self.outer.push(self.last);
        self.last = 0;
        self
    }

    fn end(&mut self) -> &mut Self {
        self.out.push(0);
        self.last = self.outer.pop().unwrap_or(0);
        self
    }

    fn done(mut self) -> Vec<u8> {
        self.out.push(0);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_is_as_the_compact_protocol_has_it() {
        let mut thrift = Thrift::default();
        thrift.int(1, 1).text(4, "ab").begin(20).long(1, -1).end().list(21, INT, 1).number(3);
        assert_eq!(thrift.done(), [0x15, 2, 0x38, 2, b'a', b'b', 0x0c, 40, 0x16, 1, 0, 0x19, 0x15, 6, 0]);
    }

    #[test]
    fn a_file_begins_and_ends_as_it_should_and_its_pages_lie_where_the_footer_says() {
        let mut out = Vec::new();
        let mut file = Parquet::new(&["text"], &mut out);
        for n in 0..GROUP_ROWS + 5 {
            file.row(n as i64, &[&format!("line {n}")], &mut out).unwrap();
        }
        file.group(&mut out).unwrap();
        assert_eq!(file.groups.iter().map(|group| group.rows).collect::<Vec<_>>(), [GROUP_ROWS, 5]);
        let &(at, packed, _) = &file.groups[1].columns[1];
        let page = &out[at as usize..(at + packed) as usize];
        // Behind its header is what begins as zstd does.
        let start = (0..page.len()).find(|&at| page[at..].starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).unwrap();
        let plain = zstd::bulk::decompress(&page[start..], 1 << 20).unwrap();
        assert!(plain.starts_with(b"\x0b\0\0\0line 131072"), "{plain:?}");
        file.finish(&mut out).unwrap();
        assert!(out.starts_with(MAGIC) && out.ends_with(MAGIC));
        let end = out.len() - 8;
        let length = u32::from_le_bytes(out[end..end + 4].try_into().unwrap()) as usize;
        assert_eq!(out[end - length], 0x15, "the footer begins with its version");
    }
}
