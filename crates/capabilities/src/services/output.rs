//! What services and containers wrote, for who reads it as a log.

use std::fs::File;

use futures_util::stream::BoxStream;
use opsroom_core::{Error, Kind as ErrorKind, Result};

use super::Services;
use super::model::{Desired, Kind, Service};
use super::runtime::Piece;
use super::store::Listing;

/// Whose output is meant.
#[derive(Clone, Debug)]
pub enum Writers {
    /// Services of these teams; with a name or a number this one alone.
    Services {
        /// The teams.
        teams: Vec<String>,
        /// The one.
        one: Option<String>,
    },
    /// Containers of the engine that no Opsroom made.
    Containers {
        /// What their name is like: `*` stands for any text.
        name: Option<String>,
        /// What each of them has: a label, as `name` or `name=value`.
        labels: Vec<String>,
        /// What the names of those that may be read are like.
        allowed: Vec<String>,
    },
}

/// Something that writes.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Its name.
    pub name: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Container(String),
    Local(i64),
}

/// What was written.
pub enum Written {
    /// Pieces, each with its time.
    Pieces(BoxStream<'static, Result<Piece>>),
    /// Lines in a file, which has no times but those of the lines.
    File(File),
}

impl Services {
    /// Those who write, by name.
    ///
    /// # Errors
    /// `NotFound` for a service that is not there, `Conflict` for one that writes elsewhere, `Unavailable` when
    /// the engine does not answer.
    pub async fn writers(&self, of: &Writers) -> Result<Vec<Writer>> {
        let mut found = match of {
            Writers::Services { teams, one } => self.of_services(teams, one.as_deref()).await?,
            Writers::Containers { name, labels, allowed } => {
                self.of_containers(name.as_deref(), labels, allowed).await?
            }
        };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn of_services(&self, teams: &[String], one: Option<&str>) -> Result<Vec<Writer>> {
        let inner = &self.inner;
        if let Some(one) = one {
            let it = inner.store.find(one, Some(teams)).await?.ok_or_else(|| {
                Error::not_found(format!(
                    "there is no service `{}`; `list_services` shows those there are",
                    one.escape_debug()
                ))
            })?;
            return self.writer(&it).await?.map(|writer| vec![writer]).ok_or_else(|| {
                Error::conflict(format!(
                    "`{}` writes nothing that can be read here: it is at a URL, on another machine, or was never started",
                    it.name
                ))
            });
        }
        let (all, _) = inner.store.list(teams, &Listing { limit: 10_000, ..Listing::default() }).await?;
        let mut found = Vec::new();
        for it in all.iter().filter(|it| it.desired != Desired::Removed) {
            found.extend(self.writer(it).await?);
        }
        Ok(found)
    }

    async fn writer(&self, it: &Service) -> Result<Option<Writer>> {
        let place = match it.kind {
            Kind::Docker if it.node == self.inner.node => {
                self.inner.engine.container_of(it).await?.map(Place::Container)
            }
            Kind::Local if it.node == self.inner.node => Some(Place::Local(it.id)),
            _ => None,
        };
        Ok(place.map(|place| Writer { name: it.slug.clone(), place }))
    }

    async fn of_containers(
        &self,
        name: Option<&str>,
        labels: &[String],
        allowed: &[String],
    ) -> Result<Vec<Writer>> {
        let all = self.inner.engine.every_container().await?;
        let meant = |it: &super::runtime::Container| {
            let labelled = |wanted: &String| match wanted.split_once('=') {
                Some((name, value)) => it.labels.get(name).is_some_and(|own| own == value),
                None => it.labels.contains_key(wanted),
            };
            // What an Opsroom made is a service, and its team's.
            !it.ours
                && allowed.iter().any(|pattern| is_like(pattern, &it.name))
                && name.is_none_or(|pattern| is_like(pattern, &it.name))
                && labels.iter().all(labelled)
        };
        let writer = |it: super::runtime::Container| Writer { name: it.name, place: Place::Container(it.id) };
        Ok(all.into_iter().filter(meant).map(writer).collect())
    }

    /// What one of them wrote, about from `since` until `until` (seconds since 1970; 0 for no end).
    ///
    /// # Errors
    /// `NotFound` when it is gone, `Unavailable` when the engine does not answer.
    pub async fn written(&self, writer: &Writer, since: i64, until: i64) -> Result<Written> {
        match &writer.place {
            Place::Container(id) => self.inner.engine.output(id, since, until).await.map(Written::Pieces),
            Place::Local(id) => {
                let path = self.inner.folder(*id)?.join("stderr.log");
                match File::open(&path) {
                    Ok(file) => Ok(Written::File(file)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
                        ErrorKind::NotFound,
                        format!("`{}` has written nothing yet", writer.name),
                    )),
                    Err(error) => Err(Error::unavailable("what it wrote cannot be read").because(error)),
                }
            }
        }
    }
}

/// Whether a name is as a pattern with `*` says.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn a_star_stands_for_any_text_and_all_else_for_itself() {
        for (pattern, name, like) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("web", "Web", false),
            ("web-*", "web-1", true),
            ("*", "", true),
            ("*-db-*", "shop-db-1", true),
            ("a*a", "a", false),
            ("*x*x", "x", false),
            ("", "web", false),
        ] {
            assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
        }
    }
}
