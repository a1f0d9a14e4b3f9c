//! What a request for a plan says: whose metric, in which context, at what time. Defaults and aliases of
//! both older dialects are applied here, and what cannot be used is named field by field.

use std::borrow::Cow;

use opsroom_analytics::forecast::contract::{At, Context, RuntimeEnv, ServiceType, TimeSlot};
use opsroom_core::fields::{FieldError, FieldErrors};
use opsroom_core::{Result, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::moment;
use super::store::digest;

/// The service and the situation that a plan is for. Fields that are not known are ignored.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct PlanContext {
    /// An id of the caller's, up to 128 characters; it is given back in the answer.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub context_id: Option<String>,
    /// The time that counts as now: ISO 8601 (without a zone it is UTC) or seconds since 1970. By
    /// default it is the time of the call.
    #[serde(default)]
    pub timestamp: Option<Moment>,
    /// `web`, `api` or `db`.
    pub service_type: ServiceType,
    /// `prod` or `dev`.
    #[serde(default)]
    pub runtime_env: RuntimeEnv,
    /// `peak`, `normal`, `low` or `weekend`.
    #[serde(default)]
    pub time_slot: TimeSlot,
    /// A factor on every value forecast.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub weight: f64,
    /// Where it runs.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub region: Option<String>,
    /// How many users are expected.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub expected_users: Option<u64>,
    /// The same as `expected_users`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub current_users: Option<u64>,
    /// How many virtual processors the service has now: what a share of CPU is a share of.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub curr_cpu: Option<f64>,
    /// The same as `curr_cpu`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub cpu: Option<f64>,
    /// How much memory the service has now, in MiB: what a share of memory is a share of.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e12))]
    pub curr_mem: Option<f64>,
    /// The same as `curr_mem`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e12))]
    pub memory: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl PlanContext {
    /// The context of a service of which nothing more is said.
    pub fn plain(service_type: ServiceType, runtime_env: RuntimeEnv) -> Self {
        Self {
            context_id: None,
            timestamp: None,
            service_type,
            runtime_env,
            time_slot: TimeSlot::default(),
            weight: one(),
            region: None,
            expected_users: None,
            current_users: None,
            curr_cpu: None,
            cpu: None,
            curr_mem: None,
            memory: None,
        }
    }
}

/// A time as a caller writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    /// Seconds since 1970.
    Number(f64),
    /// ISO 8601.
    Text(String),
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "maxLength": 64 })
    }
}

impl Moment {
    /// Seconds since 1970.
    pub fn seconds(&self) -> Option<i64> {
        match self {
            Moment::Number(number) => moment::from_number(*number),
            Moment::Text(text) => moment::parse(text),
        }
    }
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Whose metrics.
    pub service: String,
    /// The dialect whose router decides.
    pub dialect: At,
    /// For the router and the policy.
    pub context: Context,
    /// The time that counts as now, in seconds since 1970.
    pub now: i64,
    /// The caller's id, or one that follows from the request.
    pub context_id: String,
    /// Where it runs.
    pub region: Option<String>,
    /// Wishes in words, which are not used.
    pub requirements: Option<String>,
    /// Virtual processors that the service has now.
    pub cpus: Option<f64>,
    /// MiB of memory that the service has now.
    pub memory_mib: Option<f64>,
    /// What the caller should know about how the request was understood.
    pub notes: Vec<String>,
}

/// Refuses a name of a service or a metric that no series can have.
///
/// # Errors
/// `Invalid` with the field.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    if name.chars().any(char::is_control) {
        let want = "a name has no control characters";
        return Err(FieldErrors(vec![FieldError::new(field, "value_error", want)]).into());
    }
    Ok(())
}

/// Understands a request.
///
/// # Errors
/// `Invalid` with every field that cannot be used.
pub fn understand(
    service_id: Option<&str>,
    github_url: Option<&str>,
    requirements: Option<&str>,
    context: &PlanContext,
    clock: Time,
) -> Result<Subject> {
    let mut errors = Vec::new();
    let mut notes = Vec::new();
    let named = |name: Option<&str>| name.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    let (by_id, by_url) = (named(service_id), named(github_url));
    if by_id.is_none() && by_url.is_none() {
        errors.push(FieldError::new(
            "service_id",
            "missing",
            "name the service: `service_id`, or `github_url` in its place",
        ));
    }
    if let (Some(id), Some(url)) = (&by_id, &by_url)
        && id != url
    {
        notes.push(format!("both service_id and github_url were given; the history of {id:?} was used"));
    }
    let now = match &context.timestamp {
        None => clock.0.div_euclid(1_000_000),
        Some(moment) => moment.seconds().unwrap_or_else(|| {
            let want = "an ISO 8601 time such as 2025-11-11T10:00:00Z, or seconds since 1970, of the years 1970 to 2199";
            errors.push(FieldError::new("context.timestamp", "datetime_parsing", format!("it must be {want}")));
            0
        }),
    };
    if !errors.is_empty() {
        return Err(FieldErrors(errors).into());
    }
    let service = by_id.clone().or(by_url).unwrap_or_default();
    check_name(if by_id.is_some() { "service_id" } else { "github_url" }, &service)?;
    let made = digest(&[&service, &now.to_string(), &format!("{context:?}")]);
    Ok(Subject {
        context_id: context.context_id.clone().unwrap_or(made),
        region: context.region.clone(),
        requirements: requirements.map(str::to_owned),
        dialect: if by_id.is_some() { At::Seed } else { At::Head },
        service,
        context: Context {
            service_type: context.service_type,
            runtime_env: context.runtime_env,
            time_slot: context.time_slot,
            weight: context.weight,
            expected_users: context.expected_users.or(context.current_users),
        },
        now,
        cpus: context.curr_cpu.or(context.cpu).filter(|cpus| *cpus > 0.0),
        memory_mib: context.curr_mem.or(context.memory).filter(|mib| *mib > 0.0),
        notes,
    })
}
