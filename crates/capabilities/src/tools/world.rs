//! The world that the gateway serves: services with the policies of their tools, and profiles. And the
//! pins: what each tool said of itself when it was first seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use opsroom_core::Result;
use opsroom_gateway::catalogue::{Catalogue, Service, Tool};
use opsroom_gateway::world::{Choice, Profile, ToolPolicy, Upstream, World};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Tools;
use super::model::Settings;
use super::store::{Kept, KeptProfile};

/// How often settings are read again: another server of the same database may have changed them.
const EVERY: Duration = Duration::from_secs(10);
/// The longest id that the database keeps.
const LONGEST_ID: usize = 190;

/// What a service's tool is kept under.
pub fn id_of(service: &str, tool: &str) -> String {
    let id = format!("{service}/{tool}");
    if id.len() <= LONGEST_ID {
        return id;
    }
    let hash = opsroom_core::id::hex(&Sha256::digest(id.as_bytes())[..16]);
    format!("{}-{hash}", &id[..id.floor_char_boundary(LONGEST_ID - 33)])
}

/// Starts the task.
pub fn start(tools: &Tools) {
    let (this, stop) = (tools.clone(), tools.inner.lifecycle.stopping());
    let mut upstreams = tools.inner.services.upstreams();
    tools.inner.lifecycle.spawn("world of the gateway", async move {
        let mut catalogue = None;
        loop {
            if catalogue.is_none() {
                catalogue = this.inner.catalogue.get().cloned();
            }
            let told = catalogue.as_mut().map(|catalogue| catalogue.borrow_and_update().clone());
            let services = upstreams.borrow_and_update().clone();
            if let Err(error) = this.make_world(&services, told.as_deref()).await {
                tracing::warn!(error = %error, causes = error.causes(), "the gateway's world cannot be made anew");
            }
            let catalogue_changed = async {
                match &mut catalogue {
                    Some(catalogue) => catalogue.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = upstreams.changed() => if changed.is_err() { return Ok(()) },
                true = catalogue_changed => {}
                () = this.inner.changed.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    });
}

impl Tools {
    /// Reads what is kept, pins what is new, and sends the world where it changed.
    pub(super) async fn make_world(
        &self,
        services: &[Arc<Upstream>],
        told: Option<&Catalogue>,
    ) -> Result<()> {
        let inner = &self.inner;
        let _one_at_a_time = inner.keeping.lock().await;
        let mut kept: HashMap<String, Kept> = inner.store.tools().await?.into_iter().collect();
        for service in told.into_iter().flat_map(|catalogue| &catalogue.services) {
            self.pin(service, &mut kept).await?;
        }
        let profiles = inner.store.profiles().await?;
        let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
        for upstream in inner.configured.iter().chain(services) {
            if !upstreams.iter().any(|known| known.name == upstream.name) {
                upstreams.push(Arc::new(with_policies(upstream, &kept)));
            }
        }
        let builtin: BTreeMap<String, ToolPolicy> = kept
            .iter()
            .filter(|(id, _)| !id.contains('/'))
            .map(|(id, kept)| (id.clone(), kept.settings.policy(None)))
            .collect();
        let world = World {
            upstreams,
            profiles: profiles.iter().map(profile).collect(),
            builtin,
            refresh: inner.world.borrow().refresh,
        };
        *inner.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kept);
        inner.world.send_if_modified(|known| {
            let changed = **known != world;
            if changed {
                *known = Arc::new(world);
            }
            changed
        });
        Ok(())
    }

    /// Pins what is seen for the first time; what changed since it was approved waits for approval.
    async fn pin(&self, service: &Service, kept: &mut HashMap<String, Kept>) -> Result<()> {
        let inner = &self.inner;
        let now = inner.clock.now().0;
        for tool in &service.tools {
            let id = id_of(&service.name, &tool.name);
            let mut it = kept.get(&id).cloned().unwrap_or_default();
            match &it.pin {
                None => {
                    (it.pin, it.approved) = (Some(tool.hash.clone()), Some(definition(tool)));
                    (it.first_seen, it.changed_at) = (now, now);
                }
                Some(pin) if *pin == tool.hash => {
                    if it.waiting_hash.is_none() {
                        continue;
                    }
                    // It says again what was approved: nothing waits any more.
                    (it.waiting_hash, it.waiting) = (None, None);
                }
                Some(_) if it.waiting_hash.as_ref() == Some(&tool.hash) => continue,
                Some(_) => {
                    (it.waiting_hash, it.waiting) = (Some(tool.hash.clone()), Some(definition(tool)));
                    it.changed_at = now;
                    let data = json!({ "service": service.name, "tool": tool.name, "hash": tool.hash });
                    inner.events.publish("tool.quarantined", &service.team, &id, data);
                    tracing::warn!(
                        service.name = service.name,
                        tool.name = tool.name,
                        "a tool's definition changed after it was approved; it is withheld"
                    );
                }
            }
            inner.store.put(&id, &service.team, "gateway", &it).await?;
            kept.insert(id, it);
        }
        Ok(())
    }
}

fn definition(tool: &Tool) -> serde_json::Value {
    // The gateway read it as JSON before.
    serde_json::from_str(tool.definition.get()).unwrap_or_default()
}

fn with_policies(upstream: &Upstream, kept: &HashMap<String, Kept>) -> Upstream {
    let prefix = format!("{}/", upstream.name);
    let mut upstream = upstream.clone();
    for (id, kept) in kept {
        let Some(tool) = id.strip_prefix(&prefix) else { continue };
        // A long name is kept under a hash; its own stands in its definition.
        let own = kept.approved.as_ref().and_then(|definition| definition["name"].as_str()).unwrap_or(tool);
        let mut policy = kept.settings.policy(kept.pin.clone());
        if kept.settings == Settings::default() {
            // What the configuration says of a service's tools holds where nobody said otherwise.
            policy = ToolPolicy { pin: kept.pin.clone(), ..upstream.policy(own).clone() };
        }
        upstream.tools.insert(own.to_owned(), policy);
    }
    upstream
}

fn profile(kept: &KeptProfile) -> Profile {
    let choice = |text: &String| match text.split_once('/') {
        Some((service, "*")) => Choice { service: Some(service.to_owned()), tool: None },
        Some((service, tool)) => Choice { service: Some(service.to_owned()), tool: Some(tool.to_owned()) },
        None if text == "*" => Choice { service: None, tool: None },
        None => Choice { service: None, tool: Some(text.clone()) },
    };
    Profile {
        name: kept.name.clone(),
        team: kept.team.clone(),
        tools: kept.tools.iter().map(choice).collect(),
        instructions: (!kept.instructions.is_empty()).then(|| kept.instructions.clone()),
    }
}
