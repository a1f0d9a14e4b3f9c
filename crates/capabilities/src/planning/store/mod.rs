//! The tables of planning: series and their points, choices of engines, the latest plans.
//!
//! A series' id is a digest of its team, service and metric, so that names keep their case on every
//! database and the points stay small.

mod arrivals;
mod choices;
pub mod external;
mod models;
mod points;

use opsroom_core::db::{Db, Dialect, Migration, Step};
use sea_query::{ColumnDef, Iden, Index, Table};
use sha2::{Digest, Sha256};

pub use arrivals::Arrived;
pub use points::{Point, SeriesKey, SeriesRow};

/// The rows of planning in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, name: "metric series, their points and choices", steps: tables },
    Migration { version: 2, name: "what arrived and was not looked at", steps: arrivals },
    Migration { version: 3, name: "whether a series has changed", steps: versions },
];

#[derive(Clone, Copy, Iden)]
enum PlanningSeries {
    Table,
    Id,
    TeamId,
    Service,
    Metric,
    CreatedAt,
    Version,
}

#[derive(Clone, Copy, Iden)]
enum PlanningPoints {
    Table,
    SeriesId,
    At,
    Value,
}

#[derive(Clone, Copy, Iden)]
enum PlanningChoices {
    Table,
    SeriesId,
    EndHour,
    Choice,
    MadeAt,
}

#[derive(Clone, Copy, Iden)]
enum PlanningArrivals {
    Table,
    SeriesId,
    FirstAt,
    LastAt,
}

#[derive(Clone, Copy, Iden)]
enum PlanningModels {
    Table,
    TeamId,
    Artifact,
    TrainedAt,
}

fn tables(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(PlanningSeries::Table)
                .col(ColumnDef::new(PlanningSeries::Id).string_len(32).not_null().primary_key())
                .col(ColumnDef::new(PlanningSeries::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(PlanningSeries::Service).string_len(256).not_null())
                .col(ColumnDef::new(PlanningSeries::Metric).string_len(128).not_null())
                .col(ColumnDef::new(PlanningSeries::CreatedAt).big_integer().not_null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("planning_series_team")
                .table(PlanningSeries::Table)
                .col(PlanningSeries::TeamId)
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(PlanningPoints::Table)
                .col(ColumnDef::new(PlanningPoints::SeriesId).string_len(32).not_null())
                .col(ColumnDef::new(PlanningPoints::At).big_integer().not_null())
                .col(ColumnDef::new(PlanningPoints::Value).double().not_null())
                .primary_key(Index::create().col(PlanningPoints::SeriesId).col(PlanningPoints::At))
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(PlanningChoices::Table)
                .col(ColumnDef::new(PlanningChoices::SeriesId).string_len(32).not_null())
                .col(ColumnDef::new(PlanningChoices::EndHour).big_integer().not_null())
                .col(dialect.long_text(PlanningChoices::Choice).not_null())
                .col(ColumnDef::new(PlanningChoices::MadeAt).big_integer().not_null())
                .primary_key(Index::create().col(PlanningChoices::SeriesId).col(PlanningChoices::EndHour))
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(PlanningModels::Table)
                .col(ColumnDef::new(PlanningModels::TeamId).string_len(64).not_null().primary_key())
                .col(long_bytes(dialect, PlanningModels::Artifact).not_null())
                .col(ColumnDef::new(PlanningModels::TrainedAt).big_integer().not_null())
                .to_owned(),
        ),
    ]
}

fn arrivals(_: Dialect) -> Vec<Step> {
    vec![Step::Create(
        Table::create()
            .table(PlanningArrivals::Table)
            .col(ColumnDef::new(PlanningArrivals::SeriesId).string_len(32).not_null().primary_key())
            .col(ColumnDef::new(PlanningArrivals::FirstAt).big_integer().not_null())
            .col(ColumnDef::new(PlanningArrivals::LastAt).big_integer().not_null())
            .to_owned(),
    )]
}

fn versions(_: Dialect) -> Vec<Step> {
    let column = ColumnDef::new(PlanningSeries::Version).string_len(36).not_null().default("").to_owned();
    vec![Step::Alter(Table::alter().table(PlanningSeries::Table).add_column(column).to_owned())]
}

/// Bytes of any length: MySQL's plain ones end at 64 KiB.
fn long_bytes(dialect: Dialect, column: PlanningModels) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    match dialect {
        Dialect::MySql => definition.custom("longblob"),
        Dialect::Sqlite | Dialect::Postgres => definition.blob(),
    };
    definition
}

/// 32 hexadecimal digits that stand for these words.
pub(super) fn digest(words: &[&str]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
