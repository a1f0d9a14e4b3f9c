//! What is done for jobs as time passes: leases are renewed, wishes to stop are fetched from the
//! database, what dead servers left is marked, what is old is removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opsroom_core::Time;
use opsroom_core::db::Dialect;
use opsroom_core::error::Kind;
use opsroom_core::error::Result;
use opsroom_core::job::State;

use super::Jobs;
use super::end::End;
use super::model::Failure;
use super::run::Live;

const SECONDS_A_DAY: i64 = 86_400;

impl Jobs {
    /// Marks as interrupted what an earlier server left queued or running; called once at the start. On
    /// SQLite, whose data folder has one server, that is all of it; on a database that servers share, the
    /// jobs whose lease has run out. Answers how many.
    pub async fn recover(&self) -> Result<u64> {
        let shared = self.inner.store.db.dialect() != Dialect::Sqlite;
        self.interrupt(shared.then(|| self.inner.clock.now())).await
    }

    /// Keeps leases, cancellations and old rows in order until the server stops.
    pub fn start_upkeep(&self) {
        let jobs = self.clone();
        let stopping = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("jobs upkeep", async move {
            let every = Duration::from_secs(u64::from(jobs.inner.config.lease_seconds / 5).clamp(1, 10));
            let mut tick = tokio::time::interval(every);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    _ = tick.tick() => {}
                }
                // A database that is away for a while must not end the server.
                if let Err(error) = jobs.keep().await {
                    tracing::warn!(error = %error, "the upkeep of jobs failed; trying again");
                }
            }
        });
    }

    /// One round of the upkeep.
    pub async fn keep(&self) -> Result<()> {
        self.renew().await?;
        self.interrupt(Some(self.inner.clock.now())).await?;
        self.remove_old().await
    }

    /// Renews the leases of this server's jobs, and passes on what was asked of other servers.
    async fn renew(&self) -> Result<()> {
        let (store, server) = (&self.inner.store, &self.inner.server);
        let stored = self.stored();
        if !stored.is_empty() {
            let ids: Vec<String> = stored.iter().map(|job| job.id.clone()).collect();
            store.renew(server, &ids, self.lease_until()).await?;
        }
        let active = store.active_of(server).await?;
        for job in &stored {
            match active.iter().find(|(id, _)| *id == job.id) {
                Some((_, Some(by))) => job.stop(format!("{by} asked for it")),
                Some((_, None)) => {}
                // Ended meanwhile, and then this changes nothing; or taken.
                None => job.stop("another server took the job over"),
            }
        }
        for (id, _) in active {
            let gone = !self.live().contains_key(&id);
            // What ended meanwhile is no longer active, and this changes nothing.
            if gone && store.end(&id, server, &End::lost(self.inner.clock.now())).await? {
                tracing::error!(job.id = id, "a job was lost by its own server");
            }
        }
        Ok(())
    }

    fn stored(&self) -> Vec<Arc<Live>> {
        let stored = |job: &&Arc<Live>| job.stored.load(Ordering::SeqCst);
        self.live().values().filter(stored).cloned().collect()
    }

    async fn interrupt(&self, expired_at: Option<Time>) -> Result<u64> {
        let (store, server) = (&self.inner.store, &self.inner.server);
        let mut marked = 0;
        loop {
            let abandoned = store.abandoned(server, expired_at).await?;
            let before = marked;
            for mut job in abandoned {
                let message = format!("the server ended while it ran; start it again with {}", job.operation);
                let now = self.inner.clock.now();
                if store.interrupt(&job.id, server, now, expired_at, &message).await? {
                    marked += 1;
                    job.state = State::Interrupted;
                    job.error = Some(Failure { kind: Kind::Unavailable, message: message.clone() });
                    job.message = message;
                    self.inner.events.publish("job.ended", &job.team, &job.id, job.event_data());
                }
            }
            if marked == before {
                break;
            }
        }
        if marked > 0 {
            tracing::warn!(jobs = marked, "jobs of a server that ended were marked as interrupted");
        }
        Ok(marked)
    }

    async fn remove_old(&self) -> Result<()> {
        let days = i64::from(self.inner.config.retention_days);
        let before = self.inner.clock.now().plus_seconds(-days * SECONDS_A_DAY);
        while self.inner.store.remove_ended(before).await? > 0 {}
        Ok(())
    }
}
