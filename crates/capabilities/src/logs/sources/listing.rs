//! What lies in a source: by prefix, and by time where keys tell it.

use std::collections::HashSet;

use opsroom_core::{Error, Result};

use super::model::{Object, check_key};
use super::pattern::KeyPattern;
use super::{Reached, SourceConfig};
use crate::logs::entry::{shown_time, time_of_text};
use crate::logs::input::Watch;

/// The most objects that are listed at once.
pub(super) const MOST_OBJECTS: usize = 100_000;
/// The most entries of folders that are looked at.
const MOST_ENTRIES: usize = 200_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What keys begin with, after the source's own prefix.
    pub prefix: String,
    /// From when, microseconds since 1970.
    pub from: Option<i64>,
    /// Until when, not included.
    pub until: Option<i64>,
    /// The most objects.
    pub limit: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub objects: Vec<Object>,
    /// Whether there are more.
    pub more: bool,
    pub warnings: Vec<String>,
    /// How many requests the listing took.
    pub requests: u64,
}

impl Reached {
    /// Lists what is asked for, in the order of the keys.
    pub async fn find(&self, config: &SourceConfig, asked: &Asked, watch: &Watch) -> Result<Found> {
        let prefix = format!("{}{}", config.prefix.as_deref().unwrap_or_default(), asked.prefix);
        let pattern = config.key_pattern.as_deref().map(KeyPattern::parse).transpose()?;
        let prefixes = match (&pattern, asked.from, asked.until) {
            (Some(pattern), Some(from), Some(until)) => narrowed(pattern.prefixes(from, until), &prefix),
            _ => vec![prefix.clone()],
        };
        let mut finding = Finding {
            found: Found::default(),
            asked,
            pattern: pattern.as_ref(),
            prefix: &prefix,
            seen: HashSet::new(),
            odd: 0,
        };
        for prefix in prefixes {
            if finding.found.more {
                break;
            }
            match self {
                Reached::Folder(roots, path) => finding.folder(roots, path, &prefix, watch)?,
                Reached::Programs(programs) => {
                    let listed = programs.list().await?;
                    listed
                        .into_iter()
                        .filter(|it| it.key.starts_with(&prefix))
                        .for_each(|it| finding.add(it));
                }
                Reached::Remote(remote) => {
                    let mut next: Option<String> = None;
                    let mut tokens = HashSet::new();
                    loop {
                        watch.check()?;
                        let page = remote.list(&prefix, next.as_deref()).await?;
                        finding.found.requests += 1;
                        page.objects.into_iter().for_each(|object| finding.add(object));
                        watch.progress.report(None, format!("found {} objects", finding.found.objects.len()));
                        let Some(token) = page.next.filter(|_| !finding.found.more) else { break };
                        if !tokens.insert(token.clone()) {
                            return Err(Error::unavailable(
                                "the store's list goes round in circles; it cannot be trusted",
                            ));
                        }
                        next = Some(token);
                    }
                }
            }
        }
        let Finding { mut found, odd, .. } = finding;
        if odd > 0 {
            found.warnings.push(format!(
                "{odd} listed objects were left out: their keys lie outside the prefix, are listed twice, or could \
                 not be asked for"
            ));
        }
        found.objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// Prefixes of times, cut to those that lie within another prefix.
fn narrowed(times: Vec<String>, prefix: &str) -> Vec<String> {
    if times.is_empty() {
        return vec![prefix.to_owned()];
    }
    let mut kept: Vec<String> = times
        .into_iter()
        .filter_map(|time| match () {
            () if time.starts_with(prefix) => Some(time),
            () if prefix.starts_with(&time) => Some(prefix.to_owned()),
            () => None,
        })
        .collect();
    kept.dedup();
    kept
}

struct Finding<'a> {
    found: Found,
    asked: &'a Asked,
    pattern: Option<&'a KeyPattern>,
    prefix: &'a str,
    seen: HashSet<String>,
    /// Keys that should not be there.
    odd: usize,
}

impl Finding<'_> {
    fn add(&mut self, object: Object) {
        if object.key.ends_with('/') {
            return;
        }
        if !object.key.starts_with(self.prefix) || check_key(&object.key).is_err() {
            self.odd += 1;
            return;
        }
        if !self.within(&object) {
            return;
        }
        if self.found.objects.len() >= self.asked.limit.min(MOST_OBJECTS) {
            self.found.more = true;
            return;
        }
        if !self.seen.insert(object.key.clone()) {
            self.odd += 1;
            return;
        }
        self.found.objects.push(object);
    }

    /// Whether an object can hold lines of the range: by its key, else by when it was written, which is
    /// after its last line.
    fn within(&self, object: &Object) -> bool {
        let (from, until) = (self.asked.from.unwrap_or(i64::MIN), self.asked.until.unwrap_or(i64::MAX));
        if let Some((begin, end)) = self.pattern.and_then(|pattern| pattern.span(&object.key)) {
            return end > from && begin < until;
        }
        let written = object.modified.as_deref().and_then(time_of_text);
        written.is_none_or(|written| written >= from)
    }

    fn folder(
        &mut self,
        roots: &opsroom_core::files::Roots,
        path: &str,
        prefix: &str,
        watch: &Watch,
    ) -> Result<()> {
        let path = path.trim_end_matches('/');
        let mut waiting = vec![String::new()];
        let mut looked = 0;
        while let Some(folder) = waiting.pop() {
            watch.check()?;
            let at = if folder.is_empty() {
                path.to_owned()
            } else {
                format!("{path}/{}", folder.trim_end_matches('/'))
            };
            let listing = roots.list(&at, MOST_ENTRIES)?;
            self.found.requests += 1;
            looked += listing.entries.len();
            if listing.more || looked > MOST_ENTRIES {
                let looked = looked.min(MOST_ENTRIES);
                return Err(Error::invalid(format!(
                    "the folder has more than {looked} entries; give the prefix of a folder in it, or a source for a \
                     smaller one"
                )));
            }
            for entry in listing.entries {
                let key = format!("{folder}{}", entry.name);
                if entry.folder {
                    let key = format!("{key}/");
                    if key.starts_with(prefix) || prefix.starts_with(&key) {
                        waiting.push(key);
                    }
                } else if key.starts_with(prefix) {
                    self.add(Object {
                        key,
                        bytes: entry.bytes,
                        modified: Some(shown_time(entry.modified.saturating_mul(1_000_000))),
                        etag: None,
                        storage_class: None,
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_prefixes_narrow_each_other() {
        let hours = || vec!["app/2025/11/21/10/".to_owned(), "app/2025/11/21/11/".to_owned()];
        assert_eq!(narrowed(hours(), "app/"), hours());
        assert_eq!(narrowed(hours(), "app/2025/11/21/11/web"), ["app/2025/11/21/11/web"]);
        assert!(narrowed(hours(), "other/").is_empty());
        assert_eq!(narrowed(Vec::new(), "a"), ["a"]);
    }
}
