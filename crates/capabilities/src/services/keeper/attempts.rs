//! What the keeper remembers of its own tries: who is being looked after, how often one failed, when to
//! try again. A restart of Opsroom forgets it, and begins with patience.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opsroom_core::Time;

use crate::services::model::Service;

/// The longest pause between two tries, in seconds.
const LONGEST_PAUSE: i64 = 300;

/// Tries, by service.
#[derive(Clone, Default)]
pub struct State(Arc<Mutex<HashMap<i64, Attempt>>>);

#[derive(Clone, Debug, Default)]
struct Attempt {
    busy: bool,
    failures: u32,
    try_at: Option<Time>,
    ended: Option<String>,
    health_at: Option<Time>,
}

/// A service that is being looked after; given back when dropped.
pub struct Turn(State, i64);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.with(self.1, |attempt| attempt.busy = false);
    }
}

impl State {
    fn with<T>(&self, id: i64, change: impl FnOnce(&mut Attempt) -> T) -> T {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }

    /// Takes a service to look after it; `None` while somebody does.
    pub fn take(&self, id: i64) -> Option<Turn> {
        self.with(id, |attempt| !std::mem::replace(&mut attempt.busy, true)).then(|| Turn(self.clone(), id))
    }

    /// Begins anew with a service: somebody asked for it.
    pub fn renew(&self, id: i64) {
        self.with(id, |attempt| *attempt = Attempt { busy: attempt.busy, ..Attempt::default() });
    }

    /// A service is gone.
    pub fn forget(&self, id: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Whether it may be tried now.
    pub fn due(&self, id: i64, now: Time) -> bool {
        self.with(id, |attempt| attempt.try_at.is_none_or(|at| at <= now))
    }

    /// Counts a failure; the next try is after a pause that doubles from one second. A container that ended
    /// counts once. `fresh` begins to count anew: it had been running well for a while.
    pub fn failed(&self, id: i64, container: Option<&str>, fresh: bool, now: Time) -> u32 {
        self.with(id, |attempt| {
            if container.is_some() && attempt.ended.as_deref() == container {
                return attempt.failures;
            }
            attempt.ended = container.map(str::to_owned);
            attempt.failures = if fresh { 1 } else { attempt.failures.saturating_add(1) };
            let pause = 1_i64 << (attempt.failures - 1).min(16);
            attempt.try_at = Some(now.plus_seconds(pause.min(LONGEST_PAUSE)));
            attempt.failures
        })
    }

    /// It runs, and has for a while: what was before is forgiven.
    pub fn well(&self, id: i64) {
        self.with(id, |attempt| (attempt.failures, attempt.try_at) = (0, None));
    }

    /// Whether its health is to be asked for; if so, the next time is set.
    pub fn health_due(&self, it: &Service, now: Time) -> bool {
        let interval = i64::from(it.spec.health_check_interval.max(5));
        self.with(it.id, |attempt| {
            let due = attempt.health_at.is_none_or(|at| at <= now);
            // The first look often comes before the gateway is connected: it is repeated soon.
            let next = if attempt.health_at.is_none() { 2 } else { interval };
            if due {
                attempt.health_at = Some(now.plus_seconds(next));
            }
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_a_container_counts_once() {
        let state = State::default();
        let now = Time(0);
        assert_eq!(state.failed(1, Some("a"), false, now), 1);
        assert_eq!(state.failed(1, Some("a"), false, now), 1);
        assert!(!state.due(1, now) && state.due(1, now.plus_seconds(1)));
        assert_eq!(state.failed(1, Some("b"), false, now), 2);
        assert!(!state.due(1, now.plus_seconds(1)) && state.due(1, now.plus_seconds(2)));
        assert_eq!(state.failed(1, Some("c"), true, now), 1);
        for n in 0..40 {
            state.failed(1, Some(&format!("x{n}")), false, now);
        }
        assert!(state.due(1, now.plus_seconds(LONGEST_PAUSE)));
        state.renew(1);
        assert!(state.due(1, now));
        assert_eq!(state.failed(1, Some("y"), false, now), 1);
    }

    #[test]
    fn one_at_a_time_looks_after_a_service() {
        let state = State::default();
        let turn = state.take(1);
        assert!(turn.is_some() && state.take(1).is_none() && state.take(2).is_some());
        drop(turn);
        assert!(state.take(1).is_some());
    }
}
