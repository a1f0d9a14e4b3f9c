//! Forecasts that were made, kept for the hour: a plan of a series that has not changed costs a look at one
//! row. The answer is the same as if it were made anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opsroom_core::Time;

use super::forecaster::{History, Made};
use super::store::SeriesKey;

/// The most that are kept, each of about 15 kB for four weeks of history.
const MOST: usize = 2_000;

/// A series at an hour, and the model that took part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Of {
    team: String,
    key: SeriesKey,
    hour: i64,
    model: Option<i64>,
}

impl Of {
    /// The series as of `now`, in seconds since 1970, with a model of that time.
    pub fn new(team: &str, key: &SeriesKey, now: i64, model: Option<Time>) -> Self {
        let model = model.map(|at| at.0);
        Self { team: team.to_owned(), key: key.clone(), hour: now.div_euclid(3600), model }
    }
}

/// What is known of a series, and the hours ahead.
#[derive(Debug)]
pub struct Outlook {
    /// The readings as hours.
    pub history: History,
    /// The hours ahead.
    pub made: Made,
    /// What the source had to say.
    pub notes: Vec<String>,
}

/// The times that count as now for which the same readings are known, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// That of the last reading.
    pub from: i64,
    /// That of the first reading later than it, which is no longer included.
    pub until: i64,
}

/// The forecasts. Cheap to clone: clones are the same.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<HashMap<Of, Entry>>>);

struct Entry {
    version: String,
    span: Span,
    outlook: Arc<Outlook>,
}

impl Kept {
    /// The forecast, if it was made of that version of the series and of what was known at `now`.
    pub fn get(&self, of: &Of, version: &str, now: i64) -> Option<Arc<Outlook>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |entry: &&Entry| entry.version == version && (entry.span.from..entry.span.until).contains(&now);
        kept.get(of).filter(same).map(|entry| entry.outlook.clone())
    }

    /// Keeps a forecast. When there are too many, those of other hours go, or else all.
    pub fn keep(&self, of: Of, version: String, span: Span, outlook: Arc<Outlook>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST && !kept.contains_key(&of) {
            kept.retain(|other, _| other.hour == of.hour);
            if kept.len() >= MOST {
                kept.clear();
            }
        }
        kept.insert(of, Entry { version, span, outlook });
    }
}
