//! The keeper: compares what services are wished to be with what their engines say, and does what is
//! missing. Everything it does may be cut short, by a `kill -9` as well, and done again.

mod attempts;
mod engine;
mod sweep;

use std::time::Duration;

use opsroom_core::{Error, Result};
use serde_json::json;

use super::Services;
use super::model::{Desired, Kind, Seen, Service, Status};

pub use attempts::State;

/// How often everything is looked at when nobody asks.
const EVERY: Duration = Duration::from_secs(2);
/// How many rounds from one sweep for orphans to the next.
const SWEEP: u64 = 15;

/// Starts the keeper's task.
pub fn start(services: &Services) {
    let (this, stop) = (services.clone(), services.inner.lifecycle.stopping());
    let mut catalogue = None;
    services.inner.lifecycle.spawn("services", async move {
        for round in 0_u64.. {
            if let Err(error) = this.round(round.is_multiple_of(SWEEP)).await {
                // The database is away; services run on without us.
                tracing::warn!(error = %error, causes = error.causes(), "services cannot be looked after");
            }
            if catalogue.is_none() {
                // The gateway is made after us.
                catalogue = this.inner.catalogue.get().cloned();
            }
            let told = async {
                match &mut catalogue {
                    Some(catalogue) => catalogue.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = this.inner.wake.notified() => {}
                // Not at every word of the gateway: a service that comes and goes would keep us busy.
                true = told => tokio::time::sleep(Duration::from_millis(100)).await,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
        Ok(())
    });
}

impl Services {
    /// Looks at every service once. Each is looked after on its own: a slow one keeps no other waiting.
    async fn round(&self, sweep: bool) -> Result<()> {
        if sweep {
            self.sweep().await?;
        }
        for it in self.inner.store.of_node(&self.inner.node).await? {
            let Some(turn) = self.inner.keeper.take(it.id) else { continue };
            let this = self.clone();
            let work = async move {
                let _turn = turn;
                this.keep(&it).await
            };
            drop(self.inner.lifecycle.spawn_work(work));
        }
        self.publish_upstreams().await
    }

    /// One look at one service; what is missing is done. For tests and for the round.
    pub(in crate::services) async fn keep(&self, it: &Service) -> Result<()> {
        let kept = match (it.kind, it.desired) {
            (Kind::Docker, _) => self.keep_on_engine(it).await,
            (_, Desired::Removed) => self.forget(it).await,
            _ => {
                let (status, reason) = self.connected_status(it).await?;
                self.note(it, status, reason, it.seen.clone()).await
            }
        };
        if let Err(error) = &kept {
            tracing::warn!(service.id = it.id, service.name = it.name, error = %error, causes = error.causes(), "a service cannot be looked after");
        }
        kept
    }

    /// Notes how a service is, where that is news, and tells those who listen.
    async fn note(&self, it: &Service, status: Status, reason: Option<String>, mut seen: Seen) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now();
        if status == Status::Running && it.kind != Kind::Docker && it.status != Status::Running {
            seen.started_at = Some(now.0);
        }
        if status == Status::Running && inner.keeper.health_due(it, now) {
            let looked_at = Service { status, seen: seen.clone(), ..it.clone() };
            let health = self.ask(&looked_at).await;
            if it.seen.health.as_ref().map(|before| &before.status) != Some(&health.status) {
                let data = json!({ "name": it.name, "status": health.status, "message": health.message });
                inner.events.publish("service.health", &it.team, &it.subject(), data);
            }
            seen.health = Some(health);
        }
        let news = it.status != status || it.reason != reason;
        if !news && it.seen == seen {
            return Ok(());
        }
        let noted = inner.store.note(it, status, reason.as_deref(), &seen).await?;
        if !noted {
            // Somebody wished for something else meanwhile.
            inner.wake.notify_one();
            return Ok(());
        }
        if status == Status::Running {
            inner.store.close_deployments(it.id, "success", None, now).await?;
        }
        if news {
            let data = json!({ "name": it.name, "status": status, "was": it.status, "reason": reason });
            inner.events.publish("service.status", &it.team, &it.subject(), data);
            self.publish_upstreams().await?;
        }
        Ok(())
    }

    /// A service that is to be gone and of which nothing is left: its row goes.
    async fn forget(&self, it: &Service) -> Result<()> {
        let inner = &self.inner;
        for what in ["svc", "ctl"] {
            inner.store.remove_network(&format!("{what}-{}", it.id)).await?;
        }
        inner.remove_folder(it.id);
        inner.store.remove_deployments(it.id).await?;
        inner.store.remove_login(it.id).await?;
        inner.store.remove(it.id).await?;
        inner.keeper.forget(it.id);
        let data = json!({ "name": it.name, "status": "removed", "was": it.status });
        inner.events.publish("service.status", &it.team, &it.subject(), data);
        self.publish_upstreams().await
    }

    /// Tells how far a deployment is.
    fn tell(&self, it: &Service, step: &str) {
        let data = json!({ "name": it.name, "step": step });
        self.inner.events.publish("service.deploy", &it.team, &it.subject(), data);
    }
}

/// What a failure is, for the status.
fn reason(error: &Error) -> String {
    super::runtime::plain(&error.message)
}
