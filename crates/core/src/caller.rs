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
/// `detection:detect_anomalies`, or a part of that: `capability:action:resource`, such as
/// `secrets:get_secret:db/*` or `tools:execute_tool:github__*`.
///
/// `capability` is a capability's name or `*`. `action` is an operation's name, an effect (`read`,
/// `reveal`, `write`, `destroy`) or `*`. `resource` is the name of what the operation works on, or the
/// beginning of it and `*`. `*` alone means `*:*`. With `!` before it, it takes away instead of giving, and
/// wins over every scope that gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Scope {
    deny: bool,
    capability: String,
    action: String,
    resource: Option<String>,
}

impl Scope {
    /// Whether this scope takes away.
    pub fn denies(&self) -> bool {
        self.deny
    }

    /// Whether this scope speaks of an action of that name and effect in that capability.
    pub fn covers(&self, capability: &str, action: &str, effect: Effect) -> bool {
        (self.capability == "*" || self.capability == capability)
            && (self.action == "*" || self.action == action || self.action == effect.as_str())
    }

    /// Whether this scope speaks of that resource.
    pub fn covers_resource(&self, name: &str) -> bool {
        match self.resource.as_deref() {
            None => true,
            Some(resource) => match resource.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == resource,
            },
        }
    }

    /// Whether it speaks of some resources only.
    pub fn is_partial(&self) -> bool {
        self.resource.is_some()
    }

    /// Whether whatever this scope speaks of, `outer` speaks of too, by its words.
    pub fn within(&self, outer: &Scope) -> bool {
        let word = |inner: &str, outer: &str| outer == "*" || outer == inner;
        let resource = match (self.resource.as_deref(), outer.resource.as_deref()) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => match outer.strip_suffix('*') {
                Some(beginning) => inner.starts_with(beginning),
                None => inner == outer,
            },
        };
        word(&self.capability, &outer.capability) && word(&self.action, &outer.action) && resource
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let (deny, words) = match text.strip_prefix('!') {
            Some(words) => (true, words),
            None => (false, text.as_str()),
        };
        let mut parts = if words == "*" { "*:*" } else { words }.splitn(3, ':');
        let (capability, action, resource) =
            (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
        let word = |word: &str| {
            word == "*"
                || (!word.is_empty()
                    && word.len() <= 64
                    && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        let name = |name: &str| {
            let middle = name.strip_suffix('*').unwrap_or(name);
            !name.is_empty()
                && name.len() <= 200
                && middle.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./@".contains(&b))
        };
        if !word(capability) || !word(action) || !resource.is_none_or(name) {
            return Err(Error::invalid(format!(
                "scope {text:?} is not `capability:action`, for example `logs:*`, `*:read`, \
                 `detection:detect_anomalies` or `secrets:get_secret:db/*`"
            )));
        }
        Ok(Self {
            deny,
            capability: capability.to_owned(),
            action: action.to_owned(),
            resource: resource.map(str::to_owned),
        })
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        let deny = if scope.deny { "!" } else { "" };
        let resource = scope.resource.map_or(String::new(), |resource| format!(":{resource}"));
        format!("{deny}{}:{}{resource}", scope.capability, scope.action)
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
    /// What is kept in `created_by` and in the audit trail: `key:<id>`, `user:<id>`, `operator`.
    pub subject: String,
    /// The name a person knows it by.
    pub name: String,
    /// The rung.
    pub role: Role,
    /// Narrows the role; `None` is the whole role.
    pub scopes: Option<Vec<Scope>>,
    /// The teams whose resources the caller may see; the first owns what it creates.
    pub teams: Vec<String>,
    /// The id of the session of a person who logged in.
    pub session: Option<String>,
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
            session: None,
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
            session: None,
            face,
            address,
            request_id: None,
        }
    }

    /// The team that owns what this caller creates.
    pub fn team(&self) -> &str {
        self.teams.first().map_or(DEFAULT_TEAM, String::as_str)
    }

    /// Whether the caller may see this operation at all; which resources it may name is another question.
    pub fn may(&self, operation: &Operation) -> bool {
        operation.open
            || self.role >= operation.role
                && self.covers(
                    operation.capability,
                    operation.name,
                    operation.effect,
                    Named::of(operation.resource.is_some()),
                )
    }

    /// Refuses an operation that the caller may not call, saying what is missing. An operation that works
    /// on a named resource is held against it by [`Caller::authorise_resource`].
    pub fn authorise(&self, operation: &Operation) -> Result<()> {
        if operation.open {
            return Ok(());
        }
        let named = Named::of(operation.resource.is_some());
        self.authorise_named(operation.capability, operation.name, operation.effect, operation.role, named)
    }

    /// The same for what is not an operation: a raw route such as a log receiver.
    pub fn authorise_action(&self, capability: &str, action: &str, effect: Effect, role: Role) -> Result<()> {
        self.authorise_named(capability, action, effect, role, Named::Nothing)
    }

    /// The same for an action on a resource of that name, such as a secret's path or a tool's name.
    pub fn authorise_resource(
        &self,
        capability: &str,
        action: &str,
        effect: Effect,
        role: Role,
        resource: &str,
    ) -> Result<()> {
        self.authorise_named(capability, action, effect, role, Named::Resource(resource))
    }

    /// Whether the scopes let the caller do this to a resource of that name; for lists, which show what
    /// their reader may see.
    pub fn may_name(&self, capability: &str, action: &str, effect: Effect, resource: &str) -> bool {
        self.covers(capability, action, effect, Named::Resource(resource))
    }

    fn authorise_named(
        &self,
        capability: &str,
        action: &str,
        effect: Effect,
        role: Role,
        named: Named<'_>,
    ) -> Result<()> {
        if self.role < role {
            return Err(Error::forbidden(format!(
                "{action} needs the role {}; {} has {}",
                role.as_str(),
                self.name,
                self.role.as_str()
            )));
        }
        if !self.covers(capability, action, effect, named) {
            let resource = match named {
                Named::Resource(resource) => format!(":{resource}"),
                Named::Nothing | Named::Unknown => String::new(),
            };
            return Err(Error::forbidden(format!(
                "{action} needs a key with the scope `{capability}:{action}{resource}` or one that covers it"
            )));
        }
        Ok(())
    }

    fn covers(&self, capability: &str, action: &str, effect: Effect, named: Named<'_>) -> bool {
        matches!(self.rule(capability, action, effect, named), Rule::WholeRole | Rule::Scope(_))
    }

    /// Whether the caller may call an operation, on a resource of that name where it works on one, and the rule
    /// that says so: the same that [`Caller::authorise`] and [`Caller::authorise_resource`] go by.
    pub fn explain(&self, operation: &Operation, resource: Option<&str>) -> (bool, Rule<'_>) {
        if operation.open {
            return (true, Rule::Open);
        }
        if self.role < operation.role {
            return (false, Rule::Role);
        }
        let named = match resource {
            Some(resource) if operation.resource.is_some() => Named::Resource(resource),
            _ => Named::of(operation.resource.is_some()),
        };
        let rule = self.rule(operation.capability, operation.name, operation.effect, named);
        (matches!(rule, Rule::WholeRole | Rule::Scope(_)), rule)
    }

    fn rule(&self, capability: &str, action: &str, effect: Effect, named: Named<'_>) -> Rule<'_> {
        let Some(scopes) = &self.scopes else { return Rule::WholeRole };
        let mut rule = Rule::NoScope;
        for scope in scopes.iter().filter(|scope| scope.covers(capability, action, effect)) {
            let speaks = match named {
                // What works on no resource is not given by a part, and is taken away only as a whole.
                Named::Nothing => !scope.is_partial(),
                // Given as far as is known; taken away only when no resource is left.
                Named::Unknown => !(scope.denies() && scope.is_partial()),
                Named::Resource(name) => scope.covers_resource(name),
            };
            if speaks && scope.denies() {
                return Rule::Denied(scope);
            }
            if speaks && rule == Rule::NoScope {
                rule = Rule::Scope(scope);
            }
        }
        rule
    }
}

/// The rule that decides whether a caller may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// Anybody may.
    Open,
    /// The role is too low.
    Role,
    /// The role reaches, and nothing narrows it.
    WholeRole,
    /// This scope gives it.
    Scope(&'a Scope),
    /// This scope takes it away, whatever others give.
    Denied(&'a Scope),
    /// No scope gives it.
    NoScope,
}

/// What an action works on, as far as it is known.
#[derive(Clone, Copy)]
enum Named<'a> {
    /// Nothing that a scope could name.
    Nothing,
    /// Something whose name is not known yet.
    Unknown,
    /// This.
    Resource(&'a str),
}

impl Named<'_> {
    fn of(has_resource: bool) -> Self {
        if has_resource { Named::Unknown } else { Named::Nothing }
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

    fn caller(scopes: &[&str]) -> Caller {
        let scopes = scopes.iter().map(|text| Scope::try_from((*text).to_owned()).unwrap()).collect();
        Caller { scopes: Some(scopes), ..Caller::operator(Face::Rest) }
    }

    #[test]
    fn a_scope_names_resources_by_their_beginning_and_a_denial_wins() {
        let caller = caller(&["secrets:get_secret:db/*", "!secrets:*:db/root", "tools:*"]);
        let get = |name| {
            caller.authorise_resource("secrets", "get_secret", Effect::Reveal, Role::Viewer, name).is_ok()
        };
        assert!(get("db/app") && !get("db/root") && !get("mail/app") && !get("d"));
        assert!(caller.may_name("tools", "execute_tool", Effect::Write, "github__search"));
        // A part of an action is not the action where there is no resource.
        assert!(caller.authorise_action("secrets", "get_secret", Effect::Reveal, Role::Viewer).is_err());
    }

    #[test]
    fn a_denial_of_everything_leaves_nothing() {
        let caller = caller(&["*", "!logs:write"]);
        assert!(caller.authorise_action("logs", "ingest_logs", Effect::Write, Role::Viewer).is_err());
        assert!(caller.authorise_action("logs", "search_logs", Effect::Read, Role::Viewer).is_ok());
        assert!(!caller.may_name("logs", "ingest_logs", Effect::Write, "x"));
    }

    #[test]
    fn the_rule_that_decides_is_named_and_a_denial_wins() {
        let scope = |text: &str| Scope::try_from(text.to_owned()).unwrap();
        let caller = caller(&["secrets:*", "!secrets:*:db/root"]);
        let rule = |name| caller.rule("secrets", "get_secret", Effect::Reveal, Named::Resource(name));
        assert_eq!(rule("db/app"), Rule::Scope(&scope("secrets:*")));
        assert_eq!(rule("db/root"), Rule::Denied(&scope("!secrets:*:db/root")));
        assert_eq!(caller.rule("logs", "search_logs", Effect::Read, Named::Nothing), Rule::NoScope);
        let whole = Caller::operator(Face::Cli);
        assert_eq!(whole.rule("logs", "search_logs", Effect::Read, Named::Nothing), Rule::WholeRole);
    }

    #[test]
    fn scopes_lie_within_others_by_their_words() {
        let scope = |text: &str| Scope::try_from(text.to_owned()).unwrap();
        for (inner, outer, expected) in [
            ("logs:read", "logs:*", true),
            ("logs:*", "logs:read", false),
            ("secrets:get_secret:db/a", "secrets:*", true),
            ("secrets:get_secret:db/a", "secrets:get_secret:db/*", true),
            ("secrets:get_secret:d*", "secrets:get_secret:db/*", false),
            ("secrets:get_secret", "secrets:get_secret:db/*", false),
        ] {
            assert_eq!(scope(inner).within(&scope(outer)), expected, "{inner} in {outer}");
        }
    }

    #[test]
    fn a_scope_that_is_not_one_is_refused_with_an_example() {
        for text in [
            "",
            "logs",
            "logs:",
            ":read",
            "logs:READ",
            "logs:a b",
            "a:b:",
            "a:b:c d",
            "a:b:*c",
            "!",
            "a:b:\u{202e}",
        ] {
            let error = Scope::try_from(text.to_owned()).unwrap_err();
            assert!(error.message.contains("for example"), "{text}");
        }
    }
}
