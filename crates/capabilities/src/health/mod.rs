//! How the room is: what probes, people and agents ask first.
//!
//! `healthy` means that everything works, `degraded` that something works with limits, `unhealthy` that
//! the room cannot do its work. Each capability brings its own checks; this one asks them side by side,
//! with a time limit each, so that one that hangs is reported instead of waited for.

mod operations;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use opsroom_core::capability::Status;
use opsroom_core::{Capability, Check, Clock, Component, Effect, Operation, Time};
use schemars::JsonSchema;
use serde::Serialize;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(3);

/// Asks the capabilities how they are. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    clock: Clock,
    started: Time,
    database: &'static str,
    checks: Arc<Vec<Check>>,
    capabilities: Arc<Vec<&'static str>>,
    operations: usize,
}

/// The state of the whole and of each part.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DetailedHealth {
    /// The worst of the critical components' states; `degraded` when only others are unwell.
    pub status: Status,
    /// The version of Opsroom.
    pub version: String,
    /// Seconds since the server started.
    pub uptime_seconds: f64,
    /// Now, RFC 3339 in UTC.
    pub timestamp: String,
    /// Each component by its name.
    pub components: BTreeMap<String, Component>,
}

impl Health {
    /// Over these checks, for a room that starts now. `capabilities` and `operations` are what `get_info`
    /// tells of the room.
    pub fn new(
        clock: Clock,
        database: &'static str,
        checks: Vec<Check>,
        capabilities: Vec<&'static str>,
        operations: usize,
    ) -> Self {
        let started = clock.now();
        let operations = operations + operations::COUNT;
        Self {
            clock,
            started,
            database,
            checks: checks.into(),
            capabilities: capabilities.into(),
            operations,
        }
    }

    /// The operations of this capability.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("health");
        let read = Effect::Read;
        capability.operations = vec![
            Operation::new("health", "get_health", read, "GET /health", self, operations::get_health).open(),
            Operation::new(
                "health",
                "get_detailed_health",
                read,
                "GET /health/detailed",
                self,
                operations::get_detailed_health,
            ),
            Operation::new("health", "get_info", read, "GET /info", self, operations::get_info).open(),
        ];
        capability
    }

    /// Asks every component.
    pub async fn detailed(&self) -> DetailedHealth {
        let asked = self.checks.iter().map(|check| async move {
            let state =
                tokio::time::timeout(CHECK_LIMIT, (check.run)()).await.unwrap_or_else(|_| Component {
                    status: Status::Unhealthy,
                    message: format!("did not answer within {} s", CHECK_LIMIT.as_secs()),
                });
            (check, state)
        });
        let answers = join_all(asked).await;
        DetailedHealth {
            status: overall(answers.iter().map(|(check, state)| (check.critical, state.status))),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.uptime_seconds(),
            timestamp: self.clock.now().to_rfc3339(),
            components: answers.into_iter().map(|(check, state)| (check.name.to_owned(), state)).collect(),
        }
    }

    /// Whether requests can be served: no critical component is unhealthy. The words say which one is.
    pub async fn ready(&self) -> Result<(), String> {
        let critical = self.checks.iter().filter(|check| check.critical);
        let asked = critical.map(|check| async move {
            match tokio::time::timeout(CHECK_LIMIT, (check.run)()).await {
                Ok(state) if state.status == Status::Unhealthy => {
                    Some(format!("{}: {}", check.name, state.message))
                }
                Ok(_) => None,
                Err(_) => Some(format!("{} did not answer", check.name)),
            }
        });
        let troubles: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) }
    }

    /// Seconds since the server started.
    pub fn uptime_seconds(&self) -> f64 {
        (self.clock.now().0 - self.started.0) as f64 / 1e6
    }
}

fn overall(states: impl Iterator<Item = (bool, Status)>) -> Status {
    let mut whole = Status::Healthy;
    for (critical, status) in states {
        whole = match (critical, status) {
            (true, Status::Unhealthy) => return Status::Unhealthy,
            (_, Status::Healthy) => whole,
            _ => Status::Degraded,
        };
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_critical_component_makes_the_whole_unhealthy() {
        use Status::*;
        let whole = |states: &[(bool, Status)]| overall(states.iter().copied());
        assert_eq!(whole(&[(true, Healthy), (false, Unhealthy)]), Degraded);
        assert_eq!(whole(&[(false, Degraded), (true, Unhealthy)]), Unhealthy);
        assert_eq!(whole(&[]), Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_reported_and_not_waited_for() {
        let hangs =
            Check { name: "stuck", critical: true, run: Arc::new(|| Box::pin(std::future::pending())) };
        let health = Health::new(Clock::manual(Time(0)), "SQLite", vec![hangs], vec![], 0);
        let answer = health.detailed().await;
        assert_eq!(answer.status, Status::Unhealthy);
        assert!(answer.components["stuck"].message.contains("did not answer"));
        assert!(health.ready().await.unwrap_err().contains("stuck"));
    }
}
