//! Who is on call: rotations of channels, by the calendar of a place.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::overrides::{OnCallOverride, shown_override};
use super::store::OverrideRow;
use super::{Alerts, shown};

/// What a route's channel begins with when it is a rotation.
pub const PREFIX: &str = "oncall:";

/// The channels that take turns. A route names it as `oncall:NAME`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// The zone whose calendar holds, such as `Asia/Shanghai`; UTC without.
    pub zone: String,
    /// When the first one begins, such as `2026-01-05T09:00`, in that zone; the others follow at that time of
    /// the day, also when clocks are changed.
    pub starts: String,
    /// For how many days each one is on call, from 1 to 366.
    pub days: u32,
    /// The channels, in their order.
    pub channels: Vec<String>,
    /// Who is on call instead, for a time.
    pub overrides: Vec<Override>,
}

/// Somebody else for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// From when, in the rotation's zone, such as `2026-01-06T18:00`.
    pub from: String,
    /// Until when.
    pub until: String,
    /// The channel.
    pub channel: String,
}

fn moment(name: &str, text: &str) -> Result<DateTime> {
    text.parse().map_err(|_| Error::invalid(format!("{name}: {text:?} is not such as 2026-01-05T09:00")))
}

impl Rotation {
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn validate(&self, name: &str) -> Result<()> {
        self.zone(name)?;
        moment(&format!("{name}.starts"), &self.starts)?;
        if !(1..=366).contains(&self.days) {
            return Err(Error::invalid(format!("{name}.days: it is from 1 to 366")));
        }
        if self.channels.is_empty() || self.channels.iter().any(|channel| channel.starts_with(PREFIX)) {
            return Err(Error::invalid(format!("{name}.channels: it names channels, at least one")));
        }
        for (number, other) in self.overrides.iter().enumerate() {
            let name = format!("{name}.overrides.{number}");
            let (from, until) = (
                moment(&format!("{name}.from"), &other.from)?,
                moment(&format!("{name}.until"), &other.until)?,
            );
            if from >= until {
                return Err(Error::invalid(format!("{name}: it ends before it begins")));
            }
        }
        Ok(())
    }

    fn zone(&self, name: &str) -> Result<TimeZone> {
        if self.zone.is_empty() {
            return Ok(TimeZone::UTC);
        }
        TimeZone::get(&self.zone)
            .map_err(|_| Error::invalid(format!("{name}.zone: {:?} is not such as Europe/Berlin", self.zone)))
    }

    /// The channel that is on call, and until when: of the overrides that people made, else by the calendar.
    ///
    /// # Errors
    /// Those of a rotation that was not validated.
    pub fn with(&self, overrides: &[&OverrideRow], now: Time) -> Result<(String, Time)> {
        let begin = overrides.iter().map(|it| it.starts_at).filter(|at| *at > now);
        let (channel, until) = match overrides.iter().find(|it| it.starts_at <= now && now < it.ends_at) {
            Some(other) => (other.channel.clone(), other.ends_at),
            None => self.at(now)?,
        };
        Ok((channel, begin.fold(until, Time::min)))
    }

    /// The channel that is on call by the calendar, and until when.
    ///
    /// # Errors
    /// Those of a rotation that was not validated.
    pub fn at(&self, now: Time) -> Result<(String, Time)> {
        let zone = self.zone("rotation")?;
        let here = now.timestamp().to_zoned(zone.clone()).datetime();
        let instant = |at: DateTime| -> Result<Time> {
            let zoned = at.to_zoned(zone.clone()).map_err(Error::internal)?;
            Ok(Time(zoned.timestamp().as_microsecond()))
        };
        for other in &self.overrides {
            let (from, until) = (moment("from", &other.from)?, moment("until", &other.until)?);
            if from <= here && here < until {
                return Ok((other.channel.clone(), instant(until)?));
            }
        }
        let start = moment("starts", &self.starts)?;
        let whole = here.date().since(start.date()).map_err(Error::internal)?.get_days();
        // Before the hour of the handover it is still the day before.
        let day = i64::from(whole) - i64::from(here.time() < start.time());
        let turn = day.div_euclid(i64::from(self.days));
        let count = i64::try_from(self.channels.len()).unwrap_or(1);
        let at = usize::try_from(turn.rem_euclid(count)).unwrap_or(0);
        let span = jiff::Span::new().days((turn + 1) * i64::from(self.days));
        let next = instant(start.checked_add(span).map_err(Error::internal)?)?;
        let coming = self.overrides.iter().filter_map(|it| instant(it.from.parse().ok()?).ok());
        let until = coming.filter(|at| *at > now).fold(next, Time::min);
        Ok((self.channels[at].clone(), until))
    }
}

/// Shows who is on call now, and who takes over when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListOnCall {}

/// Who is on call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OnCallPage {
    /// The rotations, by name.
    pub items: Vec<OnCall>,
    /// Who is on call instead, now or later, as people made it; the newest first.
    pub overrides: Vec<OnCallOverride>,
}

/// Who of a rotation is on call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OnCall {
    /// The rotation.
    pub rotation: String,
    /// The channel that is on call.
    pub channel: String,
    /// Until when.
    pub until: String,
    /// The channel that follows.
    pub next: String,
    /// Its channels that there are not, so that others are told instead; empty when all is well.
    pub missing: Vec<String>,
}

pub(super) async fn list_on_call(service: Alerts, call: Call, _: ListOnCall) -> Result<OnCallPage> {
    let now = service.clock.now();
    let overrides = service.store.overrides(&call.caller.teams, now).await?;
    let mut items = Vec::new();
    for (name, rotation) in &service.config.rotations {
        let of = of(&overrides, name);
        let (channel, until) = rotation.with(&of, now)?;
        let (next, _) = rotation.with(&of, until)?;
        let mut missing = Vec::new();
        for channel in &rotation.channels {
            if !service.notifications.has_channel(call.caller.team(), channel).await? {
                missing.push(channel.clone());
            }
        }
        items.push(OnCall { rotation: name.clone(), channel, until: shown(until), next, missing });
    }
    Ok(OnCallPage { items, overrides: overrides.into_iter().map(shown_override).collect() })
}

fn of<'a>(overrides: &'a [OverrideRow], rotation: &str) -> Vec<&'a OverrideRow> {
    overrides.iter().filter(|it| it.rotation == rotation).collect()
}

/// The channel that a name means now: of a rotation, who is on call.
pub fn resolve(
    rotations: &BTreeMap<String, Rotation>,
    overrides: &[OverrideRow],
    channel: &str,
    now: Time,
) -> String {
    let found = channel.strip_prefix(PREFIX).and_then(|name| rotations.get_key_value(name));
    let on_call = found.and_then(|(name, it)| it.with(&of(overrides, name), now).ok());
    on_call.map_or_else(|| channel.to_owned(), |(channel, _)| channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn rotation(overrides: serde_json::Value) -> Rotation {
        serde_json::from_value(serde_json::json!({
            "zone": "Europe/Berlin", "starts": "2026-03-27T09:00", "days": 1, "channels": ["ada", "bob"],
            "overrides": overrides
        }))
        .unwrap()
    }

    #[test]
    fn the_handover_stays_at_nine_when_clocks_change() {
        let it = rotation(serde_json::json!([]));
        it.validate("r").unwrap();
        // On 29 March 2026 Berlin goes from UTC+1 to UTC+2.
        for (time, who, until) in [
            ("2026-03-27T07:59:59Z", "bob", "2026-03-27T08:00:00Z"),
            ("2026-03-27T08:00:00Z", "ada", "2026-03-28T08:00:00Z"),
            ("2026-03-28T08:00:00Z", "bob", "2026-03-29T07:00:00Z"),
            ("2026-03-29T06:59:59Z", "bob", "2026-03-29T07:00:00Z"),
            ("2026-03-29T07:00:00Z", "ada", "2026-03-30T07:00:00Z"),
        ] {
            assert_eq!(it.at(at(time)).unwrap(), (who.to_owned(), at(until)), "{time}");
        }
    }

    #[test]
    fn somebody_else_takes_over_for_a_time() {
        let other = serde_json::json!([{ "from": "2026-03-27T18:00", "until": "2026-03-27T20:00", "channel": "eve" }]);
        let it = rotation(other);
        assert_eq!(
            it.at(at("2026-03-27T16:00:00Z")).unwrap(),
            ("ada".to_owned(), at("2026-03-27T17:00:00Z"))
        );
        assert_eq!(
            it.at(at("2026-03-27T17:00:00Z")).unwrap(),
            ("eve".to_owned(), at("2026-03-27T19:00:00Z"))
        );
        assert_eq!(it.at(at("2026-03-27T19:00:00Z")).unwrap().0, "ada");
        for (key, value) in [("zone", "Mars/X"), ("starts", "monday")] {
            let mut wrong = serde_json::to_value(&it).unwrap();
            wrong[key] = value.into();
            let wrong: Rotation = serde_json::from_value(wrong).unwrap();
            assert!(
                wrong.validate("alerts.rotations.r").unwrap_err().message.starts_with("alerts.rotations.r.")
            );
        }
    }
}
