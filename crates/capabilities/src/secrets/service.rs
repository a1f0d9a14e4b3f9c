//! Finding, making and giving out secrets.

use opsroom_core::db::Transaction;
use opsroom_core::id::new_id;
use opsroom_core::telemetry::known;
use opsroom_core::{Caller, Effect, Error, Result, Role, Secret, Time};
use serde_json::{Value, json};

use super::model::{self, Fields, Row, VersionRow};
use super::{Secrets, store};
use crate::identity::AuditEntry;

/// How many versions keep their values.
const KEPT_VERSIONS: i64 = 10;

/// What a new version brings.
pub struct NewVersion {
    /// The fields.
    pub fields: Fields,
    /// What it is for; `None` leaves it.
    pub description: Option<String>,
    /// Names and values to find it by; `None` leaves them.
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    /// When it ends; `None` leaves it.
    pub expires_at: Option<Time>,
    /// Whether it is bait; `None` leaves it.
    pub canary: Option<bool>,
    /// The version that must be in force now; 0 is none at all.
    pub if_version: Option<i64>,
}

impl Secrets {
    /// The secret of that path that the caller's teams have.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(super) async fn find(&self, teams: &[String], path: &str) -> Result<Row> {
        let path = model::path(path)?;
        let row = store::get(&self.inner.db, teams, path).await?;
        row.ok_or_else(|| {
            Error::not_found(format!("there is no secret {path:?} in your teams; `list_secrets` lists them"))
        })
    }

    /// Writes a new version of a secret, and the secret when there is none of this path.
    pub(super) async fn write(&self, caller: &Caller, path: &str, new: NewVersion) -> Result<Row> {
        let path = model::path(path)?;
        let now = self.now();
        let there = store::get(&self.inner.db, &caller.teams, path).await?;
        let team = there.map_or_else(|| caller.team().to_owned(), |row| row.team_id);
        // Before the transaction: the first use makes a key, and SQLite has one writer.
        self.inner.sealer.check().await?;
        let mut on = self.inner.db.begin().await?;
        let there = store::get_locked(&mut on, &team, path).await?;
        let in_force = there.as_ref().map_or(0, |row| row.version);
        if new.if_version.is_some_and(|wanted| wanted != in_force) {
            return Err(Error::conflict(format!(
                "the secret {path:?} is at version {in_force}; read it again before you replace it"
            )));
        }
        let row = match there {
            Some(row) if row.purge_at.is_some() => {
                return Err(Error::conflict(format!(
                    "the secret {path:?} is deleted; `restore_secret` brings it back, and `delete_secret` with \
                     `now: true` makes room for a new one"
                )));
            }
            Some(row) => row,
            None => {
                let row = new_row(caller, team, path, now);
                store::insert(&mut on, &row).await?;
                row
            }
        };
        let row = Row {
            description: new.description.unwrap_or(row.description),
            labels: new.labels.unwrap_or(row.labels),
            expires_at: new.expires_at.or(row.expires_at.filter(|end| *end > now)),
            canary: new.canary.unwrap_or(row.canary),
            updated_at: now,
            disabled: false,
            ..row
        };
        let version = self.add_version(&mut on, &row, &new.fields, "pending", &caller.subject).await?;
        let row = self.promote(&mut on, row, version).await?;
        on.commit().await?;
        self.know(&row, &new.fields);
        Ok(row)
    }

    /// Adds a sealed version in a state.
    pub(super) async fn add_version(
        &self,
        on: &mut Transaction,
        row: &Row,
        fields: &Fields,
        state: &str,
        by: &str,
    ) -> Result<i64> {
        let version = store::versions::newest(on, &row.id).await? + 1;
        let context = row.context(version);
        let context: Vec<&str> = context.iter().map(String::as_str).collect();
        let sealed = self.inner.sealer.seal(&context, &model::to_bytes(fields)?).await?;
        let new = VersionRow {
            secret_id: row.id.clone(),
            version,
            sealed,
            state: state.to_owned(),
            created_by: by.to_owned(),
            created_at: self.now(),
            usable_until: None,
        };
        store::versions::insert(on, &new).await?;
        Ok(version)
    }

    /// Makes a version the current one.
    pub(super) async fn promote(&self, on: &mut Transaction, row: Row, version: i64) -> Result<Row> {
        let now = self.now();
        let until = now.plus_seconds(self.inner.config.overlap_seconds.into());
        store::versions::promote(on, &row.id, version, until, version - KEPT_VERSIONS + 1).await?;
        let row = Row { version, updated_at: now, ..row };
        store::update(on, &row).await?;
        Ok(row)
    }

    /// The fields of a version, opened; `None` is the current one. What is in use is checked by the caller.
    pub(super) async fn fields(&self, row: &Row, version: Option<i64>) -> Result<(i64, Fields)> {
        let version = version.unwrap_or(row.version);
        let found = store::versions::get(&self.inner.db, &row.id, version).await?;
        let found = found.ok_or_else(|| {
            let path = &row.path;
            Error::not_found(format!(
                "the secret {path:?} has no version {version}; `list_secret_versions` lists them"
            ))
        })?;
        found.usable(self.now())?;
        Ok((version, self.opened(row, &found).await?))
    }

    /// The fields of a version, whatever its state.
    pub(super) async fn opened(&self, row: &Row, version: &VersionRow) -> Result<Fields> {
        let context = row.context(version.version);
        let context: Vec<&str> = context.iter().map(String::as_str).collect();
        let bytes = self.inner.sealer.open(&context, &version.sealed).await?;
        let fields = model::from_bytes(&bytes)?;
        self.know(row, &fields);
        Ok(fields)
    }

    /// From now on the values are hidden in what this process tells.
    pub(super) fn know(&self, row: &Row, fields: &Fields) {
        known::remember(&row.id, fields.values().map(Secret::expose));
    }

    /// A canary was used.
    pub(super) fn sing(&self, row: &Row, by: &str, how: &str) {
        if row.canary {
            tracing::warn!(secret.path = row.path, by, how, "a canary secret was used");
            let data = json!({ "path": row.path, "by": by, "how": how });
            self.inner.events.publish("secret.canary", &row.team_id, &row.path, data);
        }
    }

    /// The value that a reference stands for, for something that belongs to `owner` and is used by `user`.
    ///
    /// # Errors
    /// `Forbidden` when the owner may not use it, or no longer exists; `NotFound`, `Conflict` and
    /// `Unavailable` as everywhere here.
    pub async fn use_reference(&self, path: &str, team: &str, owner: &str, user: &str) -> Result<Secret> {
        let (path, field) = path.split_once('#').unwrap_or((path, model::VALUE));
        let caller = self.inner.identity.caller_of(owner, opsroom_core::caller::Face::Schedule);
        let caller = caller.ok_or_else(|| {
            Error::forbidden(format!(
                "the secret {path:?} cannot be used for {user}: its owner {owner} has no rights any more"
            ))
        })?;
        let result = self.try_use(path, field, team, &caller, user).await;
        let details = json!({ "path": path, "field": field, "user": user });
        let entry = AuditEntry::action(&caller, "use_secret", Effect::Reveal, &details).ended(&result);
        // What is not on record was not used.
        self.inner.identity.audit(entry).await?;
        result
    }

    async fn try_use(
        &self,
        path: &str,
        field: &str,
        team: &str,
        caller: &Caller,
        user: &str,
    ) -> Result<Secret> {
        caller.authorise_resource("secrets", "use_secret", Effect::Reveal, Role::Operator, path)?;
        if !caller.teams.iter().any(|own| own == team) {
            return Err(Error::forbidden(format!(
                "{} is not in the team {team:?}, whose {user} uses {path:?}",
                caller.name
            )));
        }
        let row = self.find(&[team.to_owned()], path).await?;
        row.usable(self.now())?;
        let (_, mut fields) = self.fields(&row, None).await?;
        self.sing(&row, user, "by reference");
        fields.remove(field).ok_or_else(|| {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            Error::not_found(format!(
                "the secret {path:?} has no field {field:?}; it has {}",
                names.join(", ")
            ))
        })
    }

    /// Whether somebody may be shown the secret of this input over MCP: a person said so.
    pub async fn is_granted(&self, caller: &Caller, input: &Value) -> Result<bool> {
        let Some(path) = input.get("path").and_then(Value::as_str) else { return Ok(false) };
        let Some(row) = store::get(&self.inner.db, &caller.teams, path).await? else { return Ok(false) };
        store::grants::is_granted(&self.inner.db, &row.id, &caller.subject, self.now()).await
    }

    pub(super) fn now(&self) -> Time {
        self.inner.clock.now()
    }
}

fn new_row(caller: &Caller, team_id: String, path: &str, now: Time) -> Row {
    Row {
        id: new_id(),
        team_id,
        path: path.to_owned(),
        description: String::new(),
        labels: Default::default(),
        version: 0,
        disabled: false,
        canary: false,
        created_by: caller.subject.clone(),
        created_at: now,
        updated_at: now,
        expires_at: None,
        purge_at: None,
    }
}
