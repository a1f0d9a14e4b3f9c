//! From readings to the 24 hours ahead: cleaning, the choice of engines, the forecast, and what stands
//! in when the history does not carry one. Pure: no clock, no I/O; the same input gives the same answer.

use opsroom_analytics::forecast::MAX_HORIZON;
use opsroom_analytics::forecast::backtest::Plan as Backtest;
use opsroom_analytics::forecast::choice::{Choice, Forecast, Policy};
use opsroom_analytics::forecast::clean::{CleaningReport, Kind, Reading, clean};
use opsroom_analytics::forecast::contract;
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::series::Series;

use super::context::Subject;

/// Hours of a plan.
pub const HOURS: usize = 24;

/// A series that can be forecast, and what was done to make it one.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The hours; `None` when there is nothing to forecast from.
    pub series: Option<Series>,
    /// What was found in the readings.
    pub cleaning: CleaningReport,
    /// Hours between the last one known and the present one.
    pub behind: i64,
    /// What a reader should know of how the readings were taken.
    pub notes: Vec<String>,
}

/// The 24 hours after the present one.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The choice of engines; `None` when nothing is known of the series.
    pub choice: Option<Choice>,
    /// The 24 hours.
    pub forecast: Forecast,
}

/// The engines that need no training, cheap enough for a plan of a series never seen.
pub fn quick_engines() -> Vec<Engine> {
    vec![
        Engine::SeasonalNaive,
        Engine::SeasonalMedian,
        Engine::SeasonalMean,
        Engine::WeeklyNaive,
        Engine::RecentMean,
        Engine::RecentMedian,
        Engine::Theta,
    ]
}

/// Of the steps of a counter so few fall that a fall is a restart.
const RESTARTS: f64 = 0.05;

/// What a metric's readings are: by the naming convention of Prometheus a name that ends in `_total` is a
/// counter, and its readings have to look like one, too.
fn kind(metric: &str, readings: &[Reading]) -> Kind {
    let name = metric.split('{').next().unwrap_or_default();
    if !name.ends_with("_total") || readings.len() < 3 {
        return Kind::Gauge;
    }
    let mut sorted: Vec<&Reading> = readings.iter().filter(|reading| reading.value.is_finite()).collect();
    sorted.sort_by_key(|reading| reading.at);
    let falls = sorted.windows(2).filter(|pair| pair[1].value < pair[0].value).count();
    let grows = sorted.windows(2).any(|pair| pair[1].value > pair[0].value);
    if grows && falls as f64 <= RESTARTS * sorted.len() as f64 { Kind::Counter } else { Kind::Gauge }
}

/// Makes hours of readings; what is later than `now` is left out.
pub fn history(metric: &str, readings: &[Reading], now: i64) -> History {
    let kind = kind(metric, readings);
    let mut notes = Vec::new();
    if kind == Kind::Counter {
        notes.push(format!("{metric} was read as a counter: an hour is its growth"));
    }
    match clean(readings, kind, Some(now)) {
        Ok((series, cleaning)) => {
            if kind == Kind::Gauge && cleaning.used > 2 * series.observed() {
                notes.push(format!(
                    "an hour is the mean of its readings ({} in {} hours): store sums of an hour where that is not meant",
                    cleaning.used,
                    series.observed()
                ));
            }
            let behind = now.div_euclid(3600) + 1 - series.end();
            History { series: Some(series), cleaning, behind, notes }
        }
        Err(_) => {
            let read = readings.len();
            let cleaning = CleaningReport { read, ..CleaningReport::default() };
            History { series: None, cleaning, behind: 0, notes }
        }
    }
}

/// The choice for a series that no job has chosen for: a short backtest.
pub fn choose(series: &Series, engines: &[Engine]) -> Option<Choice> {
    let quick = quick_engines();
    let tried: Vec<Engine> =
        engines.iter().filter(|engine| quick.contains(engine) || engine.is_learnt()).cloned().collect();
    Choice::make(series, &tried, &Backtest::default(), &Policy::default()).ok()
}

/// Forecasts the 24 hours after the present one; without a history that reaches near enough, what the
/// context alone says.
pub fn forecast(
    history: &History,
    stored: Option<Choice>,
    engines: &[Engine],
    subject: &Subject,
    metric: &str,
) -> Made {
    let lead = usize::try_from(history.behind.max(0)).unwrap_or(usize::MAX);
    let near = lead.checked_add(HOURS).filter(|horizon| *horizon <= MAX_HORIZON);
    if let (Some(series), Some(horizon)) = (&history.series, near)
        && let Some(choice) = stored.or_else(|| choose(series, engines))
        && let Ok(mut forecast) = choice.forecast(series, engines, horizon)
    {
        forecast.skip(lead);
        if lead > 0 {
            forecast.notes.push(format!("the history ends {lead} hours before the present one"));
        }
        return Made { choice: Some(choice), forecast };
    }
    let reason = match &history.series {
        None if history.cleaning.read > 0 => {
            format!("none of the {} readings of {metric} has a value that can be used", history.cleaning.read)
        }
        None => format!("there is no history of {metric}"),
        Some(_) => format!("the history of {metric} ends {lead} hours ago, which is too long"),
    };
    let mean = contract::prior(&subject.context, metric, HOURS, subject.dialect);
    let notes =
        vec![format!("{reason}: the values are a guess from the context, and no advice follows from them")];
    let forecast =
        Forecast { origin: 0, engine: "prior".to_owned(), mean, intervals: None, limit: None, notes };
    Made { choice: None, forecast }
}
