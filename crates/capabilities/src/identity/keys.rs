//! Making, listing and revoking API keys.

use opsroom_core::db::Transaction;
use opsroom_core::id::{new_id, new_token, sha256_hex};
use opsroom_core::{Call, Caller, Error, Result, Role, Scope, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::MOST_KEYS;
use super::model::{self, Page};
use super::{ApiKey, CreatedKey, Identity, KEY_PREFIX, store};

/// How many characters of a key are shown later on.
const SHOWN: usize = KEY_PREFIX.len() + 6;

const DAY: i64 = 24 * 60 * 60;

/// Make an API key. The answer shows it once; only its hash is kept.
///
/// A key can do no more than the one who makes it: its role is not higher, its scopes lie within, its team
/// is one of theirs, and it does not outlive the key it was made with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What the key is for, such as `ci pipeline`.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// The rung the key stands on: `viewer` reads, `operator` changes what the room works on,
    /// `administrator` does everything.
    #[serde(default = "viewer")]
    pub role: Role,
    /// What to narrow the role to, at most 64 entries such as `logs:*`, `*:read` or
    /// `detection:detect_anomalies`. Left out: the whole role.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
    /// The team whose resources the key may see. Left out: your own.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub team_id: Option<String>,
    /// After how many days the key stops to work, from 1 to 3650. Left out: never, or with your own key.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3650))]
    pub expires_in_days: Option<u32>,
}

/// List the API keys of your teams, newest first. The keys themselves are never shown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListApiKeys {
    /// Also list keys that are revoked.
    pub revoked: bool,
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// Show what is known about an API key of your teams; the key itself is never shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetApiKey {
    /// The key's id.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// Revoke an API key of your teams: it opens nothing from now on. Revoking it again changes nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeApiKey {
    /// The key's id.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// Replace an API key by a new one that may do the same. The old one still works for a while, so that whatever holds
/// it can be given the new one without a pause.
///
/// You can rotate what you could make: a key of your teams with no more rights than yours. The new key lasts as
/// long as the old one was made for, counted from now.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateApiKey {
    /// The key's id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// For how many seconds the old key still works, from 0 to 2592000 (30 days).
    #[serde(default = "a_day")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub overlap_seconds: u32,
}

/// A key in the place of another. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct RotatedKey {
    /// The new key itself. It is shown this once.
    pub key: String,
    /// What is known about it.
    pub api_key: ApiKey,
    /// The old key, with the moment at which it ends.
    pub previous: ApiKey,
}

fn a_day() -> u32 {
    86_400
}

fn viewer() -> Role {
    Role::Viewer
}

/// Makes a key.
pub async fn create(identity: Identity, call: Call, input: CreateApiKey) -> Result<CreatedKey> {
    let caller = &call.caller;
    let now = identity.clock.now();
    grantable_role(caller, input.role)?;
    let new = NewKey {
        name: model::name("name", &input.name)?,
        role: input.role,
        scopes: model::granted_scopes(caller, input.scopes)?,
        team_id: granted_team(caller, input.team_id)?,
        created_by: caller.subject.clone(),
        expires_at: identity.granted_end(caller, input.expires_in_days, now)?,
    };
    let mut on = identity.db.begin().await?;
    if store::keys::count_live(&mut on, now).await? >= MOST_KEYS.cast_signed() {
        return Err(Error::conflict(format!(
            "there are {MOST_KEYS} keys, which is the most there may be; revoke some that are not used"
        )));
    }
    let created = new.insert(&mut on, now).await?;
    on.commit().await?;
    identity.cache.changed().await;
    Ok(created)
}

/// Lists keys.
pub async fn list(identity: Identity, call: Call, input: ListApiKeys) -> Result<Page<ApiKey>> {
    let limit = model::page_limit(input.limit)?;
    let before = model::id_cursor(&input.cursor)?;
    let teams = &call.caller.teams;
    let keys = store::keys::list(&identity.db, teams, before, input.revoked, limit as u64 + 1).await?;
    let keys = keys.into_iter().map(|key| identity.with_last_used(key)).collect();
    Ok(Page::cut(keys, limit, |key: &ApiKey| key.id.clone()))
}

/// Shows a key.
pub async fn get(identity: Identity, call: Call, input: GetApiKey) -> Result<ApiKey> {
    identity.key_of(&call.caller, &input.id).await
}

/// Revokes a key.
pub async fn revoke(identity: Identity, call: Call, input: RevokeApiKey) -> Result<ApiKey> {
    let key = identity.key_of(&call.caller, &input.id).await?;
    if key.revoked_at.is_none() {
        let mut on = identity.db.begin().await?;
        store::keys::revoke(&mut on, &call.caller.teams, &key.id, identity.clock.now()).await?;
        on.commit().await?;
        identity.cache.changed().await;
    }
    identity.key_of(&call.caller, &input.id).await
}

/// Puts a new key in the place of another.
pub async fn rotate(identity: Identity, call: Call, input: RotateApiKey) -> Result<RotatedKey> {
    let caller = &call.caller;
    let now = identity.clock.now();
    if input.overlap_seconds > 2_592_000 {
        return Err(Error::invalid("overlap_seconds is not from 0 to 2592000"));
    }
    let old = identity.key_of(caller, &input.id).await?;
    if old.revoked_at.is_some() || old.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::conflict("the key opens nothing any more; make a new one with `create_api_key`"));
    }
    // Otherwise the new key would give more to the caller than they have.
    grantable_role(caller, old.role)?;
    let lasted = old.expires_at.map(|end| end.0 - old.created_at.0);
    let own = caller.subject.strip_prefix("key:").and_then(|id| identity.cache.get(id)?.expires_at);
    let end = lasted.map(|lasted| Time(now.0.saturating_add(lasted)));
    let new = NewKey {
        name: old.name.clone(),
        role: old.role,
        scopes: model::granted_scopes(caller, old.scopes.clone())?,
        team_id: old.team_id.clone(),
        created_by: caller.subject.clone(),
        expires_at: [end, own].into_iter().flatten().min(),
    };
    let mut on = identity.db.begin().await?;
    if store::keys::count_live(&mut on, now).await? >= MOST_KEYS.cast_signed() {
        return Err(Error::conflict(format!("there are {MOST_KEYS} keys, which is the most there may be")));
    }
    let made = new.insert(&mut on, now).await?;
    let until = now.plus_seconds(input.overlap_seconds.into());
    store::keys::end_at(&mut on, &caller.teams, &old.id, until).await?;
    on.commit().await?;
    identity.cache.changed().await;
    Ok(RotatedKey {
        key: made.key,
        api_key: made.api_key,
        previous: identity.key_of(caller, &input.id).await?,
    })
}

fn grantable_role(caller: &Caller, role: Role) -> Result<()> {
    if role > caller.role {
        return Err(Error::forbidden(format!(
            "the role {} is more than {} has; give {} or less",
            role.as_str(),
            caller.name,
            caller.role.as_str()
        )));
    }
    Ok(())
}

impl Identity {
    /// Lets a key of a team end at a moment, unless it ends sooner; one that is not there has ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_key_at(&self, team: &str, id: &str, end: Time) -> Result<()> {
        let mut on = self.db.begin().await?;
        store::keys::end_at(&mut on, &[team.to_owned()], id, end).await?;
        on.commit().await?;
        self.cache.changed().await;
        Ok(())
    }

    async fn key_of(&self, caller: &Caller, id: &str) -> Result<ApiKey> {
        let id = model::short_text("id", id, 64)?;
        let key = store::keys::get(&self.db, &caller.teams, id).await?;
        let key = key.ok_or_else(|| {
            Error::not_found(format!("there is no API key {id:?} in your teams; `list_api_keys` lists them"))
        })?;
        Ok(self.with_last_used(key))
    }

    /// The database learns of uses with a delay; this server knows its own at once.
    fn with_last_used(&self, mut key: ApiKey) -> ApiKey {
        key.last_used_at = key.last_used_at.max(self.cache.last_used(&key.id));
        key
    }

    /// When a new key ends: not after the key that makes it.
    fn granted_end(&self, caller: &Caller, days: Option<u32>, now: Time) -> Result<Option<Time>> {
        let wanted = match days {
            None => None,
            Some(days @ 1..=3650) => Some(now.plus_seconds(i64::from(days) * DAY)),
            Some(other) => {
                return Err(Error::invalid(format!("expires_in_days {other} is not from 1 to 3650")));
            }
        };
        let own = caller.subject.strip_prefix("key:").and_then(|id| self.cache.get(id)?.expires_at);
        match (wanted, own) {
            (Some(wanted), Some(own)) if wanted > own => Err(Error::forbidden(format!(
                "the new key would outlive {}, which ends at {}; give fewer days, or leave expires_in_days out",
                caller.name,
                own.to_rfc3339()
            ))),
            (wanted, own) => Ok(wanted.or(own)),
        }
    }
}

fn granted_team(caller: &Caller, wanted: Option<String>) -> Result<String> {
    let Some(wanted) = wanted else { return Ok(caller.team().to_owned()) };
    let wanted = model::short_text("team_id", &wanted, 64)?;
    if !caller.teams.iter().any(|team| team == wanted) {
        return Err(Error::forbidden(format!(
            "{} is not in the team {wanted:?}; name one of: {}",
            caller.name,
            caller.teams.join(", ")
        )));
    }
    Ok(wanted.to_owned())
}

/// A key that is about to be made; what it may do has been checked.
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// Its rung.
    pub role: Role,
    /// What narrows it.
    pub scopes: Option<Vec<Scope>>,
    /// Its team.
    pub team_id: String,
    /// Who makes it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<Time>,
}

impl NewKey {
    /// Makes the key, with a token that nobody has seen.
    pub async fn insert(self, on: &mut Transaction, now: Time) -> Result<CreatedKey> {
        let token = new_token(KEY_PREFIX);
        let api_key = ApiKey {
            id: new_id(),
            name: self.name,
            starts_with: token[..SHOWN].to_owned(),
            role: self.role,
            scopes: self.scopes,
            team_id: self.team_id,
            created_by: self.created_by,
            created_at: now,
            expires_at: self.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        store::keys::insert(on, &api_key, &sha256_hex(&token)).await?;
        Ok(CreatedKey { key: token, api_key })
    }
}
