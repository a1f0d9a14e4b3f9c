//! Numbers about the server itself, in Prometheus' format.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What a call of an operation was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The operation.
    pub operation: &'static str,
    /// By which face.
    pub face: &'static str,
    /// `ok`, or the error's kind.
    pub outcome: &'static str,
}

/// The operation that took the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabel {
    /// The operation.
    pub operation: &'static str,
}

/// The server's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<OperationLabel, Histogram>,
    /// Requests that were refused before they became a call, for want of a valid key.
    pub unauthenticated: Counter,
    /// Jobs that are at work now.
    pub jobs_running: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("opsroom");
        let calls = Family::<CallLabels, Counter>::default();
        let seconds = Family::<OperationLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_5, 4.0, 10))
        });
        let (unauthenticated, jobs_running) = (Counter::default(), Gauge::default());
        registry.register("calls", "Calls of operations", calls.clone());
        registry.register("call_duration_seconds", "How long calls of operations took", seconds.clone());
        registry.register("unauthenticated", "Requests without a valid key", unauthenticated.clone());
        registry.register("jobs_running", "Jobs at work", jobs_running.clone());
        Self { registry: Arc::new(Mutex::new(registry)), calls, seconds, unauthenticated, jobs_running }
    }
}

impl Metrics {
    /// Counts one call.
    pub fn count(&self, labels: CallLabels, took: Duration) {
        self.seconds
            .get_or_create(&OperationLabel { operation: labels.operation })
            .observe(took.as_secs_f64());
        self.calls.get_or_create(&labels).inc();
    }

    /// Adds a capability's own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a `String` cannot fail.
        let _infallible = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_call_is_rendered() {
        let metrics = Metrics::default();
        let labels = CallLabels { operation: "get_info", face: "rest", outcome: "ok" };
        metrics.count(labels, Duration::from_millis(2));
        let text = metrics.render();
        assert!(
            text.contains(r#"opsroom_calls_total{operation="get_info",face="rest",outcome="ok"} 1"#),
            "{text}"
        );
    }
}
