//! Logs as they come: packed, cut off, piped, hostile.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use opsroom_core::{Kind, Result};

use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn numbered(lines: std::ops::Range<u32>) -> Vec<u8> {
    lines.flat_map(|i| format!("line {i}\n").into_bytes()).collect()
}

fn read_with(sources: Vec<Source>, limits: Limits) -> Result<(Vec<String>, ReadLog)> {
    let reader = LogReader::new(sources, limits, Watch::silent());
    let mut lines = Vec::new();
    let log = read_batches(
        reader,
        |_| {},
        |batch| {
            lines.extend(batch.lines().map(|(_, line)| String::from_utf8_lossy(line).into_owned()));
            Ok(())
        },
    )?;
    Ok((lines, log))
}

fn read(sources: Vec<Source>) -> Result<(Vec<String>, ReadLog)> {
    read_with(sources, Limits::default())
}

fn file(folder: &Path, name: &str, content: &[u8]) -> Source {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    Source::path(&path)
}

fn fetched(log: &mut ReadLog, lines: &[u64]) -> Vec<String> {
    let wanted: BTreeSet<u64> = lines.iter().copied().collect();
    let found = log.fetch(&wanted, &Watch::silent()).unwrap();
    found.into_values().map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn gzip_of_many_members_zstd_and_plain_are_told_by_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let members = [gzip(b"a\nb\n"), gzip(b"c\n")].concat();
    let sources = vec![
        file(folder.path(), "plain.gz", b"plain\n"),
        file(folder.path(), "members.log", &members),
        file(folder.path(), "zstd.log", &zstd::encode_all(&b"z\n"[..], 1).unwrap()),
    ];
    let (lines, log) = read(sources).unwrap();
    assert_eq!(lines, ["plain", "a", "b", "c", "z"]);
    assert!(log.warnings.is_empty());
    assert_eq!(log.locate(3).1, 2);
    assert!(log.locate(5).0.ends_with("zstd.log"));
}

#[test]
fn lines_are_fetched_again_from_every_kind_of_source() {
    let folder = tempfile::tempdir().unwrap();
    let text = numbered(0..60_000);
    let utf16: Vec<u8> =
        [vec![0xff, 0xfe], "eins\nzwei\n".encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let sources = vec![
        file(folder.path(), "a.log", &text),
        file(folder.path(), "b.log", &gzip(&text)),
        Source::stream("-", std::io::Cursor::new(text.clone())),
        Source::text("text", text.clone()),
        file(folder.path(), "w.log", &utf16),
    ];
    let (lines, mut log) = read(sources).unwrap();
    assert_eq!(lines.len(), 240_002);
    let wanted = [1, 59_999, 60_001, 119_000, 120_001, 179_990, 180_002, 240_000, 240_002];
    let expected: Vec<String> = wanted.iter().map(|&line| lines[line as usize - 1].clone()).collect();
    assert_eq!(fetched(&mut log, &wanted), expected);
    assert_eq!(expected.last().unwrap(), "zwei");
}

#[test]
fn a_truncated_gzip_gives_what_is_good_and_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let whole = gzip(&numbered(0..50_000));
    let (lines, log) = read(vec![file(folder.path(), "cut.gz", &whole[..whole.len() / 2])]).unwrap();
    assert!(lines.len() > 1000 && lines[1000] == "line 1000");
    assert!(log.warnings[0].contains("truncated gzip"), "{:?}", log.warnings);
    // The last line is whole: what came of the next one is left out, and said so.
    let last = lines.len() - 1;
    assert_eq!(lines[last], format!("line {last}"));
    assert!(log.warnings[0].contains("a last one that is cut was left out"), "{:?}", log.warnings);
    let error = read(vec![file(folder.path(), "stub.gz", &whole[..12])]).err().unwrap();
    assert!(error.message.contains("nothing of it could be read"), "{error}");
}

#[test]
fn a_truncated_zstd_gives_what_is_good_and_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let whole = zstd::encode_all(&numbered(0..200_000)[..], 1).unwrap();
    let (lines, log) = read(vec![file(folder.path(), "cut.zst", &whole[..whole.len() / 2])]).unwrap();
    assert!(lines.len() > 1000);
    assert!(log.warnings[0].contains("truncated zstd"), "{:?}", log.warnings);
}

#[test]
fn rubbish_after_the_last_gzip_member_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let padded = [gzip(b"a\nb\n"), b"this is no gzip member".to_vec()].concat();
    let (lines, log) = read(vec![file(folder.path(), "a.gz", &padded)]).unwrap();
    assert_eq!(lines, ["a", "b"]);
    assert!(log.warnings[0].contains("after its last member"), "{:?}", log.warnings);
}

#[test]
fn a_decompression_bomb_is_stopped_by_its_size_and_by_its_ratio() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = gzip("all work and no play\n".repeat(200_000).as_bytes());
    let small = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let error = read_with(vec![file(folder.path(), "bomb.gz", &bomb)], small).err().unwrap();
    assert!(error.kind == Kind::Invalid && error.message.contains("bomb"), "{error}");

    let lines = [vec![b'x'; 9_999], vec![b'\n']].concat().repeat(8_000);
    let bomb = zstd::encode_all(&lines[..], 3).unwrap();
    let error = read(vec![file(folder.path(), "bomb.zst", &bomb)]).err().unwrap();
    assert!(error.message.contains("1000 times its size"), "{error}");
}

#[test]
fn binaries_and_foreign_archives_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let message =
        |name: &str, content: &[u8]| read(vec![file(folder.path(), name, content)]).err().unwrap().message;
    let elf: Vec<u8> = (0..4000u32).map(|i| (i * 7 % 32) as u8).collect();
    assert!(message("elf.log", &elf).contains("binary"));
    assert!(message("log.xz", b"\xfd7zXZ\0....").contains("compressed with xz"));
    assert!(message("hidden.gz", &gzip(&elf)).contains("binary"));
    let mut tar = vec![b'a'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(message("logs.tar.gz", &gzip(&tar)).contains("damaged tar archive"));
}

/// A tar archive of such members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        let mut head = [0u8; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[148..156].copy_from_slice(b"        ");
        head[156] = b'0';
        head[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A zip archive of such members, deflated, with their sizes before or behind them.
fn zip(members: &[(&str, &[u8])], behind: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        let mut sizes = crc32fast::hash(content).to_le_bytes().to_vec();
        sizes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        sizes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(b"PK\x03\x04\x14\0");
        out.extend_from_slice(&[if behind { 8 } else { 0 }, 0, 8, 0, 0, 0, 0, 0]);
        out.extend_from_slice(if behind { &[0; 12] } else { &sizes });
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&packed);
        if behind {
            out.extend_from_slice(b"PK\x07\x08");
            out.extend_from_slice(&sizes);
        }
    }
    out.extend_from_slice(b"PK\x05\x06");
    out.resize(out.len() + 18, 0);
    out
}

#[test]
fn archives_are_read_member_by_member_and_what_is_no_text_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let elf: Vec<u8> = (0..4000u32).map(|i| (i * 7 % 32) as u8).collect();
    let old = gzip(b"three\nfour\n");
    let members: [(&str, &[u8]); 4] =
        [("a/one.log", b"one\ntwo"), ("a/core", &elf), ("a/.hidden", b"no\n"), ("a/old.log.gz", &old)];
    let archives = [
        ("logs.tar", tar(&members)),
        ("logs.tgz", gzip(&tar(&members))),
        ("logs.zip", zip(&members, false)),
        ("logs2.zip", zip(&members, true)),
    ];
    for (name, content) in archives {
        let (lines, mut log) = read(vec![file(folder.path(), name, &content)]).unwrap();
        assert_eq!(lines, ["one", "two", "three", "four"], "{name}");
        assert!(log.warnings[0].contains("its member a/core is binary"), "{name} {:?}", log.warnings);
        assert_eq!(fetched(&mut log, &[2, 4]), ["two", "four"], "{name}");
    }
}

#[test]
fn a_broken_member_in_the_middle_and_a_truncated_archive_leave_what_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let broken = gzip(&numbered(0..2_000));
    let members: [(&str, &[u8]); 3] =
        [("a.log", b"one\n"), ("b.log.gz", &broken[..broken.len() / 2]), ("c.log", b"last\n")];
    for (name, content) in [("b.tar", tar(&members)), ("b.zip", zip(&members, true))] {
        let (lines, log) = read(vec![file(folder.path(), name, &content)]).unwrap();
        assert_eq!((lines[0].as_str(), lines.last().map(String::as_str)), ("one", Some("last")), "{name}");
        assert!(log.warnings[0].contains("b.log.gz could not be read to its end"), "{:?}", log.warnings);
        let cut = &content[..content.len() - 1_040];
        let (lines, log) = read(vec![file(folder.path(), name, cut)]).unwrap();
        assert_eq!(lines[0], "one");
        assert!(!log.warnings.is_empty(), "{name}");
    }
    let mut wrong = zip(&[("a.log", b"one\ntwo\n"), ("b.log", b"three\n")], false);
    wrong[14] ^= 1;
    let (lines, log) = read(vec![file(folder.path(), "w.zip", &wrong)]).unwrap();
    assert_eq!(lines, ["one", "two", "three"]);
    assert!(log.warnings[0].contains("another checksum"), "{:?}", log.warnings);
}

#[test]
fn archives_in_archives_end_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = zip(&[("a.log", b"deep\n")], false);
    for depth in 0..5 {
        archive = zip(&[("inner.zip", archive.as_slice()), ("b.log", b"x\n")], depth % 2 == 0);
    }
    let (lines, log) = read(vec![file(folder.path(), "nested.zip", &archive)]).unwrap();
    assert!(lines.iter().all(|line| line == "x") && lines.len() == 3, "{lines:?}");
    assert!(log.warnings[0].contains("inner.zip lies in more than 3 archives"), "{:?}", log.warnings);
}

#[test]
fn what_lzop_and_snappy_packed_is_read() {
    use base64::Engine;
    let folder = tempfile::tempdir().unwrap();
    // Of lzop 1.04.
    let packed = base64::engine::general_purpose::STANDARD.decode(LZOP).unwrap();
    let (lines, log) = read(vec![file(folder.path(), "t.lzo", &packed)]).unwrap();
    let expected: Vec<String> = (0..40)
        .map(|n| format!("2025-11-21 10:00:{n:02} INFO request req-{n} took {} ms", n * 7 % 90))
        .collect();
    assert_eq!((lines, log.warnings.len()), (expected.clone(), 0));
    let mut wrong = packed.clone();
    wrong[100] ^= 0x10;
    let error = read(vec![file(folder.path(), "w.lzo", &wrong)]).err().unwrap();
    assert!(error.message.contains("damaged lzop"), "{error}");
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(expected.join("\n").as_bytes()).unwrap();
    let (lines, _) = read(vec![file(folder.path(), "t.sz", &encoder.into_inner().unwrap())]).unwrap();
    assert_eq!(lines, expected);
}

#[test]
fn what_does_not_exist_or_may_not_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.log");
    let error = find_logs(&missing, &Limits::default()).err().unwrap();
    assert!(error.kind == Kind::NotFound && error.message.contains("missing.log"), "{error}");
    let error = find_logs(folder.path(), &Limits::default()).err().unwrap();
    assert!(error.message.contains("folder without logs"), "{error}");
    let error = read(vec![Source::path(folder.path())]).err().unwrap();
    assert!(error.message.contains("folder where a file"), "{error}");
}

#[test]
fn a_folder_is_read_in_the_order_of_writing_and_what_is_no_log_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "app.log", b"newest\n");
    file(folder.path(), "app.log.1", b"older\n");
    file(folder.path(), "app.log.2.gz", &gzip(b"oldest\n"));
    file(folder.path(), "other.log", &[0; 100]);
    file(folder.path(), "image.png", &[0; 100]);
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.log")).unwrap();
    let (lines, log) = read(find_logs(folder.path(), &Limits::default()).unwrap()).unwrap();
    assert_eq!(lines, ["oldest", "older", "newest"]);
    assert!(log.warnings.len() == 1 && log.warnings[0].contains("other.log is binary"), "{:?}", log.warnings);

    let few = Limits { files: 2, ..Limits::default() };
    assert!(find_logs(folder.path(), &few).err().unwrap().message.contains("more than 2 logs"));
}

#[test]
fn what_is_appended_while_it_is_read_is_not_looked_at_and_a_shrunk_file_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    std::fs::write(&path, numbered(0..100_000)).unwrap();
    let mut reader = LogReader::new(vec![Source::path(&path)], Limits::default(), Watch::silent());
    reader.peek(1).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"late\n").unwrap();
    let mut last = Vec::new();
    let log = read_batches(
        reader,
        |_| {},
        |batch| {
            last = batch.line(batch.len() - 1).to_vec();
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((log.lines, last.as_slice()), (100_000, b"line 99999".as_slice()));

    let mut reader = LogReader::new(vec![Source::path(&path)], Limits::default(), Watch::silent());
    reader.peek(1).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let log = read_batches(reader, |_| {}, |_| Ok(())).unwrap();
    assert!(log.warnings[0].contains("got shorter"), "{:?}", log.warnings);
}

#[test]
fn a_file_that_was_replaced_after_reading_shows_no_foreign_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut log) = read(vec![file(folder.path(), "app.log", b"mine\n")]).unwrap();
    file(folder.path(), "new.log", b"somebody else's\n");
    std::fs::rename(folder.path().join("new.log"), folder.path().join("app.log")).unwrap();
    assert!(fetched(&mut log, &[1]).is_empty());
}

#[test]
fn a_line_of_a_hundred_megabytes_is_cut_and_said_so() {
    let long = std::io::Read::take(std::io::repeat(b'x'), 100 << 20);
    let stream = std::io::Read::chain(long, &b"\nshort\n"[..]);
    let (lines, mut log) = read(vec![Source::stream("-", stream)]).unwrap();
    assert_eq!((lines.len(), lines[0].len(), lines[1].as_str()), (2, 64 << 10, "short"));
    assert!(log.warnings[0].contains("1 lines are longer than 65536 bytes"), "{:?}", log.warnings);
    assert_eq!(fetched(&mut log, &[2]), ["short"]);
}

#[test]
fn a_full_spool_loses_the_text_of_later_lines_and_says_so() {
    let limits = Limits { spool_bytes: 0, ..Limits::default() };
    let (lines, mut log) = read_with(vec![Source::stream("-", &b"a\nb\n"[..])], limits).unwrap();
    assert_eq!(lines.len(), 2);
    assert!(fetched(&mut log, &[1]).is_empty());
    assert!(log.warnings[0].contains("cannot be shown"), "{:?}", log.warnings);
}

#[test]
fn an_empty_log_is_empty_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, log) = read(vec![file(folder.path(), "empty.log", b"")]).unwrap();
    assert!(lines.is_empty() && log.warnings[0].contains("is empty"));
    assert_eq!(read(vec![Source::text("text", "")]).unwrap().1.lines, 0);
}

#[test]
fn reading_stops_when_somebody_asks() {
    let watch = Watch::silent();
    watch.cancel.cancel();
    let endless = Source::stream("-", std::io::repeat(b'\n'));
    let reader = LogReader::new(vec![endless], Limits::default(), watch);
    let error = read_batches(reader, |_| {}, |_| Ok(())).err().unwrap();
    assert_eq!(error.kind, Kind::Cancelled);
}

/// Forty lines, packed by lzop.
const LZOP: &str = "\
    iUxaTwANChoKEEAgoAlAAQUDAAABAACBpGd0hYAAAAAABXQubG9nVDkGUgAAB+cAAAHzAkoZSQwyMDI1LTExLTIxIDEwOjBo\
    AAogSU5GTyByZXF1ZXN0fAAKLTAgdG9vayAwIG1zCjDBADEwwQAxoQY3NMEAMjDBADKiBjE0NMUAMzDFADOmBjIxNMUANDDF\
    ADTFBjg0xQA1MMUANaYGMzU0xQA2MMUANqYGNDI0xQA3MMUAN8UGOTTFADgwxQA4pgY1NjTFADkwxQA5pgY2MzPGADEwMMUA\
    Mck+NzTNBzEyzAfwPjTVBzEx1Qcx2T44NNkHMTHZBzHcPjTZBzEx2Qcx3D402QcxMdkHMd0+MTTdBzEx3QcxwT8yNOEHMTHh\
    BzHFPzI05QcxMeUHMck/MzTpBzEx6QcxzT80NO0HMjHtBzLNPzU07QcyMe0HMs0/NTTtBzIx7QcyzT82NO0HMjHtBzLNPzc0\
    8QcyMfEHMtE/NzT1BzIx9Qcy1T84NPUHMjH1BzL0PzN9DTIx8Qcy0D807QcyMe0HMs0/MTTtBzIx7QcyzT8yNO0HMzHtBzPN\
    PzM07QczMe0HM80/MzTtBzMx7QczzT80NO0HMzHtBzPNPzU07QczMe0HM80/NTTtBzMx7QczzT82NO0HMzHtBzPNPzc05Q8z\
    MfEHM9E/NzT1BzMx9Qcz1T84NPUHMyr0BwACc3QgcmVxLTM5IHRvb2sgMyBtcwoRAAAAAAAA";
