//! `create_profile`, `list_profiles` and `delete_profile`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Tools;
use super::super::store::KeptProfile;

/// Creates a profile: a chosen set of tools at `/mcp/profiles/{name}`, so that an agent sees ten tools and not
/// three hundred. It gives nobody a tool that their key does not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProfile {
    /// Its name: 1 to 40 of `a-z`, `0-9` and `-`.
    #[schemars(length(min = 1, max = 40))]
    name: String,
    /// The tools: names of built-in ones, `SERVICE/TOOL`, `SERVICE/*` for all of a service, `*` for all that
    /// are built in.
    #[schemars(length(min = 1, max = 500))]
    tools: Vec<String>,
    /// What an agent is told before it sees the tools.
    #[serde(default)]
    #[schemars(length(max = 8000))]
    instructions: String,
}

/// A profile.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ProfileLine {
    /// Its name.
    pub name: String,
    /// Where it is served.
    pub endpoint: String,
    /// What it holds.
    pub tools: Vec<String>,
    /// What an agent is told before it sees the tools.
    pub instructions: String,
}

fn line(profile: KeptProfile) -> ProfileLine {
    ProfileLine {
        endpoint: format!("/mcp/profiles/{}", profile.name),
        name: profile.name,
        tools: profile.tools,
        instructions: profile.instructions,
    }
}

pub async fn create_profile(tools: Tools, call: Call, input: CreateProfile) -> Result<ProfileLine> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !input.name.chars().all(plain) {
        return Err(Error::invalid(format!(
            "name: `{}` is not of a-z, 0-9 and `-`",
            input.name.escape_debug()
        )));
    }
    let known = tools.all(&call.caller);
    for choice in &input.tools {
        let there = match choice.split_once('/') {
            _ if choice == "*" => true,
            // A service may be made later.
            Some((service, "*")) => !service.is_empty(),
            Some(_) => known.iter().any(|tool| tool.id == *choice),
            None => known.iter().any(|tool| tool.team.is_none() && tool.own_name == *choice),
        };
        if !there {
            return Err(Error::invalid(format!(
                "tools: there is no tool `{}` for this key; `get_tool` shows a tool's `id`",
                choice.escape_debug()
            )));
        }
    }
    let profile = KeptProfile {
        name: input.name,
        team: call.caller.team().to_owned(),
        instructions: input.instructions,
        tools: input.tools,
    };
    let inner = &tools.inner;
    inner.store.insert_profile(&profile, &call.caller.subject, inner.clock.now()).await?;
    inner.changed.notify_one();
    Ok(line(profile))
}

/// Lists profiles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListProfiles {}

/// Profiles.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ProfileList {
    /// The profiles, by name.
    pub items: Vec<ProfileLine>,
}

pub async fn list_profiles(tools: Tools, call: Call, _: ListProfiles) -> Result<ProfileList> {
    let all = tools.inner.store.profiles().await?;
    let mine = all.into_iter().filter(|profile| call.caller.teams.contains(&profile.team));
    Ok(ProfileList { items: mine.map(line).collect() })
}

/// Deletes a profile. The tools stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteProfile {
    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    name: String,
}

/// A profile that was deleted.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct DeletedProfile {
    /// Its name.
    pub name: String,
}

pub async fn delete_profile(tools: Tools, call: Call, input: DeleteProfile) -> Result<DeletedProfile> {
    if !tools.inner.store.remove_profile(&input.name, &call.caller.teams).await? {
        return Err(Error::not_found(format!("there is no profile `{}`", input.name.escape_debug())));
    }
    tools.inner.changed.notify_one();
    Ok(DeletedProfile { name: input.name })
}
