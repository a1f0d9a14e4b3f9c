//! Prometheus remote-write (version 1: a snappy block of the protobuf message `WriteRequest`), turned into
//! the input of `ingest_metrics`, so that what arrives either way is checked, stored and recorded alike.
//!
//! A series' service is the value of one of its labels; its metric is `__name__`, followed by the labels
//! that are left, in braces. Of several samples within the configured resolution the last one counts.
//!
//! Prometheus never sends a refused request again. So one series that cannot be stored costs no other: what
//! can be stored is stored, and the request is refused afterwards for the rest, as the specification of
//! remote-write allows (<https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#partial-write>).

use std::collections::BTreeMap;
use std::fmt::Write;

use opsroom_analytics::forecast::series::MAX_VALUE;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Planning;
use super::ingest::{MAX_METRIC, MAX_POINTS, MAX_SERVICE, name_of};

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

/// What a request carries.
#[derive(Debug, Default)]
pub struct Written {
    /// Inputs of `ingest_metrics`, one after the other; none when there is nothing to store, such as metadata
    /// alone.
    pub inputs: Vec<Value>,
    /// Why series were left out; the answer to the request, after the others are stored.
    pub refused: Option<Error>,
}

impl Planning {
    /// What a request of Prometheus remote-write carries.
    ///
    /// # Errors
    /// `Invalid` for what is no such request.
    pub async fn written(&self, body: &[u8]) -> Result<Written> {
        if body.len() > MAX_PACKED {
            return Err(Error::invalid("the body is larger than 8 MiB; send fewer samples at a time"));
        }
        let (body, config) = (body.to_vec(), self.config.clone());
        Lifecycle::blocking(move || read(&body, &config.remote_write)).await
    }
}

/// The input of `ingest_metrics` that a request stands for, when all of it can be stored as one.
///
/// # Errors
/// `Invalid` for bytes that are no such request, and for series whose service or metric cannot be told.
pub fn input(body: &[u8], config: &RemoteWriteConfig) -> Result<Option<Value>> {
    let Written { mut inputs, refused } = read(body, config)?;
    match refused {
        Some(error) => Err(error),
        None if inputs.len() > 1 => Err(Error::invalid("there are more samples than one request may carry")),
        None => Ok(inputs.pop()),
    }
}

/// What a request carries.
///
/// # Errors
/// `Invalid` for bytes that are no such request.
fn read(body: &[u8], config: &RemoteWriteConfig) -> Result<Written> {
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
    Ok(gathered.finish())
}

/// What is known of one metric of one service.
struct Samples {
    /// The labels of the series that made it.
    made_by: String,
    /// The labels of another one that would make it as well: neither can be stored.
    also: Option<String>,
    /// By step of time the moment and value of the last sample.
    values: BTreeMap<i64, (i64, f64)>,
}

#[derive(Default)]
struct Gathered {
    /// By service and metric.
    series: BTreeMap<(String, String), Samples>,
    without_service: usize,
    /// Why series cannot be stored.
    refused: Vec<String>,
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
        if let Some(reason) = unfit(&service, &metric) {
            self.refused.push(reason);
            return Ok(());
        }
        let known = self.series.entry((service, metric)).or_insert_with(|| Samples {
            made_by: all.clone(),
            also: None,
            values: BTreeMap::new(),
        });
        if known.made_by != all {
            known.also.get_or_insert(all);
            return Ok(());
        }
        let step = i64::from(config.resolution_seconds) * 1000;
        for (at, value) in samples {
            // A stale series is marked by a value that is not a number.
            if value.abs() <= MAX_VALUE && at >= 0 {
                let slot = known.values.entry(at.div_euclid(step) * step / 1000).or_insert((at, value));
                if slot.0 <= at {
                    *slot = (at, value);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Written {
        if self.series.is_empty() && self.without_service > 0 {
            let text = "no series has a label that names its service (planning.remote_write.service_labels)";
            self.refused.push(text.to_owned());
        }
        let mut points = Vec::new();
        for ((service, metric), Samples { made_by, also, values }) in self.series {
            if let Some(also) = also {
                self.refused.push(format!(
                    "{made_by} and {also} are both {metric}: sum them up by a recording rule, or take the labels in \
                     which they differ off planning.remote_write.ignore_labels and service_labels"
                ));
                continue;
            }
            points.extend(values.into_iter().map(|(at, (_, value))| {
                json!({ "service_id": service, "metric_name": metric, "timestamp": at, "value": value })
            }));
        }
        let inputs = points.chunks(MAX_POINTS).map(|points| json!({ "points": points })).collect();
        Written { inputs, refused: refusal(&self.refused) }
    }
}

/// Why a series cannot be stored under these names.
fn unfit(service: &str, metric: &str) -> Option<String> {
    let cut = |text: &str| text.escape_debug().take(80).collect::<String>();
    if name_of(service, MAX_SERVICE).is_none() {
        return Some(format!(
            "the service `{}` has 1 to {MAX_SERVICE} characters and no control characters",
            cut(service)
        ));
    }
    name_of(metric, MAX_METRIC).is_none().then(|| {
        format!(
            "the metric `{}` has, with its labels, 1 to {MAX_METRIC} characters and no control characters: drop \
             labels by write_relabel_configs",
            cut(metric)
        )
    })
}

/// The answer for series that were left out: the first of them, and how many there are.
fn refusal(reasons: &[String]) -> Option<Error> {
    let first = reasons.first()?;
    let more = match reasons.len() - 1 {
        0 => String::new(),
        more => format!("; and {more} more such series"),
    };
    Some(Error::invalid(format!("{first}{more}; what else was sent is stored")))
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

    fn packed(message: &[Vec<u8>]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&message.concat()).unwrap()
    }

    fn read(message: &[Vec<u8>]) -> Result<Option<Value>> {
        input(&packed(message), &RemoteWriteConfig::default())
    }

    #[test]
    fn a_series_that_cannot_be_stored_costs_no_other() {
        let good = series(&[("__name__", "avg_cpu"), ("service", "shop")], &[(0, 1.0)]);
        let long = "x".repeat(300);
        let one = |replica| series(&[("__name__", "up"), ("job", "x"), ("replica", replica)], &[(0, 1.0)]);
        let bad = [
            vec![series(&[("__name__", &long), ("service", "shop")], &[(0, 1.0)])],
            vec![series(&[("__name__", "avg_cpu"), ("service", &long)], &[(0, 1.0)])],
            vec![series(&[("__name__", "avg_cpu"), ("service", "a\nb")], &[(0, 1.0)])],
            vec![one("a"), one("b")],
        ];
        for bad in bad {
            let message = packed(&[bad, vec![good.clone()]].concat());
            let written = super::read(&message, &RemoteWriteConfig::default()).unwrap();
            let points = written.inputs[0]["points"].as_array().unwrap();
            assert_eq!((points.len(), &points[0]["service_id"]), (1, &json!("shop")));
            assert!(written.refused.unwrap().message.contains("what else was sent is stored"));
        }
    }

    #[test]
    fn more_samples_than_one_request_may_carry_are_several() {
        let samples: Vec<(u64, f64)> = (0..MAX_POINTS as u64 + 1).map(|at| (at * 300_000, 1.0)).collect();
        let message = packed(&[series(&[("__name__", "up"), ("job", "x")], &samples)]);
        let written = super::read(&message, &RemoteWriteConfig::default()).unwrap();
        let sizes: Vec<usize> =
            written.inputs.iter().map(|i| i["points"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [MAX_POINTS, 1]);
        assert!(written.refused.is_none());
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
