//! Services, one row each.

use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step};
use opsroom_core::{Error, Result};
use sea_query::{ColumnDef, Cond, Expr, ExprTrait, Func, Iden, Index, Order, Query, SelectStatement, Table};

use super::Store;
use crate::services::model::{Desired, Kind, Seen, Service, Spec, Status};

#[derive(Clone, Copy, Iden)]
pub(super) enum ServicesService {
    Table,
    Id,
    Uid,
    TeamId,
    CreatedBy,
    Name,
    Slug,
    Kind,
    Node,
    Spec,
    Generation,
    Desired,
    Status,
    Reason,
    Seen,
    CreatedAt,
    UpdatedAt,
}

pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    let text = |column, length| ColumnDef::new(column).string_len(length).not_null().take();
    vec![
        Step::Create(
            Table::create()
                .table(ServicesService::Table)
                .col(
                    ColumnDef::new(ServicesService::Id)
                        .big_integer()
                        .not_null()
                        .auto_increment()
                        .primary_key(),
                )
                .col(text(ServicesService::Uid, 36))
                .col(text(ServicesService::TeamId, 64))
                .col(text(ServicesService::CreatedBy, 128))
                .col(text(ServicesService::Name, 100))
                .col(text(ServicesService::Slug, 40))
                .col(text(ServicesService::Kind, 16))
                .col(text(ServicesService::Node, 64))
                .col(dialect.long_text(ServicesService::Spec).not_null())
                .col(ColumnDef::new(ServicesService::Generation).big_integer().not_null())
                .col(text(ServicesService::Desired, 16))
                .col(text(ServicesService::Status, 16))
                .col(dialect.long_text(ServicesService::Reason).null())
                .col(dialect.long_text(ServicesService::Seen).not_null())
                .col(ColumnDef::new(ServicesService::CreatedAt).big_integer().not_null())
                .col(ColumnDef::new(ServicesService::UpdatedAt).big_integer().not_null())
                .to_owned(),
        ),
        unique("services_service_uid", ServicesService::Uid),
        unique("services_service_name", ServicesService::Name),
        unique("services_service_slug", ServicesService::Slug),
    ]
}

fn unique(name: &str, column: ServicesService) -> Step {
    Step::Index(Index::create().name(name).table(ServicesService::Table).col(column).unique().to_owned())
}

/// A service that is about to be made.
pub struct NewService<'a> {
    /// Its team.
    pub team: &'a str,
    /// Who makes it.
    pub created_by: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its short name.
    pub slug: &'a str,
    /// What runs it.
    pub kind: Kind,
    /// The Opsroom that runs it.
    pub node: &'a str,
    /// What it is to be.
    pub spec: &'a Spec,
    /// Whether it is to run.
    pub desired: Desired,
    /// Now.
    pub now: Time,
}

/// Which services to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only with this status.
    pub status: Option<Status>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only those whose name holds this text, in any case.
    pub search: Option<String>,
    /// How many to leave out.
    pub offset: u64,
    /// The most to give.
    pub limit: u64,
}

impl Store {
    /// Makes a service; answers its number.
    ///
    /// # Errors
    /// `Conflict` when its name is taken.
    pub async fn insert(&self, new: &NewService<'_>) -> Result<i64> {
        let uid = opsroom_core::id::new_id();
        let status = if new.desired == Desired::Running { Status::Pending } else { Status::Stopped };
        let insert = Query::insert()
            .into_table(ServicesService::Table)
            .columns([
                ServicesService::Uid,
                ServicesService::TeamId,
                ServicesService::CreatedBy,
                ServicesService::Name,
                ServicesService::Slug,
                ServicesService::Kind,
                ServicesService::Node,
                ServicesService::Spec,
                ServicesService::Generation,
                ServicesService::Desired,
                ServicesService::Status,
                ServicesService::Seen,
                ServicesService::CreatedAt,
                ServicesService::UpdatedAt,
            ])
            .values_panic([
                uid.as_str().into(),
                new.team.into(),
                new.created_by.into(),
                new.name.into(),
                new.slug.into(),
                new.kind.as_str().into(),
                new.node.into(),
                json(new.spec)?.into(),
                1_i64.into(),
                new.desired.as_str().into(),
                status.as_str().into(),
                "{}".into(),
                new.now.0.into(),
                new.now.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map_err(|error| match error.kind {
            opsroom_core::Kind::Conflict => Error::conflict(format!(
                "there is a service named `{}` already; choose another name",
                new.name
            )),
            _ => error,
        })?;
        let find = Query::select()
            .column(ServicesService::Id)
            .from(ServicesService::Table)
            .and_where(Expr::col(ServicesService::Uid).eq(uid.as_str()))
            .to_owned();
        let row = self.db.first(&find).await?;
        row.ok_or_else(|| Error::internal("the service that was just made is not there"))?.get("id")
    }

    /// The service of that number or name, of these teams; `teams` of `None` are all.
    pub async fn find(&self, reference: &str, teams: Option<&[String]>) -> Result<Option<Service>> {
        let mut query = select();
        match reference.parse::<i64>() {
            Ok(id) => query.and_where(Expr::col(ServicesService::Id).eq(id)),
            Err(_) => query.cond_where(
                Cond::any()
                    .add(Expr::col(ServicesService::Name).eq(reference))
                    .add(Expr::col(ServicesService::Slug).eq(reference)),
            ),
        };
        if let Some(teams) = teams {
            query.and_where(Expr::col(ServicesService::TeamId).is_in(teams));
        }
        self.db.first(&query).await?.as_ref().map(service).transpose()
    }

    /// Services of these teams by number, and how many there are in all.
    pub async fn list(&self, teams: &[String], listing: &Listing) -> Result<(Vec<Service>, u64)> {
        let mut filter = Cond::all().add(Expr::col(ServicesService::TeamId).is_in(teams));
        if let Some(status) = listing.status {
            filter = filter.add(Expr::col(ServicesService::Status).eq(status.as_str()));
        }
        if let Some(kind) = listing.kind {
            filter = filter.add(Expr::col(ServicesService::Kind).eq(kind.as_str()));
        }
        if let Some(search) = &listing.search {
            let pattern =
                sea_query::LikeExpr::new(format!("%{}%", escaped(&search.to_lowercase()))).escape('!');
            filter = filter.add(Expr::expr(Func::lower(Expr::col(ServicesService::Name))).like(pattern));
        }
        let count = Query::select()
            .expr_as(Func::count(Expr::col(ServicesService::Id)), "total")
            .from(ServicesService::Table)
            .cond_where(filter.clone())
            .to_owned();
        let total: i64 = self.db.first(&count).await?.map_or(Ok(0), |row| row.get("total"))?;
        let page = select()
            .cond_where(filter)
            .order_by(ServicesService::Id, Order::Asc)
            .offset(listing.offset)
            .limit(listing.limit)
            .to_owned();
        let rows = self.db.all(&page).await?;
        let items = rows.iter().map(service).collect::<Result<_>>()?;
        Ok((items, total.unsigned_abs()))
    }

    /// Every service that this Opsroom runs.
    pub async fn of_node(&self, node: &str) -> Result<Vec<Service>> {
        let query = select()
            .and_where(Expr::col(ServicesService::Node).eq(node))
            .order_by(ServicesService::Id, Order::Asc)
            .to_owned();
        self.db.all(&query).await?.iter().map(service).collect()
    }

    /// Every service, whoever runs it.
    pub async fn everywhere(&self) -> Result<Vec<Service>> {
        let query = select().order_by(ServicesService::Id, Order::Asc).to_owned();
        self.db.all(&query).await?.iter().map(service).collect()
    }

    /// Changes what a service is to be; `false` when somebody else changed it first.
    pub async fn change(&self, it: &Service, name: &str, slug: &str, spec: &Spec, now: Time) -> Result<bool> {
        let update = Query::update()
            .table(ServicesService::Table)
            .value(ServicesService::Name, name)
            .value(ServicesService::Slug, slug)
            .value(ServicesService::Spec, json(spec)?)
            .value(ServicesService::Generation, it.generation + 1)
            .value(ServicesService::UpdatedAt, now.0)
            .and_where(Expr::col(ServicesService::Id).eq(it.id))
            .and_where(Expr::col(ServicesService::Generation).eq(it.generation))
            .to_owned();
        let changed = self.db.run(&update).await.map_err(|error| match error.kind {
            opsroom_core::Kind::Conflict => {
                Error::conflict(format!("there is a service named `{name}` already; choose another name"))
            }
            _ => error,
        })?;
        Ok(changed == 1)
    }

    /// Says what a service is wanted to be.
    pub async fn wish(&self, id: i64, desired: Desired, status: Status, now: Time) -> Result<()> {
        let update = Query::update()
            .table(ServicesService::Table)
            .value(ServicesService::Desired, desired.as_str())
            .value(ServicesService::Status, status.as_str())
            .value(ServicesService::Reason, Option::<String>::None)
            .value(ServicesService::UpdatedAt, now.0)
            .and_where(Expr::col(ServicesService::Id).eq(id))
            // What is being removed is not called back.
            .and_where(Expr::col(ServicesService::Desired).ne(Desired::Removed.as_str()))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Notes how a service is, unless it was wished to be something else meanwhile.
    pub async fn note(
        &self,
        it: &Service,
        status: Status,
        reason: Option<&str>,
        seen: &Seen,
    ) -> Result<bool> {
        let update = Query::update()
            .table(ServicesService::Table)
            .value(ServicesService::Status, status.as_str())
            .value(ServicesService::Reason, reason)
            .value(ServicesService::Seen, json(seen)?)
            .and_where(Expr::col(ServicesService::Id).eq(it.id))
            .and_where(Expr::col(ServicesService::Desired).eq(it.desired.as_str()))
            .and_where(Expr::col(ServicesService::UpdatedAt).eq(it.updated_at.0))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Removes a service that is wanted to be gone.
    pub async fn remove(&self, id: i64) -> Result<()> {
        let delete = Query::delete()
            .from_table(ServicesService::Table)
            .and_where(Expr::col(ServicesService::Id).eq(id))
            .and_where(Expr::col(ServicesService::Desired).eq(Desired::Removed.as_str()))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}

fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

fn select() -> SelectStatement {
    Query::select()
        .columns([
            ServicesService::Id,
            ServicesService::TeamId,
            ServicesService::CreatedBy,
            ServicesService::Name,
            ServicesService::Slug,
            ServicesService::Kind,
            ServicesService::Node,
            ServicesService::Spec,
            ServicesService::Generation,
            ServicesService::Desired,
            ServicesService::Status,
            ServicesService::Reason,
            ServicesService::Seen,
            ServicesService::CreatedAt,
            ServicesService::UpdatedAt,
        ])
        .from(ServicesService::Table)
        .to_owned()
}

fn service(row: &Row) -> Result<Service> {
    let word = |column: &str| row.get::<String>(column);
    let unknown = |what: &str| Error::internal(format!("the table of services has an unknown {what}"));
    Ok(Service {
        id: row.get("id")?,
        team: word("team_id")?,
        created_by: word("created_by")?,
        name: word("name")?,
        slug: word("slug")?,
        kind: Kind::parse(&word("kind")?).ok_or_else(|| unknown("kind"))?,
        node: word("node")?,
        spec: row.json("spec")?,
        generation: row.get("generation")?,
        desired: Desired::parse(&word("desired")?).ok_or_else(|| unknown("wish"))?,
        status: Status::parse(&word("status")?).ok_or_else(|| unknown("status"))?,
        reason: row.get("reason")?,
        seen: row.json("seen")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
