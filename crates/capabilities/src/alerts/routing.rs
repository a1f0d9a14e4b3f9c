//! Routing: which alerts are told to whom, together with which others, how soon and how often. The tree and its
//! words are Alertmanager's.

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matchers::{Labels, MOST, Matcher, all_match};

/// How deep routes may lie in each other.
const DEEPEST: usize = 16;

/// A route: which alerts it takes and what is done with them. What a route leaves out, it has from the one around
/// it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Conditions on labels, such as `severity="critical"`; all of them must hold. The outermost route takes
    /// every alert and has none.
    pub matchers: Vec<Matcher>,
    /// The name of the channel; `none` tells nobody. Without any, `default`.
    pub channel: Option<String>,
    /// Alerts with the same values of these labels are told together; `...` stands for all labels. Without any,
    /// `alertname`.
    pub group_by: Option<Vec<String>>,
    /// How many seconds the first of a group waits for others; 10 without.
    pub group_wait_seconds: Option<u32>,
    /// How many seconds after a group was told it is told of what is new in it at the earliest; 300 without.
    pub group_interval_seconds: Option<u32>,
    /// After how many seconds those that still go on are told again; 14400 without.
    pub repeat_seconds: Option<u32>,
    /// Whether people are told that an alert is over; yes without.
    pub send_resolved: Option<bool>,
    /// The names of times in `alerts.times` at which nobody is told.
    pub mute_times: Option<Vec<String>>,
    /// Who is told when nobody takes an alert, step by step.
    pub escalate: Option<Vec<EscalationStep>>,
    /// Whether routes after this one are tried as well.
    #[serde(rename = "continue")]
    pub go_on: bool,
    /// Routes within this one; the first that matches takes the alert.
    pub routes: Vec<Route>,
}

/// A step of an escalation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationStep {
    /// How many seconds after people were told first, unless somebody took the alert.
    pub after_seconds: u32,
    /// The channel that is told then; `oncall:NAME` is a rotation.
    pub channel: String,
}

/// What is done with an alert, by one route.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Decision {
    /// The way to the route: `0` is the outermost, `0.2` its third.
    pub route: String,
    /// The channel.
    pub channel: String,
    /// What the alerts that are told together have in common.
    pub group: String,
    /// How many seconds the first of a group waits.
    pub group_wait_seconds: u32,
    /// How many seconds after it was told the group is told of what is new in it.
    pub group_interval_seconds: u32,
    /// After how many seconds it is told again.
    pub repeat_seconds: u32,
    /// Whether people are told that an alert is over.
    pub send_resolved: bool,
    /// Who is told when nobody takes it.
    pub escalate: Vec<EscalationStep>,
    /// The times at which nobody is told.
    pub mute_times: Vec<String>,
}

/// What a route within has from those around it.
#[derive(Clone)]
struct Inherited<'a> {
    channel: &'a str,
    group_by: &'a [String],
    wait: u32,
    interval: u32,
    repeat: u32,
    send_resolved: bool,
    escalate: &'a [EscalationStep],
    mute_times: &'a [String],
}

impl Route {
    /// # Errors
    /// `Invalid`, naming the route.
    pub fn validate(&self, name: &str) -> Result<()> {
        if !self.matchers.is_empty() {
            return Err(Error::invalid(format!(
                "{name}.matchers: the outermost route takes every alert and has none"
            )));
        }
        self.check(name, 0)
    }

    /// Holds the rotations and times that routes name against those that there are.
    ///
    /// # Errors
    /// `Invalid`, naming the route.
    pub fn check_names(&self, name: &str, rotations: &[&str], times: &[&str]) -> Result<()> {
        let steps = self.escalate.iter().flatten().map(|step| step.channel.as_str());
        let channels = self.channel.as_deref().into_iter().chain(steps);
        let mut called = channels.filter_map(|channel| channel.strip_prefix(super::oncall::PREFIX));
        if let Some(missing) = called.find(|rotation| !rotations.contains(rotation)) {
            return Err(Error::invalid(format!(
                "{name}: there is no rotation {missing:?} in alerts.rotations"
            )));
        }
        let mut quiet = self.mute_times.iter().flatten();
        if let Some(missing) = quiet.find(|time| !times.contains(&time.as_str())) {
            return Err(Error::invalid(format!(
                "{name}.mute_times: there is no {missing:?} in alerts.times"
            )));
        }
        let mut routes = self.routes.iter().enumerate();
        routes.try_for_each(|(at, route)| route.check_names(&format!("{name}.routes.{at}"), rotations, times))
    }

    fn check(&self, name: &str, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::invalid(format!("{name}: routes lie at most {DEEPEST} deep in each other")));
        }
        if self.matchers.len() > MOST {
            return Err(Error::invalid(format!("{name}.matchers: there are at most {MOST}")));
        }
        let steps = self.escalate.iter().flatten().zip(self.escalate.iter().flatten().skip(1));
        if self.escalate.as_ref().is_some_and(|steps| steps.len() > 10)
            || steps.into_iter().any(|(one, next)| next.after_seconds < one.after_seconds)
        {
            return Err(Error::invalid(format!(
                "{name}.escalate: there are at most 10 steps, each later than the one before"
            )));
        }
        let mut routes = self.routes.iter().enumerate();
        routes.try_for_each(|(at, route)| route.check(&format!("{name}.routes.{at}"), depth + 1))
    }

    /// What is done with an alert of these labels: one decision for each route that takes it.
    pub fn decide(&self, labels: &Labels) -> Vec<Decision> {
        let usual = ["alertname".to_owned()];
        let outermost = Inherited {
            channel: "default",
            group_by: &usual,
            wait: 10,
            interval: 300,
            repeat: 14_400,
            send_resolved: true,
            escalate: &[],
            mute_times: &[],
        };
        let mut decisions = Vec::new();
        self.walk(labels, &outermost, "0".to_owned(), &mut decisions);
        decisions
    }

    fn walk(
        &self,
        labels: &Labels,
        around: &Inherited<'_>,
        at: String,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        if !all_match(&self.matchers, labels) {
            return false;
        }
        let here = Inherited {
            channel: self.channel.as_deref().unwrap_or(around.channel),
            group_by: self.group_by.as_deref().unwrap_or(around.group_by),
            wait: self.group_wait_seconds.unwrap_or(around.wait),
            interval: self.group_interval_seconds.unwrap_or(around.interval),
            repeat: self.repeat_seconds.unwrap_or(around.repeat),
            send_resolved: self.send_resolved.unwrap_or(around.send_resolved),
            escalate: self.escalate.as_deref().unwrap_or(around.escalate),
            mute_times: self.mute_times.as_deref().unwrap_or(around.mute_times),
        };
        let mut taken = false;
        for (number, route) in self.routes.iter().enumerate() {
            let matched = route.walk(labels, &here, format!("{at}.{number}"), decisions);
            taken |= matched;
            if matched && !route.go_on {
                break;
            }
        }
        if !taken {
            decisions.push(Decision {
                group: group(here.group_by, labels),
                route: at,
                channel: here.channel.to_owned(),
                group_wait_seconds: here.wait,
                group_interval_seconds: here.interval,
                repeat_seconds: here.repeat,
                send_resolved: here.send_resolved,
                escalate: here.escalate.to_vec(),
                mute_times: here.mute_times.to_vec(),
            });
        }
        true
    }
}

/// `{alertname="x", env="y"}`: the labels that make a group.
fn group(by: &[String], labels: &Labels) -> String {
    let all = by.iter().any(|name| name == "...");
    let chosen = labels.iter().filter(|(name, _)| all || by.contains(name));
    let words: Vec<String> = chosen.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn tree() -> Route {
        serde_json::from_value(json!({
            "group_by": ["alertname", "env"], "repeat_seconds": 600,
            "routes": [
                { "matchers": ["team=\"db\""], "channel": "db", "continue": true },
                { "matchers": ["severity=~\"critical|page\""], "channel": "oncall", "group_wait_seconds": 0,
                  "routes": [{ "matchers": ["env!=\"prod\""], "channel": "none" }] }
            ]
        }))
        .unwrap()
    }

    fn decided(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        tree().decide(&labels(pairs)).into_iter().map(|it| (it.route, it.channel)).collect()
    }

    #[test]
    fn the_first_route_that_matches_takes_an_alert_unless_it_says_continue() {
        let told = |route: &str, channel: &str| (route.to_owned(), channel.to_owned());
        assert_eq!(decided(&[("alertname", "x")]), [told("0", "default")]);
        assert_eq!(decided(&[("team", "db")]), [told("0.0", "db")]);
        assert_eq!(
            decided(&[("team", "db"), ("severity", "page"), ("env", "prod")]),
            [told("0.0", "db"), told("0.1", "oncall")]
        );
        assert_eq!(decided(&[("severity", "critical"), ("env", "dev")]), [told("0.1.0", "none")]);
    }

    #[test]
    fn what_a_route_leaves_out_it_has_from_the_one_around_it() {
        let it = &tree().decide(&labels(&[("severity", "page"), ("env", "prod"), ("alertname", "a")]))[0];
        assert_eq!((it.group_wait_seconds, it.repeat_seconds), (0, 600));
        assert_eq!(it.group, "{alertname=\"a\", env=\"prod\"}");
    }

    #[test]
    fn a_tree_that_cannot_be_used_is_named() {
        let outer: Route = serde_json::from_value(json!({ "matchers": ["a=b"] })).unwrap();
        assert!(outer.validate("alerts.routing").unwrap_err().message.starts_with("alerts.routing.matchers"));
        let deep =
            (0..20).fold(Route::default(), |inner, _| Route { routes: vec![inner], ..Route::default() });
        assert!(deep.validate("alerts.routing").unwrap_err().message.contains("16 deep"));
        assert!(serde_json::from_value::<Route>(json!({ "matcher": [] })).is_err());
    }
}
