//! Deployments: each time a service was made to run, and how it went.

use opsroom_core::Result;
use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, Table};

use super::Store;

#[derive(Clone, Copy, Iden)]
enum ServicesDeployment {
    Table,
    Id,
    ServiceId,
    Kind,
    Status,
    Reason,
    StartedAt,
    CompletedAt,
}

pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    let text = |column, length| ColumnDef::new(column).string_len(length).not_null().take();
    vec![
        Step::Create(
            Table::create()
                .table(ServicesDeployment::Table)
                .col(text(ServicesDeployment::Id, 36).primary_key())
                .col(ColumnDef::new(ServicesDeployment::ServiceId).big_integer().not_null())
                .col(text(ServicesDeployment::Kind, 16))
                .col(text(ServicesDeployment::Status, 16))
                .col(dialect.long_text(ServicesDeployment::Reason).null())
                .col(ColumnDef::new(ServicesDeployment::StartedAt).big_integer().not_null())
                .col(ColumnDef::new(ServicesDeployment::CompletedAt).big_integer().null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("services_deployment_service")
                .table(ServicesDeployment::Table)
                .col(ServicesDeployment::ServiceId)
                .col(ServicesDeployment::StartedAt)
                .to_owned(),
        ),
    ]
}

/// One deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// What led to it: `create`, `start`, `restart`, `update` or `repair`.
    pub kind: String,
    /// `pending`, `running`, `success`, `failed` or `superseded`.
    pub status: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it was asked for.
    pub started_at: Time,
    /// When it was over.
    pub completed_at: Option<Time>,
}

/// How many deployments of a service are remembered.
const KEPT: u64 = 50;

impl Store {
    /// Notes that a deployment was asked for. One that was still open is superseded.
    pub async fn begin_deployment(&self, service: i64, kind: &str, now: Time) -> Result<String> {
        self.close_deployments(service, "superseded", None, now).await?;
        let id = opsroom_core::id::new_id();
        let insert = Query::insert()
            .into_table(ServicesDeployment::Table)
            .columns([
                ServicesDeployment::Id,
                ServicesDeployment::ServiceId,
                ServicesDeployment::Kind,
                ServicesDeployment::Status,
                ServicesDeployment::StartedAt,
            ])
            .values_panic([id.as_str().into(), service.into(), kind.into(), "pending".into(), now.0.into()])
            .to_owned();
        self.db.run(&insert).await?;
        self.forget_deployments(service).await?;
        Ok(id)
    }

    /// Notes how the open deployment of a service ended, if there is one.
    pub async fn close_deployments(
        &self,
        service: i64,
        status: &str,
        reason: Option<&str>,
        now: Time,
    ) -> Result<bool> {
        let update = Query::update()
            .table(ServicesDeployment::Table)
            .value(ServicesDeployment::Status, status)
            .value(ServicesDeployment::Reason, reason)
            .value(ServicesDeployment::CompletedAt, now.0)
            .and_where(Expr::col(ServicesDeployment::ServiceId).eq(service))
            .and_where(Expr::col(ServicesDeployment::CompletedAt).is_null())
            .to_owned();
        Ok(self.db.run(&update).await? > 0)
    }

    /// The newest deployments of a service.
    pub async fn deployments(&self, service: i64, limit: u64) -> Result<Vec<Deployment>> {
        let query = Query::select()
            .columns([
                ServicesDeployment::Id,
                ServicesDeployment::Kind,
                ServicesDeployment::Status,
                ServicesDeployment::Reason,
                ServicesDeployment::StartedAt,
                ServicesDeployment::CompletedAt,
            ])
            .from(ServicesDeployment::Table)
            .and_where(Expr::col(ServicesDeployment::ServiceId).eq(service))
            .order_by(ServicesDeployment::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(deployment).collect()
    }

    /// Removes the deployments of a service that is gone.
    pub async fn remove_deployments(&self, service: i64) -> Result<()> {
        let delete = Query::delete()
            .from_table(ServicesDeployment::Table)
            .and_where(Expr::col(ServicesDeployment::ServiceId).eq(service))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }

    async fn forget_deployments(&self, service: i64) -> Result<()> {
        let newest = self.deployments(service, KEPT).await?;
        let Some(oldest) = newest.get(KEPT as usize - 1) else { return Ok(()) };
        let delete = Query::delete()
            .from_table(ServicesDeployment::Table)
            .and_where(Expr::col(ServicesDeployment::ServiceId).eq(service))
            .and_where(Expr::col(ServicesDeployment::Id).lt(oldest.id.as_str()))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}

fn deployment(row: &Row) -> Result<Deployment> {
    Ok(Deployment {
        id: row.get("id")?,
        kind: row.get("kind")?,
        status: row.get("status")?,
        reason: row.get("reason")?,
        started_at: row.time("started_at")?,
        completed_at: row.time_or_none("completed_at")?,
    })
}
