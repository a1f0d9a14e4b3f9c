//! Metrics of a small shop, for `serve --demo`: four weeks that have a day, a weekend and some noise.

use std::fmt::Write;

use super::moment;

/// The service whose metrics they are.
pub const SERVICE: &str = "shop";
/// The metrics.
pub const METRICS: [&str; 3] = ["total_events", "avg_cpu", "avg_memory"];
/// Four weeks.
const HOURS: i64 = 672;

/// CSV with one column a metric, whose last hour is that of `now` (seconds since 1970). The same at every
/// call but for the times.
pub fn csv(now: i64) -> String {
    let mut text = format!("timestamp,{}\n", METRICS.join(","));
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    let last = now.div_euclid(3600);
    for hour in last - HOURS + 1..=last {
        let angle = ((hour.rem_euclid(24)) as f64 - 8.0) / 24.0 * std::f64::consts::TAU;
        // Day 0 of 1970 was a Thursday: days 2 and 3 of such a week are the weekend.
        let weekend = matches!(hour.div_euclid(24).rem_euclid(7), 2 | 3);
        let load = (1.0 + 0.7 * angle.sin()) * if weekend { 0.6 } else { 1.0 };
        let events = (180.0 * load + 40.0 * noise()).max(0.0).round();
        let cpu = 0.12 + 0.25 * load + 0.04 * noise();
        let memory = 0.45 + 0.08 * load + 0.02 * noise();
        let _infallible = writeln!(text, "{},{events},{cpu:.4},{memory:.4}", moment::show(hour * 3600));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_four_weeks_up_to_now_and_no_value_out_of_range() {
        let text = csv(1_762_856_400);
        assert_eq!(text.lines().count() as i64, HOURS + 1);
        assert!(text.lines().last().unwrap().starts_with("2025-11-11T10:00:00Z,"));
        for line in text.lines().skip(1) {
            let values: Vec<f64> = line.split(',').skip(1).map(|value| value.parse().unwrap()).collect();
            assert!(
                values[0] >= 0.0 && values[1..].iter().all(|share| (0.0..=1.0).contains(share)),
                "{line}"
            );
        }
    }
}
