//! The few statistics that every part of forecasting shares.
//!
//! All functions take finite values and answer 0 for empty input unless they say otherwise: the
//! callers have already refused what is not a number.

/// Arithmetic mean.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// Population standard deviation.
#[must_use]
pub fn deviation(values: &[f64]) -> f64 {
    let center = mean(values);
    let squares: f64 = values.iter().map(|v| (v - center).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

/// Quantile `q` in 0..=1, linear between order statistics (type 7 of Hyndman and Fan, 1996).
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted_quantile(&sorted, q)
}

/// [`quantile`] of values that are already in ascending order.
#[must_use]
pub fn sorted_quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let place = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let low = place.floor() as usize;
    let high = place.ceil() as usize;
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// Middle value; of an even count the mean of the middle two.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut copy = values.to_vec();
    median_in_place(&mut copy)
}

/// [`median`] without a copy; reorders `values`.
#[must_use]
pub fn median_in_place(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return 0.0;
    }
    let (below, middle, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    let upper = *middle;
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (lower + upper) / 2.0
}

/// Median of absolute deviations from the median, times 1.4826 so that it estimates the standard
/// deviation of normal data (Rousseeuw and Croux, 1993).
#[must_use]
pub fn robust_deviation(values: &[f64]) -> f64 {
    let center = median(values);
    let mut away: Vec<f64> = values.iter().map(|v| (v - center).abs()).collect();
    1.4826 * median_in_place(&mut away)
}

/// Mean absolute difference between two equally long slices; hours whose truth is a gap are left
/// out. `None` when none is left.
#[must_use]
pub fn mean_absolute_error(truth: &[f64], predicted: &[f64]) -> Option<f64> {
    let mut sum = 0.0;
    let mut count = 0u32;
    for (y, f) in truth.iter().zip(predicted) {
        if !y.is_nan() {
            sum += (y - f).abs();
            count += 1;
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), 3.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn median_takes_the_mean_of_the_middle_two() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), 6.0);
    }

    #[test]
    fn robust_deviation_ignores_one_outlier() {
        let mut values = vec![1.0, 2.0, 3.0, 4.0, 5.0];
        let before = robust_deviation(&values);
        values[4] = 5e9;
        assert_eq!(robust_deviation(&values), before);
    }

    #[test]
    fn gaps_in_the_truth_are_left_out_of_the_error() {
        assert_eq!(mean_absolute_error(&[1.0, f64::NAN], &[3.0, 9.0]), Some(2.0));
        assert_eq!(mean_absolute_error(&[f64::NAN], &[1.0]), None);
    }
}
