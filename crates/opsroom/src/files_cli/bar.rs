//! Progress on a terminal.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use opsroom_capabilities::logs::input::Watch;
use opsroom_core::job::{Progress, Step};
use opsroom_core::telemetry::printable;
use tokio_util::sync::CancellationToken;

/// Does the work with a progress bar on standard error, if that is a terminal.
pub(super) fn watched<T>(work: impl FnOnce(&Watch) -> T) -> T {
    let shown = Shown::begin();
    let result = work(&Watch { progress: shown.progress.clone(), cancel: CancellationToken::new() });
    shown.end();
    result
}

/// A progress bar on standard error, if that is a terminal.
pub struct Shown {
    /// What the bar shows.
    pub progress: Progress,
    bar: Option<ProgressBar>,
}

impl Shown {
    /// Shows that work begins.
    pub fn begin() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { progress: Progress::silent(), bar: None };
        }
        let bar = ProgressBar::new(1_000);
        bar.set_style(style(true));
        bar.enable_steady_tick(Duration::from_millis(200));
        let shown = bar.clone();
        let known = Mutex::new(true);
        let progress = Progress::to(move |Step { fraction, message }| {
            // The style changes only when the end comes into or goes out of sight.
            if let Ok(mut known) = known.lock()
                && *known != fraction.is_some()
            {
                *known = fraction.is_some();
                shown.set_style(style(*known));
            }
            shown.set_position((fraction.unwrap_or(0.0) * 1_000.0) as u64);
            shown.set_message(message);
        });
        Self { progress, bar: Some(bar) }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known { "[{bar:30}] {percent:>3}%  {msg}  {eta}" } else { "{spinner} {msg}" };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    style.progress_chars("=> ")
}

/// Tells what a reader of the answer should know.
pub fn warn(warnings: &[String]) {
    const MOST: usize = 10;
    for warning in warnings.iter().take(MOST) {
        eprintln!("opsroom: note: {}", printable(warning));
    }
    if warnings.len() > MOST {
        eprintln!("opsroom: note: and {} more such notes; --json has them all", warnings.len() - MOST);
    }
}
