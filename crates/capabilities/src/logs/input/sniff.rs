//! What a source is, by its first bytes.

use super::archive::LZOP;

/// How a source is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Plain,
    /// gzip, of one or many members.
    Gzip,
    /// Zstandard, of one or many frames.
    Zstd,
    /// Snappy, in its framing format.
    Snappy,
    /// What lzop makes.
    Lzop,
    /// A zip archive.
    Zip,
    /// A tar archive that is not packed.
    Tar,
    /// Something that is recognised and not read.
    Refused(&'static str),
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8 or anything that has ASCII line ends.
    Bytes,
    /// UTF-8 that begins with its mark.
    Utf8Marked,
    /// UTF-16, the low byte first.
    Utf16Little,
    /// UTF-16, the high byte first.
    Utf16Big,
}

const REFUSED: [(&[u8], &str); 5] = [
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"LPKSHHRH", "a systemd journal"),
];

impl Packing {
    /// What it is called in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Packing::Plain => "text",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
            Packing::Snappy => "snappy",
            Packing::Lzop => "lzop",
            Packing::Zip => "zip",
            Packing::Tar => "tar",
            Packing::Refused(what) => what,
        }
    }
}

/// The packing of a source that begins with `head`.
pub(super) fn packing(head: &[u8]) -> Packing {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Packing::Gzip;
    }
    let skippable = head.len() >= 4 && (head[0] & 0xf0) == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable {
        return Packing::Zstd;
    }
    for (magic, packing) in [
        (&b"\xff\x06\0\0sNaPpY"[..], Packing::Snappy),
        (LZOP.as_slice(), Packing::Lzop),
        (b"PK\x03\x04".as_slice(), Packing::Zip),
        (b"PK\x05\x06".as_slice(), Packing::Zip),
    ] {
        if head.starts_with(magic) {
            return packing;
        }
    }
    if let Some((_, what)) = REFUSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Packing::Refused(what);
    }
    Packing::Plain
}

/// The encoding of an unpacked text that begins with `head`.
pub(super) fn encoding(head: &[u8]) -> Encoding {
    match head {
        [0xef, 0xbb, 0xbf, ..] => Encoding::Utf8Marked,
        [0xff, 0xfe, ..] => Encoding::Utf16Little,
        [0xfe, 0xff, ..] => Encoding::Utf16Big,
        _ => Encoding::Bytes,
    }
}

/// Why an unpacked text that begins with `head` is no log, if it is none. Broken UTF-8 is fine: Latin-1
/// and cut characters are everyday. Bytes that no terminal would print are not.
pub(super) fn binary(head: &[u8]) -> Option<String> {
    if head.len() > 262 && &head[257..262] == b"ustar" {
        return Some("is a damaged tar archive".to_owned());
    }
    let control = head.iter().filter(|&&byte| is_control(byte)).count();
    // A few stray bytes are seen in real logs, a block of NULs after a crash too.
    let share = control as f64 / head.len().max(1) as f64;
    if share <= 0.1 {
        return None;
    }
    Some(format!(
        "is binary: {:.0} % of its first {} bytes are control characters; a log is text",
        share * 100.0,
        head.len()
    ))
}

fn is_control(byte: u8) -> bool {
    // Tab, line feed, form feed, carriage return and escape (colours) are part of texts.
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b) || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_are_known_by_their_first_bytes() {
        assert_eq!(packing(b"2026-01-01 plain"), Packing::Plain);
        assert_eq!(packing(&[0x1f, 0x8b, 8]), Packing::Gzip);
        assert_eq!(packing(&[0x28, 0xb5, 0x2f, 0xfd]), Packing::Zstd);
        assert_eq!(packing(&[0x5e, 0x2a, 0x4d, 0x18]), Packing::Zstd);
        assert_eq!(packing(b"PK\x03\x04"), Packing::Zip);
        assert_eq!(packing(b"\xff\x06\0\0sNaPpY"), Packing::Snappy);
        assert_eq!(packing(b"\x89LZO\0\r\n\x1a\n"), Packing::Lzop);
        assert_eq!(packing(b""), Packing::Plain);
    }

    #[test]
    fn broken_utf8_and_colours_are_text_and_control_bytes_are_not() {
        assert_eq!(binary("caf\u{e9} \x1b[31mred\x1b[0m\r\n".as_bytes()), None);
        assert_eq!(binary(b"\xe9\xff\xfe\x80 latin"), None);
        assert_eq!(binary(b""), None);
        assert!(binary(&[0, 1, 2, 3, 0xff, 0, 0, b'a']).unwrap().contains("binary"));
    }
}
