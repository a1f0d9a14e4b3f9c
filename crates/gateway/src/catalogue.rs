//! What the upstream services offer, as they last said it: tools, prompts, resources, their era and health.
//!
//! A [`Catalogue`] is a snapshot: [`crate::Gateway::catalogue`] gives a `watch` of them. A service that does
//! not answer keeps its last known lists, marked stale.

use std::sync::Arc;

use opsroom_core::Time;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The longest name of a tool that every client takes.
pub const LONGEST_NAME: usize = 64;

/// Every service's lists.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The services, by name.
    pub services: Vec<Arc<Service>>,
}

impl Catalogue {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        let at = self.services.binary_search_by(|service| service.name.as_str().cmp(name)).ok()?;
        self.services.get(at)
    }
}

/// Which revision of the protocol a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25, with a handshake.
    Legacy,
    /// 2026-07-28, without.
    Modern,
}

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// It answered the last time.
    Reachable,
    /// It does not answer; its lists are what it said before.
    Unreachable {
        /// Since when.
        since: Time,
        /// What went wrong the last time, for people.
        error: String,
    },
}

/// One service's lists.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its team.
    pub team: String,
    /// The era it speaks; `None` until it answered once.
    pub era: Option<Era>,
    /// The revision of the protocol that was agreed on; empty until it answered once.
    pub version: String,
    /// How it is.
    pub health: Health,
    /// When its lists were read; `None` when they never were.
    pub listed_at: Option<Time>,
    /// What it says about itself (`serverInfo`), as JSON.
    pub info: Option<Arc<RawValue>>,
    /// What it tells agents.
    pub instructions: Option<String>,
    /// Its capabilities, as JSON.
    pub capabilities: Option<Arc<RawValue>>,
    /// Its tools, in its own order.
    pub tools: Vec<Arc<Tool>>,
    /// The tools that it lists and that cannot be offered, each with the reason; at most a few.
    pub left_out: Vec<(String, &'static str)>,
    /// Its prompts.
    pub prompts: Vec<Arc<Entry>>,
    /// Its resources.
    pub resources: Vec<Arc<Entry>>,
    /// Its resource templates.
    pub templates: Vec<Arc<Entry>>,
}

impl Service {
    /// A service that has not answered yet.
    pub fn unknown(name: &str, team: &str) -> Self {
        Self {
            name: name.to_owned(),
            team: team.to_owned(),
            era: None,
            version: String::new(),
            health: Health::Unknown,
            listed_at: None,
            info: None,
            instructions: None,
            capabilities: None,
            tools: Vec::new(),
            left_out: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
        }
    }
}

/// A tool as its service defines it.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The name that the service gives it.
    pub name: String,
    /// The definition, byte for byte as the service sent it.
    pub definition: Arc<RawValue>,
    /// SHA-256 of the definition in canonical form (members sorted, no spaces), in hexadecimal: what is
    /// pinned. `_meta` is no part of it.
    pub hash: String,
    /// Whether the service says that it changes nothing (`readOnlyHint`).
    pub read_only: bool,
    /// Whether the service says that calling it twice does no more than once (`idempotentHint`).
    pub idempotent: bool,
    /// The arguments that a client repeats in headers: `(header, path to the argument)` of `x-mcp-header`.
    pub headers: Vec<(String, Vec<String>)>,
}

/// A prompt, a resource or a template.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The prompt's name, the resource's URI, the template's pattern.
    pub key: String,
    /// The definition as the service sent it.
    pub definition: Arc<RawValue>,
}

/// The name by which a service's tool or prompt is known beside those of others: `{service}__{tool}`,
/// at most 64 characters. A longer one is cut, and ends in eight digits of a hash of the whole, so that it
/// is the same every time and no two tools share it.
pub fn exposed_name(service: &str, tool: &str) -> String {
    let whole = format!("{service}__{tool}");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if whole.len() <= LONGEST_NAME && whole.chars().all(plain) {
        return whole;
    }
    let digest = opsroom_core::id::hex(&Sha256::digest(whole.as_bytes())[..4]);
    let kept: String = whole.chars().map(|c| if plain(c) { c } else { '_' }).take(LONGEST_NAME - 9).collect();
    format!("{kept}_{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_name_is_short_plain_and_stable() {
        assert_eq!(exposed_name("github", "create_issue"), "github__create_issue");
        let long = exposed_name("a-service-with-a-name", &"x".repeat(100));
        assert_eq!(long.len(), LONGEST_NAME);
        assert_eq!(long, exposed_name("a-service-with-a-name", &"x".repeat(100)));
        assert_ne!(long, exposed_name("a-service-with-a-name", &"x".repeat(101)));
        let odd = exposed_name("files", "read.file/ü");
        assert!(odd.starts_with("files__read_file___"), "{odd}");
        assert_ne!(odd, exposed_name("files", "read_file/ü"));
    }
}
