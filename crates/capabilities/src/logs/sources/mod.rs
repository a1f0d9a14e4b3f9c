//! Sources: where logs lie that are not ours, and reading them there.
//!
//! # Words
//!
//! - A *source* is a place with a name: a bucket, a folder, the files below a URL.
//! - An *object* is one thing in it; its *key* is its name there.
//!
//! # Invariants
//!
//! - A source's keys are references to secrets, looked up when they are used.
//! - All that is asked for over a network goes through the one way out, whose rules say which places may be
//!   reached; of containers only those are read that the configuration allows, and services only by their team.
//! - What an object was when it was listed is what is read, or reading ends with an error.

mod client;
mod crc;
mod download;
mod index;
mod listing;
mod model;
pub(super) mod operations;
mod pattern;
mod programs;
mod put;
mod ranged;
mod reader;
mod sftp;
mod sign;
pub(super) mod store;
mod xml;

use std::sync::Arc;

use opsroom_core::egress::Egress;
use opsroom_core::files::Roots;
use opsroom_core::resolver::{Purpose, Resolver};
use opsroom_core::secret::Secret;
use opsroom_core::{Call, Clock, Error, Result};

pub use model::{Object, SourceConfig, SourceKind};
pub use operations::SourceRange;
pub(crate) use store::tables;

use client::Remote;
use programs::Programs;
use sign::Credentials;
use store::{SourceRow, SourceStore};

use crate::services::Services;

/// What is needed to reach sources. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub(super) store: SourceStore,
    pub(super) egress: Egress,
    pub(super) secrets: Resolver,
    pub(super) roots: Roots,
    pub(super) clock: Clock,
    /// Where downloads lie until they are whole.
    pub(super) spool: Arc<std::path::PathBuf>,
    /// Who has services and the engine, and the containers that may be read.
    pub(super) programs: Option<(Services, Arc<[String]>)>,
}

/// A source that can be read.
#[derive(Clone)]
pub(super) enum Reached {
    /// Over HTTP or SSH.
    Remote(Box<Remote>),
    /// A folder below the roots.
    Folder(Roots, String),
    /// What containers or services write.
    Programs(Programs),
}

impl Sources {
    /// The caller's source of this name.
    pub(super) async fn named(&self, call: &Call, name: &str) -> Result<SourceRow> {
        self.store.named(&call.caller.teams, name).await?.ok_or_else(|| {
            Error::not_found(format!(
                "there is no log source `{}`; `list_log_sources` names them",
                name.escape_debug()
            ))
        })
    }

    /// Who has services and the engine, and the containers that may be read.
    pub(super) fn programs(&self) -> Result<&(Services, Arc<[String]>)> {
        self.programs.as_ref().ok_or_else(|| Error::unavailable("no containers and services are known here"))
    }

    /// The source, with its credentials looked up.
    pub(super) async fn reach(&self, row: &SourceRow) -> Result<Reached> {
        let config = &row.config;
        if config.kind == SourceKind::Folder {
            return Ok(Reached::Folder(self.roots.clone(), config.path.clone().unwrap_or_default()));
        }
        if matches!(config.kind, SourceKind::Docker | SourceKind::Service) {
            let (services, allowed) = self.programs()?;
            let of = programs::writers(config, &row.team, allowed);
            return Ok(Reached::Programs(Programs {
                services: services.clone(),
                of,
                now: self.clock.now().0,
            }));
        }
        let user = format!("log source:{}", row.name);
        let purpose = Purpose { team: &row.team, owner: &row.created_by, user: &user };
        let value = async |text: &Option<String>| -> Result<Option<Secret>> {
            match text {
                Some(text) => self.secrets.value(text, purpose).await.map(Some),
                None => Ok(None),
            }
        };
        let credentials = match (value(&config.access_key_id).await?, value(&config.secret_access_key).await?)
        {
            (Some(id), Some(key)) => Some(Credentials {
                id: id.expose().trim().to_owned(),
                key: Secret::new(key.expose().trim()),
                token: value(&config.session_token).await?,
            }),
            _ => None,
        };
        Ok(Reached::Remote(Box::new(Remote {
            config: config.clone(),
            credentials,
            egress: self.egress.clone(),
            clock: self.clock.clone(),
            line: sftp::Line::default(),
        })))
    }
}
