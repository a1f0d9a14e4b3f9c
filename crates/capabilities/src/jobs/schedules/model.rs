//! A schedule as callers see it, and the pure rules of time: when it is due, and what becomes of a run
//! that was missed.
//!
//! A moment in a gap of the local clock (02:30 on the night when it goes from 02:00 to 03:00) becomes the
//! first moment after the gap, and a moment that the local clock shows twice runs once, at its first
//! time. An expression that repeats within the day (`*/30 * * * *`) goes by the time that passes: in the
//! gap it has nothing to do, and in the doubled hour it runs in both.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use opsroom_core::caller::{Caller, Face, Role, Scope};
use opsroom_core::clock::Time;
use opsroom_core::error::{Error, Result};
use opsroom_core::job::State;
use opsroom_core::operation::Operation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jobs::model::clean;

/// How late a run may be, in seconds, before it counts as missed.
pub const LATE_SECONDS: i64 = 60;

/// Something that is called again and again, by the clock.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Schedule {
    /// The schedule's id.
    pub id: String,
    /// Its name, unique in the team.
    pub name: String,
    /// When, as a cron expression of five fields: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// The same in words.
    pub meaning: String,
    /// The time zone that the expression is read in, an IANA name.
    pub zone: String,
    /// The operation that is called.
    pub operation: String,
    /// The input it is called with.
    pub input: Value,
    /// What becomes of a run that was missed.
    pub missed: Missed,
    /// Whether it runs at all.
    pub enabled: bool,
    /// Whose rights it runs with, by name: the last one who changed it.
    pub owner: String,
    /// Whose rights it runs with, as the audit trail names them.
    pub created_by: String,
    /// The team that sees it.
    #[serde(rename = "team_id")]
    pub team: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
    /// When it runs next, RFC 3339; null when it is not enabled.
    pub next_run_at: Option<String>,
    /// When it last began to run, RFC 3339; null when it never did.
    pub last_run_at: Option<String>,
    /// How the last run ended, or that it still runs; null when it never ran.
    pub last_outcome: Option<State>,
    /// What the last run said, such as why it failed.
    pub last_message: Option<String>,
    /// The job of the last run, where the operation runs as one.
    pub last_job_id: Option<String>,
}

/// What becomes of a run that was missed, because no server was up or the one before still ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// It is left out.
    #[default]
    Skip,
    /// It is made up for: once, however many were missed.
    RunOnce,
}

impl Missed {
    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::RunOnce => "run_once",
        }
    }
}

/// What to do with a schedule whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Run it now.
    Run,
    /// Leave this moment out, and go on to the next.
    Skip,
    /// Leave it due, until the run before has ended.
    Later,
}

/// What to do at `now` with a schedule that was due at `due`; `busy` when its last run still goes on.
pub fn decide(now: Time, due: Time, missed: Missed, busy: bool) -> Due {
    let late = now > due.plus_seconds(LATE_SECONDS);
    match (missed, busy) {
        (Missed::RunOnce, true) => Due::Later,
        (Missed::Skip, true) => Due::Skip,
        (Missed::Skip, false) if late => Due::Skip,
        _ => Due::Run,
    }
}

/// When something happens: a cron expression in a time zone.
pub struct Timing {
    cron: Cron,
    zone: TimeZone,
}

impl Timing {
    /// Reads an expression of five fields and the name of a zone.
    ///
    /// # Errors
    /// `Invalid`, with what would be right, for an expression or a zone that is none, and for one that
    /// never comes, such as 30 February.
    pub fn parse(cron: &str, zone: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(format!(
                "cron: {:?} {why}; write five fields (minute, hour, day of month, month, day of week), for example \
                 \"30 2 * * 1-5\" for 02:30 from Monday to Friday, or \"*/15 * * * *\" for every quarter of an hour",
                clean(cron, 100)
            ))
        };
        if cron.len() > 100 {
            return Err(wrong("is longer than 100 bytes".to_owned()));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron =
            parser.parse(cron).map_err(|error| wrong(format!("is not a cron expression ({error})")))?;
        let zone = time_zone(zone)?;
        let timing = Self { cron, zone };
        if timing.next(Time(0)).is_none() {
            return Err(wrong("never comes".to_owned()));
        }
        Ok(timing)
    }

    /// The first moment after `after`, if there is one.
    pub fn next(&self, after: Time) -> Option<Time> {
        let from = after.timestamp().to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        Some(Time(next.timestamp().as_microsecond()))
    }

    /// The expression in English.
    pub fn meaning(&self) -> String {
        self.cron.describe()
    }
}

fn time_zone(name: &str) -> Result<TimeZone> {
    let known = name.len() <= 64 && !name.is_empty();
    let zone = if known { TimeZone::get(name).ok() } else { None };
    zone.ok_or_else(|| {
        Error::invalid(format!(
            "zone: {:?} is not a time zone that is known here; use an IANA name, for example \"Europe/Berlin\" or \"UTC\"",
            clean(name, 64)
        ))
    })
}

/// Whose rights a schedule runs with, as they were when it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The rung at that time; a later, higher one does not count.
    pub role: Role,
    /// The scopes at that time.
    pub scopes: Option<Vec<Scope>>,
    /// The teams at that time.
    pub teams: Vec<String>,
}

impl Owner {
    /// The rights of a caller.
    pub fn of(caller: &Caller) -> Self {
        Self { role: caller.role, scopes: caller.scopes.clone(), teams: caller.teams.clone() }
    }

    /// Who a run acts for: what the owner could do when the schedule was written and still can.
    ///
    /// # Errors
    /// `Forbidden` when one of the two may not call the operation, or the owner has left the team.
    pub fn acting(&self, team: &str, now: Caller, operation: &Operation) -> Result<Caller> {
        let Caller { name, .. } = &now;
        if !now.teams.iter().any(|other| other == team) {
            return Err(Error::forbidden(format!(
                "{name}, who owns the schedule, is not in the team {team} any more"
            )));
        }
        now.authorise(operation)?;
        let mut teams = vec![team.to_owned()];
        teams.extend(self.teams.iter().filter(|other| *other != team && now.teams.contains(other)).cloned());
        let scopes = self.scopes.clone().or_else(|| now.scopes.clone());
        let acting = Caller { role: self.role.min(now.role), scopes, teams, face: Face::Schedule, ..now };
        acting.authorise(operation)?;
        Ok(acting)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    /// The next moments after `from`, in UTC.
    fn check(cron: &str, zone: &str, from: &str, expected: &[&str]) {
        let timing = Timing::parse(cron, zone).unwrap();
        let mut now = at(from);
        for moment in expected {
            now = timing.next(now).unwrap();
            assert_eq!(now.to_rfc3339(), *moment, "{cron} in {zone}");
        }
    }

    #[test]
    fn the_local_time_stays_the_same_when_summer_comes() {
        let days = ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"];
        check("0 9 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", &days);
    }

    #[test]
    fn a_time_in_the_gap_runs_at_its_end_and_only_once() {
        let nights = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
        check("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", &nights);
    }

    #[test]
    fn a_time_that_comes_twice_runs_the_first_time() {
        let nights = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        check("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &nights);
    }

    #[test]
    fn what_repeats_within_the_day_goes_by_the_time_that_passes() {
        let gap = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &gap);
        let double = ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
        check("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &double);
    }

    #[test]
    fn half_hour_zones_and_leap_days_are_right() {
        check("0 0 29 2 *", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2028-02-28T18:30:00Z"]);
        // Lord Howe's clock moves by half an hour.
        let nights = ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"];
        check("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &nights);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_an_example() {
        let long = "*".repeat(101);
        for cron in ["", "61 * * * *", "* * *", "* * * * * *", "0 0 30 2 *", "every day", "@nonsense", &long]
        {
            let error = Timing::parse(cron, "UTC").err().unwrap_or_else(|| panic!("{cron} was taken"));
            assert!(error.message.starts_with("cron: "), "{}", error.message);
            assert!(error.message.contains("for example \"30 2 * * 1-5\""), "{}", error.message);
        }
        assert!(Timing::parse("@daily", "UTC").is_ok());
    }

    #[test]
    fn what_is_no_zone_is_refused_with_an_example() {
        for zone in ["", "Mars/Base", "../../etc/passwd", "/etc/localtime", &"x".repeat(1000)] {
            let error = Timing::parse("0 0 * * *", zone).err().unwrap();
            assert!(error.message.starts_with("zone: ") && error.message.contains("\"Europe/Berlin\""));
            assert!(error.message.len() < 300);
        }
    }

    #[test]
    fn a_missed_run_is_left_out_or_made_up_for_as_its_rule_says() {
        let due = at("2026-01-01T00:00:00Z");
        let (soon, late) = (due.plus_seconds(LATE_SECONDS), due.plus_seconds(LATE_SECONDS + 1));
        assert_eq!(decide(soon, due, Missed::Skip, false), Due::Run);
        assert_eq!(decide(late, due, Missed::Skip, false), Due::Skip);
        assert_eq!(decide(late, due, Missed::RunOnce, false), Due::Run);
        assert_eq!(decide(soon, due, Missed::Skip, true), Due::Skip);
        assert_eq!(decide(late, due, Missed::RunOnce, true), Due::Later);
    }
}
