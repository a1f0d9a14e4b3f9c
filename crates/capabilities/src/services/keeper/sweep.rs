//! Removing what belongs to nobody: containers and networks with our label and without a service, ranges
//! of addresses of services that are gone, registrations that fell silent.

use std::collections::HashSet;

use opsroom_core::Result;
use serde_json::json;

use super::Services;
use crate::services::model::Kind;

impl Services {
    pub(in crate::services) async fn sweep(&self) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now();
        if inner.store.remove_expired(now).await? > 0 {
            inner.events.publish(
                "registry.expired",
                opsroom_core::caller::DEFAULT_TEAM,
                "registry",
                json!({}),
            );
        }
        // First what the engine has, then the rows: a row is always made before what it stands for.
        let Ok(containers) = inner.engine.containers().await else { return Ok(()) };
        let Ok(networks) = inner.engine.networks().await else { return Ok(()) };
        let services = inner.store.everywhere().await?;
        let on_engine: HashSet<i64> = services
            .iter()
            .filter(|it| it.kind == Kind::Docker && it.node == inner.node)
            .map(|it| it.id)
            .collect();
        for container in containers {
            if !container.service.is_some_and(|id| on_engine.contains(&id)) {
                tracing::info!(
                    container.name = container.name,
                    "removing a container that belongs to no service"
                );
                self.swept(inner.engine.remove(&container.id).await);
            }
        }
        let living: HashSet<i64> = services.iter().map(|it| it.id).collect();
        for network in inner.store.networks().await? {
            if network.service.is_some_and(|id| !living.contains(&id)) {
                inner.store.remove_network(&network.name).await?;
            }
        }
        let known: HashSet<String> = inner.store.networks().await?.into_iter().map(|it| it.name).collect();
        for network in networks.into_iter().filter(|network| !known.contains(&network.name)) {
            self.swept(inner.engine.remove_network(&network.id).await);
        }
        Ok(())
    }

    /// What cannot be removed now is removed by a later sweep.
    fn swept(&self, removed: Result<()>) {
        if let Err(error) = removed {
            tracing::debug!(error = %error, "what belongs to nobody cannot be removed yet");
        }
    }
}
