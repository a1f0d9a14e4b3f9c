//! A Prometheus server as a source: a PromQL template for each metric, asked once an hour of the history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opsroom_analytics::forecast::clean::Reading;
use opsroom_core::egress::{Egress, Limits, Request};
use opsroom_core::{Error, Kind, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::promql::Template;
use super::{Found, Query};

/// The most bytes of an answer.
const MAX_BYTES: u64 = 32 << 20;

/// Where a Prometheus server is, and what it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// Its URL, such as `http://prometheus:9090`. A private address must be allowed by `egress`.
    pub url: String,
    /// Sent as a bearer token, when it is not empty.
    pub token: Secret,
    /// How long it may take to answer, in seconds, from 1 to 120.
    pub timeout_seconds: u64,
    /// PromQL for each metric, with `{service}` where the service's name goes, such as
    /// `avg_cpu: 'avg(rate(container_cpu_usage_seconds_total{service="{service}"}[1h]))'`. It gives one series.
    /// The place is in the quoted value of a label matcher; in one of `=~` the name is matched literally.
    pub queries: BTreeMap<String, String>,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { url: String::new(), token: Secret::default(), timeout_seconds: 10, queries: BTreeMap::new() }
    }
}

impl PrometheusConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, want: &str| Err(Error::invalid(format!("planning.prometheus.{key}: {want}")));
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return wrong("url", "the source `prometheus` needs a URL that begins with http:// or https://");
        }
        if !(1..=120).contains(&self.timeout_seconds) {
            return wrong("timeout_seconds", "it is from 1 to 120");
        }
        for (metric, query) in &self.queries {
            if let Err(error) = Template::parse(query) {
                return wrong(&format!("queries.{metric}"), &error.message);
            }
        }
        Ok(())
    }
}

/// A Prometheus server. Cheap to clone.
#[derive(Clone)]
pub struct Prometheus {
    egress: Egress,
    config: Arc<PrometheusConfig>,
}

impl Prometheus {
    /// A server that is asked through `egress`.
    pub fn new(egress: Egress, config: PrometheusConfig) -> Self {
        Self { egress, config: Arc::new(config) }
    }

    /// The readings of a series, one an hour.
    pub(super) async fn history(&self, query: &Query) -> Result<Found> {
        let Some(template) = self.config.queries.get(&query.key.metric) else {
            let known: Vec<&str> = self.config.queries.keys().map(String::as_str).collect();
            let note = format!(
                "`planning.prometheus.queries` has no query for this metric; it has {}",
                known.join(", ")
            );
            return Ok(Found { readings: Vec::new(), notes: vec![note] });
        };
        let promql = Template::parse(template)?.of(&query.key.service);
        let (from, to) = (query.from.div_euclid(3600) * 3600, query.now.div_euclid(3600) * 3600);
        let url = format!(
            "{}/api/v1/query_range?query={}&start={from}&end={to}&step=3600",
            self.config.url.trim_end_matches('/'),
            encoded(&promql)
        );
        let mut request = Request::get(url);
        if !self.config.token.is_empty() {
            let value = format!("Bearer {}", self.config.token.expose()).parse();
            let value = value
                .map_err(|_| Error::unavailable("planning.prometheus.token cannot be sent in a header"))?;
            request.headers.insert("authorization", value);
        }
        let timeout = Duration::from_secs(self.config.timeout_seconds);
        let limits = Limits { max_bytes: MAX_BYTES, timeout, redirects: 3 };
        let response = self.egress.send(request, limits).await.map_err(of_prometheus)?;
        let body: Value = serde_json::from_slice(&response.body)
            .map_err(|_| trouble(&format!("it answered {} without JSON", response.status.as_u16())))?;
        read(&body)
    }
}

fn of_prometheus(error: Error) -> Error {
    Error { kind: Kind::Unavailable, message: format!("Prometheus: {}", error.message), ..error }
}

fn trouble(what: &str) -> Error {
    Error::unavailable(format!("Prometheus: {what}"))
}

/// The samples of a range query's answer.
fn read(body: &Value) -> Result<Found> {
    if body["status"] != "success" {
        let reason = body["error"].as_str().unwrap_or("it refused the query without a reason");
        return Err(trouble(&reason.chars().take(300).collect::<String>()));
    }
    let kind = body["data"]["resultType"].as_str().unwrap_or_default();
    let Some(series) = body["data"]["result"].as_array().filter(|_| kind == "matrix") else {
        let kind: String = kind.chars().take(40).collect();
        return Err(trouble(&format!(
            "the query gives `{kind}` and no series over time; make it one that does"
        )));
    };
    let samples = match series.as_slice() {
        [] => return Ok(Found::default()),
        [one] => one["values"].as_array().ok_or_else(|| trouble("its series has no values"))?,
        several => {
            let count = several.len();
            return Err(trouble(&format!(
                "the query gives {count} series; aggregate them to one, as with `sum(...)`"
            )));
        }
    };
    let reading = |sample: &Value| {
        let at = sample[0].as_f64()? as i64;
        Some(Reading { at, value: sample[1].as_str()?.parse().ok()? })
    };
    let readings: Option<Vec<Reading>> = samples.iter().map(reading).collect();
    let readings = readings.ok_or_else(|| trouble("a sample of its answer is not a time and a number"))?;
    Ok(Found { readings, notes: Vec::new() })
}

/// A text in a URL, every byte that could mean something else escaped.
pub(in crate::planning) fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_series_over_time_is_read_and_anything_else_refused() {
        let matrix = |series: Value| json!({ "status": "success", "data": { "resultType": "matrix", "result": series } });
        let found =
            read(&matrix(json!([{ "metric": {}, "values": [[3600, "1.5"], [7200, "NaN"]] }]))).unwrap();
        assert_eq!(found.readings[0], Reading { at: 3600, value: 1.5 });
        assert!(found.readings[1].value.is_nan());
        assert_eq!(read(&matrix(json!([]))).unwrap(), Found::default());
        let message = |body: Value| read(&body).unwrap_err().message;
        assert!(message(matrix(json!([{ "values": [] }, { "values": [] }]))).contains("2 series"));
        assert!(
            message(json!({ "status": "success", "data": { "resultType": "scalar", "result": [1, "2"] } }))
                .contains("scalar")
        );
        assert!(message(json!({ "status": "error", "error": "parse error" })).contains("parse error"));
        assert!(message(matrix(json!([{ "values": [["now", 1]] }]))).contains("sample"));
        assert!(message(json!([])).contains("refused"));
    }

    #[test]
    fn what_has_a_meaning_in_a_url_is_escaped() {
        assert_eq!(encoded("a b&c"), "a%20b%26c");
    }

    #[test]
    fn a_template_that_a_name_could_break_out_of_is_refused_with_its_key() {
        let queries = BTreeMap::from([("avg_cpu".to_owned(), "up{job=`{service}`}".to_owned())]);
        let config = PrometheusConfig { url: "http://x".to_owned(), queries, ..PrometheusConfig::default() };
        let message = config.validate().unwrap_err().message;
        assert!(
            message.starts_with("planning.prometheus.queries.avg_cpu: nothing can be escaped"),
            "{message}"
        );
    }
}
