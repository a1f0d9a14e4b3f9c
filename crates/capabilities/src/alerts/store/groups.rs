//! Rows of groups: which alerts one route tells together, what was told of each, and when to look again.

use opsroom_core::db::{Row, Transaction};
use opsroom_core::id::sha256_hex;
use opsroom_core::{Error, Result, Time};
use sea_query::{Alias, Expr, ExprTrait, OnConflict, Order, Query};

use super::super::model::Status;
use super::alerts::{self, AlertRow, Entry};
use super::{AlertsAlerts as A, AlertsGroups as G, AlertsMembers as M, Store};

/// A group.
#[derive(Clone, Debug)]
pub struct GroupRow {
    pub id: String,
    pub team: String,
    pub route: String,
    /// What its alerts have in common.
    pub name: String,
    /// When people were told last.
    pub told_at: Option<Time>,
    pub version: i64,
}

/// An alert in a group.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub alert: AlertRow,
    pub told: Told,
    /// When people were told of it last.
    pub told_at: Option<Time>,
    /// When people were told first that it fires.
    pub first_at: Option<Time>,
    /// How many steps of the escalation were taken.
    pub level: i64,
    /// Why it was kept quiet, as its history has it; so that every reason is told once.
    pub quiet: Option<String>,
}

/// What people know of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// That it fires.
    Firing,
}

impl Told {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Firing => "firing",
        }
    }
}

/// Where an alert belongs: to the group of this name of this route, which is looked at so many seconds after it
/// was told last, or after its first alert came.
#[derive(Clone, Debug)]
pub struct Placed {
    pub route: String,
    pub name: String,
    pub wait: i64,
    pub interval: i64,
}

/// What a look at a group changes.
#[derive(Debug, Default)]
pub struct Looked {
    /// Whether anybody stays in the group.
    pub stays: bool,
    /// Members of which something else is known now.
    pub changed: Vec<Member>,
    /// Members that leave.
    pub left: Vec<String>,
    /// Alerts that a silence keeps quiet from now on, or no longer.
    pub quieted: Vec<(String, bool)>,
    pub history: Vec<(String, Entry)>,
    pub due_at: Option<Time>,
    pub told_at: Option<Time>,
}

fn group_id(team: &str, route: &str, name: &str) -> String {
    sha256_hex(&format!("{team}\0{route}\0{name}"))[..32].to_owned()
}

/// Puts alerts of a team into their groups.
pub(super) async fn place(
    on: &mut Transaction,
    team: &str,
    placed: &[(String, Placed)],
    now: Time,
) -> Result<()> {
    let mut groups: std::collections::BTreeMap<String, (&Placed, Vec<&str>)> = Default::default();
    for (alert, at) in placed {
        let id = group_id(team, &at.route, &at.name);
        groups.entry(id).or_insert_with(|| (at, Vec::new())).1.push(alert);
    }
    for (id, (at, alerts)) in groups {
        let add = Query::insert()
            .into_table(G::Table)
            .columns([G::Id, G::TeamId, G::Route, G::Name, G::Version])
            .values_panic([
                id.as_str().into(),
                team.into(),
                at.route.as_str().into(),
                at.name.as_str().into(),
                0_i64.into(),
            ])
            // Setting what is there already is how every database leaves a row as it is.
            .on_conflict(OnConflict::column(G::Id).update_column(G::Id).to_owned())
            .to_owned();
        on.run(&add).await?;
        for alerts in alerts.chunks(100) {
            add_members(on, &id, alerts).await?;
        }
        let told = Query::select()
            .column(G::ToldAt)
            .from(G::Table)
            .and_where(Expr::col(G::Id).eq(id.as_str()))
            .to_owned();
        let told = on.first(&told).await?.map(|row| row.time_or_none("told_at")).transpose()?.flatten();
        let due = told.map_or(now.plus_seconds(at.wait), |told| told.plus_seconds(at.interval).max(now));
        wake(on, Expr::col(G::Id).eq(id.as_str()), due).await?;
    }
    Ok(())
}

async fn add_members(on: &mut Transaction, group: &str, alerts: &[&str]) -> Result<()> {
    let mut add = Query::insert()
        .into_table(M::Table)
        .columns([M::Id, M::GroupId, M::AlertId, M::Told, M::Level])
        .on_conflict(OnConflict::column(M::Id).update_column(M::Id).to_owned())
        .to_owned();
    for alert in alerts {
        let id = sha256_hex(&format!("{group}\0{alert}"))[..32].to_owned();
        add.values_panic([id.into(), group.into(), (*alert).into(), "".into(), 0_i64.into()]);
    }
    on.run(&add).await.map(drop)
}

/// Lets groups be looked at by `due` at the latest.
async fn wake(on: &mut Transaction, which: Expr, due: Time) -> Result<()> {
    // Whoever looks at a group right now has not seen this.
    let seen = Query::update()
        .table(G::Table)
        .value(G::Version, Expr::col(G::Version).add(1_i64))
        .and_where(which.clone())
        .to_owned();
    on.run(&seen).await?;
    let update = Query::update()
        .table(G::Table)
        .value(G::DueAt, due.0)
        .and_where(which)
        .and_where(Expr::col(G::DueAt).is_null().or(Expr::col(G::DueAt).gt(due.0)))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// Lets the groups of an alert be looked at now.
pub(super) async fn wake_of_alert(on: &mut Transaction, alert: &str, now: Time) -> Result<()> {
    let groups = Query::select()
        .column(M::GroupId)
        .from(M::Table)
        .and_where(Expr::col(M::AlertId).eq(alert))
        .to_owned();
    let rows = on.all(&groups).await?;
    let ids = rows.iter().map(|row| row.get("group_id")).collect::<Result<Vec<String>>>()?;
    if ids.is_empty() {
        return Ok(());
    }
    wake(on, Expr::col(G::Id).is_in(ids), now).await
}

impl Store {
    /// Lets every group of a team be looked at now: a silence began or ended.
    pub async fn wake_groups(&self, team: &str, now: Time) -> Result<()> {
        let mut on = self.db.begin().await?;
        wake(&mut on, Expr::col(G::TeamId).eq(team), now).await?;
        on.commit().await
    }

    /// The groups that are to be looked at, the longest due first.
    pub async fn due_groups(&self, now: Time, limit: u64) -> Result<Vec<GroupRow>> {
        let query = Query::select()
            .columns([G::Id, G::TeamId, G::Route, G::Name, G::ToldAt, G::Version])
            .from(G::Table)
            .and_where(Expr::col(G::DueAt).lte(now.0))
            .order_by(G::DueAt, Order::Asc)
            .limit(limit)
            .to_owned();
        let read = |row: &Row| {
            Ok(GroupRow {
                id: row.get("id")?,
                team: row.get("team_id")?,
                route: row.get("route")?,
                name: row.get("name")?,
                told_at: row.time_or_none("told_at")?,
                version: row.get("version")?,
            })
        };
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// The alerts of a group, the oldest first.
    pub async fn members(&self, group: &str, limit: u64) -> Result<Vec<Member>> {
        let mut query = Query::select();
        query
            .expr_as(Expr::col((M::Table, M::Id)), Alias::new("member_id"))
            .columns([(M::Table, M::Told), (M::Table, M::Quiet)])
            .columns([(M::Table, M::ToldAt), (M::Table, M::FirstAt), (M::Table, M::Level)]);
        for column in alerts::COLUMNS {
            query.column((A::Table, column));
        }
        query
            .from(M::Table)
            .inner_join(A::Table, Expr::col((M::Table, M::AlertId)).equals((A::Table, A::Id)))
            .and_where(Expr::col((M::Table, M::GroupId)).eq(group))
            .order_by((M::Table, M::AlertId), Order::Asc)
            .limit(limit);
        let read = |row: &Row| {
            let told: String = row.get("told")?;
            Ok(Member {
                id: row.get("member_id")?,
                alert: alerts::read(row)?,
                told: if told == "firing" { Told::Firing } else { Told::Nothing },
                told_at: row.time_or_none("told_at")?,
                first_at: row.time_or_none("first_at")?,
                level: row.get("level")?,
                quiet: row.get("quiet")?,
            })
        };
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Writes what a look at a group changed. `Conflict` when another server looked at it meanwhile.
    pub async fn looked_at(&self, on: &mut Transaction, group: &GroupRow, look: &Looked) -> Result<()> {
        let update = Query::update()
            .table(G::Table)
            .value(G::DueAt, look.due_at.map(|at| at.0))
            .value(G::ToldAt, look.told_at.map(|at| at.0))
            .value(G::Version, group.version + 1)
            .and_where(Expr::col(G::Id).eq(group.id.as_str()))
            .and_where(Expr::col(G::Version).eq(group.version))
            .to_owned();
        if on.run(&update).await? == 0 {
            return Err(Error::conflict("another server looked at the group"));
        }
        for member in &look.changed {
            write_member(on, member).await?;
        }
        for left in look.left.chunks(100) {
            on.run(Query::delete().from_table(M::Table).and_where(Expr::col(M::Id).is_in(left))).await?;
        }
        for (alert, quiet) in &look.quieted {
            let (from, to) = match quiet {
                true => (Status::Firing, Status::Silenced),
                false => (Status::Silenced, Status::Firing),
            };
            let update = Query::update()
                .table(A::Table)
                .value(A::Status, to.as_str())
                .value(A::Version, Expr::col(A::Version).add(1_i64))
                .and_where(Expr::col(A::Id).eq(alert.as_str()))
                .and_where(Expr::col(A::Status).eq(from.as_str()))
                .to_owned();
            on.run(&update).await?;
        }
        alerts::write_history(on, &look.history).await?;
        if !look.stays {
            // Whoever puts an alert into it meanwhile has given it a time.
            let empty = Query::delete()
                .from_table(G::Table)
                .and_where(Expr::col(G::Id).eq(group.id.as_str()))
                .and_where(Expr::col(G::DueAt).is_null())
                .to_owned();
            on.run(&empty).await?;
        }
        Ok(())
    }
}

async fn write_member(on: &mut Transaction, member: &Member) -> Result<()> {
    let quiet: Option<String> = member.quiet.as_ref().map(|why| why.chars().take(255).collect());
    let update = Query::update()
        .table(M::Table)
        .value(M::Told, member.told.as_str())
        .value(M::ToldAt, member.told_at.map(|at| at.0))
        .value(M::FirstAt, member.first_at.map(|at| at.0))
        .value(M::Level, member.level)
        .value(M::Quiet, quiet)
        .and_where(Expr::col(M::Id).eq(member.id.as_str()))
        .to_owned();
    on.run(&update).await.map(drop)
}
