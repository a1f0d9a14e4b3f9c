//! The tables of planning: series and their points, choices of engines, the latest plans.
//!
//! A series' id is a digest of its team, service and metric, so that names keep their case on every
//! database and the points stay small.

mod points;

use opsroom_core::db::{Db, Dialect, Migration, Step};
use sea_query::{ColumnDef, Iden, Index, Table};
use sha2::{Digest, Sha256};

pub use points::{SeriesKey, SeriesRow};

/// The rows of planning in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "metric series and their points", steps: tables }];

#[derive(Clone, Copy, Iden)]
enum PlanningSeries {
    Table,
    Id,
    TeamId,
    Service,
    Metric,
    CreatedAt,
}

#[derive(Clone, Copy, Iden)]
enum PlanningPoints {
    Table,
    SeriesId,
    At,
    Value,
}

fn tables(_: Dialect) -> Vec<Step> {
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
    ]
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
