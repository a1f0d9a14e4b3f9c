//! Engines: one shape for everything that forecasts.
//!
//! An [`Engine`] is a configuration; [`Engine::fit`] looks at one series and gives a [`Fitted`],
//! which is plain data (it can be stored and read back with the same numbers) and predicts any
//! horizon up to [`super::MAX_HORIZON`]. Engines never fall back by themselves: what they cannot
//! do is an error, and [`super::choice`] decides what is used instead and says so.

use serde::{Deserialize, Serialize};

use super::error::{ForecastError, check_horizon};
use super::seasonal::{self, Profile};
use super::series::Series;
use super::{DAY, WEEK};

/// A forecast engine, ready to be fitted to a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Engine {
    /// The last value of all hours to come.
    Naive,
    /// The same hour yesterday: the floor.
    SeasonalNaive,
    /// The same hour of the week before.
    WeeklyNaive,
    /// The median of the same hour over the last seven days.
    SeasonalMedian,
    /// The mean of the same hour over the last seven days.
    SeasonalMean,
    /// The mean of the last day.
    RecentMean,
    /// The median of the last week.
    RecentMedian,
}

/// What an engine learnt from one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Name of the engine.
    pub engine: String,
    /// Whether predictions are kept at 0 or above, because the history never was below.
    pub non_negative: bool,
    state: State,
}

/// The numbers behind a prediction, by kind of engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Profile(Profile),
}

impl Engine {
    /// The name under which a choice, an answer and a command refer to the engine.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive => "seasonal_naive",
            Self::WeeklyNaive => "weekly_naive",
            Self::SeasonalMedian => "seasonal_median",
            Self::SeasonalMean => "seasonal_mean",
            Self::RecentMean => "recent_mean",
            Self::RecentMedian => "recent_median",
        }
    }

    /// The engines that need nothing but the series, the floor first.
    #[must_use]
    pub fn local() -> Vec<Self> {
        vec![
            Self::SeasonalNaive,
            Self::SeasonalMedian,
            Self::SeasonalMean,
            Self::WeeklyNaive,
            Self::RecentMean,
            Self::RecentMedian,
        ]
    }

    /// The fewest hours of history, gaps included, that the engine fits.
    #[must_use]
    pub fn needs(&self) -> usize {
        match self {
            Self::Naive => 1,
            Self::SeasonalNaive | Self::RecentMean => DAY,
            Self::SeasonalMedian | Self::SeasonalMean | Self::RecentMedian => 2 * DAY,
            Self::WeeklyNaive => WEEK,
        }
    }

    /// Fits the engine to a series.
    ///
    /// # Errors
    /// [`ForecastError::TooShort`] when the series is shorter than [`Engine::needs`].
    pub fn fit(&self, series: &Series) -> Result<Fitted, ForecastError> {
        if series.len() < self.needs() {
            return Err(ForecastError::TooShort {
                engine: self.name(),
                have: series.observed(),
                need: self.needs(),
            });
        }
        let values = series.filled();
        let state = match self {
            Self::Naive => State::Profile(seasonal::naive(&values, 1)),
            Self::SeasonalNaive => State::Profile(seasonal::naive(&values, DAY)),
            Self::WeeklyNaive => State::Profile(seasonal::naive(&values, WEEK)),
            Self::SeasonalMedian => State::Profile(seasonal::seasonal_median(&values, DAY, 7)),
            Self::SeasonalMean => State::Profile(seasonal::seasonal_mean(&values, DAY, 7)),
            Self::RecentMean => State::Profile(seasonal::recent_mean(&values, DAY)),
            Self::RecentMedian => State::Profile(seasonal::recent_median(&values, WEEK)),
        };
        Ok(Fitted { engine: self.name().to_owned(), non_negative: series.is_non_negative(), state })
    }
}

impl Fitted {
    /// Forecasts the `horizon` hours after the history that was fitted.
    ///
    /// # Errors
    /// [`ForecastError::Horizon`] for a horizon out of bounds.
    pub fn predict(&self, horizon: usize) -> Result<Vec<f64>, ForecastError> {
        check_horizon(horizon)?;
        let raw: Vec<f64> = match &self.state {
            State::Profile(profile) => (0..horizon).map(|step| profile.at(step)).collect(),
        };
        let floor = if self.non_negative { 0.0 } else { f64::NEG_INFINITY };
        Ok(raw.into_iter().map(|value| value.max(floor)).collect())
    }
}
