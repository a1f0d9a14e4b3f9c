//! `ingest_metrics`: metrics as points or as CSV, into our own store.

use std::collections::BTreeMap;

use opsroom_core::fields::{FieldError, FieldErrors, MOST};
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::Moment;
use super::sources::table::{Bounds, Position, Table};
use super::store::SeriesKey;
use super::{Planning, moment};

/// The most points of one request.
pub const MAX_POINTS: usize = 100_000;
/// The most characters of a service's name.
pub const MAX_SERVICE: usize = 256;
/// The most characters of a metric's name.
pub const MAX_METRIC: usize = 128;

/// Stores metrics of services: JSON points, or CSV with one column a metric or one value a line.
///
/// What was stored is durable when this answers. A value with the time of an earlier one replaces it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct IngestMetrics {
    /// The service of points and rows that name none.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service_id: Option<String>,
    /// The same as `service_id`.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub github_url: Option<String>,
    /// The metric of points and rows that name none.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub metric_name: Option<String>,
    /// The values, at most 100000.
    #[serde(default)]
    #[schemars(length(max = 100_000))]
    pub points: Vec<GivenPoint>,
    /// The values as CSV, with a first line that names the columns.
    #[serde(default)]
    pub csv: Option<String>,
    /// The time of hour 0 of a CSV that has hours and no times. By default its last hour is the present one.
    #[serde(default)]
    pub start: Option<Moment>,
}

/// One value.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GivenPoint {
    /// The service, when it is another one than that of the request.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service_id: Option<String>,
    /// The metric, when it is another one than that of the request.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub metric_name: Option<String>,
    /// When: ISO 8601 or seconds since 1970.
    pub timestamp: Moment,
    /// The value, in the metric's own unit.
    #[schemars(range(min = -1e15, max = 1e15))]
    pub value: f64,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Ingested {
    /// How many values were given.
    pub accepted: usize,
    /// How many had the time of another one in the same request; the last one counts.
    pub repeated: usize,
    /// The series that they belong to, at most 100 of them.
    pub series: Vec<IngestedSeries>,
    /// How many further series there are.
    pub more: usize,
    /// What was left out.
    pub notes: Vec<String>,
}

/// What one series got.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct IngestedSeries {
    /// The service.
    pub service_id: String,
    /// The metric.
    pub metric_name: String,
    /// How many values.
    pub values: usize,
    /// The first of them.
    pub from: String,
    /// The last of them.
    pub to: String,
}

type Gathered = BTreeMap<SeriesKey, BTreeMap<i64, f64>>;

pub(super) async fn ingest_metrics(service: Planning, call: Call, input: IngestMetrics) -> Result<Ingested> {
    let now = service.clock.now();
    let team = super::team(&call.caller);
    let mut notes = Vec::new();
    let mut gathered = Gathered::new();
    let mut accepted = gather_points(&input, &mut gathered)?;
    if let Some(csv) = &input.csv {
        let table = Table::parse(csv, Bounds::REQUEST)?;
        accepted += table.points.len();
        gather_table(&table, &input, now.0.div_euclid(3_600_000_000), &mut gathered)?;
        notes.extend(table.notes);
    }
    if accepted == 0 {
        return Err(FieldErrors(vec![FieldError::new(
            "points",
            "missing",
            "give `points` or `csv` with at least one value",
        )])
        .into());
    }
    let stored: usize = gathered.values().map(BTreeMap::len).sum();
    let mut series: Vec<IngestedSeries> = gathered.iter().filter_map(shown).collect();
    let more = series.len().saturating_sub(100);
    series.truncate(100);
    service.store.write(&team, gathered, service.config.max_series.into(), now).await?;
    service.arrived.notify_one();
    Ok(Ingested { accepted, repeated: accepted - stored, series, more, notes })
}

fn shown((key, values): (&SeriesKey, &BTreeMap<i64, f64>)) -> Option<IngestedSeries> {
    let ((from, _), (to, _)) = (values.first_key_value()?, values.last_key_value()?);
    Some(IngestedSeries {
        service_id: key.service.clone(),
        metric_name: key.metric.clone(),
        values: values.len(),
        from: moment::show(*from),
        to: moment::show(*to),
    })
}

fn gather_points(input: &IngestMetrics, gathered: &mut Gathered) -> Result<usize> {
    let mut errors = Vec::new();
    for (at, point) in input.points.iter().enumerate() {
        if errors.len() >= MOST {
            break;
        }
        let mut wrong = |field: &str, code, want: &str| {
            errors.push(FieldError::new(&format!("points.{at}.{field}"), code, want));
        };
        let service = point.service_id.as_ref().or(input.service_id.as_ref()).or(input.github_url.as_ref());
        let metric = point.metric_name.as_ref().or(input.metric_name.as_ref());
        let mut named = |field: &str, name: Option<&String>, most: usize| {
            let good = name.and_then(|name| name_of(name, most));
            match name {
                None => wrong(field, "missing", "neither the point nor the request names it"),
                Some(_) if good.is_none() => wrong(field, "value_error", &name_rule(most)),
                Some(_) => {}
            }
            good
        };
        let service = named("service_id", service, MAX_SERVICE);
        let metric = named("metric_name", metric, MAX_METRIC);
        let (Some(service), Some(metric)) = (service, metric) else { continue };
        let key = SeriesKey { service, metric };
        match point.timestamp.seconds() {
            Some(at) => drop(gathered.entry(key).or_default().insert(at, point.value)),
            None => wrong("timestamp", "datetime_parsing", "it is an ISO 8601 time, or seconds since 1970"),
        }
    }
    if errors.is_empty() { Ok(input.points.len()) } else { Err(FieldErrors(errors).into()) }
}

fn gather_table(table: &Table, input: &IngestMetrics, present: i64, gathered: &mut Gathered) -> Result<()> {
    let start = match (&input.start, table.last_hour) {
        (Some(start), _) => {
            let seconds = start.seconds();
            let want = "it is an ISO 8601 time, or seconds since 1970";
            seconds
                .ok_or_else(|| FieldErrors(vec![FieldError::new("start", "datetime_parsing", want)]))?
                .div_euclid(3600)
        }
        (None, Some(last)) => present - last,
        (None, None) => 0,
    };
    let mut keys = Vec::with_capacity(table.series.len());
    for (service, metric) in &table.series {
        keys.push(key(table, service.as_ref(), metric, input)?);
    }
    for point in &table.points {
        let at = match point.at {
            Position::Hour(hour) => moment::taken(start.saturating_add(hour).saturating_mul(3600)),
            Position::Second(second) => Some(second),
        };
        let at = at.ok_or_else(|| {
            let advice = if input.start.is_some() { "they count from `start`" } else { "give `start`" };
            Error::invalid(format!(
                "the CSV has hours that would lie outside the years 1970 to 2199; {advice}"
            ))
        })?;
        gathered.entry(keys[point.series].clone()).or_default().insert(at, point.value);
    }
    Ok(())
}

/// Whose the values of a table's series are. What the table does not name, the request names.
fn key(table: &Table, service: Option<&String>, metric: &str, input: &IngestMetrics) -> Result<SeriesKey> {
    let wrong = |field: &str, code: &'static str, want: &str| {
        Error::from(FieldErrors(vec![FieldError::new(field, code, want)]))
    };
    let service = service
        .or(input.service_id.as_ref())
        .or(input.github_url.as_ref())
        .ok_or_else(|| wrong("service_id", "missing", "neither the CSV nor the request names the service"))?;
    let unnamed = table.unnamed || metric.is_empty();
    let metric = input.metric_name.as_deref().filter(|_| unnamed).unwrap_or(metric);
    let name = |field: &str, what: &str, name: &str, most: usize| {
        name_of(name, most).ok_or_else(|| {
            let shown: String = name.escape_debug().take(40).collect();
            wrong(field, "value_error", &format!("the {what} `{shown}` in the CSV: {}", name_rule(most)))
        })
    };
    Ok(SeriesKey {
        service: name("service_id", "service", service, MAX_SERVICE)?,
        metric: name("metric_name", "metric", metric, MAX_METRIC)?,
    })
}

/// A name without the blanks around it; `None` for what cannot be one.
pub(super) fn name_of(name: &str, most: usize) -> Option<String> {
    let name = name.trim();
    let good = !name.is_empty() && name.chars().count() <= most && !name.chars().any(char::is_control);
    good.then(|| name.to_owned())
}

fn name_rule(most: usize) -> String {
    format!("a name has 1 to {most} characters and no control characters")
}
