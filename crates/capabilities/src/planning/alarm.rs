//! What is abnormal, told: an event on the bus, and a message to people, once in the time within which the
//! same series is not told again.

use opsroom_analytics::forecast::anomaly::{Finding, Kind, drift, level_shift, robust_z};
use opsroom_analytics::forecast::{DAY, WEEK};
use opsroom_core::{Call, Result};
use serde_json::json;

use super::context::Subject;
use super::model::Plan;
use super::store::Arrived;
use super::{Planning, forecaster, moment, team};
use crate::notifications::Message;
use opsroom_analytics::forecast::clean::Reading;

/// How far a value lies beyond everything of the week before, to count as a spike: a day's usual shape
/// has hours far from the median, too.
pub const BEYOND: f64 = 1.5;
/// What arrives is checked when it is not older than this, in seconds.
const FRESH_SECONDS: i64 = 2 * 86_400;

/// Whether a finding about hours counts, given what came before them.
pub fn counts(finding: &Finding, highest: f64, highest_before: f64) -> bool {
    finding.found && (finding.kind != Kind::RobustZ || highest > BEYOND * highest_before.max(0.0))
}

/// What is found in the hours from `new` on and was not found in those before: so that what lasts is told
/// when it begins, and not with every hour that arrives.
fn news(hours: &[f64], new: usize, threshold: f64) -> Vec<Finding> {
    let new = new.clamp(hours.len().saturating_sub(DAY), hours.len().saturating_sub(1));
    if hours.len() < 3 * DAY {
        return Vec::new();
    }
    let (before, arrived) = hours.split_at(new);
    let known: Vec<Kind> = found(before, before.len() - 1, threshold).iter().map(|f| f.kind).collect();
    let mut news = found(hours, hours.len() - arrived.len(), threshold);
    news.retain(|finding| !known.contains(&finding.kind));
    news
}

/// The findings about a history: drift and level shift up to its end, spikes from `new` on.
fn found(hours: &[f64], new: usize, threshold: f64) -> Vec<Finding> {
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (usual, arrived) = (&hours[new.saturating_sub(WEEK)..new], &hours[new..]);
    let spike = robust_z(usual, arrived, threshold).filter(|it| counts(it, most(arrived), most(usual)));
    let lasting = [drift(hours, threshold), level_shift(hours)];
    let lasting = lasting.into_iter().flatten().filter(|finding| finding.found);
    spike.into_iter().chain(lasting).collect()
}

fn reasons(findings: &[Finding]) -> String {
    let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
    reasons.join("; ")
}

impl Planning {
    /// Tells that a plan's forecast is abnormal, if it is.
    pub(super) async fn tell_plan(&self, call: &Call, subject: &Subject, plan: &Plan) -> Result<()> {
        let anomaly = &plan.anomaly;
        if !anomaly.abnormal {
            return Ok(());
        }
        let score =
            anomaly.score.score.map_or_else(|| "beyond measure".to_owned(), |score| format!("{score:.2}"));
        let reasons: Vec<&str> = anomaly
            .findings
            .iter()
            .filter(|finding| finding.found)
            .map(|finding| finding.reason.as_str())
            .collect();
        let context = &subject.context;
        let fields = vec![
            ("Metric".to_owned(), plan.prediction.metric_name.clone()),
            ("Score".to_owned(), format!("{score} (threshold {})", anomaly.score.threshold)),
            (
                "Context".to_owned(),
                format!(
                    "{:?}, {:?}, {:?}, weight {}",
                    context.service_type, context.runtime_env, context.time_slot, context.weight
                )
                .to_lowercase(),
            ),
            (
                "Statistics".to_owned(),
                format!(
                    "highest hour forecast {:.4}; mean of the last week {:.4}, deviation {:.4}",
                    anomaly.score.max_pred, anomaly.score.hist_mean, anomaly.score.hist_std
                ),
            ),
            ("Findings".to_owned(), reasons.join("; ")),
            (
                "Advice".to_owned(),
                format!("{} x {}", plan.recommendation.replicas.max(1), plan.recommended_flavor),
            ),
        ];
        let (service, metric) = (subject.service.clone(), plan.prediction.metric_name.clone());
        self.tell(&team(&call.caller), &service, &metric, "forecast", fields).await
    }

    /// Checks what has arrived of a series, and tells what is abnormal in it and was not before.
    pub(super) async fn tell_arrival(&self, arrived: &Arrived) -> Result<()> {
        let now = self.clock.now().0.div_euclid(1_000_000);
        let Arrived { team, key, first, last, .. } = arrived;
        if *last <= now - FRESH_SECONDS || *first > now {
            return Ok(());
        }
        let last = (*last).min(now);
        let from = last - 3600 * (WEEK + 8 * DAY) as i64;
        let points = self.store.points(team, key, from, last).await?;
        let readings: Vec<Reading> =
            points.into_iter().map(|point| Reading { at: point.at, value: point.value }).collect();
        let Some(series) = forecaster::history(&key.metric, &readings, last).series else { return Ok(()) };
        let new = usize::try_from(first.div_euclid(3600) - series.start()).unwrap_or(0);
        let news = news(&series.filled(), new, self.config.anomaly_z);
        if news.is_empty() {
            return Ok(());
        }
        let fields = vec![
            ("Metric".to_owned(), key.metric.clone()),
            ("Last value".to_owned(), moment::show(last)),
            ("Findings".to_owned(), reasons(&news)),
        ];
        self.tell(team, &key.service, &key.metric, "arrival", fields).await
    }

    async fn tell(
        &self,
        team: &str,
        service: &str,
        metric: &str,
        seen_in: &str,
        fields: Vec<(String, String)>,
    ) -> Result<()> {
        let what = if seen_in == "forecast" { "The forecast" } else { "What arrived" };
        let message = Message {
            team: team.to_owned(),
            key: format!("{service}|{metric}"),
            title: format!("Abnormal {metric} of {service}"),
            text: format!("{what} of {metric} is unlike the history of {service}."),
            url: service.to_owned(),
            fields: fields.clone(),
        };
        if self.notifications.raise(&message).await? {
            let details: serde_json::Map<String, serde_json::Value> =
                fields.into_iter().map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
            let data = json!({ "service_id": service, "metric_name": metric, "seen_in": seen_in, "details": details });
            self.events.publish("planning.anomaly", team, service, data);
        }
        Ok(())
    }
}
