//! Rotation: a new value, given to whatever checks it, and put in force.
//!
//! The new value is written as a pending version before the hook is called, so that a crash between the hook
//! and the change of what is in force loses nothing: the next rotation finds the pending version and calls
//! the hook with it again. Every hook does the same when it is called twice.

use opsroom_core::caller::Face;
use opsroom_core::db::DbConfig;
use opsroom_core::egress::{Limits, Request};
use opsroom_core::id::random_text;
use opsroom_core::resolver::Purpose;
use opsroom_core::{Caller, Error, Result, Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{Fields, Row, VALUE};
use super::{Secrets, store};
use crate::identity::keys::CreateApiKey;

/// What is rotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Plan {
    /// A random value that only we know; whoever uses the secret reads the new one.
    Generate {
        /// How many letters and digits it has, from 16 to 256.
        #[serde(default = "forty")]
        #[schemars(range(min = 16, max = 256))]
        length: u16,
        /// The field that is replaced; the others stay.
        #[serde(default = "value")]
        #[schemars(length(min = 1, max = 64))]
        field: String,
    },
    /// The password of a user of a PostgreSQL or MariaDB database. The secret has the fields `username` and
    /// `password`.
    Database {
        /// A reference to the URL by which an administrator of the database connects, such as
        /// `secret://opsroom/db/admin-url`.
        #[schemars(length(min = 1, max = 600), extend("x-secret-reference" = true))]
        admin_url: String,
        /// The users whose password is set, in turn: with two of them, the one before still works until the
        /// next rotation. They exist already.
        #[schemars(length(min = 1, max = 4))]
        users: Vec<String>,
    },
    /// An API key of ours. The secret's `value` is the key; the one before works until the overlap ends.
    ApiKey {
        /// The name of the keys.
        #[schemars(length(min = 1, max = 100))]
        name: String,
        /// Their rung; not above the one who plans.
        role: Role,
        /// What narrows it, such as `logs:read`. Left out: the whole role.
        #[serde(default)]
        scopes: Option<Vec<opsroom_core::Scope>>,
    },
    /// Something else: a web address that is told the new values, as JSON `{"path", "version", "fields"}`, and
    /// answers with a 2xx status when they are in force there.
    Webhook {
        /// The address, or a reference to it.
        #[schemars(length(min = 1, max = 600))]
        url: String,
        /// The field that gets a new random value of 40 letters and digits; the others stay.
        #[serde(default = "value")]
        #[schemars(length(min = 1, max = 64))]
        field: String,
    },
}

fn forty() -> u16 {
    40
}

fn value() -> String {
    VALUE.to_owned()
}

/// A plan as the database has it, with the one on whose behalf it is carried out.
#[derive(Serialize, Deserialize)]
pub struct Stored {
    /// The plan.
    pub plan: Plan,
    /// How often.
    pub every_days: Option<u32>,
    /// Who planned it.
    pub owner: String,
}

impl Plan {
    /// Refuses a plan that cannot be carried out, or that the caller may not make.
    pub fn check(&self, secrets: &Secrets, caller: &Caller) -> Result<()> {
        match self {
            Plan::Generate { length, .. } if !(16..=256).contains(length) => {
                Err(Error::invalid(format!("plan.length {length} is not from 16 to 256")))
            }
            Plan::Database { admin_url, users } => {
                if !admin_url.starts_with(opsroom_core::resolver::SCHEME) {
                    return Err(Error::invalid(
                        "plan.admin_url is a reference such as `secret://opsroom/db/admin-url`, because the URL has a \
                         password",
                    ));
                }
                if users.is_empty()
                    || users.len() > 4
                    || users.iter().any(|user| user.is_empty() || user.len() > 63)
                {
                    return Err(Error::invalid("plan.users is one to four names of at most 63 bytes"));
                }
                secrets.inner.resolver.check(admin_url)
            }
            Plan::ApiKey { role, .. } if caller.role < Role::Administrator || *role > caller.role => {
                Err(Error::forbidden("only an administrator plans the rotation of API keys"))
            }
            Plan::Webhook { url, .. } => secrets.inner.resolver.check(url),
            _ => Ok(()),
        }
    }
}

impl Secrets {
    /// Rotates a secret now; without a plan its value is generated.
    pub(super) async fn rotate(&self, row: Row, by: &str) -> Result<Row> {
        let stored = store::rotation(&self.inner.db, &row.id).await?;
        let stored: Stored = match stored {
            Some(text) => serde_json::from_str(&text).map_err(Error::internal)?,
            None => Stored {
                plan: Plan::Generate { length: forty(), field: value() },
                every_days: None,
                owner: by.to_owned(),
            },
        };
        let (version, fields) = self.pending(&row, &stored, by).await?;
        if let Err(error) = self.carry_out(&stored, &row, version, &fields).await {
            return Err(Error::new(
                error.kind,
                format!(
                    "the rotation of {:?} did not succeed, and version {} stays in force: {}",
                    row.path, row.version, error.message
                ),
            )
            .because(error));
        }
        let mut on = self.inner.db.begin().await?;
        let locked = store::get_locked(&mut on, &row.team_id, &row.path).await?;
        let locked = locked.ok_or_else(|| Error::not_found("the secret was deleted while it was rotated"))?;
        let row = self.promote(&mut on, locked, version).await?;
        on.commit().await?;
        Ok(row)
    }

    /// The pending version of an earlier try, or a new one.
    async fn pending(&self, row: &Row, stored: &Stored, by: &str) -> Result<(i64, Fields)> {
        let newest = store::versions::list(&self.inner.db, &row.id).await?.into_iter().next();
        if let Some(pending) = newest.filter(|version| version.state == "pending") {
            return Ok((pending.version, self.opened(row, &pending).await?));
        }
        let (_, old) = self.fields(row, None).await?;
        let fields = self.next_fields(stored, row, old).await?;
        let mut on = self.inner.db.begin().await?;
        let version = self.add_version(&mut on, row, &fields, "pending", by).await?;
        on.commit().await?;
        self.know(row, &fields);
        Ok((version, fields))
    }

    async fn next_fields(&self, stored: &Stored, row: &Row, mut fields: Fields) -> Result<Fields> {
        match &stored.plan {
            Plan::Generate { length, field } => {
                fields.insert(field.clone(), random(usize::from(*length)));
            }
            Plan::Webhook { field, .. } => {
                fields.insert(field.clone(), random(40));
            }
            Plan::Database { users, .. } => {
                let last = fields.get("username").map(|user| user.expose().to_owned());
                let at = users.iter().position(|user| Some(user) == last.as_ref()).map_or(0, |at| at + 1);
                fields.insert("username".to_owned(), Secret::new(users[at % users.len()].as_str()));
                fields.insert("password".to_owned(), random(40));
            }
            Plan::ApiKey { name, role, scopes } => {
                let caller = self.inner.identity.caller_of(&stored.owner, Face::Schedule);
                let caller =
                    caller.ok_or_else(|| Error::forbidden("whoever planned it has no rights any more"))?;
                let input = CreateApiKey {
                    name: name.clone(),
                    role: *role,
                    scopes: scopes.clone(),
                    team_id: Some(row.team_id.clone()),
                    expires_in_days: None,
                };
                let call = opsroom_core::Call::new(caller);
                let created = crate::identity::keys::create(self.inner.identity.clone(), call, input).await?;
                fields.insert(VALUE.to_owned(), Secret::new(created.key));
                fields.insert("key_id".to_owned(), Secret::new(created.api_key.id));
            }
        }
        Ok(fields)
    }

    async fn carry_out(&self, stored: &Stored, row: &Row, version: i64, fields: &Fields) -> Result<()> {
        let user = format!("rotation:{}", row.path);
        let purpose = Purpose { team: &row.team_id, owner: &stored.owner, user: &user };
        match &stored.plan {
            Plan::Generate { .. } => Ok(()),
            Plan::Database { admin_url, .. } => {
                let url = self.inner.resolver.value(admin_url, purpose).await?;
                let user = fields.get("username").map_or("", Secret::expose);
                let password = fields.get("password").cloned().unwrap_or_default();
                self.set_database_password(&url, user, &password).await
            }
            Plan::ApiKey { .. } => {
                let (_, old) = self.fields(row, None).await?;
                if let Some(id) = old.get("key_id").filter(|id| fields.get("key_id") != Some(*id)) {
                    let end = self.now().plus_seconds(self.inner.config.overlap_seconds.into());
                    self.inner.identity.end_key_at(&row.team_id, id.expose(), end).await?;
                }
                Ok(())
            }
            Plan::Webhook { url, .. } => {
                let url = self.inner.resolver.value(url, purpose).await?;
                let values: std::collections::BTreeMap<&str, &str> =
                    fields.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
                let body = json!({ "path": row.path, "version": version, "fields": values });
                let limits = Limits { max_bytes: 64 << 10, redirects: 0, ..Limits::default() };
                let answer = self.inner.egress.send(Request::post_json(url.expose(), &body), limits).await?;
                if !answer.status.is_success() {
                    let status = answer.status.as_u16();
                    return Err(Error::unavailable(format!("the webhook answered {status} and not 2xx")));
                }
                Ok(())
            }
        }
    }

    async fn set_database_password(&self, url: &Secret, user: &str, password: &Secret) -> Result<()> {
        if !["postgres://", "postgresql://", "mysql://", "mariadb://"]
            .iter()
            .any(|scheme| url.expose().starts_with(scheme))
        {
            return Err(Error::invalid("the administrator's URL is not `postgres://...` or `mysql://...`"));
        }
        let parsed = reqwest::Url::parse(url.expose())
            .map_err(|_| Error::invalid("the administrator's URL is not a URL"))?;
        // The rules of requests to the outside hold for databases too: the same address is asked first.
        let port = parsed.port().unwrap_or(if parsed.scheme().starts_with("postgres") { 5432 } else { 3306 });
        drop(self.inner.egress.dial(parsed.host_str().unwrap_or_default(), port).await?);
        let text = url.expose().replacen("mariadb://", "mysql://", 1);
        let config = DbConfig { url: text, max_connections: 1, ..DbConfig::default() };
        let db = config.open(std::path::Path::new("/")).await?;
        let done = db.set_password(user, password).await;
        db.close().await;
        done
    }
}

fn random(length: usize) -> Secret {
    Secret::new(random_text(length))
}
