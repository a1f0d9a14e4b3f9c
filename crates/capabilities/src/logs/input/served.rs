//! Logs that a caller of the server names: below the configured roots, or inline.

use std::io;

use opsroom_core::files::Roots;
use opsroom_core::{Error, Kind, Result};

use super::Limits;
use super::folder::{in_order, is_log_like};
use super::order::in_time_order;
use super::source::Source;

/// Bytes of a text that may come inline.
pub const MOST_TEXT: usize = 64 << 20;
/// Entries of one folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// What a caller named: some paths, or a text.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Files and folders below the roots.
    pub paths: Vec<String>,
    /// A log inline.
    pub text: Option<String>,
}

impl Named {
    /// The sources, the oldest first.
    ///
    /// # Errors
    /// `Invalid` when both or neither were named, and the errors of what was named.
    pub fn sources(self, what: &str, roots: &Roots, limits: &Limits) -> Result<Vec<Source>> {
        match (self.paths.is_empty(), self.text) {
            (true, Some(text)) if text.len() > MOST_TEXT => Err(Error::invalid(format!(
                "`text` has {} bytes, at most {MOST_TEXT} come inline: name a file with `path`",
                text.len()
            ))),
            (true, Some(text)) => Ok(vec![Source::text(what, text)]),
            (false, Some(_)) => {
                Err(Error::invalid(format!("{what} is given both inline and by path: give one of them")))
            }
            (true, None) => Ok(Vec::new()),
            (false, None) => {
                let mut sources = Vec::new();
                for path in &self.paths {
                    sources.extend(below(path, roots, limits)?);
                }
                if sources.len() > limits.files {
                    let (found, most) = (sources.len(), limits.files);
                    return Err(Error::invalid(format!(
                        "{found} files are too many at once: at most {most}"
                    )));
                }
                // A folder's files have their order already.
                Ok(if self.paths.len() > 1 { in_time_order(sources, limits) } else { sources })
            }
        }
    }
}

/// The file of this path, or the logs below the folder of this path.
fn below(path: &str, roots: &Roots, limits: &Limits) -> Result<Vec<Source>> {
    let error = match roots.open_read(path) {
        Ok(_) => return Ok(vec![file(path, roots)]),
        Err(error) => error,
    };
    if error.kind != Kind::Invalid || path.is_empty() || roots.list(path, 1).is_err() {
        return Err(error);
    }
    let mut found = Vec::new();
    let mut seen = 0;
    walk(path.trim_end_matches('/'), roots, limits, 0, &mut found, &mut seen)?;
    if found.is_empty() {
        return Err(Error::not_found(format!(
            "`{path}` is a folder without logs: looked at {seen} files for names such as app.log, app.log.1.gz or \
             syslog; name other files themselves"
        )));
    }
    found.sort_by(|a: &String, b| in_order(a.as_ref(), b.as_ref()));
    Ok(found.iter().map(|path| file(path, roots).found()).collect())
}

fn walk(
    folder: &str,
    roots: &Roots,
    limits: &Limits,
    depth: usize,
    found: &mut Vec<String>,
    seen: &mut usize,
) -> Result<()> {
    let listing = roots.list(folder, MOST_ENTRIES)?;
    let too_many = || {
        Error::invalid(format!(
            "`{folder}` has more logs below it than are read at once ({}): name a smaller folder or the files",
            limits.files
        ))
    };
    if listing.more {
        return Err(too_many());
    }
    for entry in listing.entries {
        if entry.name.starts_with('.') {
            continue;
        }
        let path = if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
        if entry.folder {
            if depth < limits.depth {
                walk(&path, roots, limits, depth + 1, found, seen)?;
            }
            continue;
        }
        *seen += 1;
        if is_log_like(&entry.name) {
            found.push(path);
        }
        if found.len() > limits.files || *seen > MOST_ENTRIES {
            return Err(too_many());
        }
    }
    Ok(())
}

fn file(path: &str, roots: &Roots) -> Source {
    let (roots, path) = (roots.clone(), path.to_owned());
    Source::opened_by(path.clone(), move || {
        let opened = roots.open_read(&path).map_err(io::Error::other)?;
        Ok(opened.file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> (Roots, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/app/old")).unwrap();
        std::fs::write(folder.path().join("root/app/app.log"), "new\n").unwrap();
        std::fs::write(folder.path().join("root/app/app.log.1"), "old\n").unwrap();
        std::fs::write(folder.path().join("root/app/notes.md"), "no log\n").unwrap();
        std::fs::write(folder.path().join("secret.log"), "secret\n").unwrap();
        std::os::unix::fs::symlink("../../secret.log", folder.path().join("root/app/link.log")).unwrap();
        (Roots::new(&[folder.path().join("root")]).unwrap(), folder)
    }

    fn names(paths: &[&str]) -> Result<Vec<String>> {
        let (roots, _folder) = roots();
        let named = Named { paths: paths.iter().map(|path| (*path).to_owned()).collect(), text: None };
        let sources = named.sources("the log", &roots, &Limits::default())?;
        Ok(sources.into_iter().map(|source| source.name).collect())
    }

    #[test]
    fn a_folder_below_a_root_gives_its_logs_in_the_order_of_writing() {
        assert_eq!(names(&["app"]).unwrap(), ["app/app.log.1", "app/app.log"]);
        assert_eq!(names(&["app/app.log"]).unwrap(), ["app/app.log"]);
        assert_eq!(names(&["app/old"]).unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn what_lies_outside_the_roots_or_behind_a_link_is_refused() {
        for path in ["../secret.log", "/etc/passwd", "app/link.log", "app/../../secret.log"] {
            let error = names(&[path]).unwrap_err();
            assert!(matches!(error.kind, Kind::Forbidden | Kind::Invalid), "{path}: {error}");
        }
        assert_eq!(names(&["none.log"]).unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn a_text_and_a_path_together_are_refused_and_a_text_alone_is_read() {
        let (roots, _folder) = roots();
        let both = Named { paths: vec!["app".to_owned()], text: Some(String::new()) };
        assert!(both.sources("the log", &roots, &Limits::default()).err().unwrap().message.contains("both"));
        let text = Named { paths: Vec::new(), text: Some("a\n".to_owned()) };
        assert_eq!(text.sources("the log", &roots, &Limits::default()).unwrap().len(), 1);
    }
}
