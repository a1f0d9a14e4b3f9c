//! Fitting a model while somebody watches.

use std::ops::ControlFlow;

use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::detector::{Method, Progress};
use opsroom_analytics::classify::fit::{FitConfig, fit};
use opsroom_analytics::classify::model::Model;
use opsroom_core::{Error, Result};

use super::refused;
use crate::logs::input::Watch;

/// The method of a name; `auto` is none of them, and compares all.
///
/// # Errors
/// `Invalid` for another name.
pub fn method(name: &str) -> Result<Option<Method>> {
    Ok(match name {
        "auto" => None,
        "network" => Some(Method::Network),
        "tree" => Some(Method::Tree),
        "linear" => Some(Method::Linear),
        "nearest" => Some(Method::Nearest),
        other => {
            return Err(Error::invalid(format!(
                "method: {:?} is none of auto, network, tree, linear and nearest",
                other.chars().take(64).collect::<String>()
            )));
        }
    })
}

/// The name of a method.
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::Network => "network",
        Method::Tree => "tree",
        Method::Linear => "linear",
        Method::Nearest => "nearest",
    }
}

/// Fits a model on labelled rows. Blocks for as long as that takes.
///
/// # Errors
/// `Invalid` for data that cannot be learnt from and for settings out of their ranges; `Cancelled` when the
/// watch says so.
pub fn train(
    training: &Dataset,
    validation: Option<&Dataset>,
    config: &FitConfig,
    watch: &Watch,
) -> Result<Model> {
    let mut seen = |progress: Progress<'_>| {
        match progress {
            Progress::Share(share) => watch.progress.report(Some(share), ""),
            Progress::Epoch { share, record, .. } => {
                let message = format!("epoch {}, loss {:.4}", record.epoch + 1, record.loss);
                watch.progress.report(Some(share), message);
            }
        }
        if watch.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    fit(training, validation, config, &mut seen).map_err(refused)
}
