//! Registrations: services that others run and told us about, until they fall silent.

use std::collections::BTreeMap;

use opsroom_core::Result;
use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Order, Query, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Store;

#[derive(Clone, Copy, Iden)]
enum ServicesRegistration {
    Table,
    ServiceId,
    TeamId,
    CreatedBy,
    Name,
    Record,
    ExpiresAt,
}

pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    let text = |column, length| ColumnDef::new(column).string_len(length).not_null().take();
    vec![Step::Create(
        Table::create()
            .table(ServicesRegistration::Table)
            .col(text(ServicesRegistration::ServiceId, 100).primary_key())
            .col(text(ServicesRegistration::TeamId, 64))
            .col(text(ServicesRegistration::CreatedBy, 128))
            .col(text(ServicesRegistration::Name, 100))
            .col(dialect.long_text(ServicesRegistration::Record).not_null())
            .col(ColumnDef::new(ServicesRegistration::ExpiresAt).big_integer().not_null())
            .to_owned(),
    )]
}

/// A service that somebody else runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// Its id, as it calls itself.
    pub service_id: String,
    /// Its team.
    #[serde(skip)]
    pub team: String,
    /// Who registered it.
    #[serde(skip)]
    pub created_by: String,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// What it is, such as `mcp`.
    pub service_type: String,
    /// Its version.
    pub version: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Anything it says about itself.
    pub metadata: Map<String, Value>,
    /// Where its health is asked for; empty: nowhere.
    pub health_check_url: String,
    /// How often, in seconds.
    pub interval: u32,
    /// For how long it counts as there after its last heartbeat, in seconds.
    pub ttl: u32,
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    pub status: String,
    /// When it was first registered, in microseconds since 1970.
    pub registered_at: i64,
    /// Its last heartbeat, in microseconds since 1970.
    pub last_heartbeat: i64,
    /// Counts of the last look at its health and the like.
    pub notes: BTreeMap<String, String>,
}

impl Registration {
    /// When it falls out of the list unless it is heard of.
    pub fn expires_at(&self) -> Time {
        Time(self.last_heartbeat).plus_seconds(self.ttl.into())
    }
}

impl Store {
    /// Writes a registration, in the place of one with its id.
    pub async fn put_registration(&self, it: &Registration) -> Result<()> {
        let record = serde_json::to_string(it).map_err(opsroom_core::Error::internal)?;
        let mut on = self.db.begin().await?;
        let delete = Query::delete()
            .from_table(ServicesRegistration::Table)
            .and_where(Expr::col(ServicesRegistration::ServiceId).eq(it.service_id.as_str()))
            .to_owned();
        on.run(&delete).await?;
        let insert = Query::insert()
            .into_table(ServicesRegistration::Table)
            .columns([
                ServicesRegistration::ServiceId,
                ServicesRegistration::TeamId,
                ServicesRegistration::CreatedBy,
                ServicesRegistration::Name,
                ServicesRegistration::Record,
                ServicesRegistration::ExpiresAt,
            ])
            .values_panic([
                it.service_id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                it.name.as_str().into(),
                record.into(),
                it.expires_at().0.into(),
            ])
            .to_owned();
        on.run(&insert).await?;
        on.commit().await
    }

    /// The registrations of these teams that have not expired, by id. `teams` of `None` are all.
    pub async fn registrations(&self, teams: Option<&[String]>, now: Time) -> Result<Vec<Registration>> {
        let mut query = Query::select()
            .columns([
                ServicesRegistration::ServiceId,
                ServicesRegistration::TeamId,
                ServicesRegistration::CreatedBy,
                ServicesRegistration::Record,
            ])
            .from(ServicesRegistration::Table)
            .and_where(Expr::col(ServicesRegistration::ExpiresAt).gt(now.0))
            .order_by(ServicesRegistration::ServiceId, Order::Asc)
            .to_owned();
        if let Some(teams) = teams {
            query.and_where(Expr::col(ServicesRegistration::TeamId).is_in(teams));
        }
        self.db.all(&query).await?.iter().map(registration).collect()
    }

    /// The registration of that id, expired or not.
    pub async fn registration(&self, id: &str) -> Result<Option<Registration>> {
        let query = Query::select()
            .columns([
                ServicesRegistration::ServiceId,
                ServicesRegistration::TeamId,
                ServicesRegistration::CreatedBy,
                ServicesRegistration::Record,
            ])
            .from(ServicesRegistration::Table)
            .and_where(Expr::col(ServicesRegistration::ServiceId).eq(id))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(registration).transpose()
    }

    /// Removes a registration; `false` when there was none.
    pub async fn remove_registration(&self, id: &str) -> Result<bool> {
        let delete = Query::delete()
            .from_table(ServicesRegistration::Table)
            .and_where(Expr::col(ServicesRegistration::ServiceId).eq(id))
            .to_owned();
        Ok(self.db.run(&delete).await? > 0)
    }

    /// Removes what expired.
    pub async fn remove_expired(&self, now: Time) -> Result<u64> {
        let delete = Query::delete()
            .from_table(ServicesRegistration::Table)
            .and_where(Expr::col(ServicesRegistration::ExpiresAt).lte(now.0))
            .to_owned();
        self.db.run(&delete).await
    }
}

fn registration(row: &Row) -> Result<Registration> {
    let record: Registration = row.json("record")?;
    Ok(Registration { team: row.get("team_id")?, created_by: row.get("created_by")?, ..record })
}
