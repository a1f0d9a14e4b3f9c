//! How many jobs and scheduled runs ended, and how.

use opsroom_core::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// A job that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// Its operation.
    pub operation: &'static str,
    /// Its last state.
    pub state: &'static str,
}

/// A scheduled run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Run {
    /// How.
    pub outcome: &'static str,
}

/// The counters of this folder.
#[derive(Clone, Default)]
pub struct Counts {
    /// Jobs of this server that ended.
    pub jobs_ended: Family<Ended, Counter>,
    /// Scheduled runs of this server that ended.
    pub schedule_runs: Family<Run, Counter>,
}

impl Counts {
    /// Counters that `/metrics` shows.
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(|registry| {
            registry.register("jobs_ended", "Jobs that ended, by state", counts.jobs_ended.clone());
            registry.register("schedule_runs", "Scheduled runs that ended", counts.schedule_runs.clone());
        });
        counts
    }
}
