//! Engines: one shape for everything that forecasts.
//!
//! An [`Engine`] is a configuration; [`Engine::fit`] looks at one series and gives a [`Fitted`],
//! which is plain data (it can be stored and read back with the same numbers) and predicts any
//! horizon up to [`super::MAX_HORIZON`]. Engines never fall back by themselves: what they cannot
//! do is an error, and [`super::choice`] decides what is used instead and says so.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::card;
use super::error::{ForecastError, check_horizon};
use super::lstm::Lstm;
use super::mstl::Mstl;
use super::pooled::Pooled;
use super::seasonal::{self, Profile};
use super::series::Series;
use super::shift;
use super::smoothing::{self, Smoothed};
use super::theta::Theta;
use super::{DAY, MAX_HORIZON, WEEK};

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
    /// Half a straight line, half exponential smoothing, on the series without its daily shape.
    Theta,
    /// Exponential smoothing of level, damped trend and hour of the day.
    Ets,
    /// Daily and weekly shapes by local regression, the rest smoothed.
    Mstl,
    /// The mean of two simple forecasts, calibrated by a regression that takes it for data.
    Card,
    /// One linear model learnt from all series together.
    Pooled(Arc<Pooled>),
    /// One recurrent network learnt from all series together.
    Lstm(Arc<Lstm>),
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
    Theta(Theta),
    Smoothed(Smoothed),
    Mstl(Mstl),
    /// What was said for every hour asked for: engines that keep nothing else of one series.
    Said(Vec<f64>),
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
            Self::Theta => "theta",
            Self::Ets => "ets",
            Self::Mstl => "mstl",
            Self::Card => "card",
            Self::Pooled(_) => "pooled",
            Self::Lstm(_) => "lstm",
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
            Self::Theta,
            Self::Ets,
            Self::Mstl,
            Self::Card,
        ]
    }

    /// Whether the engine was learnt from many series.
    #[must_use]
    pub fn is_learnt(&self) -> bool {
        matches!(self, Self::Pooled(_) | Self::Lstm(_))
    }

    /// The fewest hours of history, gaps included, that the engine fits.
    #[must_use]
    pub fn needs(&self) -> usize {
        match self {
            Self::Naive => 1,
            Self::SeasonalNaive | Self::RecentMean | Self::Pooled(_) | Self::Lstm(_) => DAY,
            Self::SeasonalMedian | Self::SeasonalMean | Self::RecentMedian | Self::Theta => 2 * DAY,
            Self::Ets | Self::Mstl | Self::Card => 3 * DAY,
            Self::WeeklyNaive => WEEK,
        }
    }

    /// Fits the engine to a series, for any horizon up to [`MAX_HORIZON`].
    ///
    /// # Errors
    /// As [`Engine::fit_for`].
    pub fn fit(&self, series: &Series) -> Result<Fitted, ForecastError> {
        self.fit_for(series, MAX_HORIZON)
    }

    /// Fits the engine to a series, for horizons up to `horizon`: cheaper for a learnt model.
    ///
    /// # Errors
    /// [`ForecastError::Horizon`] for a horizon out of bounds.
    /// [`ForecastError::TooShort`] when the series, or what follows its latest level shift
    /// ([`super::shift`]), is shorter than [`Engine::needs`].
    pub fn fit_for(&self, series: &Series, horizon: usize) -> Result<Fitted, ForecastError> {
        check_horizon(horizon)?;
        if series.len() < self.needs() {
            return Err(self.too_short(series.observed()));
        }
        let filled = series.filled();
        let values = &filled[shift::latest(&filled)..];
        if values.len() < self.needs() {
            return Err(self.too_short(values.len()));
        }
        let state = match self {
            Self::Naive => State::Profile(seasonal::naive(values, 1)),
            Self::SeasonalNaive => State::Profile(seasonal::naive(values, DAY)),
            Self::WeeklyNaive => State::Profile(seasonal::naive(values, WEEK)),
            Self::SeasonalMedian => State::Profile(seasonal::seasonal_median(values, DAY, 7)),
            Self::SeasonalMean => State::Profile(seasonal::seasonal_mean(values, DAY, 7)),
            Self::RecentMean => State::Profile(seasonal::recent_mean(values, DAY)),
            Self::RecentMedian => State::Profile(seasonal::recent_median(values, WEEK)),
            Self::Theta => State::Theta(Theta::fit(values)),
            Self::Ets => {
                let recent = &values[values.len().saturating_sub(4 * WEEK)..];
                State::Smoothed(smoothing::fit(recent, DAY))
            }
            Self::Card => State::Said(card::forecast(values, horizon)),
            Self::Pooled(model) => State::Said(model.forecast(values, horizon)),
            Self::Lstm(model) => State::Said(model.forecast(values, horizon)),
            Self::Mstl => State::Mstl(Mstl::fit(values).ok_or_else(|| self.too_short(values.len()))?),
        };
        Ok(Fitted { engine: self.name().to_owned(), non_negative: series.is_non_negative(), state })
    }

    fn too_short(&self, have: usize) -> ForecastError {
        ForecastError::TooShort { engine: self.name(), have, need: self.needs() }
    }
}

impl Fitted {
    /// Forecasts the `horizon` hours after the history that was fitted.
    ///
    /// # Errors
    /// [`ForecastError::Horizon`] for a horizon out of bounds.
    pub fn predict(&self, horizon: usize) -> Result<Vec<f64>, ForecastError> {
        check_horizon(horizon)?;
        if let State::Said(values) = &self.state
            && horizon > values.len()
        {
            return Err(ForecastError::Horizon { asked: horizon, max: values.len() });
        }
        let raw: Vec<f64> = match &self.state {
            State::Profile(profile) => (0..horizon).map(|step| profile.at(step)).collect(),
            State::Theta(theta) => (0..horizon).map(|step| theta.at(step)).collect(),
            State::Smoothed(smoothed) => (0..horizon).map(|step| smoothed.at(step)).collect(),
            State::Said(values) => values[..horizon].to_vec(),
            State::Mstl(mstl) => (0..horizon).map(|step| mstl.at(step)).collect(),
        };
        let floor = if self.non_negative { 0.0 } else { f64::NEG_INFINITY };
        Ok(raw.into_iter().map(|value| value.max(floor)).collect())
    }
}
