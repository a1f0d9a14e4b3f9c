//! Engines: what runs services, as the rest of the folder sees it.
//!
//! Docker is one; Kubernetes can be another. Services that are only connected to (a URL, a child process)
//! have no engine: the gateway holds their connection, and says how they are.

pub mod docker;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use opsroom_core::{Result, Secret};
use schemars::JsonSchema;
use serde::Serialize;

use super::addresses::Subnet;
use super::model::{Service, Spec};
use super::store::{Driver, Network};

/// What an engine says about a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// It has nothing of it.
    Missing,
    /// It runs.
    Running {
        /// The container.
        container: String,
        /// Where it can be reached from this machine.
        address: Option<SocketAddr>,
        /// When it began, in microseconds since 1970.
        started_at: Option<i64>,
        /// The generation of the service that it was made of.
        generation: i64,
    },
    /// It is there and does not run.
    Ended {
        /// The container.
        container: String,
        /// Its exit code.
        exit_code: i64,
        /// What there is to say besides: out of memory, an error of the engine.
        trouble: Option<String>,
        /// When it ended, in microseconds since 1970.
        ended_at: Option<i64>,
        /// The generation of the service that it was made of.
        generation: i64,
    },
}

/// Where a service goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Its network.
    pub network: Network,
    /// A network of this service alone, by which this machine reaches it, where its own network cannot be
    /// reached from here.
    pub control: Option<Network>,
    /// The address that was asked for.
    pub address: Option<Ipv4Addr>,
}

/// Something of ours that an engine holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// The engine's id.
    pub id: String,
    /// The service, by the label.
    pub service: Option<i64>,
    /// Its name.
    pub name: String,
}

/// A container of the engine, ours or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether an Opsroom made it, this or another.
    pub ours: bool,
}

/// What a container wrote at once: a line or a part of one, after the time at which it came and a blank.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Whether it wrote it to its standard error.
    pub error: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// One line of a service's output.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogLine {
    /// When, RFC 3339; null when the engine does not know.
    pub time: Option<String>,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line; control characters are left out.
    pub text: String,
}

/// What a service uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Usage {
    /// Percent of one processor.
    pub cpu_percent: f64,
    /// The most processors it may use; null when it is not limited.
    pub cpu_limit: Option<f64>,
    /// Memory in use, in bytes, without what the system only caches for it.
    pub memory_bytes: u64,
    /// The most memory it may use, in bytes; null when it is not limited.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes received.
    pub network_rx_bytes: u64,
    /// Bytes sent.
    pub network_tx_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// For how long it has been running, in seconds.
    pub uptime_seconds: f64,
}

/// Tells how far a deployment is.
pub type Note<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What runs services.
pub trait Engine: Send + Sync {
    /// Finds the image that a name means now, pulls it where that is allowed, and answers its digest, or
    /// its id when it has none.
    fn pin<'a>(&'a self, spec: &'a Spec, note: Note<'a>) -> BoxFuture<'a, Result<String>>;

    /// How a service is.
    fn look<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Look>>;

    /// Makes what is missing of a service and starts it. What is there of an older generation, or ended,
    /// goes first. May be cut short at any point and called again.
    fn start<'a>(
        &'a self,
        it: &'a Service,
        placement: &'a Placement,
        environment: &'a [(String, Secret)],
        note: Note<'a>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Stops a service, and leaves it there. One that is not there is stopped.
    fn stop<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<()>>;

    /// Removes a service's container. One that is not there is removed.
    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Removes a network. One that is not there is removed.
    fn remove_network<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Every container of ours.
    fn containers(&self) -> BoxFuture<'_, Result<Vec<Holding>>>;

    /// Every network of ours.
    fn networks(&self) -> BoxFuture<'_, Result<Vec<Holding>>>;

    /// The addresses of every network of the engine, ours or not.
    fn subnets(&self) -> BoxFuture<'_, Result<Vec<Subnet>>>;

    /// Whether networks of this driver on this interface can be made, or why not.
    fn preflight<'a>(&'a self, driver: Driver, parent: &'a str) -> BoxFuture<'a, Result<()>>;

    /// The last lines of a service's output, after `since` (seconds since 1970).
    fn logs<'a>(&'a self, it: &'a Service, lines: u32, since: i64) -> BoxFuture<'a, Result<Vec<LogLine>>>;

    /// Every container of the engine, ours or not, running or ended.
    fn every_container(&self) -> BoxFuture<'_, Result<Vec<Container>>>;

    /// The container of a service, when it has one.
    fn container_of<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Option<String>>>;

    /// All that a container wrote, from `since` until `until` (seconds since 1970; 0 for no end).
    fn output<'a>(
        &'a self,
        container: &'a str,
        since: i64,
        until: i64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Piece>>>>;

    /// What a service uses; `None` when it does not run.
    fn usage<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Option<Usage>>>;

    /// Whether the engine answers: its version.
    fn ping(&self) -> BoxFuture<'_, Result<String>>;
}

/// A line without what could steer a terminal or hide in a text.
pub fn plain(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    let mut shown = String::with_capacity(text.len().min(16 << 10));
    for c in text.chars().filter(|c| *c == '\t' || !c.is_control()) {
        if shown.len() >= 16 << 10 {
            shown.push('…');
            break;
        }
        shown.push(c);
    }
    shown
}
