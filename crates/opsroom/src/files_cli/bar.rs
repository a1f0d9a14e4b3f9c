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
    if !std::io::stderr().is_terminal() {
        return work(&Watch::silent());
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
    let result = work(&Watch { progress, cancel: CancellationToken::new() });
    bar.finish_and_clear();
    result
}

fn style(known: bool) -> ProgressStyle {
    let template = if known { "[{bar:30}] {percent:>3}%  {msg}  {eta}" } else { "{spinner} {msg}" };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    style.progress_chars("=> ")
}

/// Tells what a reader of the answer should know.
pub(super) fn warn(warnings: &[String]) {
    const MOST: usize = 10;
    for warning in warnings.iter().take(MOST) {
        eprintln!("opsroom: note: {}", printable(warning));
    }
    if warnings.len() > MOST {
        eprintln!("opsroom: note: and {} more such notes; --json has them all", warnings.len() - MOST);
    }
}
