//! Who calls, and what they may do.
//!
//! A *role* is a rung (viewer, operator, administrator); a *scope* narrows a key further. A call is
//! allowed when the role reaches what the operation needs and, where the caller has scopes, one of
//! them covers the operation. Scopes never widen a role.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::operation::{Effect, Operation};

/// The team of everything that was created without naming one.
pub const DEFAULT_TEAM: &str = "default";

/// How much a caller may do; each rung includes the ones below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and changes what the room works on.
    Operator,
    /// Everything, keys and accounts included.
    Administrator,
}

impl Role {
    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    /// The role that [`Role::as_str`] names.
    pub fn parse(word: &str) -> Option<Role> {
        [Role::Viewer, Role::Operator, Role::Administrator].into_iter().find(|role| role.as_str() == word)
    }
}

/// A part of what a role may do: `capability:action`, such as `logs:*`, `*:read` or
/// `detection:detect_anomalies`.
///
/// `capability` is a capability's name or `*`. `action` is an operation's name, an effect (`read`,
/// `reveal`, `write`, `destroy`) or `*`. `*` alone means `*:*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Scope {
    capability: String,
    action: String,
}

impl Scope {
    /// Whether this scope covers an action of that name and effect in that capability.
    pub fn covers(&self, capability: &str, action: &str, effect: Effect) -> bool {
        (self.capability == "*" || self.capability == capability)
            && (self.action == "*" || self.action == action || self.action == effect.as_str())
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let (capability, action) = match text.as_str() {
            "*" => ("*", "*"),
            other => other.split_once(':').unwrap_or(("", "")),
        };
        let word = |word: &str| {
            word == "*"
                || (!word.is_empty()
                    && word.len() <= 64
                    && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        if !word(capability) || !word(action) {
            return Err(Error::invalid(format!(
                "scope {text:?} is not `capability:action`, for example `logs:*`, `*:read` or `detection:detect_anomalies`"
            )));
        }
        Ok(Self { capability: capability.to_owned(), action: action.to_owned() })
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        format!("{}:{}", scope.capability, scope.action)
    }
}

/// By which face a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Face {
    /// Model Context Protocol.
    Mcp,
    /// HTTP.
    Rest,
    /// The command line.
    Cli,
    /// A schedule or the server itself.
    Schedule,
}

impl Face {
    /// The word used in the audit trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Face::Mcp => "mcp",
            Face::Rest => "rest",
            Face::Cli => "cli",
            Face::Schedule => "schedule",
        }
    }
}

/// Who is calling: proven by authentication, and carried by every call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What is kept in `created_by` and in the audit trail: `key:<id>`, `operator`, later `user:<id>`.
    pub subject: String,
    /// The name a person knows it by.
    pub name: String,
    /// The rung.
    pub role: Role,
    /// Narrows the role; `None` is the whole role.
    pub scopes: Option<Vec<Scope>>,
    /// The teams whose resources the caller may see; the first owns what it creates.
    pub teams: Vec<String>,
    /// By which face the call came.
    pub face: Face,
    /// The network address, where there is one.
    pub address: Option<String>,
    /// The request that the call came with, where there is one.
    pub request_id: Option<String>,
}

impl Caller {
    /// The owner of the data folder, who may do everything.
    pub fn operator(face: Face) -> Self {
        Self {
            subject: "operator".to_owned(),
            name: "operator".to_owned(),
            role: Role::Administrator,
            scopes: None,
            teams: vec![DEFAULT_TEAM.to_owned()],
            face,
            address: None,
            request_id: None,
        }
    }

    /// Somebody who showed no key: only open operations answer.
    pub fn anonymous(face: Face, address: Option<String>) -> Self {
        Self {
            subject: "anonymous".to_owned(),
            name: "anonymous".to_owned(),
            role: Role::Viewer,
            scopes: Some(Vec::new()),
            teams: Vec::new(),
            face,
            address,
            request_id: None,
        }
    }

    /// The team that owns what this caller creates.
    pub fn team(&self) -> &str {
        self.teams.first().map_or(DEFAULT_TEAM, String::as_str)
    }

    /// Whether the caller may see this operation at all.
    pub fn may(&self, operation: &Operation) -> bool {
        operation.open
            || self.role >= operation.role
                && self.covers(operation.capability, operation.name, operation.effect)
    }

    /// Refuses an operation that the caller may not call, saying what is missing.
    pub fn authorise(&self, operation: &Operation) -> Result<()> {
        if operation.open {
            return Ok(());
        }
        self.authorise_action(operation.capability, operation.name, operation.effect, operation.role)
    }

    /// The same for what is not an operation: a raw route such as a log receiver.
    pub fn authorise_action(&self, capability: &str, action: &str, effect: Effect, role: Role) -> Result<()> {
        if self.role < role {
            return Err(Error::forbidden(format!(
                "{action} needs the role {}; {} has {}",
                role.as_str(),
                self.name,
                self.role.as_str()
            )));
        }
        if !self.covers(capability, action, effect) {
            return Err(Error::forbidden(format!(
                "{action} needs a key with the scope `{capability}:{action}` or one that covers it"
            )));
        }
        Ok(())
    }

    fn covers(&self, capability: &str, action: &str, effect: Effect) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.iter().any(|scope| scope.covers(capability, action, effect)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_by_name_by_effect_or_by_star() {
        let covers = |scope: &str, capability: &str, action: &str, effect| {
            Scope::try_from(scope.to_owned()).unwrap().covers(capability, action, effect)
        };
        assert!(covers("*", "logs", "ingest_logs", Effect::Write));
        assert!(covers("logs:*", "logs", "ingest_logs", Effect::Write));
        assert!(covers("*:read", "logs", "search_logs", Effect::Read));
        assert!(covers("logs:search_logs", "logs", "search_logs", Effect::Read));
        assert!(!covers("*:read", "logs", "ingest_logs", Effect::Write));
        assert!(!covers("logs:*", "jobs", "get_job", Effect::Read));
    }

    #[test]
    fn a_scope_that_is_not_one_is_refused_with_an_example() {
        for text in ["", "logs", "logs:", ":read", "logs:READ", "logs:a b", "a:b:c"] {
            let error = Scope::try_from(text.to_owned()).unwrap_err();
            assert!(error.message.contains("for example"), "{text}");
        }
    }
}
