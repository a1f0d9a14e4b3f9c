//! How much to reserve: one limit for the hours forecast that at most a stated share exceeds.
//!
//! Two quantiles leave that share of hours above: that of the last week, since its latest level shift,
//! and that of the forecast with its own errors around it. The limit is the lower of the two with a
//! small margin, and never below the highest hour forecast: a spike of days ago is not reserved for
//! when the forecasts since have been near, and one wild day of errors is not when the week was calm.
//! On the machines that it was tuned on (no figure in `bench/` is measured on them) nothing tried
//! reserved less for the same share of hours over it: not yesterday's maximum, not either quantile
//! alone, not margins on the forecast, not a quantile regression on thirteen such features.

use super::conformal::Spread;
use super::error::ForecastError;
use super::series::Series;
use super::{DAY, WEEK, shift, stats};

/// Share of hours that may exceed the limit unless another is asked for.
pub const OVER: f64 = 0.02;

/// Added to the quantile, because the next day is not like the last week.
const MARGIN: f64 = 0.10;

/// The limit for the hours of `forecast` after `history`, which the share `over` of hours may
/// exceed; `errors` are those of such forecasts, where they are known. `None` with less than a day of
/// history to take a quantile of.
///
/// # Errors
/// [`ForecastError::Parameter`] for a share that is not within 0..1.
pub fn limit(
    history: &Series,
    forecast: &[f64],
    errors: Option<&Spread>,
    over: f64,
) -> Result<Option<f64>, ForecastError> {
    if !(0.0..1.0).contains(&over) {
        return Err(ForecastError::Parameter {
            name: "share over the limit",
            value: over,
            want: "at least 0 and below 1",
        });
    }
    let filled = history.filled();
    let level = &filled[shift::latest(&filled)..];
    if level.len() < DAY {
        return Ok(None);
    }
    let week = &level[level.len().saturating_sub(WEEK)..];
    let of_week = stats::quantile(week, 1.0 - over);
    let of_forecast = errors.and_then(|errors| errors.exceeded(forecast, over));
    let usual = of_forecast.map_or(of_week, |quantile| quantile.min(of_week));
    let highest = forecast.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // A margin on what is below 0 would lower it.
    Ok(Some((usual + MARGIN * usual.abs()).max(highest)))
}

/// Share of the hours of `truth` over `limit`, and the mean of what was reserved but not used
/// relative to the mean use; gaps are left out. `None` without hours or use.
#[must_use]
pub fn slack(truth: &[f64], limit: f64) -> Option<(f64, f64)> {
    let hours: Vec<f64> = truth.iter().copied().filter(|y| !y.is_nan()).collect();
    let use_mean = stats::mean(&hours);
    if hours.is_empty() || use_mean <= 0.0 {
        return None;
    }
    let over = hours.iter().filter(|y| **y > limit).count() as f64 / hours.len() as f64;
    let unused: Vec<f64> = hours.iter().map(|y| (limit - y).max(0.0)).collect();
    Some((over, stats::mean(&unused) / use_mean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::conformal::Levels;

    fn series(values: Vec<f64>) -> Series {
        Series::new(0, values).unwrap()
    }

    #[test]
    fn at_most_the_stated_share_of_like_hours_exceeds_the_limit() {
        let value = |h: usize| 10.0 + ((h * 7919 + h * h * 31) % 101) as f64 / 10.0;
        let limit = limit(&series((0..400).map(value).collect()), &[12.0; 24], None, OVER).unwrap().unwrap();
        let (over, free) = slack(&(400..2000).map(value).collect::<Vec<_>>(), limit).unwrap();
        assert!(over <= OVER, "{over} of the hours were over");
        assert!(free < 0.5, "{free} of the use was reserved for nothing");
    }

    #[test]
    fn the_highest_hour_forecast_is_within_the_limit() {
        let answer = limit(&series(vec![5.0; 400]), &[5.0, 90.0], None, OVER);
        assert_eq!(answer, Ok(Some(90.0)));
    }

    #[test]
    fn a_spike_of_days_ago_is_not_reserved_for_when_forecasts_are_near_and_the_other_way_round() {
        let spiky = series((0..400).map(|h| if h % 24 == 3 { 80.0 } else { 5.0 }).collect());
        let near = Spread::calibrate(&vec![vec![0.5; 24]; 20], Levels::default()).unwrap();
        let alone = limit(&spiky, &[5.0; 24], None, OVER).unwrap().unwrap();
        let both = limit(&spiky, &[5.0; 24], Some(&near), OVER).unwrap().unwrap();
        assert!(alone > 80.0 && (both - 1.1 * 5.5).abs() < 1e-9, "{alone} {both}");
        let wild = Spread::calibrate(&vec![vec![500.0; 24]; 20], Levels::default()).unwrap();
        assert_eq!(limit(&spiky, &[5.0; 24], Some(&wild), OVER).unwrap(), Some(alone));
    }

    #[test]
    fn what_was_before_a_level_shift_is_not_reserved_for() {
        let values = (0..400).map(|h| if h < 350 { 1000.0 } else { 5.0 }).collect();
        let answer = limit(&series(values), &[5.0; 24], None, OVER).unwrap().unwrap();
        assert!((answer - 5.5).abs() < 1e-9, "{answer}");
    }

    #[test]
    fn metrics_below_zero_get_a_limit_above_their_values() {
        let answer = limit(&series(vec![-10.0; 48]), &[-10.0; 24], None, OVER).unwrap().unwrap();
        assert!(answer > -10.0);
    }

    #[test]
    fn less_than_a_day_has_no_limit() {
        assert_eq!(limit(&series(vec![1.0; 23]), &[1.0], None, OVER), Ok(None));
    }

    #[test]
    fn a_share_out_of_range_is_refused() {
        for share in [1.0, f64::NAN, -0.1] {
            assert!(limit(&series(vec![1.0; 48]), &[1.0], None, share).is_err());
        }
    }

    #[test]
    fn gaps_and_unused_machines_have_no_slack() {
        assert_eq!(slack(&[f64::NAN], 1.0), None);
        assert_eq!(slack(&[0.0, 0.0], 1.0), None);
        assert_eq!(slack(&[5.0; 24], 5.0), Some((0.0, 0.0)));
    }
}
