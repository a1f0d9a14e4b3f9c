//! `silence_alerts`, `list_silences`, `end_silence`, `import_silences`.

use opsroom_core::id::new_id;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matchers::{Matcher, must_select};
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

/// Takes over Alertmanager's silences that hold or will hold, as `amtool silence query -o json` or its API
/// `/api/v2/silences` writes them. One that is here already, with the same matchers and times, is not made again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportSilences {
    /// The JSON text: an array of silences.
    #[schemars(length(min = 2, max = 1_000_000))]
    json: String,
    /// Only say what would be made.
    #[serde(default)]
    dry_run: bool,
}

/// What was taken over.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportedSilences {
    /// The silences that were made, or would be.
    pub items: Vec<Silence>,
    /// What was not taken over, and why.
    pub left_out: Vec<String>,
}

/// One of Alertmanager's silences (its API v2).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Theirs {
    #[serde(default)]
    id: String,
    matchers: Vec<TheirMatcher>,
    starts_at: String,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TheirMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

/// The most silences that are taken over at once.
const MOST_IMPORTED: usize = 1000;

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
    must_select(&input.matchers)?;
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

impl Theirs {
    /// It as ours; why not, in words.
    fn taken_over(&self, call: &Call, now: Time) -> std::result::Result<SilenceRow, String> {
        let time = |text: &str| {
            let at: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time"))?;
            Ok::<_, String>(Time(at.as_microsecond()))
        };
        let (starts_at, ends_at) = (time(&self.starts_at)?, time(&self.ends_at)?);
        if ends_at <= now || ends_at <= starts_at {
            return Err("it is over".to_owned());
        }
        if ends_at > now.plus_seconds(LONGEST_SECONDS as i64) {
            return Err("it ends in more than a year".to_owned());
        }
        if !(1..=super::matchers::MOST).contains(&self.matchers.len()) {
            return Err(format!("a silence has from 1 to {} matchers", super::matchers::MOST));
        }
        let matcher = |it: &TheirMatcher| {
            let sign = match (it.is_equal, it.is_regex) {
                (true, false) => "=",
                (false, false) => "!=",
                (true, true) => "=~",
                (false, true) => "!~",
            };
            let value = it.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            Matcher::try_from(format!("{}{sign}\"{value}\"", it.name)).map_err(|error| error.message)
        };
        let by: String = self.created_by.chars().take(100).collect();
        let comment: String = self.comment.chars().take(1800).collect();
        Ok(SilenceRow {
            id: new_id(),
            team: call.caller.team().to_owned(),
            created_by: call.caller.subject.clone(),
            matchers: self.matchers.iter().map(matcher).collect::<std::result::Result<_, _>>()?,
            comment: if by.is_empty() { comment } else { format!("{comment} (made by {by})") },
            starts_at,
            ends_at,
        })
    }
}

pub(super) async fn import_silences(
    service: Alerts,
    call: Call,
    input: ImportSilences,
) -> Result<ImportedSilences> {
    let theirs: Vec<Theirs> = serde_json::from_str(&input.json).map_err(|error| {
        Error::invalid(format!("json: it is no array of Alertmanager's silences: {error}"))
    })?;
    if theirs.len() > MOST_IMPORTED {
        return Err(Error::invalid(format!("json: at most {MOST_IMPORTED} silences are taken over at once")));
    }
    let now = service.clock.now();
    let mut known = service.store.silences(&[call.caller.team().to_owned()], now).await?;
    let mut imported = ImportedSilences { items: Vec::new(), left_out: Vec::new() };
    for (number, their) in theirs.iter().enumerate() {
        let same = |row: &SilenceRow, it: &SilenceRow| {
            (&row.matchers, row.starts_at, row.ends_at) == (&it.matchers, it.starts_at, it.ends_at)
        };
        let row = their.taken_over(&call, now).and_then(|row| {
            if known.iter().any(|it| same(it, &row)) { Err("it is here already".to_owned()) } else { Ok(row) }
        });
        match row {
            Ok(row) => {
                if !input.dry_run {
                    service.store.add_silence(&row).await?;
                    service.store.wake_groups(&row.team, row.starts_at.max(now)).await?;
                }
                known.push(row.clone());
                imported.items.push(silence(row));
            }
            Err(why) => {
                let id: String = their.id.chars().take(64).collect();
                imported.left_out.push(format!("silence {number} ({id}): {why}"));
            }
        }
    }
    service.arrived.notify_one();
    Ok(imported)
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
