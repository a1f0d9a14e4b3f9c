//! `explain_access`: who may do what, and which rule says so.
//!
//! The answer comes from the rule that calls go by ([`Caller::explain`]), asked about everybody who could call now.

use std::collections::BTreeMap;

use opsroom_core::caller::{Face, Rule};
use opsroom_core::{Call, Caller, Effect, Error, Operation, Result, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Identity;
use super::accounts::people::caller_of_user;
use super::authenticate::caller_of_key;
use super::model::{page_limit, short_text};
use super::oauth::caller_of_grant;

/// Say who may call an operation, or why somebody may or may not: the role or the scope that decides. What takes away
/// wins over what gives.
///
/// Who is not listed may not. Keys are those of your teams; who logs in elsewhere has the role of their last login.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainAccess {
    /// The operation, such as `get_secret` or `execute_tool`.
    #[schemars(length(min = 1, max = 64))]
    pub operation: String,
    /// The name of what it works on, such as `db/app` for a secret or `github__search` for a tool. Left out: anything.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub resource: Option<String>,
    /// About whom: `key:<id>`, `user:<id>`, `user:<name>`, `grant:<id>` or `operator`. Left out: everybody who may.
    #[serde(default)]
    #[schemars(length(max = 190))]
    pub subject: Option<String>,
    /// How many to list, from 1 to 200.
    #[serde(default)]
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[serde(default)]
    #[schemars(length(max = 190))]
    pub cursor: Option<String>,
}

/// Who may call an operation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Access {
    /// The operation.
    pub operation: String,
    /// What it does to the world: `read`, `reveal`, `write` or `destroy`.
    pub effect: String,
    /// The least role that may call it.
    pub role: Role,
    /// What it works on, as it was asked.
    pub resource: Option<String>,
    /// What holds for everybody besides; null where nothing does.
    pub note: Option<String>,
    /// Who, by subject.
    pub items: Vec<Explained>,
    /// Where the list goes on; null at its end.
    pub next: Option<String>,
}

/// Why somebody may, or may not.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explained {
    /// Who: `key:<id>`, `user:<id>`, `grant:<id>` or `operator`.
    pub subject: String,
    /// Their name.
    pub name: String,
    /// Whether they may.
    pub allowed: bool,
    /// The rule that decides, in words.
    pub because: String,
    /// The scope that decides; null where none does.
    pub scope: Option<String>,
    /// Their role.
    pub role: Role,
    /// The teams whose resources they reach.
    pub teams: Vec<String>,
}

/// Explains who may call an operation.
pub async fn explain(identity: Identity, call: Call, input: ExplainAccess) -> Result<Access> {
    let limit = page_limit(input.limit)?;
    let name = short_text("operation", &input.operation, 64)?;
    let operations = identity.operations.get().map(Vec::as_slice).unwrap_or_default();
    let operation = operations.iter().find(|operation| operation.name == name);
    let operation = operation.ok_or_else(|| {
        Error::not_found(format!(
            "there is no operation {name:?}; `list_tools` or /openapi.json has their names"
        ))
    })?;
    let resource = input.resource.as_deref().map(|text| short_text("resource", text, 200)).transpose()?;
    if resource.is_some() && operation.resource.is_none() {
        return Err(Error::invalid(format!(
            "{name} works on nothing that a scope could name; leave `resource` out"
        )));
    }
    let asked = |caller: &Caller| explained(caller, operation, resource);
    let (items, next) = match &input.subject {
        Some(subject) => (vec![asked(&identity.present(&call.caller, subject)?)], None),
        None => {
            let after = input.cursor.as_deref().unwrap_or_default();
            let everybody = identity.everybody(&call.caller);
            let may = everybody.range(after.to_owned()..).filter(|(subject, _)| *subject != after);
            let mut items: Vec<Explained> =
                may.map(|(_, caller)| asked(caller)).filter(|item| item.allowed).take(limit + 1).collect();
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().map(|item| item.subject.clone()).filter(|_| more);
            (items, next)
        }
    };
    let note = match operation.effect {
        Effect::Reveal if !operation.open => Some(
            "it shows a secret: over MCP it is withheld unless a person granted exactly that, and no schedule may call it"
                .to_owned(),
        ),
        _ => None,
    };
    Ok(Access {
        operation: operation.name.to_owned(),
        effect: operation.effect.as_str().to_owned(),
        role: operation.role,
        resource: input.resource,
        note,
        items,
        next,
    })
}

fn explained(caller: &Caller, operation: &Operation, resource: Option<&str>) -> Explained {
    let (allowed, rule) = caller.explain(operation, resource);
    let because = match rule {
        Rule::Open => "anybody may call it".to_owned(),
        Rule::Role => {
            format!("it needs the role {}, and they have {}", operation.role.as_str(), caller.role.as_str())
        }
        Rule::WholeRole => format!("the role {} reaches it, and nothing narrows it", caller.role.as_str()),
        Rule::Scope(scope) => format!("the scope `{}` gives it", String::from(scope.clone())),
        Rule::Denied(scope) => {
            format!("the scope `{}` takes it away, whatever others give", String::from(scope.clone()))
        }
        Rule::NoScope => format!(
            "it needs a scope such as `{}:{}`, and none of theirs gives it",
            operation.capability, operation.name
        ),
    };
    let scope = match rule {
        Rule::Scope(scope) | Rule::Denied(scope) => Some(String::from(scope.clone())),
        _ => None,
    };
    Explained {
        subject: caller.subject.clone(),
        name: caller.name.clone(),
        allowed,
        because,
        scope,
        role: caller.role,
        teams: caller.teams.clone(),
    }
}

impl Identity {
    /// Somebody who could call now.
    fn present(&self, asking: &Caller, subject: &str) -> Result<Caller> {
        let subject = short_text("subject", subject, 190)?;
        let everybody = self.everybody(asking);
        let by_name = || {
            let name = subject.strip_prefix("user:")?;
            everybody.values().find(|caller| caller.subject.starts_with("user:") && caller.name == name)
        };
        everybody.get(subject).or_else(by_name).cloned().ok_or_else(|| {
            Error::not_found(format!(
                "there is nobody {subject:?} who could call: `list_api_keys`, `list_users` and `list_grants` list who \
                 there is; a key that was revoked and an account that is switched off may nothing"
            ))
        })
    }

    /// Everybody who could call now, by subject; of keys those of the asking one's teams.
    fn everybody(&self, asking: &Caller) -> BTreeMap<String, Caller> {
        let now = self.clock.now();
        let mut found = vec![Caller::operator(Face::Rest)];
        for key in self.cache.all() {
            if asking.teams.contains(&key.team_id) && key.expires_at.is_none_or(|end| now < end) {
                found.push(caller_of_key(&key, Face::Rest, None));
            }
        }
        let users = self.people.all();
        found.extend(users.values().map(|user| caller_of_user(user, Face::Rest, None)));
        for grant in self.agents.all() {
            if let Some(user) = users.get(&grant.user_id) {
                found.push(caller_of_grant(&grant, user, Face::Mcp, None));
            }
        }
        found.into_iter().map(|caller| (caller.subject.clone(), caller)).collect()
    }
}
