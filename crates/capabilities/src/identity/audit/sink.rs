//! The audit trail sent off the machine, so that who takes the machine over cannot take back what is known
//! elsewhere: record by record in the order of the chain, with their hashes, to a syslog server (RFC 5424,
//! counted as in RFC 6587) or by HTTP as lines of JSON.
//!
//! Every record arrives at least once: after a crash, or when an answer was lost, some come again, with the
//! same `seq`. A place that does not take them is tried until it does. What a syslog server's connection took
//! counts as arrived, because syslog has no answer.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use opsroom_core::db::Db;
use opsroom_core::egress::{Egress, Limits, Request};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Clock, Error, Result, Secret};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

use super::Record;
use crate::identity::store;

/// The most records of one delivery.
const TOGETHER: u64 = 500;
/// How often new records are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause after a delivery that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For how long a server has a sink to itself, in seconds: beyond every delivery.
const LEASE_SECONDS: i64 = 90;
/// Security and authorisation messages that somebody should see: facility 13 (log audit), severity 5 (notice).
const NOTICE: u8 = 13 * 8 + 5;
/// The same with severity 4 (warning), for what did not succeed.
const WARNING: u8 = 13 * 8 + 4;

/// Where the audit trail is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Its name: how far it has got is kept under it. At most 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// `https://HOST/PATH` takes lines of JSON by POST; `syslog+tls://HOST:PORT` and `syslog+tcp://HOST:PORT`
    /// take syslog messages. A private address must be allowed by `egress`.
    pub url: Secret,
    /// The token that HTTP requests bear.
    #[serde(default)]
    pub token: Secret,
}

impl SinkConfig {
    /// # Errors
    /// `Invalid`, beginning with the field.
    pub fn validate(&self) -> Result<()> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(known) {
            return Err(Error::invalid("name: it is 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        HeaderValue::try_from(format!("Bearer {}", self.token.expose()))
            .map_err(|_| Error::invalid("token: it cannot stand in a header"))?;
        self.way().map(drop)
    }

    fn way(&self) -> Result<Way> {
        let wrong = || {
            Error::invalid(
                "url: it is https://HOST/PATH, syslog+tls://HOST:PORT or syslog+tcp://HOST:PORT, without a user",
            )
        };
        let url: http::Uri = self.url.expose().parse().map_err(|_| wrong())?;
        let authority =
            url.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        match (url.scheme_str(), authority.port_u16()) {
            (Some("http" | "https"), _) => Ok(Way::Http),
            (Some(scheme @ ("syslog+tls" | "syslog+tcp")), Some(port)) => {
                let host = authority.host().trim_matches(['[', ']']).to_owned();
                Ok(Way::Syslog { host, port, tls: scheme == "syslog+tls" })
            }
            _ => Err(wrong()),
        }
    }
}

enum Way {
    Http,
    Syslog { host: String, port: u16, tls: bool },
}

/// One sink and what it needs.
#[derive(Clone)]
pub struct Sink {
    /// The database of the trail.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// The way out.
    pub egress: Egress,
    /// Where to.
    pub config: SinkConfig,
}

impl Sink {
    /// Sends until the server stops.
    pub fn start(self, lifecycle: &Lifecycle) {
        let stopping = lifecycle.stopping();
        lifecycle.spawn("audit sink", async move {
            let mut pause = LOOK;
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = match self.send_new().await {
                    Ok(_) => LOOK,
                    Err(error) => {
                        if pause == LOOK {
                            let sink = &self.config.name;
                            tracing::warn!(sink, error = %error, "the audit trail cannot be sent; trying again");
                        }
                        (pause * 2).min(LONGEST_PAUSE)
                    }
                };
            }
        });
    }

    /// Sends what was not sent yet; answers how many records. 0 as well when another server is at it.
    ///
    /// # Errors
    /// Those of the database and of the place.
    pub async fn send_new(&self) -> Result<u64> {
        let name = &self.config.name;
        let mut sent = 0;
        loop {
            let now = self.clock.now();
            if store::audit::newest_seq(&self.db).await? <= store::audit::sent_until(&self.db, name).await? {
                return Ok(sent);
            }
            let Some(from) =
                store::audit::take_sink(&self.db, name, now, now.plus_seconds(LEASE_SECONDS)).await?
            else {
                return Ok(sent);
            };
            let rows = store::audit::rows_after(&self.db, from, TOGETHER).await?;
            let records: Vec<Record> = rows.iter().map(store::audit::read).collect::<Result<_>>()?;
            let outcome = match records.is_empty() {
                true => Ok(()),
                false => self.send(&records).await,
            };
            let until = records.last().filter(|_| outcome.is_ok()).map_or(from, |record| record.seq);
            store::audit::leave_sink(&self.db, name, until).await?;
            outcome?;
            sent += records.len() as u64;
            if (records.len() as u64) < TOGETHER {
                return Ok(sent);
            }
        }
    }

    async fn send(&self, records: &[Record]) -> Result<()> {
        let late = || Error::unavailable("the place did not take the records in time");
        let sending = async {
            match self.config.way()? {
                Way::Http => self.post(records).await,
                Way::Syslog { host, port, tls } => self.syslog(&host, port, tls, records).await,
            }
        };
        tokio::time::timeout(TIMEOUT, sending).await.map_err(|_| late())?
    }

    async fn post(&self, records: &[Record]) -> Result<()> {
        let lines: String = records.iter().map(|record| format!("{}\n", shown(record))).collect();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if !self.config.token.is_empty() {
            let value = HeaderValue::try_from(format!("Bearer {}", self.config.token.expose()));
            let mut value = value.map_err(Error::internal)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let url = self.config.url.expose().to_owned();
        let request = Request { method: http::Method::POST, url, headers, body: lines.into() };
        let limits = Limits { max_bytes: 64 << 10, timeout: TIMEOUT, redirects: 0 };
        let answer = self.egress.send(request, limits).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Error::unavailable(format!("the place answered {}", answer.status.as_u16()))),
        }
    }

    async fn syslog(&self, host: &str, port: u16, tls: bool, records: &[Record]) -> Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            let message = message(record);
            bytes.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
        }
        let failed = |error: std::io::Error| Error::unavailable(format!("the syslog server: {error}"));
        let mut stream = self.egress.dial(host, port).await?;
        if tls {
            let mut config = (*self.egress.tls_for_http1()).clone();
            config.alpn_protocols.clear();
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| Error::invalid("the server's name cannot be in a certificate"))?;
            let connector = TlsConnector::from(std::sync::Arc::new(config));
            let mut stream = connector.connect(name, stream).await.map_err(failed)?;
            stream.write_all(&bytes).await.map_err(failed)?;
            return stream.shutdown().await.map_err(failed);
        }
        stream.write_all(&bytes).await.map_err(failed)?;
        stream.shutdown().await.map_err(failed)
    }
}

/// A record as the places get it.
fn shown(record: &Record) -> Value {
    let input = serde_json::from_str(&record.input).unwrap_or_else(|_| json!(record.input));
    json!({
        "seq": record.seq,
        "time": record.time.to_rfc3339(),
        "team_id": record.team_id,
        "subject": record.subject,
        "name": record.name,
        "face": record.face,
        "address": record.address,
        "operation": record.operation,
        "effect": record.effect,
        "input": input,
        "outcome": record.outcome,
        "message": record.message,
        "job_id": record.job_id,
        "request_id": record.request_id,
        "prev_hash": record.prev_hash,
        "hash": record.hash,
    })
}

/// A record as a syslog message (RFC 5424): JSON escapes what could end it.
fn message(record: &Record) -> String {
    let fine = matches!(record.outcome.as_str(), "ok" | "started");
    let priority = if fine { NOTICE } else { WARNING };
    let printable = record.operation.chars().filter(char::is_ascii_graphic);
    let id: String = printable.take(32).collect();
    let id = if id.is_empty() { "-" } else { &id };
    format!("<{priority}>1 {} - opsroom - {id} - {}", record.time.to_rfc3339(), shown(record))
}
