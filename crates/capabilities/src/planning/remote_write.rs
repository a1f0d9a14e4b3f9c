//! Prometheus remote-write (version 1: a snappy block of the protobuf message `WriteRequest`), turned into
//! the input of `ingest_metrics`, so that what arrives either way is checked, stored and recorded alike.
//!
//! A series' service is the value of one of its labels; its metric is `__name__`, followed by the labels
//! that are left, in braces. Of several samples within the configured resolution the last one counts.

use std::collections::BTreeMap;
use std::fmt::Write;

use opsroom_analytics::forecast::series::MAX_VALUE;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ingest::{MAX_METRIC, MAX_SERVICE};

/// The most bytes of a request as it arrives.
pub const MAX_PACKED: usize = 8 << 20;
/// The most bytes of a request that is unpacked.
const MAX_UNPACKED: usize = 32 << 20;

/// How series of remote-write become metrics of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// The labels that name the service: the first of them that a series has.
    pub service_labels: Vec<String>,
    /// Labels that do not make another metric, such as those of a highly available pair.
    pub ignore_labels: Vec<String>,
    /// Of the samples within so many seconds the last one is kept; it divides 3600.
    pub resolution_seconds: u32,
}

impl Default for RemoteWriteConfig {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            service_labels: words(&["service", "service_id", "job"]),
            ignore_labels: words(&["prometheus", "prometheus_replica", "replica"]),
            resolution_seconds: 300,
        }
    }
}

impl RemoteWriteConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if self.service_labels.is_empty() {
            return Err(Error::invalid("planning.remote_write.service_labels: there is at least one"));
        }
        if self.resolution_seconds == 0 || 3600 % self.resolution_seconds != 0 {
            let text = "planning.remote_write.resolution_seconds: it divides 3600, such as 60 or 300";
            return Err(Error::invalid(text));
        }
        Ok(())
    }
}

/// The input of `ingest_metrics` that a request stands for; `None` when it carries nothing to store, such
/// as metadata alone.
///
/// # Errors
/// `Invalid` for bytes that are no such request, and for series whose service or metric cannot be told.
pub fn input(body: &[u8], config: &RemoteWriteConfig) -> Result<Option<Value>> {
    let length = snap::raw::decompress_len(body)
        .map_err(|error| Error::invalid("the body is not a snappy block").because(error))?;
    if length > MAX_UNPACKED {
        return Err(Error::invalid("the body unpacks to more than 32 MiB; send fewer samples at a time"));
    }
    let message = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|error| Error::invalid("the body is not a snappy block").because(error))?;
    let mut gathered = Gathered::default();
    for field in Fields(&message) {
        if let (1, Content::Bytes(series)) = field? {
            gathered.series(series, config)?;
        }
    }
    gathered.finish()
}

#[derive(Default)]
struct Gathered {
    /// For each service and metric the labels that made it, and the last value of each step of time.
    series: BTreeMap<(String, String), (String, BTreeMap<i64, (i64, f64)>)>,
    without_service: usize,
}

impl Gathered {
    fn series(&mut self, bytes: &[u8], config: &RemoteWriteConfig) -> Result<()> {
        let (mut labels, mut samples) = (BTreeMap::new(), Vec::new());
        for field in Fields(bytes) {
            match field? {
                (1, Content::Bytes(label)) => {
                    let (name, value) = read_label(label)?;
                    labels.insert(name, value);
                }
                (2, Content::Bytes(sample)) => samples.push(read_sample(sample)?),
                _ => {}
            }
        }
        let Some(service) = config.service_labels.iter().find_map(|name| labels.get(name)).cloned() else {
            self.without_service += 1;
            return Ok(());
        };
        let all = shown(&labels);
        let name = labels.remove("__name__").unwrap_or_default();
        let others = labels.into_iter().filter(|(name, _)| {
            !config.service_labels.contains(name) && !config.ignore_labels.contains(name)
        });
        let others: BTreeMap<String, String> = others.collect();
        let metric = if others.is_empty() { name } else { format!("{name}{}", shown(&others)) };
        check(&service, &metric)?;
        let (made_by, values) =
            self.series.entry((service, metric.clone())).or_insert_with(|| (all.clone(), BTreeMap::new()));
        if *made_by != all {
            return Err(Error::invalid(format!(
                "{made_by} and {all} are both {metric}: sum them up by a recording rule, or take the labels in \
                 which they differ off planning.remote_write.ignore_labels and service_labels"
            )));
        }
        let step = i64::from(config.resolution_seconds) * 1000;
        for (at, value) in samples {
            // A stale series is marked by a value that is not a number.
            if value.abs() <= MAX_VALUE && at >= 0 {
                let slot = values.entry(at.div_euclid(step) * step / 1000).or_insert((at, value));
                if slot.0 <= at {
                    *slot = (at, value);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Value>> {
        if self.series.is_empty() && self.without_service > 0 {
            return Err(Error::invalid(
                "no series has a label that names its service (planning.remote_write.service_labels)",
            ));
        }
        let mut points = Vec::new();
        for ((service, metric), (_, values)) in self.series {
            points.extend(values.into_iter().map(|(at, (_, value))| {
                json!({ "service_id": service, "metric_name": metric, "timestamp": at, "value": value })
            }));
        }
        Ok((!points.is_empty()).then(|| json!({ "points": points })))
    }
}

fn check(service: &str, metric: &str) -> Result<()> {
    let cut = |text: &str| text.escape_debug().take(80).collect::<String>();
    if service.chars().count() > MAX_SERVICE || service.trim().is_empty() {
        return Err(Error::invalid(format!("the service `{}` has 1 to 256 characters", cut(service))));
    }
    if metric.is_empty() || metric.chars().count() > MAX_METRIC {
        return Err(Error::invalid(format!(
            "the metric `{}` has, with its labels, 1 to 128 characters: drop labels by write_relabel_configs",
            cut(metric)
        )));
    }
    Ok(())
}

/// Labels as PromQL writes them.
fn shown(labels: &BTreeMap<String, String>) -> String {
    let mut text = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _infallible = write!(text, "{comma}{name}={value:?}");
    }
    text.push('}');
    text
}

fn read_label(bytes: &[u8]) -> Result<(String, String)> {
    let (mut name, mut value) = (String::new(), String::new());
    for field in Fields(bytes) {
        let (number, Content::Bytes(text)) = field? else { continue };
        let text = String::from_utf8(text.to_vec()).map_err(|_| broken())?;
        match number {
            1 => name = text,
            2 => value = text,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Milliseconds since 1970, and the value.
fn read_sample(bytes: &[u8]) -> Result<(i64, f64)> {
    let (mut at, mut value) = (0, 0.0);
    for field in Fields(bytes) {
        match field? {
            (1, Content::Eight(bits)) => value = f64::from_bits(bits),
            (2, Content::Number(number)) => at = number.cast_signed(),
            _ => {}
        }
    }
    Ok((at, value))
}

/// What a field of a protobuf message holds (<https://protobuf.dev/programming-guides/encoding/>).
enum Content<'a> {
    Number(u64),
    Eight(u64),
    Bytes(&'a [u8]),
    Four,
}

/// The fields of a message, one after the other; the first that is broken ends them.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let key = self.number()?;
        let content = match key & 7 {
            0 => Content::Number(self.number()?),
            1 => Content::Eight(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Four)?,
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Content<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(broken))
    }
}

fn broken() -> Error {
    Error::invalid("the body is not a `WriteRequest` of Prometheus remote-write 1.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    }

    fn varint(mut number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        out
    }

    fn series(labels: &[(&str, &str)], samples: &[(u64, f64)]) -> Vec<u8> {
        let label = |(name, value): &(&str, &str)| {
            bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
        };
        let sample = |(at, value): &(u64, f64)| {
            let value = [&[1 << 3 | 1][..], &value.to_le_bytes()].concat();
            bytes(2, &[value, vec![2 << 3], varint(*at)].concat())
        };
        let parts: Vec<Vec<u8>> = labels.iter().map(label).chain(samples.iter().map(sample)).collect();
        bytes(1, &parts.concat())
    }

    fn read(message: &[Vec<u8>]) -> Result<Option<Value>> {
        let packed = snap::raw::Encoder::new().compress_vec(&message.concat()).unwrap();
        input(&packed, &RemoteWriteConfig::default())
    }

    #[test]
    fn samples_become_points_of_their_service_and_metric() {
        let message = [
            series(
                &[("__name__", "avg_cpu"), ("service", "shop"), ("replica", "a")],
                &[(1_762_855_200_000, 0.25), (1_762_855_260_000, 0.5), (1_762_855_800_000, f64::NAN)],
            ),
            series(
                &[("__name__", "http_requests_total"), ("code", "200"), ("job", "api")],
                &[(7_200_000, 3.0)],
            ),
            bytes(3, b"metadata"),
        ];
        let points = read(&message).unwrap().unwrap()["points"].clone();
        let wanted = json!([
            { "service_id": "api", "metric_name": "http_requests_total{code=\"200\"}", "timestamp": 7200, "value": 3.0 },
            { "service_id": "shop", "metric_name": "avg_cpu", "timestamp": 1_762_855_200, "value": 0.5 },
        ]);
        assert_eq!(points, wanted);
    }

    #[test]
    fn series_that_differ_only_in_what_is_ignored_are_refused_and_not_mixed() {
        let one = |replica| series(&[("__name__", "up"), ("job", "x"), ("replica", replica)], &[(0, 1.0)]);
        let error = read(&[one("a"), one("b")]).unwrap_err();
        assert!(error.message.contains("recording rule"), "{error}");
    }

    #[test]
    fn a_series_without_a_service_is_left_out_and_a_request_of_such_alone_refused() {
        let lonely = series(&[("__name__", "up")], &[(0, 1.0)]);
        assert!(read(std::slice::from_ref(&lonely)).unwrap_err().message.contains("service_labels"));
        let named = series(&[("__name__", "up"), ("job", "x")], &[(0, 1.0)]);
        assert_eq!(read(&[lonely, named]).unwrap().unwrap()["points"].as_array().unwrap().len(), 1);
        assert_eq!(read(&[bytes(3, b"m")]).unwrap(), None);
    }

    #[test]
    fn broken_bodies_and_snappy_bombs_are_refused() {
        let config = RemoteWriteConfig::default();
        for body in [&b""[..], b"plain text", &[0xff; 12], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]] {
            assert!(input(body, &config).is_err(), "{body:?}");
        }
        let cut = series(&[("__name__", "up"), ("job", "x")], &[(0, 1.0)]);
        for end in 1..cut.len() {
            assert!(read(&[cut[..end].to_vec()]).is_err(), "cut at {end}");
        }
        let long = "x".repeat(300);
        assert!(read(&[series(&[("__name__", &long), ("job", "x")], &[(0, 1.0)])]).is_err());
    }
}
