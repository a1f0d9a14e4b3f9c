//! What the server does by itself: looks at what arrived, and removes what is too old to be kept.

use std::time::Duration;

use opsroom_core::Result;
use opsroom_core::lifecycle::Lifecycle;

use super::Planning;

/// How often arrivals are looked for when nothing arrived here, in seconds: another server may have taken them.
const LOOK_SECONDS: u64 = 15;
/// How often old values are removed, in seconds.
const REMOVE_SECONDS: i64 = 3600;
/// Series that are looked at in one round.
const TOGETHER: u64 = 200;

impl Planning {
    /// Looks after the series until the server stops.
    pub fn start(&self, lifecycle: &Lifecycle) {
        let (planning, stopping) = (self.clone(), lifecycle.stopping());
        lifecycle.spawn("planning", async move {
            let mut removed_at = None;
            loop {
                // A database that is away for a while must not end the server.
                if let Err(error) = planning.look_at_arrivals().await {
                    tracing::warn!(error = %error, "what arrived cannot be looked at; trying again");
                }
                let now = planning.clock.now().0.div_euclid(1_000_000);
                if removed_at.is_none_or(|at| now - at >= REMOVE_SECONDS) {
                    removed_at = Some(now);
                    match planning.remove_old().await {
                        Ok(0) => {}
                        Ok(points) => {
                            tracing::info!(points, "metrics beyond planning.keep_days were removed")
                        }
                        Err(error) => {
                            tracing::warn!(error = %error, "old metrics cannot be removed; trying again")
                        }
                    }
                }
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = planning.arrived.notified() => {}
                    () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => {}
                }
            }
        });
    }

    /// Looks at everything that arrived since the last look, and tells what is abnormal in it.
    ///
    /// # Errors
    /// Those of the database; what was not looked at stays for the next time.
    pub async fn look_at_arrivals(&self) -> Result<()> {
        // Two at once would tell the same twice.
        let _one_at_a_time = self.looking.lock().await;
        loop {
            let arrivals = self.store.arrivals(TOGETHER).await?;
            for arrived in &arrivals {
                self.tell_arrival(arrived).await?;
                self.store.looked_at(arrived).await?;
            }
            if (arrivals.len() as u64) < TOGETHER {
                return Ok(());
            }
        }
    }

    /// Removes what is older than `planning.keep_days`; answers how many points.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_old(&self) -> Result<u64> {
        if self.config.keep_days == 0 {
            return Ok(0);
        }
        let now = self.clock.now().0.div_euclid(1_000_000);
        self.store.remove_before(now - i64::from(self.config.keep_days) * 86_400).await
    }
}
