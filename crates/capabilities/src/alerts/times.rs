//! Times at which a route is quiet: nights, weekends, windows of maintenance that come again.

use jiff::civil::Time as TimeOfDay;
use jiff::tz::TimeZone;
use opsroom_core::{Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of the week. Routes that name it in `mute_times` tell nobody while it lasts, and afterwards what still
/// goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuietTime {
    /// The zone whose calendar holds, such as `Asia/Shanghai`; UTC without.
    pub zone: String,
    /// The days on which it begins; every day without.
    pub days: Vec<Weekday>,
    /// When it begins, such as `22:00`; at midnight without.
    pub from: String,
    /// When it ends, such as `06:00`; when that is not after `from`, on the next day. At midnight without.
    pub until: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl QuietTime {
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn validate(&self, name: &str) -> Result<()> {
        self.zone().ok_or_else(|| {
            Error::invalid(format!("{name}.zone: {:?} is not such as Europe/Berlin", self.zone))
        })?;
        for (key, text) in [("from", &self.from), ("until", &self.until)] {
            time_of_day(text)
                .ok_or_else(|| Error::invalid(format!("{name}.{key}: {text:?} is not such as 22:00")))?;
        }
        Ok(())
    }

    /// Whether it is quiet now. One that cannot be read never is.
    pub fn holds(&self, now: Time) -> bool {
        let (Some(zone), Some(from), Some(until)) =
            (self.zone(), time_of_day(&self.from), time_of_day(&self.until))
        else {
            return false;
        };
        let here = now.timestamp().to_zoned(zone).datetime();
        let time = here.time();
        let begins_on = |days_ago: i8| {
            let number =
                usize::try_from(here.weekday().to_monday_zero_offset() - days_ago + 7).unwrap_or(0) % 7;
            self.days.is_empty() || self.days.iter().any(|day| *day as usize == number)
        };
        if from < until {
            return from <= time && time < until && begins_on(0);
        }
        (from <= time && begins_on(0)) || (time < until && begins_on(1))
    }

    fn zone(&self) -> Option<TimeZone> {
        if self.zone.is_empty() { Some(TimeZone::UTC) } else { TimeZone::get(&self.zone).ok() }
    }
}

fn time_of_day(text: &str) -> Option<TimeOfDay> {
    if text.is_empty() { Some(TimeOfDay::midnight()) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(quiet: &serde_json::Value, at: &str) -> bool {
        let quiet: QuietTime = serde_json::from_value(quiet.clone()).unwrap();
        quiet.validate("t").unwrap();
        quiet.holds(Time(at.parse::<jiff::Timestamp>().unwrap().as_microsecond()))
    }

    #[test]
    fn a_night_that_begins_on_friday_lasts_until_saturday_morning() {
        let night = serde_json::json!({ "zone": "Europe/Berlin", "days": ["friday"], "from": "22:00", "until": "06:00" });
        // 9 January 2026 is a Friday; Berlin is an hour ahead of UTC then, and two in summer.
        for (at, expected) in [
            ("2026-01-09T20:59:59Z", false),
            ("2026-01-09T21:00:00Z", true),
            ("2026-01-10T04:59:59Z", true),
            ("2026-01-10T05:00:00Z", false),
            ("2026-01-10T21:30:00Z", false),
            ("2026-01-09T03:00:00Z", false),
            ("2026-07-10T20:00:00Z", true),
        ] {
            assert_eq!(holds(&night, at), expected, "{at}");
        }
    }

    #[test]
    fn whole_days_and_hours_of_every_day() {
        let sunday = serde_json::json!({ "days": ["sunday"] });
        assert!(holds(&sunday, "2026-01-11T00:00:00Z") && holds(&sunday, "2026-01-11T23:59:59Z"));
        assert!(!holds(&sunday, "2026-01-10T23:59:59Z") && !holds(&sunday, "2026-01-12T00:00:00Z"));
        let noon = serde_json::json!({ "from": "12:00", "until": "13:00" });
        assert!(holds(&noon, "2026-01-07T12:30:00Z") && !holds(&noon, "2026-01-07T13:00:00Z"));
        let wrong: QuietTime = serde_json::from_value(serde_json::json!({ "from": "late" })).unwrap();
        assert!(wrong.validate("alerts.times.t").unwrap_err().message.starts_with("alerts.times.t.from"));
    }
}
