//! Which files of a folder are logs, and in which order they were written.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use opsroom_core::{Error, Result};

use super::Limits;
use super::source::{Source, cannot_open};

/// Endings of names of logs, once packing and rotation are taken off.
const LOG_ENDINGS: [&str; 8] = ["log", "logs", "txt", "out", "err", "jsonl", "ndjson", "trace"];
/// Names of logs that have no ending.
const LOG_NAMES: [&str; 12] = [
    "syslog", "messages", "secure", "dmesg", "stdout", "stderr", "maillog", "cron", "boot", "kern", "auth",
    "daemon",
];

/// The sources that a path names: the file itself, or the logs below the folder, the oldest first.
pub fn find_logs(path: &Path, limits: &Limits) -> Result<Vec<Source>> {
    let name = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|error| cannot_open(&name, &error))?;
    if !meta.is_dir() {
        return Ok(vec![Source::path(path)]);
    }
    let mut walk = Walk { limits, files: Vec::new(), seen: 0 };
    walk.folder(path, 0)?;
    if walk.files.is_empty() {
        return Err(Error::not_found(format!(
            "{name} is a folder without logs: looked at {} files for names such as app.log, app.log.1.gz or \
             syslog; name other files themselves",
            walk.seen
        )));
    }
    walk.files.sort_by(|a, b| in_order(a, b));
    Ok(walk.files.iter().map(|file| Source::path(file).found()).collect())
}

struct Walk<'a> {
    limits: &'a Limits,
    files: Vec<PathBuf>,
    seen: usize,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let name = folder.display().to_string();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            // A folder below that nobody may enter is no reason to give up the others.
            Err(_) if depth > 0 => return Ok(()),
            Err(error) => return Err(cannot_open(&name, &error)),
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            // Links are not followed: they could lead out of the folder, or round in it.
            if file_name.starts_with('.') || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() && depth < self.limits.depth {
                self.folder(&entry.path(), depth + 1)?;
            } else if kind.is_file() {
                self.seen += 1;
                if is_log_like(&file_name) {
                    self.add(entry.path(), &name)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, file: PathBuf, folder: &str) -> Result<()> {
        if self.files.len() >= self.limits.files {
            return Err(Error::invalid(format!(
                "{folder} has more than {} logs below it: name a smaller folder or the files",
                self.limits.files
            )));
        }
        self.files.push(file);
        Ok(())
    }
}

/// Whether a file of this name in a folder is taken for a log.
pub fn is_log_like(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = Rotated::parse(&name).stem;
    match stem.rsplit_once('.') {
        Some((_, ending)) if LOG_ENDINGS.contains(&ending) => true,
        Some(_) => false,
        None => LOG_NAMES.contains(&stem) || stem.ends_with("log"),
    }
}

/// The order in which two logs were written, by their names.
pub(super) fn in_order(a: &Path, b: &Path) -> Ordering {
    let folder = natural(&lossy(a.parent()), &lossy(b.parent()));
    folder.then_with(|| {
        let (a, b) = (lossy(a.file_name().map(Path::new)), lossy(b.file_name().map(Path::new)));
        let (one, other) = (Rotated::parse(&a), Rotated::parse(&b));
        let age = one.age.cmp(&other.age);
        natural(one.stem, other.stem).then(age).then_with(|| natural(&a, &b))
    })
}

/// Whether two paths name files of one rotated log.
pub(super) fn are_of_one(a: &str, b: &str) -> bool {
    let (a, b) = (Path::new(a), Path::new(b));
    let name = |path: &Path| lossy(path.file_name().map(Path::new));
    a.parent() == b.parent() && Rotated::parse(&name(a)).stem == Rotated::parse(&name(b)).stem
}

fn lossy(path: Option<&Path>) -> String {
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A name without what packing and rotation added to it.
#[derive(Debug, PartialEq)]
struct Rotated<'a> {
    stem: &'a str,
    age: Age<'a>,
}

/// When a rotated file was written, compared to the others of its stem: the oldest is the smallest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age<'a> {
    /// By its date.
    Dated(&'a str),
    /// By its number: the higher, the older.
    Numbered(std::cmp::Reverse<u32>),
    /// The one that is being written.
    Current,
}

impl<'a> Rotated<'a> {
    fn parse(name: &'a str) -> Self {
        let mut stem = name;
        for packing in [".gz", ".zst", ".zstd", ".gzip"] {
            stem = stem.strip_suffix(packing).unwrap_or(stem);
        }
        let Some(at) = stem.rfind(['.', '-']).filter(|&at| at > 0) else {
            return Self { stem, age: Age::Current };
        };
        let suffix = &stem[at + 1..];
        let digits = !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit());
        if digits && suffix.len() <= 4 && stem.as_bytes()[at] == b'.' {
            let number = suffix.parse().unwrap_or(u32::MAX);
            return Self { stem: &stem[..at], age: Age::Numbered(std::cmp::Reverse(number)) };
        }
        match dated(stem) {
            Some((before, date)) => Self { stem: before, age: Age::Dated(date) },
            None => Self { stem, age: Age::Current },
        }
    }
}

/// `app.log-20260131` and `app.log.2026-01-31` in two parts.
fn dated(stem: &str) -> Option<(&str, &str)> {
    let date = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'T');
    let length = stem.bytes().rev().take_while(|&byte| date(byte)).count();
    let text = stem[stem.len() - length..].trim_start_matches(['-', '_', 'T']);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let before = stem[..stem.len() - text.len()].trim_end_matches(['.', '-', '_']);
    (digits >= 6 && !before.is_empty()).then_some((before, text))
}

/// Compares texts with the numbers in them taken as numbers: `app2` comes before `app10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(&one), Some(&other)) = (a.first(), b.first()) {
        let order = if one.is_ascii_digit() && other.is_ascii_digit() {
            let (left, right) = (take_number(&mut a), take_number(&mut b));
            left.len().cmp(&right.len()).then(left.cmp(right))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            one.cmp(&other)
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    let zeros = number.iter().take_while(|&&byte| byte == b'0').count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut paths: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        paths.sort_by(|a, b| in_order(a, b));
        paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn rotated_logs_come_in_the_order_they_were_written() {
        let names = ["app.log", "app.log.1", "app.log.10.gz", "app.log.2.gz"];
        assert_eq!(sorted(&names), ["app.log.10.gz", "app.log.2.gz", "app.log.1", "app.log"]);
        let names = ["app.log", "app.log-20260102.gz", "app.log-20251231.gz"];
        assert_eq!(sorted(&names), ["app.log-20251231.gz", "app.log-20260102.gz", "app.log"]);
        let names = ["app.log", "app.log.2026-01-02", "app.log.2025-12-31"];
        assert_eq!(sorted(&names), ["app.log.2025-12-31", "app.log.2026-01-02", "app.log"]);
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        assert_eq!(sorted(&["web10.log", "web9.log", "a/z.log"]), ["web9.log", "web10.log", "a/z.log"]);
        assert_eq!(sorted(&["web2.log", "web.log", "web02b.log"]), ["web.log", "web2.log", "web02b.log"]);
    }

    #[test]
    fn logs_are_told_from_other_files() {
        for name in [
            "app.log",
            "app.log.3.gz",
            "app.log-20260101.zst",
            "syslog",
            "syslog.1",
            "err.txt",
            "catalina.out",
        ] {
            assert!(is_log_like(name), "{name}");
        }
        for name in ["app.log_structured.csv", "readme.md", "core.1234", "data.tar.gz", "license", "x.png"] {
            assert!(!is_log_like(name), "{name}");
        }
    }
}
