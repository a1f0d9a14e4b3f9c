//! Timestamps as loggers write them, read without a format given and without a regular expression.
//!
//! A time without a zone is taken as UTC. A date without a year takes it from [`Years`], which begins at the
//! configured year and goes on by one when a log passes from the end of a year to its begin, but never into the future.

mod cursor;
mod forms;

pub(super) use forms::{Found, scan, scan_klog};

/// A day and a time of it, as written, in the zone that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: Option<i32>,
    pub month: u32,
    pub day: u32,
    /// Microseconds since midnight.
    pub micros: i64,
    /// Seconds east of UTC.
    pub offset: i64,
}

impl Civil {
    /// Microseconds since 1970 in UTC, in the year it states or else in `year`.
    pub fn instant(&self, year: i32) -> i64 {
        let days = days_from_civil(self.year.unwrap_or(year), self.month, self.day);
        (days * 86_400 - self.offset) * 1_000_000 + self.micros
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, by the arithmetic of Howard Hinnant's
/// "chrono-compatible low-level date algorithms".
fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from((month + 9) % 12);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Gives years to dates that have none.
#[derive(Debug, Clone)]
pub(super) struct Years {
    year: i32,
    /// No date is placed after this moment, in microseconds since 1970.
    latest: i64,
    last_month: u32,
}

impl Years {
    /// Dates begin in `year`, or in the one before when they would come after `latest`.
    pub fn starting(year: i32, latest: Option<i64>) -> Self {
        Self { year: year.clamp(1, 9_999), latest: latest.unwrap_or(i64::MAX), last_month: 0 }
    }

    /// The instant of the next time in the log. A month that falls by more than half a year is the next
    /// year's; one that rises as much is a straggler from the year before.
    pub fn place(&mut self, civil: &Civil) -> i64 {
        if civil.year.is_some() {
            return civil.instant(0);
        }
        if self.last_month > civil.month + 6 {
            self.year = (self.year + 1).min(9_999);
        } else if self.last_month > 0 && civil.month > self.last_month + 6 {
            return civil.instant(self.year - 1);
        }
        self.last_month = civil.month;
        while civil.instant(self.year) > self.latest && self.year > 1 {
            self.year -= 1;
        }
        civil.instant(self.year)
    }
}

#[cfg(test)]
mod tests;
