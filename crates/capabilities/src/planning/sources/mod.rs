//! Where the history of a metric is read from.

pub mod prometheus;
mod promql;
pub mod table;

use std::path::PathBuf;
use std::sync::Arc;

use opsroom_analytics::forecast::clean::Reading;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};

use super::store::external::External;
use super::store::{Point, SeriesKey, Store};
use prometheus::Prometheus;
use table::{Position, Table};

/// The most bytes of a CSV file.
const MAX_CSV_BYTES: u64 = 256 << 20;

/// What is asked of a source.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose data: the team.
    pub team: String,
    /// Which series.
    pub key: SeriesKey,
    /// The first second wanted.
    pub from: i64,
    /// The time that counts as now: nothing later is wanted.
    pub now: i64,
}

/// What a source gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The readings, in any order.
    pub readings: Vec<Reading>,
    /// What a reader of the plan should know.
    pub notes: Vec<String>,
}

/// A place where histories are.
#[derive(Clone)]
pub enum Source {
    /// What `ingest_metrics` stored.
    Store(Store),
    /// A CSV file of the operator's.
    Csv(Arc<PathBuf>),
    /// A table in another database.
    Database(External),
    /// A Prometheus server.
    Prometheus(Prometheus),
}

impl Source {
    /// The readings of a series within the time asked for; none when nothing is known of it.
    ///
    /// # Errors
    /// `Unavailable` when the source does not answer, `Invalid` when it holds something else.
    pub async fn history(&self, query: &Query) -> Result<Found> {
        match self {
            Source::Store(store) => {
                let points = store.points(&query.team, &query.key, query.from, query.now).await?;
                Ok(found(points))
            }
            Source::Database(external) => {
                Ok(found(external.points(&query.key, query.from, query.now).await?))
            }
            Source::Prometheus(prometheus) => prometheus.history(query).await,
            Source::Csv(path) => {
                let (path, query) = (path.clone(), query.clone());
                Lifecycle::blocking(move || from_csv(&path, &query)).await
            }
        }
    }
}

fn found(points: Vec<Point>) -> Found {
    let readings = points.into_iter().map(|point| Reading { at: point.at, value: point.value }).collect();
    Found { readings, notes: Vec::new() }
}

/// Whatever is wrong with the file is the operator's to mend, and no caller's: the source is unavailable, and
/// the log has the path.
fn from_csv(path: &std::path::Path, query: &Query) -> Result<Found> {
    let away = |what: &str, error: Error| {
        tracing::warn!(error = %error, causes = error.causes(), "the file of planning.csv_path cannot be used");
        Error::unavailable(format!("the CSV file of `planning.csv_path` {what}")).because(error)
    };
    let bytes = opsroom_core::files::read_named(path, MAX_CSV_BYTES);
    let bytes = bytes.map_err(|error| away("cannot be read", error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| away("is not UTF-8", Error::internal(error)))?;
    let table = Table::parse(text, table::Bounds::FILE)
        .map_err(|error| away(&format!("cannot be used: {}", error.message), error))?;
    Ok(pick(&table, query))
}

/// The readings of one series of a table. A table of hours without times ends at the present hour.
fn pick(table: &Table, query: &Query) -> Found {
    let mut notes = table.notes.clone();
    let matches = |at: &usize| {
        let (service, metric) = &table.series[*at];
        service.as_deref().is_none_or(|service| service == query.key.service) && *metric == query.key.metric
    };
    // A file that names the service wins over columns that belong to any.
    let found = (0..table.series.len()).filter(matches).max_by_key(|at| table.series[*at].0.is_some());
    let Some(found) = found else { return Found { readings: Vec::new(), notes } };
    let last = table.last_hour.unwrap_or(0);
    let anchor = query.now.div_euclid(3600) - last;
    if table.last_hour.is_some() {
        notes.push("the file has hours and no times; its last one counts as the present one".to_owned());
    }
    let reading = |at: &Position, value: f64| Reading {
        at: match at {
            Position::Hour(hour) => (anchor + hour) * 3600,
            Position::Second(second) => *second,
        },
        value,
    };
    let readings = table
        .points
        .iter()
        .filter(|point| point.series == found)
        .map(|point| reading(&point.at, point.value))
        .filter(|reading| (query.from..=query.now).contains(&reading.at))
        .collect();
    Found { readings, notes }
}
