//! Puts a plan together: the forecast, the policy, the judgement, the advice.

use std::collections::BTreeMap;

use opsroom_analytics::forecast::anomaly::{check_history, robust_z, z_score};
use opsroom_analytics::forecast::choice::Choice;
use opsroom_analytics::forecast::contract::{MetricKind, apply_policy, metric_kind, route, wants_learnt};
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::{DAY, WEEK};

use super::advice::{self, Question, WhatIf};
use super::alarm::{BEYOND, counts};
use super::config::PlanningConfig;
use super::context::Subject;
use super::forecaster::{History, Made};
use super::model::{
    Anomaly, BacktestShown, ContextUsed, EngineUsed, HistoryUsed, Plan, PredictedHour, Prediction,
};
use super::moment;

/// Everything that a plan is made of.
pub struct Ingredients<'a> {
    /// The request.
    pub subject: &'a Subject,
    /// The metric.
    pub metric: &'a str,
    /// What is known of it.
    pub history: &'a History,
    /// Where that came from.
    pub source: &'static str,
    /// The hours forecast.
    pub made: &'a Made,
    /// What the source had to say.
    pub notes: &'a [String],
    /// The assumptions.
    pub what_if: &'a WhatIf,
    /// Thresholds and prices.
    pub config: &'a PlanningConfig,
}

/// Makes the plan.
pub fn make(it: &Ingredients<'_>) -> Plan {
    let made = it.made;
    let weight = it.subject.context.weight;
    let percent = it.history.series.as_ref().and_then(|series| advice::in_percent(it.metric, series));
    // What lies above 1 as a whole is no share: cut at 1 it would be a full machine for ever.
    let kind = if percent.is_some() { MetricKind::Count } else { metric_kind(it.metric) };
    let policy = |values: &[f64]| apply_policy(values, weight, kind);
    let values = policy(&made.forecast.mean);
    let bounds = made.forecast.intervals.as_ref().map(|intervals| {
        [&intervals.lower80, &intervals.upper80, &intervals.lower95, &intervals.upper95]
            .map(|side| policy(side))
    });
    let asked = route(&it.subject.context, it.subject.dialect);
    let carried = it.history.series.as_ref().filter(|_| made.choice.is_some());
    let recommendation = advice::advise(&Question {
        metric: it.metric,
        series: carried,
        values: &values,
        errors: made.choice.as_ref().and_then(|choice| choice.spread.as_ref()),
        subject: it.subject,
        what_if: it.what_if,
        flavors: &it.config.flavors,
    });
    let fallback = advice::without_advice(it.metric, &values, &it.config.flavors);
    let flavor = recommendation.flavor.clone().or_else(|| fallback.map(|flavor| flavor.name.clone()));
    let price = fallback.map(|flavor| flavor.daily_usd.unwrap_or(24.0 * flavor.hourly_usd));
    let mut notes: Vec<String> = it
        .subject
        .notes
        .iter()
        .chain(it.notes)
        .chain(&it.history.notes)
        .chain(&made.forecast.notes)
        .cloned()
        .collect();
    if !recommendation.given {
        notes.push(format!("no advice: {}", recommendation.reason));
    }
    let generated_at = moment::show(it.subject.now);
    Plan {
        prediction: Prediction {
            service_id: it.subject.service.clone(),
            github_url: it.subject.service.clone(),
            metric_name: it.metric.to_owned(),
            model_version: version(&asked, made),
            generated_at: generated_at.clone(),
            predictions: hours(it.subject.now, &values, bounds.as_ref()),
        },
        recommended_flavor: flavor.unwrap_or_default(),
        expected_cost_per_day: recommendation.daily_usd.or(price).unwrap_or(0.0),
        generated_at,
        notes: (!notes.is_empty()).then(|| notes.join("; ")),
        context: ContextUsed {
            context_id: it.subject.context_id.clone(),
            region: it.subject.region.clone(),
            requirements: it.subject.requirements.clone(),
            weight,
            expected_users: it.subject.context.expected_users,
        },
        engine: engine(&asked, made),
        backtest: made.choice.as_ref().and_then(backtest),
        history: used(it.history, it.source),
        anomaly: judge(carried, &values, it.config.anomaly_z),
        recommendation,
    }
}

/// The router's version, with what stood in for the engine that it asks for.
fn version(asked: &str, made: &Made) -> String {
    let learnt =
        ["pooled", "lstm"].iter().any(|name| made.forecast.engine.split('+').any(|used| used == *name));
    match (&made.choice, learnt && wants_learnt(asked)) {
        (None, _) => format!("{asked}_fallback"),
        (Some(_), true) => asked.to_owned(),
        (Some(_), false) => format!("{asked}_statistical"),
    }
}

fn hours(now: i64, values: &[f64], bounds: Option<&[Vec<f64>; 4]>) -> Vec<PredictedHour> {
    let first = now.div_euclid(3600) + 1;
    let hour = |(step, value): (usize, &f64)| {
        let bound = |side: usize| bounds.and_then(|bounds| bounds[side].get(step).copied());
        PredictedHour {
            time: moment::show((first + step as i64) * 3600),
            value: *value,
            lower80: bound(0),
            upper80: bound(1),
            lower95: bound(2),
            upper95: bound(3),
        }
    };
    values.iter().enumerate().map(hour).collect()
}

fn engine(asked: &str, made: &Made) -> EngineUsed {
    let used: Vec<&str> = made.forecast.engine.split('+').collect();
    let members = made.choice.iter().flat_map(|choice| &choice.members);
    let shares: BTreeMap<String, f64> = members
        .filter(|member| used.contains(&member.engine.as_str()))
        .map(|member| (member.engine.clone(), member.weight))
        .collect();
    let reason = match &made.choice {
        Some(choice) => choice.reason.clone(),
        None => made.forecast.notes.join("; "),
    };
    let asked = if wants_learnt(asked) { "lstm" } else { "baseline" }.to_owned();
    EngineUsed { asked, name: made.forecast.engine.clone(), shares, reason }
}

/// The errors of a choice, for answers.
pub fn backtest(choice: &Choice) -> Option<BacktestShown> {
    let scores = choice.backtest.as_ref()?;
    Some(BacktestShown {
        origins: scores.origins,
        error: scores.error,
        seasonal_naive_error: scores.floor_error,
        relative_error: (scores.floor_error > 0.0).then(|| scores.error / scores.floor_error),
        engines: scores.engines.clone(),
    })
}

/// What a forecast rests on.
pub fn used(history: &History, source: &str) -> HistoryUsed {
    let series = history.series.as_ref();
    HistoryUsed {
        source: source.to_owned(),
        hours: series.map_or(0, Series::len),
        from: series.map(|series| moment::show(series.start() * 3600)),
        to: series.map(|series| moment::show((series.end() - 1) * 3600)),
        hours_behind: history.behind,
        cleaning: history.cleaning.clone(),
    }
}

/// The checks of the forecast, as the caller's weight makes it, and of the history.
fn judge(series: Option<&Series>, values: &[f64], threshold: f64) -> Anomaly {
    let last = series.map(|series| series.tail(WEEK).to_vec()).unwrap_or_default();
    let score = z_score(&last, values, threshold);
    let most = |values: &[f64]| values.iter().copied().filter(|v| !v.is_nan()).fold(0.0, f64::max);
    let mut findings = Vec::new();
    if let Some(mut finding) = robust_z(&last, values, threshold) {
        finding.found = counts(&finding, most(values), most(&last));
        findings.push(finding);
    }
    if let Some(series) = series.filter(|series| series.len() >= 4 * DAY) {
        let filled = series.filled();
        let (before, after) = filled.split_at(filled.len() - DAY);
        let before = most(&before[before.len().saturating_sub(WEEK)..]);
        findings.extend(check_history(&filled, threshold).into_iter().map(|mut finding| {
            finding.found = counts(&finding, most(after), before);
            finding
        }));
    }
    // A peak of every night is many deviations from the mean, and as usual as the rest.
    let beyond = most(values) > BEYOND * most(&last).max(0.0);
    let abnormal = score.anomaly_detected && beyond || findings.iter().any(|finding| finding.found);
    Anomaly { abnormal, score, findings }
}
