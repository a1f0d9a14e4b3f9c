//! Rows of logins at services: one that was begun and one that was made, each sealed.

use opsroom_core::Result;
use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Query, SelectStatement, Table};

use super::Store;

#[derive(Clone, Copy, Iden)]
enum ServicesLogin {
    Table,
    ServiceId,
    StateHash,
    Pending,
    PendingUntil,
    Login,
    LeasedUntil,
}

pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    vec![Step::Create(
        Table::create()
            .table(ServicesLogin::Table)
            .col(ColumnDef::new(ServicesLogin::ServiceId).big_integer().not_null().primary_key())
            .col(ColumnDef::new(ServicesLogin::StateHash).string_len(64).null())
            .col(dialect.long_text(ServicesLogin::Pending).null())
            .col(ColumnDef::new(ServicesLogin::PendingUntil).big_integer().null())
            .col(dialect.long_text(ServicesLogin::Login).null())
            .col(ColumnDef::new(ServicesLogin::LeasedUntil).big_integer().not_null())
            .to_owned(),
    )]
}

/// What is kept of a service's login.
pub struct LoginRow {
    /// The service.
    pub service_id: i64,
    /// The login, sealed.
    pub login: Option<String>,
}

fn select() -> SelectStatement {
    Query::select()
        .columns([ServicesLogin::ServiceId, ServicesLogin::Login])
        .from(ServicesLogin::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<LoginRow> {
    Ok(LoginRow { service_id: row.get("service_id")?, login: row.get("login")? })
}

impl Store {
    /// Every login.
    pub async fn logins(&self) -> Result<Vec<LoginRow>> {
        let query = select().and_where(Expr::col(ServicesLogin::Login).is_not_null()).to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// The login at a service.
    pub async fn login(&self, service: i64) -> Result<Option<LoginRow>> {
        let query = select().and_where(Expr::col(ServicesLogin::ServiceId).eq(service)).to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Notes that a login was begun, in the place of one that was.
    pub async fn put_pending_login(
        &self,
        service: i64,
        state: &str,
        sealed: &str,
        until: Time,
    ) -> Result<()> {
        let mut on = self.db.begin().await?;
        let update = Query::update()
            .table(ServicesLogin::Table)
            .values([
                (ServicesLogin::StateHash, state.into()),
                (ServicesLogin::Pending, sealed.into()),
                (ServicesLogin::PendingUntil, until.0.into()),
            ])
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .to_owned();
        if on.run(&update).await? == 0 {
            let insert = Query::insert()
                .into_table(ServicesLogin::Table)
                .columns([
                    ServicesLogin::ServiceId,
                    ServicesLogin::StateHash,
                    ServicesLogin::Pending,
                    ServicesLogin::PendingUntil,
                    ServicesLogin::LeasedUntil,
                ])
                .values_panic([service.into(), state.into(), sealed.into(), until.0.into(), 0i64.into()])
                .to_owned();
            on.run(&insert).await?;
        }
        on.commit().await
    }

    /// Takes a login that was begun, once.
    pub async fn take_pending_login(&self, state: &str, now: Time) -> Result<Option<(i64, String)>> {
        let mut on = self.db.begin().await?;
        let query = Query::select()
            .columns([ServicesLogin::ServiceId, ServicesLogin::Pending])
            .from(ServicesLogin::Table)
            .and_where(Expr::col(ServicesLogin::StateHash).eq(state))
            .and_where(Expr::col(ServicesLogin::PendingUntil).gt(now.0))
            .lock_exclusive()
            .to_owned();
        let Some(row) = on.first(&query).await? else { return Ok(None) };
        let (service, pending): (i64, Option<String>) = (row.get("service_id")?, row.get("pending")?);
        let update = Query::update()
            .table(ServicesLogin::Table)
            .values([
                (ServicesLogin::StateHash, Option::<String>::None.into()),
                (ServicesLogin::Pending, Option::<String>::None.into()),
            ])
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .and_where(Expr::col(ServicesLogin::StateHash).eq(state))
            .to_owned();
        let taken = on.run(&update).await? == 1;
        on.commit().await?;
        Ok(pending.filter(|_| taken).map(|pending| (service, pending)))
    }

    /// Writes a login that was made or renewed.
    pub async fn put_login(&self, service: i64, sealed: &str) -> Result<()> {
        let update = Query::update()
            .table(ServicesLogin::Table)
            .values([(ServicesLogin::Login, sealed.into()), (ServicesLogin::LeasedUntil, 0i64.into())])
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Puts a login in the place of the same one, sealed by an older key.
    pub async fn reseal_login(&self, service: i64, before: &str, sealed: &str) -> Result<()> {
        let update = Query::update()
            .table(ServicesLogin::Table)
            .value(ServicesLogin::Login, sealed)
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .and_where(Expr::col(ServicesLogin::Login).eq(before))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Takes the renewal of a login for a while; `false` when somebody else has it.
    pub async fn lease_login(&self, service: i64, now: Time, until: Time) -> Result<bool> {
        let update = Query::update()
            .table(ServicesLogin::Table)
            .value(ServicesLogin::LeasedUntil, until.0)
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .and_where(Expr::col(ServicesLogin::LeasedUntil).lte(now.0))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Forgets the login at a service; `false` when there was none.
    pub async fn remove_login(&self, service: i64) -> Result<bool> {
        let delete = Query::delete()
            .from_table(ServicesLogin::Table)
            .and_where(Expr::col(ServicesLogin::ServiceId).eq(service))
            .to_owned();
        Ok(self.db.run(&delete).await? == 1)
    }
}
