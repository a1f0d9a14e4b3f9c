//! A log file that is put aside when it is large: `app.log` becomes `app.log.1`, what was that becomes
//! `app.log.2`, and so on; the oldest goes.
//!
//! A line is never parted. Files that were put aside are compressed on a thread of their own, so that
//! who logs does not wait for it. When a file cannot be put aside, writing goes on in the one at hand:
//! a log that grows is better than none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;

pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    written: u64,
    /// When `written` reaches this the file is put aside.
    most: u64,
    max_bytes: u64,
    keep: u32,
    compress: bool,
    compressing: Option<JoinHandle<()>>,
}

impl RotatingFile {
    /// Goes on with the file that is there.
    pub fn open(path: &Path, max_bytes: u64, keep: u32, compress: bool) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        if path.metadata().is_ok_and(|state| !state.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = append(path)?;
        let written = file.metadata()?.len();
        let path = path.to_owned();
        Ok(Self { path, file, written, most: max_bytes, max_bytes, keep, compress, compressing: None })
    }

    /// `app.log.3`.
    fn aside(&self, number: u32) -> PathBuf {
        with_suffix(&self.path, &format!(".{number}"))
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.finish_compressing();
        for number in (1..=self.keep.saturating_add(1)).rev() {
            for suffix in ["", ".gz"] {
                let from = with_suffix(&self.aside(number), suffix);
                if number > self.keep.saturating_sub(1) {
                    absent_is_fine(std::fs::remove_file(&from))?;
                } else {
                    let to = with_suffix(&self.aside(number + 1), suffix);
                    absent_is_fine(std::fs::rename(&from, &to))?;
                }
            }
        }
        if self.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            std::fs::rename(&self.path, self.aside(1))?;
        }
        self.file = append(&self.path)?;
        self.written = 0;
        if self.compress && self.keep > 0 {
            let path = self.aside(1);
            // A file that could not be compressed stays as it is, and is moved on with the others.
            let thread = std::thread::Builder::new().name("log-compression".to_owned());
            self.compressing = thread.spawn(move || drop(compress(&path))).ok();
        }
        Ok(())
    }

    fn finish_compressing(&mut self) {
        if let Some(thread) = self.compressing.take() {
            // It does not panic, and there is nothing to do if it did.
            let _done = thread.join();
        }
    }
}

impl Write for RotatingFile {
    /// Writes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let after = self.written + line.len() as u64;
        if self.written > 0 && after > self.most {
            self.most = self.max_bytes;
            if self.put_aside().is_err() {
                // Tried again when the file has grown by as much once more.
                self.most = after.saturating_add(self.max_bytes);
            }
        }
        self.file.write_all(line)?;
        self.written += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.finish_compressing();
        self.file.sync_data()
    }
}

impl Drop for RotatingFile {
    fn drop(&mut self) {
        self.finish_compressing();
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Compresses a file beside itself, and then removes it.
fn compress(path: &Path) -> io::Result<()> {
    let part = with_suffix(path, ".gz.part");
    let done = with_suffix(path, ".gz");
    let mut from = File::open(path)?;
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    let copied = io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish()?.sync_data());
    if let Err(error) = copied {
        absent_is_fine(std::fs::remove_file(&part))?;
        return Err(error);
    }
    std::fs::rename(&part, &done)?;
    std::fs::remove_file(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn line(log: &mut RotatingFile, text: &str) {
        log.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_is_put_aside_by_whole_lines_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/app.log");
        let mut log = RotatingFile::open(&path, 20, 2, false).unwrap();
        for number in 0..9 {
            line(&mut log, &format!("line {number}"));
        }
        // Seven bytes a line: two lines fit.
        assert_eq!(names(path.parent().unwrap()), ["app.log", "app.log.1", "app.log.2"]);
        assert_eq!(text(&path), "line 8\n");
        assert_eq!(text(&log.aside(1)), "line 6\nline 7\n");
        assert_eq!(text(&log.aside(2)), "line 4\nline 5\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A line that is larger than a file is written all the same, alone.
        line(&mut log, &"x".repeat(50));
        assert_eq!(text(&path).len(), 51);
    }

    #[test]
    fn what_is_put_aside_is_compressed_and_a_restart_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        for round in 0..4 {
            let mut log = RotatingFile::open(&path, 20, 2, true).unwrap();
            for _ in 0..2 {
                line(&mut log, &format!("round {round}"));
            }
            log.flush().unwrap();
        }
        assert_eq!(names(folder.path()), ["app.log", "app.log.1.gz", "app.log.2.gz"]);
        let mut unpacked = String::new();
        let file = File::open(folder.path().join("app.log.1.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, "round 2\nround 2\n");
        assert_eq!(text(&path), "round 3\nround 3\n");
    }

    #[test]
    fn nothing_is_kept_when_none_shall_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let mut log = RotatingFile::open(&path, 20, 0, true).unwrap();
        for number in 0..5 {
            line(&mut log, &format!("line {number}"));
        }
        assert_eq!(names(folder.path()), ["app.log"]);
        assert_eq!(text(&path), "line 4\n");
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        // A folder in the place of the next name cannot be removed or renamed over.
        std::fs::create_dir_all(folder.path().join("app.log.1/full")).unwrap();
        let mut log = RotatingFile::open(&path, 20, 1, false).unwrap();
        for number in 0..9 {
            line(&mut log, &format!("line {number}"));
        }
        assert_eq!(text(&path).lines().count(), 9);
        assert!(RotatingFile::open(folder.path(), 20, 1, false).is_err());
    }
}
