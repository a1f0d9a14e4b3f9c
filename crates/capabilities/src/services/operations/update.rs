//! `update_service`.

use std::collections::BTreeMap;

use opsroom_core::{Call, Error, Result, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::model::{Desired, HealthCheck, Kind, Status, check_name, slug};
use super::super::{Services, policy};

/// Changes a service. What changes how it runs starts it anew. What is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// Another name.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    name: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    description: Option<String>,
    /// For `docker`: another image. Naming the same one again pins what it means now.
    #[serde(default)]
    #[schemars(length(max = 255))]
    image: Option<String>,
    /// For `cloud`: another URL.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    url: Option<String>,
    /// Other headers, in the place of all of them.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    headers: Option<BTreeMap<String, String>>,
    /// Other notes, in the place of all of them.
    #[serde(default)]
    settings: Option<Map<String, Value>>,
    /// Another environment, in the place of all of it.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    environment_vars: Option<BTreeMap<String, String>>,
    /// Processors, such as `0.5` or `500m`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    cpu_limit: Option<String>,
    /// Memory, such as `512m` or `512Mi`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    memory_limit: Option<String>,
    /// Space below `/tmp`, such as `64Mi`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    disk_limit: Option<String>,
    /// Other places that it may reach, in the place of all of them.
    #[serde(default)]
    #[schemars(length(max = 64))]
    allow_egress: Option<Vec<String>>,
    /// How its health is asked for.
    #[serde(default)]
    health_check: Option<HealthCheck>,
    /// For `http`: where.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    health_check_url: Option<String>,
    /// How often, in seconds.
    #[serde(default)]
    #[schemars(range(min = 5, max = 86400))]
    health_check_interval: Option<u32>,
    /// How long to wait, in seconds.
    #[serde(default)]
    #[schemars(range(min = 1, max = 300))]
    health_check_timeout: Option<u32>,
    /// After how many failures in a row it is called unhealthy.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    health_check_retries: Option<u32>,
    /// The longest time for one request to it, in seconds.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    timeout_seconds: Option<u32>,
}

/// A service that was changed.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct UpdatedService {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// When it was changed.
    pub updated_at: String,
    /// The deployment that starts it anew; null when it is not running.
    pub deployment_id: Option<String>,
}

pub async fn update_service(services: Services, call: Call, input: UpdateService) -> Result<UpdatedService> {
    let inner = &services.inner;
    let it = services.find(&call.caller, &input.id).await?;
    if it.desired == Desired::Removed {
        return Err(Error::conflict(format!("the service `{}` is being deleted", it.name)));
    }
    if it.kind == Kind::Local && call.caller.role != Role::Administrator {
        return Err(Error::forbidden("a local service is changed only by an administrator"));
    }
    let name = input.name.clone().unwrap_or_else(|| it.name.clone());
    check_name(&name)?;
    let image = input.image.is_some();
    let spec = input.over(it.spec.clone());
    if let Some(refused) =
        policy::refusals(it.kind, &spec, &call.caller, &inner.config, &inner.secrets).into_iter().next()
    {
        return Err(refused);
    }
    let mut spec = spec;
    if image && it.kind == Kind::Docker {
        spec.pinned_image = inner.engine.pin(&spec, &|_| ()).await?;
    }
    let now = inner.clock.now();
    if !inner.store.change(&it, &name, &slug(&name), &spec, now).await? {
        return Err(Error::conflict(format!("the service `{}` is being changed; try again", it.name)));
    }
    let mut deployment_id = None;
    let mut status = it.status;
    if it.desired == Desired::Running {
        status = if it.kind == Kind::Docker { Status::Restarting } else { Status::Pending };
        inner.store.wish(it.id, Desired::Running, status, now).await?;
        deployment_id = Some(inner.store.begin_deployment(it.id, "update", now).await?);
    }
    inner.keeper.renew(it.id);
    inner.wake.notify_one();
    Ok(UpdatedService { id: it.id, name, status, updated_at: now.to_rfc3339(), deployment_id })
}

impl UpdateService {
    fn over(self, mut spec: super::super::model::Spec) -> super::super::model::Spec {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut spec.description, self.description);
        set(&mut spec.image, self.image);
        set(&mut spec.url, self.url);
        set(&mut spec.headers, self.headers);
        set(&mut spec.settings, self.settings);
        set(&mut spec.environment_vars, self.environment_vars);
        set(&mut spec.cpu_limit, self.cpu_limit);
        set(&mut spec.memory_limit, self.memory_limit);
        set(&mut spec.disk_limit, self.disk_limit);
        set(&mut spec.allow_egress, self.allow_egress);
        set(&mut spec.health_check, self.health_check);
        set(&mut spec.health_check_url, self.health_check_url);
        set(&mut spec.health_check_interval, self.health_check_interval);
        set(&mut spec.health_check_timeout, self.health_check_timeout);
        set(&mut spec.health_check_retries, self.health_check_retries);
        set(&mut spec.timeout_seconds, self.timeout_seconds);
        spec
    }
}
