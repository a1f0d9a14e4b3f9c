//! Syslog: RFC 5424 and its older kin of RFC 3164, over UDP (RFC 5426), TCP (RFC 6587, both framings)
//! and TLS (RFC 5425).
//!
//! Nobody acknowledges syslog: what came in the last 200 ms before a crash may be lost.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::logs::Logs;
use crate::logs::entry::{Gather, labels, time_of_text};
use crate::logs::store::LogStore;

/// The most bytes of a message.
const MOST_BYTES: usize = 64 << 10;
/// Messages that wait to be kept; then senders over TCP wait, and over UDP they are lost.
const WAITING: usize = 8_192;
/// How long messages are gathered before they are kept together.
const GATHERED: Duration = Duration::from_millis(200);
/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// How long a sender over TLS may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);

/// Where syslog is received. Off unless an address is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogConfig {
    /// Where to listen for UDP, such as `127.0.0.1:5514`. Empty: nowhere.
    pub udp: String,
    /// Where to listen for TCP. Empty: nowhere.
    pub tcp: String,
    /// Where to listen for TLS, such as `0.0.0.0:6514`. Empty: nowhere.
    pub tls: String,
    /// The certificate chain that is shown over TLS, a PEM file.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, a PEM file.
    pub tls_key: Option<PathBuf>,
    /// A PEM file of authorities: over TLS only who shows a certificate of one of them may send, from any
    /// address.
    pub tls_client_ca: Option<PathBuf>,
    /// The addresses that may send, such as `10.0.3.7`; loopback may always. Syslog has no keys: who is on
    /// this list is believed.
    pub allow_addresses: Vec<String>,
    /// Whose lines they are.
    pub team: String,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        let team = opsroom_core::caller::DEFAULT_TEAM.to_owned();
        let nowhere = String::new;
        Self {
            udp: nowhere(),
            tcp: nowhere(),
            tls: nowhere(),
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            allow_addresses: Vec::new(),
            team,
        }
    }
}

impl SyslogConfig {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value that cannot be used.
    pub fn validate(&self) -> Result<()> {
        for (key, text) in [("udp", &self.udp), ("tcp", &self.tcp), ("tls", &self.tls)] {
            if !text.is_empty() && text.parse::<SocketAddr>().is_err() {
                let text = text.escape_debug();
                return Err(Error::invalid(format!(
                    "logs.syslog.{key}: `{text}` is no address and port, such as 127.0.0.1:5514"
                )));
            }
        }
        if !self.tls.is_empty() && (self.tls_certificate.is_none() || self.tls_key.is_none()) {
            return Err(Error::invalid(
                "logs.syslog.tls: it needs `tls_certificate` and `tls_key`, the PEM files to show",
            ));
        }
        let wrong = self.allow_addresses.iter().find(|text| text.parse::<IpAddr>().is_err());
        match wrong {
            Some(text) => Err(Error::invalid(format!(
                "logs.syslog.allow_addresses: `{}` is no address",
                text.escape_debug()
            ))),
            None => Ok(()),
        }
    }

    fn may(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.allow_addresses.iter().any(|text| text.parse() == Ok(address))
    }
}

/// Listens where the configuration says, and keeps what comes.
///
/// # Errors
/// `Invalid` or `Conflict` for an address that cannot be listened at.
pub async fn start(logs: &Logs, lifecycle: &Lifecycle, config: &SyslogConfig) -> Result<()> {
    if config.udp.is_empty() && config.tcp.is_empty() && config.tls.is_empty() {
        return Ok(());
    }
    let (sender, received) = mpsc::channel(WAITING);
    let failed = |address: &str, error: std::io::Error| {
        Error::conflict(format!("logs.syslog: cannot listen at {address}: {error}"))
    };
    if !config.udp.is_empty() {
        let socket = UdpSocket::bind(&config.udp).await.map_err(|error| failed(&config.udp, error))?;
        lifecycle.spawn("syslog over UDP", udp(socket, config.clone(), sender.clone(), lifecycle.clone()));
    }
    if !config.tcp.is_empty() {
        let listener = TcpListener::bind(&config.tcp).await.map_err(|error| failed(&config.tcp, error))?;
        let serving = tcp(listener, None, config.clone(), sender.clone(), lifecycle.clone());
        lifecycle.spawn("syslog over TCP", serving);
    }
    if !config.tls.is_empty() {
        let acceptor = super::tls::acceptor(config)?;
        let listener = TcpListener::bind(&config.tls).await.map_err(|error| failed(&config.tls, error))?;
        let serving = tcp(listener, Some(acceptor), config.clone(), sender, lifecycle.clone());
        lifecycle.spawn("syslog over TLS", serving);
    }
    lifecycle.spawn("syslog keeper", keep(logs.clone(), config.team.clone(), received));
    Ok(())
}

type Message = (IpAddr, Vec<u8>);

async fn udp(
    socket: UdpSocket,
    config: SyslogConfig,
    sender: mpsc::Sender<Message>,
    life: Lifecycle,
) -> Result<()> {
    let stop = life.stopping();
    let mut buffer = vec![0; MOST_BYTES];
    loop {
        let (length, from) = tokio::select! {
            // A message that could not be received is lost, as others may be.
            received = socket.recv_from(&mut buffer) => match received { Ok(received) => received, Err(_) => continue },
            () = stop.cancelled() => return Ok(()),
        };
        if config.may(from.ip()) {
            // With a full queue the message is lost, as UDP may lose it.
            let _lost_when_full = sender.try_send((from.ip(), buffer[..length].to_vec()));
        }
    }
}

async fn tcp(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    config: SyslogConfig,
    sender: mpsc::Sender<Message>,
    life: Lifecycle,
) -> Result<()> {
    let (stop, room) = (life.stopping(), std::sync::Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(Error::internal)?;
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors: some are given back soon.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => return Ok(()),
        };
        // A certificate says more than an address.
        let certified = tls.is_some() && config.tls_client_ca.is_some();
        if !certified && !config.may(from.ip()) {
            continue;
        }
        let (sender, stop, tls) = (sender.clone(), stop.clone(), tls.clone());
        drop(life.spawn_work(async move {
            let received = async {
                match tls {
                    None => connection(stream, from.ip(), sender).await,
                    Some(tls) => match tokio::time::timeout(GREETING, tls.accept(stream)).await {
                        Ok(stream) => connection(stream?, from.ip(), sender).await,
                        Err(_) => Ok(()),
                    },
                }
            };
            tokio::select! {
                // A sender that breaks off is no failure of ours.
                _ended = received => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
            Ok(())
        }));
    }
}

/// Reads messages: `17 <34>1 ...` with the length before, or one a line.
async fn connection(
    stream: impl AsyncRead + Unpin,
    from: IpAddr,
    sender: mpsc::Sender<Message>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let first = match tokio::time::timeout(SILENCE, reader.fill_buf()).await {
            Ok(buffer) => buffer?.first().copied(),
            Err(_) => return Ok(()),
        };
        let Some(first) = first else { return Ok(()) };
        let mut message = Vec::new();
        if first.is_ascii_digit() {
            let mut digits = Vec::new();
            (&mut reader).take(8).read_until(b' ', &mut digits).await?;
            let length = std::str::from_utf8(&digits).ok().and_then(|text| text.trim().parse::<usize>().ok());
            let Some(length) = length.filter(|length| *length <= MOST_BYTES) else { return Ok(()) };
            message.resize(length, 0);
            reader.read_exact(&mut message).await?;
        } else {
            (&mut reader).take(MOST_BYTES as u64).read_until(b'\n', &mut message).await?;
        }
        if sender.send((from, message)).await.is_err() {
            return Ok(());
        }
    }
}

async fn keep(logs: Logs, team: String, mut received: mpsc::Receiver<Message>) -> Result<()> {
    while let Some(first) = received.recv().await {
        let until = tokio::time::Instant::now() + GATHERED;
        let mut gather = Gather::at(logs.now());
        add(&first, &mut gather);
        while gather.len() < WAITING
            && let Ok(Some(next)) = tokio::time::timeout_at(until, received.recv()).await
        {
            add(&next, &mut gather);
        }
        if let Err(error) = logs.store()?.append(&team, gather.batch).await {
            tracing::error!(error = %error, "syslog messages were lost");
        }
    }
    Ok(())
}

fn add((from, message): &Message, gather: &mut Gather) {
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    let message = message.strip_suffix(b"\0").unwrap_or(message);
    if message.is_empty() {
        return;
    }
    let parsed = parse(message, *from, gather);
    let stream = gather.stream(&labels(parsed.labels));
    gather.push(parsed.time, parsed.level, stream, parsed.text, &parsed.fields);
}

struct Parsed<'a> {
    time: Option<i64>,
    level: u8,
    labels: Vec<(String, String)>,
    text: &'a [u8],
    fields: Map<String, Value>,
}

/// The level of a severity: 0 to 2 are fatal, then error, warning, notice and information, debug.
fn level(severity: u8) -> u8 {
    [6, 6, 6, 5, 4, 3, 3, 2][severity as usize & 7]
}

/// Takes a message apart; of one that is no syslog all is its text.
fn parse<'a>(message: &'a [u8], from: IpAddr, gather: &Gather) -> Parsed<'a> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let whole = |text: &'a [u8], level: u8| Parsed {
        time: None,
        level,
        labels: vec![pair("host", &from.to_canonical().to_string()), pair("source", "syslog")],
        text,
        fields: Map::new(),
    };
    let Some((priority, rest)) = priority(message) else { return whole(message, 0) };
    let level = level((priority % 8) as u8);
    if let Some(rest) = rest.strip_prefix(b"1 ") {
        return newer(rest, level).unwrap_or_else(|| whole(rest, level));
    }
    older(rest, level, gather).unwrap_or_else(|| whole(rest, level))
}

fn priority(message: &[u8]) -> Option<(u16, &[u8])> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|b| *b == b'>')?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse::<u16>().ok().filter(|n| *n <= 191)?;
    Some((number, &rest[end + 1..]))
}

/// `TIMESTAMP HOST APP PROCID MSGID STRUCTURED-DATA MSG`, `-` for what is not there.
fn newer(rest: &[u8], level: u8) -> Option<Parsed<'_>> {
    let mut rest = rest;
    let mut word = || {
        let end = memchr::memchr(b' ', rest)?;
        let word = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        Some(word)
    };
    let (time, host, app, process, id) = (word()?, word()?, word()?, word()?, word()?);
    let (fields, text) = structured(rest)?;
    let mut fields = fields;
    let known = |text: &str| text != "-" && !text.is_empty();
    for (name, value) in [("process", process), ("message_id", id)] {
        if known(&value) {
            fields.insert(name.to_owned(), Value::String(value));
        }
    }
    let labels = [("host", host), ("service", app)].into_iter().filter(|(_, value)| known(value));
    let mut labels: Vec<(String, String)> = labels.map(|(name, value)| (name.to_owned(), value)).collect();
    labels.push(("source".to_owned(), "syslog".to_owned()));
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    Some(Parsed { time: time_of_text(&time).filter(|_| known(&time)), level, labels, text, fields })
}

/// `-` or `[id name="value" ...]...`, then the message.
fn structured(rest: &[u8]) -> Option<(Map<String, Value>, &[u8])> {
    let mut fields = Map::new();
    let after = |rest: &[u8]| rest.len().min(usize::from(rest.first() == Some(&b' ')));
    if let Some(rest) = rest.strip_prefix(b"-") {
        return Some((fields, &rest[after(rest)..]));
    }
    let mut rest = rest;
    while let Some(inner) = rest.strip_prefix(b"[") {
        let (mut end, mut quoted, mut escaped) = (None, false, false);
        for (at, byte) in inner.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b']' if !quoted => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end?;
        let text = String::from_utf8_lossy(&inner[..end]).into_owned();
        for part in text.split("\" ").flat_map(|part| part.split_once("=\"")) {
            let name = part.0.rsplit(' ').next().unwrap_or(part.0).to_owned();
            let value =
                part.1.trim_end_matches('"').replace("\\\"", "\"").replace("\\]", "]").replace("\\\\", "\\");
            fields.insert(name, Value::String(value));
        }
        rest = &inner[end + 1..];
    }
    Some((fields, &rest[after(rest)..]))
}

/// `Nov 21 10:00:00 host tag[123]: text`; the tag without the host when `logger` writes locally.
fn older<'a>(rest: &'a [u8], level: u8, gather: &Gather) -> Option<Parsed<'a>> {
    let text = std::str::from_utf8(rest.get(..15)?).ok()?;
    let year = jiff::Timestamp::from_microsecond(gather.arrival()).ok()?.strftime("%Y").to_string();
    let spelt = format!("{year} {}", text.replace("  ", " 0"));
    let civil = jiff::civil::DateTime::strptime("%Y %b %d %H:%M:%S", &spelt).ok()?;
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond();
    let mut left = rest.get(15..)?.strip_prefix(b" ")?;
    let mut labels = vec![("source".to_owned(), "syslog".to_owned())];
    let first = left.split(|b| *b == b' ').next()?;
    if !first.ends_with(b":") {
        labels.push(("host".to_owned(), String::from_utf8_lossy(first).into_owned()));
        left = left.get(first.len() + 1..).unwrap_or_default();
    }
    let mut fields = Map::new();
    let tag = left.split(|b| *b == b' ').next().filter(|tag| tag.ends_with(b":"));
    if let Some(tag) = tag {
        let name = String::from_utf8_lossy(&tag[..tag.len() - 1]).into_owned();
        let (name, process) = name
            .split_once('[')
            .map_or((name.as_str(), ""), |(name, rest)| (name, rest.trim_end_matches(']')));
        labels.push(("service".to_owned(), name.to_owned()));
        if !process.is_empty() {
            fields.insert("process".to_owned(), Value::String(process.to_owned()));
        }
        left = left.get(tag.len() + 1..).unwrap_or_default();
    }
    Some(Parsed { time: Some(time), level, labels, text: left, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = (Option<i64>, u8, String, Vec<(String, String)>, Map<String, Value>);

    fn check(message: &[u8]) -> Told {
        let gather = Gather::at(1_763_719_300_000_000);
        let parsed = parse(message, IpAddr::from([127, 0, 0, 1]), &gather);
        (
            parsed.time,
            parsed.level,
            String::from_utf8_lossy(parsed.text).into_owned(),
            parsed.labels,
            parsed.fields,
        )
    }

    fn has(labels: &[(String, String)], name: &str, value: &str) -> bool {
        labels.contains(&(name.to_owned(), value.to_owned()))
    }

    #[test]
    fn messages_of_both_standards_fall_into_their_parts() {
        let (time, level, text, labels, fields) = check(
            b"<165>1 2025-11-21T10:00:00.5Z web1 app 77 ID47 [ex@1 user=\"a\\\"b\" n=\"7\"][x@2 k=\"]\"] \xef\xbb\xbfdisk full",
        );
        assert_eq!((time, level, text.as_str()), (Some(1_763_719_200_500_000), 3, "disk full"));
        assert!(has(&labels, "host", "web1") && has(&labels, "service", "app"));
        assert_eq!(
            (fields["user"].as_str(), fields["n"].as_str(), fields["process"].as_str()),
            (Some("a\"b"), Some("7"), Some("77"))
        );
        let (time, level, text, labels, fields) = check(b"<11>Nov 21 10:00:00 web1 cron[99]: job failed");
        assert_eq!((time, level, text.as_str()), (Some(1_763_719_200_000_000), 5, "job failed"));
        assert!(has(&labels, "service", "cron") && has(&labels, "host", "web1") && fields["process"] == "99");
        let (_, level, text, labels, _) = check(b"<8>1 - - - - - - x");
        assert_eq!((level, text.as_str()), (6, "x"));
        assert!(!labels.iter().any(|(name, _)| name == "host"));
    }

    #[test]
    fn what_is_no_syslog_is_kept_as_text() {
        for message in
            [&b"hello"[..], b"<999>x", b"<1", b"<34>1 short", b"\xff\xfe", b"<34>1 a b c d e [open"]
        {
            let (time, _, text, _, _) = check(message);
            assert!(time.is_none() && !text.is_empty(), "{message:?}");
        }
    }

    #[test]
    fn only_loopback_and_the_list_may_send() {
        let config = SyslogConfig { allow_addresses: vec!["10.0.3.7".to_owned()], ..SyslogConfig::default() };
        let may = |text: &str| config.may(text.parse().unwrap());
        assert!(may("127.0.0.1") && may("::1") && may("10.0.3.7") && may("::ffff:10.0.3.7"));
        assert!(!may("10.0.3.8") && !may("8.8.8.8"));
        let wrong = SyslogConfig { udp: "x".to_owned(), ..SyslogConfig::default() };
        assert!(wrong.validate().is_err());
    }
}
