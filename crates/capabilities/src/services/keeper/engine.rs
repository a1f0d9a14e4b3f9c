//! Looking after a service that an engine runs.

use opsroom_core::{Kind, Result};

use super::{Desired, Seen, Service, Services, Status, reason};
use crate::services::runtime::Look;

/// A service that ran as long counts as well before it ended, in microseconds.
const WELL: i64 = 60_000_000;

impl Services {
    pub(super) async fn keep_on_engine(&self, it: &Service) -> Result<()> {
        if it.desired == Desired::Removed {
            return match self.remove_from_engine(it).await {
                Ok(()) => self.forget(it).await,
                Err(error) => self.note(it, Status::Terminating, Some(reason(&error)), it.seen.clone()).await,
            };
        }
        let look = match self.inner.engine.look(it).await {
            Ok(look) => look,
            Err(error) => return self.engine_away(it, &reason(&error)).await,
        };
        match (it.desired, look) {
            (Desired::Stopped, Look::Running { .. }) => match self.inner.engine.stop(it).await {
                Ok(()) => self.stopped(it).await,
                Err(error) => self.engine_away(it, &reason(&error)).await,
            },
            (Desired::Stopped, _) => self.stopped(it).await,
            (_, Look::Running { container, address, started_at, generation })
                if generation == it.generation =>
            {
                self.running(it, container, address, started_at).await
            }
            (_, Look::Ended { container, exit_code, trouble, ended_at, generation })
                if generation == it.generation =>
            {
                let what = trouble.map_or_else(
                    || format!("it ended with exit code {exit_code}"),
                    |trouble| format!("it ended with exit code {exit_code}: {trouble}"),
                );
                self.ended(it, &container, &what, ended_at).await
            }
            _ => self.begin(it, it.seen.restarts).await,
        }
    }

    /// The status stays as it was when the engine cannot say otherwise, but is not called running.
    async fn engine_away(&self, it: &Service, why: &str) -> Result<()> {
        let status = if it.status == Status::Running { Status::Error } else { it.status };
        self.note(it, status, Some(why.to_owned()), it.seen.clone()).await
    }

    async fn stopped(&self, it: &Service) -> Result<()> {
        let now = self.inner.clock.now().0;
        let stopped_at = if it.status == Status::Stopped { it.seen.stopped_at } else { Some(now) };
        let seen = Seen { container_id: None, address: None, health: None, stopped_at, ..it.seen.clone() };
        self.inner.store.close_deployments(it.id, "superseded", None, self.inner.clock.now()).await?;
        self.note(it, Status::Stopped, None, seen).await
    }

    async fn running(
        &self,
        it: &Service,
        container: String,
        address: Option<std::net::SocketAddr>,
        started_at: Option<i64>,
    ) -> Result<()> {
        let now = self.inner.clock.now();
        if started_at.is_some_and(|at| now.0 - at > WELL) {
            self.inner.keeper.well(it.id);
        }
        self.serve_proxy(it, address).await;
        let seen = Seen { container_id: Some(container), address, started_at, ..it.seen.clone() };
        self.note(it, Status::Running, None, seen).await
    }

    /// It ended by itself: it is started again, with pauses that grow, and given up after so many times.
    async fn ended(&self, it: &Service, container: &str, what: &str, ended_at: Option<i64>) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let long = matches!((it.seen.started_at, ended_at), (Some(from), Some(to)) if to - from > WELL);
        let failures = inner.keeper.failed(it.id, Some(container), long, now);
        let seen = Seen { address: None, stopped_at: ended_at, ..it.seen.clone() };
        if failures >= inner.config.restart_limit {
            let told = format!(
                "{what}, {failures} times in a row; it is given up until somebody starts it (`get_service_logs` shows why)"
            );
            inner.store.close_deployments(it.id, "failed", Some(&told), now).await?;
            return self.note(it, Status::Error, Some(told), seen).await;
        }
        if inner.keeper.due(it.id, now) {
            return self.begin(it, it.seen.restarts + 1).await;
        }
        self.note(it, Status::Restarting, Some(format!("{what}; it is started again")), seen).await
    }

    /// Makes it run.
    async fn begin(&self, it: &Service, restarts: u32) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now();
        if !inner.keeper.due(it.id, now) {
            return Ok(());
        }
        self.tell(it, "starting");
        match self.try_to_start(it).await {
            Ok(()) => {
                self.tell(it, "started");
                // The engine has the word: the next look says whether it runs.
                let seen = Seen { restarts, ..it.seen.clone() };
                let status = if it.status == Status::Pending { Status::Pending } else { Status::Restarting };
                self.note(it, status, None, seen).await?;
                inner.wake.notify_one();
                Ok(())
            }
            Err(error) => {
                inner.keeper.failed(it.id, None, false, now);
                let why = reason(&error);
                self.tell(it, &why);
                // An engine that went away comes back; the rest somebody has to mend.
                if error.kind != Kind::Unavailable {
                    inner.store.close_deployments(it.id, "failed", Some(&why), now).await?;
                }
                self.note(it, Status::Error, Some(why), it.seen.clone()).await
            }
        }
    }

    async fn try_to_start(&self, it: &Service) -> Result<()> {
        let placement = self.place(it).await?;
        let mut environment = self.inner.environment(it).await?;
        self.add_proxy(it, &placement, &mut environment);
        self.inner.engine.start(it, &placement, &environment, &|step| self.tell(it, step)).await
    }

    async fn remove_from_engine(&self, it: &Service) -> Result<()> {
        let engine = &self.inner.engine;
        for container in engine.containers().await? {
            if container.service == Some(it.id) {
                engine.remove(&container.id).await?;
            }
        }
        let own = [format!("svc-{}", it.id), format!("ctl-{}", it.id)];
        for network in engine.networks().await? {
            if own.contains(&network.name) {
                engine.remove_network(&network.id).await?;
            }
        }
        Ok(())
    }
}
