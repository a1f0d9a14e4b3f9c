//! What keeps an alert quiet: a silence, or another alert that inhibits it.

use std::collections::BTreeSet;

use opsroom_core::{Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matchers::{Labels, MOST, Matcher, all_match};
use super::shown;
use super::store::{AlertRow, SilenceRow};

/// While an alert that `source` matches goes on, those that `target` matches are not told, where both have the
/// same values of the labels in `equal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Inhibition {
    /// What inhibits, such as `alertname="ClusterDown"`.
    pub source: Vec<Matcher>,
    /// What is kept quiet.
    pub target: Vec<Matcher>,
    /// Labels whose values must be the same in both; one that both lack is the same.
    pub equal: Vec<String>,
}

impl Inhibition {
    /// # Errors
    /// `Invalid`, naming the rule.
    pub fn validate(&self, name: &str) -> Result<()> {
        if self.source.is_empty() || self.target.is_empty() || self.source.len() + self.target.len() > MOST {
            return Err(Error::invalid(format!(
                "{name}: a rule has `source` and `target`, each with at least one matcher and {MOST} in all"
            )));
        }
        Ok(())
    }

    fn equal_values(&self, labels: &Labels) -> Vec<String> {
        self.equal.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
    }
}

/// Why people are not told of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Quiet {
    pub words: String,
    /// Whether the alert's status says so.
    pub silenced: bool,
    /// When to look again.
    pub again_at: Option<Time>,
}

/// Silences and inhibiting alerts of one team.
pub struct Surroundings {
    silences: Vec<SilenceRow>,
    inhibiting: Vec<(Inhibition, BTreeSet<Source>)>,
}

/// An alert that inhibits by a rule: its values of `equal`, whether the rule's target matches it as well, its id.
type Source = (Vec<String>, bool, String);

impl Surroundings {
    /// Of these silences, and of these alerts that go on.
    pub fn new(silences: Vec<SilenceRow>, alerts: &[AlertRow], rules: &[Inhibition]) -> Self {
        let sources = |rule: &Inhibition| {
            let matching = alerts.iter().filter(|row| all_match(&rule.source, &row.told.labels));
            let source = |row: &AlertRow| {
                let labels = &row.told.labels;
                (rule.equal_values(labels), all_match(&rule.target, labels), row.id.clone())
            };
            matching.map(source).collect()
        };
        let inhibiting = rules.iter().map(|rule| (rule.clone(), sources(rule))).collect();
        Self { silences, inhibiting }
    }

    /// What keeps an alert quiet now.
    pub fn quiet(&self, alert: &AlertRow, now: Time, recheck: Time) -> Option<Quiet> {
        let labels = &alert.told.labels;
        if let Some(silence) =
            self.silences.iter().find(|it| it.holds(now) && all_match(&it.matchers, labels))
        {
            let until = shown(silence.ends_at);
            let words = format!(
                "the silence {} of {} until {until} ({})",
                silence.id, silence.created_by, silence.comment
            );
            return Some(Quiet { words, silenced: true, again_at: Some(silence.ends_at) });
        }
        let (number, source) = self.inhibiting.iter().enumerate().find_map(|(number, (rule, sources))| {
            if !all_match(&rule.target, labels) {
                return None;
            }
            // As in Alertmanager, of alerts that match both sides none inhibits another.
            let both = all_match(&rule.source, labels);
            let values = rule.equal_values(labels);
            let (equal, target_too, id) = sources.range((values.clone(), false, String::new())..).next()?;
            (*equal == values && !(both && *target_too)).then_some((number, id))
        })?;
        let words = format!("alert {source} inhibits it by the rule alerts.inhibit.{number}");
        Some(Quiet { words, silenced: false, again_at: Some(recheck) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Incoming, Status};
    use super::*;

    fn alert(id: &str, labels: &[(&str, &str)]) -> AlertRow {
        let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        AlertRow {
            id: id.to_owned(),
            team: "default".to_owned(),
            receiver: String::new(),
            status: Status::Firing,
            told: Incoming::of_labels(labels, true),
            handler: None,
            muted_by: None,
            count: 1,
            starts_at: Time(0),
            ends_at: None,
            first_seen: Time(0),
            last_seen: Time(0),
            expires_at: None,
            version: 0,
        }
    }

    #[test]
    fn an_alert_inhibits_those_with_equal_labels_and_never_itself() {
        let rule: Inhibition = serde_json::from_value(serde_json::json!({
            "source": ["severity=\"critical\""], "target": ["severity=~\"warning|critical\""], "equal": ["cluster"]
        }))
        .unwrap();
        let down = alert("1", &[("severity", "critical"), ("cluster", "a")]);
        let around = Surroundings::new(Vec::new(), std::slice::from_ref(&down), &[rule]);
        let quiet = |row: &AlertRow| around.quiet(row, Time(0), Time(9)).map(|quiet| quiet.words);
        let here = alert("2", &[("severity", "warning"), ("cluster", "a")]);
        assert_eq!(quiet(&here).as_deref(), Some("alert 1 inhibits it by the rule alerts.inhibit.0"));
        assert_eq!(quiet(&alert("3", &[("severity", "warning"), ("cluster", "b")])), None);
        assert_eq!(quiet(&alert("4", &[("severity", "warning")])), None);
        assert_eq!(quiet(&down), None);
    }
}
