//! `override_on_call`, `end_on_call_override`: somebody else on call for a time.

use opsroom_core::id::new_id;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::oncall::PREFIX;
use super::store::OverrideRow;
use super::{Alerts, shown};

/// The longest override: a year.
const LONGEST_SECONDS: i64 = 366 * 86_400;

/// Puts somebody else on call for a time, such as for a shift that was swapped: messages to `oncall:ROTATION` go to
/// that channel meanwhile. Of several at once, the one that was made last counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideOnCall {
    /// The rotation; `list_on_call` has their names.
    #[schemars(length(min = 1, max = 64))]
    rotation: String,
    /// The channel that is told instead.
    #[schemars(length(min = 1, max = 64))]
    channel: String,
    /// From when, RFC 3339; now without.
    #[serde(default)]
    #[schemars(length(max = 64))]
    starts_at: Option<String>,
    /// Until when, RFC 3339, at most a year later.
    #[schemars(length(max = 64))]
    ends_at: String,
}

/// Somebody else on call for a time.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OnCallOverride {
    /// Its id.
    pub id: String,
    /// The rotation.
    pub rotation: String,
    /// The channel that is told instead.
    pub channel: String,
    /// From when.
    pub starts_at: String,
    /// Until when.
    pub ends_at: String,
    /// Who made it.
    pub created_by: String,
}

/// Ends an override now: whoever's turn it is is on call again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndOnCallOverride {
    /// Its id; `list_on_call` has them.
    #[schemars(length(max = 64))]
    id: String,
}

/// The override that ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EndedOverride {
    /// Its id.
    pub ended: String,
}

pub(super) fn shown_override(row: OverrideRow) -> OnCallOverride {
    OnCallOverride {
        id: row.id,
        rotation: row.rotation,
        channel: row.channel,
        starts_at: shown(row.starts_at),
        ends_at: shown(row.ends_at),
        created_by: row.created_by,
    }
}

fn time(key: &str, text: &str) -> Result<Time> {
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| Error::invalid(format!("{key}: {text:?} is not a time such as 2026-01-05T10:00:00Z")))?;
    Ok(Time(at.as_microsecond()))
}

pub(super) async fn override_on_call(
    service: Alerts,
    call: Call,
    input: OverrideOnCall,
) -> Result<OnCallOverride> {
    let now = service.clock.now();
    if !service.config.rotations.contains_key(&input.rotation) {
        let names: Vec<&str> = service.config.rotations.keys().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "rotation: there is no rotation {:?} in `alerts.rotations`; there are: {}",
            input.rotation,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )));
    }
    if input.channel.starts_with(PREFIX) {
        return Err(Error::invalid("channel: it is a channel, not a rotation"));
    }
    let starts_at = input.starts_at.as_deref().map_or(Ok(now), |text| time("starts_at", text))?.max(now);
    let ends_at = time("ends_at", &input.ends_at)?;
    if ends_at <= starts_at || ends_at > starts_at.plus_seconds(LONGEST_SECONDS) {
        return Err(Error::invalid("ends_at: it is after starts_at and now, and at most a year later"));
    }
    let team = call.caller.team().to_owned();
    if !service.notifications.has_channel(&team, &input.channel).await? {
        return Err(Error::invalid(format!(
            "channel: there is no channel {:?}; list_channels has their names",
            input.channel
        )));
    }
    let row = OverrideRow {
        id: new_id(),
        team,
        created_by: call.caller.subject.clone(),
        rotation: input.rotation,
        channel: input.channel,
        starts_at,
        ends_at,
    };
    service.store.add_override(&row).await?;
    Ok(shown_override(row))
}

pub(super) async fn end_on_call_override(
    service: Alerts,
    call: Call,
    input: EndOnCallOverride,
) -> Result<EndedOverride> {
    let now = service.clock.now();
    if !service.store.end_override(&call.caller.teams, &input.id, now).await? {
        let id: String = input.id.chars().take(64).collect();
        return Err(Error::not_found(format!(
            "there is no override {id:?} that goes on or is to come; list_on_call has them"
        )));
    }
    Ok(EndedOverride { ended: input.id })
}
