//! `start_service`, `stop_service`, `restart_service` and `delete_service`.

use opsroom_core::{Call, Error, Result, Role};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Services;
use super::super::model::{Desired, Kind, Service, Status};
use super::answers::ServiceAction;

fn ten() -> u32 {
    10
}

fn thirty() -> u32 {
    30
}

/// Starts a service that does not run. One that runs is left as it is; one that was given up is tried again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// How long to wait until it runs, in seconds, from 0 to 120.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 120))]
    wait_seconds: u32,
}

/// Stops a service, and keeps it. One that does not run is left as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// Accepted for older clients: a service that does not stop by itself is always killed.
    #[serde(default)]
    #[expect(dead_code, reason = "it is part of an older system's contract and changes nothing")]
    force: bool,
    /// How long to wait until it has stopped, in seconds, from 0 to 120.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 120))]
    wait_seconds: u32,
}

/// Stops a service and starts it anew, in a fresh container with secrets as they are now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// How long to wait until it runs again, in seconds, from 0 to 120.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 120))]
    wait_seconds: u32,
}

/// Deletes a service with its container and its own network. One that runs is deleted only with `force`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// Delete it although it runs.
    #[serde(default)]
    force: bool,
    /// How long to wait until it is gone, in seconds, from 0 to 120.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 120))]
    wait_seconds: u32,
}

pub async fn start_service(services: Services, call: Call, input: StartService) -> Result<ServiceAction> {
    let it = services.find(&call.caller, &input.id).await?;
    may_run(&call, &it)?;
    if it.desired == Desired::Running && it.status != Status::Error {
        // It runs, or is about to: nothing more to begin.
        return services.acted(&it, None, input.wait_seconds).await;
    }
    services.renew(&it).await?;
    let deployment = services.wish(&it, Desired::Running, Status::Pending, Some("start")).await?;
    services.acted(&it, deployment, input.wait_seconds).await
}

pub async fn stop_service(services: Services, call: Call, input: StopService) -> Result<ServiceAction> {
    let it = services.find(&call.caller, &input.id).await?;
    may_run(&call, &it)?;
    if it.desired != Desired::Stopped {
        // The word for being on the way down; the keeper says when it is.
        services.wish(&it, Desired::Stopped, Status::Terminating, None).await?;
    }
    services.acted(&it, None, input.wait_seconds).await
}

pub async fn restart_service(services: Services, call: Call, input: RestartService) -> Result<ServiceAction> {
    let it = services.find(&call.caller, &input.id).await?;
    may_run(&call, &it)?;
    services.renew(&it).await?;
    let deployment = services.wish(&it, Desired::Running, Status::Restarting, Some("restart")).await?;
    services.acted(&it, deployment, input.wait_seconds).await
}

pub async fn delete_service(services: Services, call: Call, input: DeleteService) -> Result<ServiceAction> {
    let it = services.find(&call.caller, &input.id).await?;
    let runs = matches!(it.status, Status::Running | Status::Restarting) && it.desired == Desired::Running;
    if runs && !input.force {
        return Err(Error::conflict(format!(
            "the service `{}` is {}; stop it first, or delete it with `force`",
            it.name,
            it.status.as_str()
        )));
    }
    services.wish(&it, Desired::Removed, Status::Terminating, None).await?;
    services.acted(&it, None, input.wait_seconds).await
}

/// What is being removed cannot be started or stopped, and a program of this machine is the
/// administrator's.
fn may_run(call: &Call, it: &Service) -> Result<()> {
    if it.desired == Desired::Removed {
        return Err(Error::conflict(format!("the service `{}` is being deleted", it.name)));
    }
    if it.kind == Kind::Local && call.caller.role != Role::Administrator {
        return Err(Error::forbidden("a local service is started and stopped only by an administrator"));
    }
    Ok(())
}

impl Services {
    /// A new generation: what is there of the one before did not crash, it is out of date. That holds after
    /// a crash of ours as well.
    async fn renew(&self, it: &Service) -> Result<()> {
        let inner = &self.inner;
        if inner.store.change(it, &it.name, &it.slug, &it.spec, inner.clock.now()).await? {
            return Ok(());
        }
        Err(Error::conflict(format!("the service `{}` is being changed; try again", it.name)))
    }

    async fn wish(
        &self,
        it: &Service,
        desired: Desired,
        status: Status,
        deployment: Option<&str>,
    ) -> Result<Option<String>> {
        let now = self.inner.clock.now();
        self.inner.store.wish(it.id, desired, status, now).await?;
        match deployment {
            Some(kind) => self.inner.store.begin_deployment(it.id, kind, now).await.map(Some),
            None => Ok(None),
        }
    }
}
