//! Time, passed in, so that a test can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A moment, in microseconds since 1970-01-01T00:00:00Z, as the database keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// This moment moved by so many seconds.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Time(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// The moment as RFC 3339 in UTC with microseconds, as answers show it.
    pub fn to_rfc3339(self) -> String {
        self.timestamp().to_string()
    }

    /// The moment as `jiff` has it; out of its range, the nearest end.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that a test sets, in microseconds since 1970.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still at `time` until it is set.
    pub fn manual(time: Time) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(time.0)))
    }

    /// The time now.
    pub fn now(&self) -> Time {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock that the others take")]
            Clock::System => Time(Timestamp::now().as_microsecond()),
            Clock::Manual(time) => Time(time.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock on; the machine's clock cannot be moved.
    pub fn advance_seconds(&self, seconds: i64) {
        if let Clock::Manual(time) = self {
            time.fetch_add(seconds.saturating_mul(1_000_000), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Time(1_700_000_000_000_000));
        assert_eq!(clock.now(), clock.now());
        clock.advance_seconds(60);
        assert_eq!(clock.now().to_rfc3339(), "2023-11-14T22:14:20Z");
    }
}
