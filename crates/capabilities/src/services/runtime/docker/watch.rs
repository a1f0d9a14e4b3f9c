//! What the engine says about a container: its state, its output, what it uses.

use std::net::{IpAddr, SocketAddr};

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStatsResponse};
use bollard::query_parameters::{InspectContainerOptions, LogsOptionsBuilder, StatsOptionsBuilder};
use futures_util::StreamExt;
use opsroom_core::Result;

use super::super::{LogLine, Look, Usage, plain};
use super::{Docker, GENERATION};
use crate::services::model::Service;

/// The most bytes of output that are read for one answer.
const MOST_LOG: usize = 4 << 20;

impl Docker {
    pub(super) async fn look_at(&self, it: &Service) -> Result<Look> {
        let holdings = self.containers_of(Some(it.id)).await?;
        let Some(first) = holdings.first() else { return Ok(Look::Missing) };
        let client = self.client().await?;
        let found = match client.inspect_container(&first.id, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => return Ok(Look::Missing),
            Err(error) => return Err(self.failed(error)),
        };
        Ok(look(it, first.id.clone(), found))
    }

    pub(super) async fn read_logs(&self, it: &Service, lines: u32, since: i64) -> Result<Vec<LogLine>> {
        let Some(holding) = self.containers_of(Some(it.id)).await?.into_iter().next() else {
            return Ok(Vec::new());
        };
        let since = i32::try_from(since).unwrap_or(i32::MAX);
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(since)
            .tail(&lines.to_string())
            .build();
        let client = self.client().await?;
        let mut output = std::pin::pin!(client.logs(&holding.id, Some(options)));
        let (mut read, mut found) = (0, Vec::new());
        while let Some(part) = output.next().await {
            let part = part.map_err(|error| self.failed(error))?;
            read += part.as_ref().len();
            found.push(line(&part));
            if read > MOST_LOG {
                break;
            }
        }
        let surplus = found.len().saturating_sub(lines as usize);
        Ok(found.split_off(surplus))
    }

    pub(super) async fn read_usage(&self, it: &Service) -> Result<Option<Usage>> {
        let Some(holding) = self.containers_of(Some(it.id)).await?.into_iter().next() else {
            return Ok(None);
        };
        let client = self.client().await?;
        let inspected = client.inspect_container(&holding.id, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| self.failed(error))?;
        let running = inspected.state.as_ref().and_then(|state| state.running) == Some(true);
        if !running {
            return Ok(None);
        }
        // Not one shot: the engine looks twice, so that there is a difference to divide.
        let options = StatsOptionsBuilder::new().stream(false).build();
        let mut stats = std::pin::pin!(client.stats(&holding.id, Some(options)));
        let Some(stats) = stats.next().await else { return Ok(None) };
        let stats = stats.map_err(|error| self.failed(error))?;
        let mut usage = usage(&stats);
        usage.cpu_limit = inspected
            .host_config
            .as_ref()
            .and_then(|host| host.nano_cpus)
            .filter(|nano| *nano > 0)
            .map(|nano| nano as f64 / 1e9);
        usage.memory_limit_bytes = inspected
            .host_config
            .and_then(|host| host.memory)
            .filter(|bytes| *bytes > 0)
            .map(i64::unsigned_abs);
        Ok(Some(usage))
    }
}

fn look(it: &Service, container: String, found: ContainerInspectResponse) -> Look {
    let generation = found
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref()?.get(GENERATION)?.parse().ok())
        .unwrap_or(0);
    let state = found.state.clone().unwrap_or_default();
    if state.running == Some(true) && state.restarting != Some(true) && state.paused != Some(true) {
        let started_at = micros(state.started_at.as_deref());
        return Look::Running { container, address: address(it, &found), started_at, generation };
    }
    let ended_at = micros(state.finished_at.as_deref());
    let trouble = trouble(&state);
    Look::Ended { container, exit_code: state.exit_code.unwrap_or(0), trouble, ended_at, generation }
}

fn trouble(state: &ContainerState) -> Option<String> {
    if state.oom_killed == Some(true) {
        return Some("it used more memory than its limit".to_owned());
    }
    state.error.as_deref().filter(|text| !text.is_empty()).map(plain)
}

/// Where this machine reaches the container: over the network of this service alone where it has one,
/// otherwise over its only network.
fn address(it: &Service, found: &ContainerInspectResponse) -> Option<SocketAddr> {
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    let control = format!("-ctl-{}", it.id);
    let settings = networks
        .iter()
        .find(|(name, _)| name.ends_with(&control))
        .or_else(|| networks.iter().next())
        .map(|(_, settings)| settings)?;
    let address: IpAddr = settings.ip_address.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(address, it.spec.service_port?))
}

/// The engine's moments; it says year 1 for never.
fn micros(text: Option<&str>) -> Option<i64> {
    let moment: jiff::Timestamp = text?.parse().ok()?;
    Some(moment.as_microsecond()).filter(|micros| *micros > 0)
}

fn line(part: &LogOutput) -> LogLine {
    let stream = match part {
        LogOutput::StdErr { .. } => "stderr",
        _ => "stdout",
    };
    let text = String::from_utf8_lossy(part.as_ref());
    let (time, rest) = match text.split_once(' ') {
        Some((time, rest)) if time.parse::<jiff::Timestamp>().is_ok() => (Some(time.to_owned()), rest),
        _ => (None, text.as_ref()),
    };
    LogLine { time, stream: stream.to_owned(), text: plain(rest) }
}

fn usage(stats: &ContainerStatsResponse) -> Usage {
    let cpu = |stats: Option<&bollard::models::ContainerCpuStats>| {
        let stats = stats?;
        Some((
            stats.cpu_usage.as_ref()?.total_usage?,
            stats.system_cpu_usage?,
            stats.online_cpus.unwrap_or(1),
        ))
    };
    // By the whole, not by each processor: engines on cgroup v2 do not list those.
    let cpu_percent = match (cpu(stats.precpu_stats.as_ref()), cpu(stats.cpu_stats.as_ref())) {
        (Some((used, system, _)), Some((used_now, system_now, processors))) if system_now > system => {
            let share = used_now.saturating_sub(used) as f64 / (system_now - system) as f64;
            share * f64::from(processors) * 100.0
        }
        _ => 0.0,
    };
    let memory = stats.memory_stats.as_ref();
    let cached = memory
        .and_then(|memory| memory.stats.as_ref())
        .and_then(|parts| parts.get("inactive_file").or_else(|| parts.get("total_inactive_file")))
        .copied()
        .unwrap_or(0);
    let networks = stats.networks.iter().flatten();
    let (rx, tx) = networks.fold((0, 0), |(rx, tx), (_, network)| {
        (rx + network.rx_bytes.unwrap_or(0), tx + network.tx_bytes.unwrap_or(0))
    });
    Usage {
        cpu_percent,
        cpu_limit: None,
        memory_bytes: memory.and_then(|memory| memory.usage).unwrap_or(0).saturating_sub(cached),
        memory_limit_bytes: None,
        network_rx_bytes: rx,
        network_tx_bytes: tx,
        processes: stats.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or(0),
        uptime_seconds: 0.0,
    }
}
