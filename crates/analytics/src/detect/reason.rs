//! Why a group is anomalous, as data and in words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is being judged, for the wording of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A session.
    Session,
    /// A window of time or lines.
    Window,
}

/// One reason why a group is anomalous. Templates are named by their ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A template that no group before has.
    NewTemplate {
        /// The template.
        template: u32,
        /// How many groups were learnt from.
        groups: u64,
    },
    /// A template that hardly any other group has.
    RareTemplate {
        /// The template.
        template: u32,
        /// How many groups have it, this one included.
        having: u64,
        /// Of how many.
        groups: u64,
    },
    /// A template that groups like this one have is not there.
    Missing {
        /// The template.
        template: u32,
        /// How often it usually comes, at least.
        low: u32,
        /// How often it usually comes, at most.
        high: u32,
    },
    /// A template that groups like this one do not have.
    Unexpected {
        /// The template.
        template: u32,
        /// How often it comes here.
        count: u32,
    },
    /// A template comes more or less often than in groups like this one.
    Count {
        /// The template.
        template: u32,
        /// How often it comes here.
        count: u32,
        /// How often it usually comes, at least.
        low: u32,
        /// How often it usually comes, at most.
        high: u32,
    },
    /// The session ends sooner than usual.
    EndsEarly {
        /// Its events.
        events: u32,
        /// Usual number, at least.
        low: u32,
        /// Usual number, at most.
        high: u32,
    },
    /// The session is longer than usual.
    Long {
        /// Its events.
        events: u32,
        /// Usual number, at least.
        low: u32,
        /// Usual number, at most.
        high: u32,
    },
    /// A template directly follows another that it never or hardly ever follows.
    Order {
        /// The template before; none at the start of a session.
        previous: Option<u32>,
        /// The template after; none at the end of a session.
        next: Option<u32>,
        /// What usually follows; none when usually the session ends.
        usual: Option<u32>,
    },
    /// A template's rate is far above what is usual.
    Burst {
        /// The template.
        template: u32,
        /// Lines in this window.
        count: u32,
        /// Usual number of lines in a window, at most.
        usual: f64,
    },
    /// A template that regularly comes is not there, or much less often.
    Vanished {
        /// The template.
        template: u32,
        /// Lines in this window.
        count: u32,
        /// Usual number of lines in a window, at least.
        usual: f64,
    },
    /// More lines of an error level than usual.
    Errors {
        /// Error lines in this window.
        count: u32,
        /// Usual number, at most.
        usual: f64,
    },
    /// More or fewer lines altogether than usual.
    Lines {
        /// Lines in this window.
        count: u32,
        /// Usual number, at least.
        low: u32,
        /// Usual number, at most.
        high: u32,
    },
    /// No line at all where there usually are some.
    Silence {
        /// Usual number of lines in a window.
        usual: f64,
    },
}

impl Reason {
    /// The reason in words. `text` gives the text of a template.
    pub fn words(&self, unit: Unit, text: &dyn Fn(u32) -> String) -> String {
        let name = |template: Option<u32>, none: &str| template.map_or(none.to_owned(), text);
        let (one, many) = match unit {
            Unit::Session => ("session", "sessions"),
            Unit::Window => ("window", "windows"),
        };
        match *self {
            Self::NewTemplate { template, groups } => {
                format!("template never seen in the first {} {many}: {}", thousands(groups), text(template))
            }
            Self::RareTemplate { template, having: 1, .. } => {
                format!("template seen in no other {one}: {}", text(template))
            }
            Self::RareTemplate { template, having, groups } => format!(
                "template seen in only {} of {} {many}: {}",
                thousands(having),
                thousands(groups),
                text(template)
            ),
            Self::Missing { template, low, high } => {
                format!("missing, usually {}: {}", times(low, high), text(template))
            }
            Self::Unexpected { template, count } => {
                format!("{} where similar {many} have none: {}", times(count, count), text(template))
            }
            Self::Count { template, count, low, high } => {
                format!("{}, usually {}: {}", times(count, count), range(low, high), text(template))
            }
            Self::EndsEarly { events, low, high } => {
                format!("{one} ends after {events} of its usual {} events", range(low, high))
            }
            Self::Long { events, low, high } => {
                format!("{} events, usually {}", thousands(events.into()), range(low, high))
            }
            Self::Order { previous, next, usual } => format!(
                "{} is followed by {}, usually by {}",
                name(previous, "the start"),
                name(next, "the end"),
                name(usual, "the end")
            ),
            Self::Burst { template, count, usual } => {
                format!("{} in this {one}: {}", rate(count, usual), text(template))
            }
            Self::Vanished { template, count: 0, usual } => {
                format!("silent in this {one}, usually {}: {}", at_least(usual), text(template))
            }
            Self::Vanished { template, count, usual } => format!(
                "only {} in this {one}, usually {}: {}",
                lines(count.into()),
                at_least(usual),
                text(template)
            ),
            Self::Errors { count, usual } => {
                format!("{} of an error level in this {one}, usually {}", lines(count.into()), at_most(usual))
            }
            Self::Lines { count, low, high } => {
                format!("{} in this {one}, usually {}", lines(count.into()), range(low, high))
            }
            Self::Silence { usual } => format!("no line at all in this {one}, usually {}", lines(usual)),
        }
    }

    /// The template that the reason is about, if it is about one.
    pub const fn template(&self) -> Option<u32> {
        match *self {
            Self::NewTemplate { template, .. }
            | Self::RareTemplate { template, .. }
            | Self::Missing { template, .. }
            | Self::Unexpected { template, .. }
            | Self::Count { template, .. }
            | Self::Burst { template, .. }
            | Self::Vanished { template, .. } => Some(template),
            Self::Order { next, .. } => next,
            Self::EndsEarly { .. }
            | Self::Long { .. }
            | Self::Errors { .. }
            | Self::Lines { .. }
            | Self::Silence { .. } => None,
        }
    }

    /// What is alike in reasons of the same cause: the kind and the template, without the numbers.
    pub(super) const fn signature(&self) -> (u8, Option<u32>) {
        let kind = match self {
            Self::NewTemplate { .. } | Self::RareTemplate { .. } | Self::Unexpected { .. } => 0,
            Self::Missing { .. } | Self::Vanished { .. } => 1,
            Self::Count { .. } | Self::Burst { .. } => 2,
            Self::EndsEarly { .. } => 3,
            Self::Long { .. } => 4,
            Self::Order { .. } => 5,
            Self::Errors { .. } => 6,
            Self::Lines { .. } => 7,
            Self::Silence { .. } => 8,
        };
        (kind, self.template())
    }
}

/// `14 times its usual rate (56 lines, usually at most 4)`, or without the factor where none makes sense.
fn rate(count: u32, usual: f64) -> String {
    let factor = f64::from(count) / usual.max(f64::MIN_POSITIVE);
    if usual >= 1.0 && factor >= 1.5 {
        let factor = if factor < 10.0 { format!("{factor:.1}") } else { thousands(factor as u64) };
        format!("{factor} times its usual rate ({}, usually at most {usual:.0})", lines(count.into()))
    } else {
        format!("{}, usually {}", lines(count.into()), at_most(usual))
    }
}

fn at_most(usual: f64) -> String {
    if usual < 0.5 { "none".to_owned() } else { format!("at most {}", lines(usual)) }
}

/// Less than a line at least says only that there are some.
fn at_least(usual: f64) -> String {
    if usual < 0.5 { "some".to_owned() } else { format!("at least {}", lines(usual)) }
}

fn lines(count: f64) -> String {
    match count {
        c if c < 0.5 => "none".to_owned(),
        c if c < 1.5 => "1 line".to_owned(),
        c => format!("{} lines", thousands(c.round() as u64)),
    }
}

fn times(low: u32, high: u32) -> String {
    match (low, high) {
        (1, 1) => "once".to_owned(),
        _ => format!("{} times", range(low, high)),
    }
}

fn range(low: u32, high: u32) -> String {
    if low == high {
        thousands(low.into())
    } else {
        format!("{} to {}", thousands(low.into()), thousands(high.into()))
    }
}

/// A number with commas, as in 9,120.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: Reason, unit: Unit, expected: &str) {
        assert_eq!(reason.words(unit, &|template| format!("<{template}>")), expected);
    }

    #[test]
    fn reasons_read_as_sentences() {
        use Unit::{Session, Window};
        check(
            Reason::NewTemplate { template: 7, groups: 9120 },
            Session,
            "template never seen in the first 9,120 sessions: <7>",
        );
        check(
            Reason::EndsEarly { events: 3, low: 12, high: 19 },
            Session,
            "session ends after 3 of its usual 12 to 19 events",
        );
        check(
            Reason::Burst { template: 2, count: 56, usual: 4.0 },
            Window,
            "14 times its usual rate (56 lines, usually at most 4) in this window: <2>",
        );
        check(
            Reason::Burst { template: 2, count: 20, usual: 0.0 },
            Window,
            "20 lines, usually none in this window: <2>",
        );
        check(
            Reason::Vanished { template: 2, count: 0, usual: 0.2 },
            Window,
            "silent in this window, usually some: <2>",
        );
        check(
            Reason::Vanished { template: 2, count: 0, usual: 1.0 },
            Window,
            "silent in this window, usually at least 1 line: <2>",
        );
        check(
            Reason::Count { template: 4, count: 1200, low: 1, high: 4 },
            Session,
            "1,200 times, usually 1 to 4: <4>",
        );
        check(
            Reason::Order { previous: Some(1), next: None, usual: Some(2) },
            Session,
            "<1> is followed by the end, usually by <2>",
        );
        check(
            Reason::RareTemplate { template: 3, having: 1, groups: 50 },
            Session,
            "template seen in no other session: <3>",
        );
        check(Reason::Missing { template: 3, low: 1, high: 1 }, Session, "missing, usually once: <3>");
    }
}
