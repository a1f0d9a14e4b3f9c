//! `silence_alerts`, `list_silences`, `end_silence`.

use opsroom_core::id::new_id;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matchers::Matcher;
use super::store::SilenceRow;
use super::{Alerts, shown};

/// The longest silence, in seconds: a year.
const LONGEST_SECONDS: u64 = 366 * 86_400;

/// Keeps alerts quiet for a time: they are received and listed, and nobody is told of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SilenceAlerts {
    /// Conditions on labels, such as `alertname="Down"` or `env=~"dev|test"`; all of them must hold.
    #[schemars(length(min = 1, max = 64))]
    matchers: Vec<Matcher>,
    /// For how many seconds, from 60 to 31622400.
    #[serde(default = "hour")]
    #[schemars(range(min = 60, max = 31_622_400))]
    seconds: u64,
    /// When it begins, RFC 3339; now without.
    #[serde(default)]
    #[schemars(length(max = 64))]
    starts_at: Option<String>,
    /// Why.
    #[schemars(length(min = 1, max = 2000))]
    comment: String,
}

fn hour() -> u64 {
    3600
}

/// A silence.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Which alerts it keeps quiet.
    pub matchers: Vec<Matcher>,
    /// Why.
    pub comment: String,
    /// Who made it.
    pub created_by: String,
    /// When it begins.
    pub starts_at: String,
    /// When it ends.
    pub ends_at: String,
}

/// Lists the silences that hold or will hold, newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSilences {}

/// Silences.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Silences {
    /// The silences.
    pub items: Vec<Silence>,
}

/// Ends a silence now: what it kept quiet and still goes on is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndSilence {
    /// Its id.
    #[schemars(length(max = 64))]
    id: String,
}

/// The silence that ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EndedSilence {
    /// Its id.
    pub ended: String,
}

fn silence(row: SilenceRow) -> Silence {
    Silence {
        id: row.id,
        matchers: row.matchers,
        comment: row.comment,
        created_by: row.created_by,
        starts_at: shown(row.starts_at),
        ends_at: shown(row.ends_at),
    }
}

pub(super) async fn silence_alerts(service: Alerts, call: Call, input: SilenceAlerts) -> Result<Silence> {
    let now = service.clock.now();
    let starts_at = match &input.starts_at {
        None => now,
        Some(text) => {
            let at: jiff::Timestamp = text.parse().map_err(|_| {
                Error::invalid(format!("starts_at: {text:?} is not a time such as 2026-01-05T10:00:00Z"))
            })?;
            Time(at.as_microsecond()).max(now)
        }
    };
    let row = SilenceRow {
        id: new_id(),
        team: call.caller.team().to_owned(),
        created_by: call.caller.subject.clone(),
        matchers: input.matchers,
        comment: input.comment,
        starts_at,
        ends_at: starts_at.plus_seconds(input.seconds.clamp(60, LONGEST_SECONDS) as i64),
    };
    service.store.add_silence(&row).await?;
    service.store.wake_groups(&row.team, row.starts_at).await?;
    service.arrived.notify_one();
    Ok(silence(row))
}

pub(super) async fn list_silences(service: Alerts, call: Call, _: ListSilences) -> Result<Silences> {
    let rows = service.store.silences(&call.caller.teams, service.clock.now()).await?;
    Ok(Silences { items: rows.into_iter().map(silence).collect() })
}

pub(super) async fn end_silence(service: Alerts, call: Call, input: EndSilence) -> Result<EndedSilence> {
    let now = service.clock.now();
    if !service.store.end_silence(&call.caller.teams, &input.id, now).await? {
        let id: String = input.id.chars().take(64).collect();
        return Err(Error::not_found(format!(
            "there is no silence {id:?} that goes on; list_silences has them"
        )));
    }
    for team in &call.caller.teams {
        service.store.wake_groups(team, now).await?;
    }
    service.arrived.notify_one();
    Ok(EndedSilence { ended: input.id })
}
