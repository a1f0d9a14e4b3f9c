//! Means with their spread, and processor time.

use rustix::time::{ClockId, clock_gettime};

/// The mean, the lowest and the highest of some figures.
pub fn spread(figures: &[f64], digits: usize) -> String {
    let mean = figures.iter().sum::<f64>() / figures.len().max(1) as f64;
    let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{mean:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// The seconds of this process's processor time that `work` takes.
pub fn cpu_seconds(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let start = now();
    work();
    now() - start
}
