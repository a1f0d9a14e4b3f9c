//! `create_network`, `list_networks` and `delete_network`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Services;
use super::super::model::Desired;
use super::super::store::{Driver, Network};

/// Creates a network for a VLAN. A bridge has no way out and nothing comes in; `macvlan` and `ipvlan` join a
/// VLAN of the wire, where the machine supports that. With `dry_run` nothing is made: the answer says
/// whether it can be, and why not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// The VLAN, from 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    vlan_id: u16,
    /// Its name, unique; `vlan-` and the VLAN unless named.
    #[serde(default)]
    #[schemars(length(min = 1, max = 40))]
    name: Option<String>,
    /// How it joins its services.
    #[serde(default)]
    driver: Driver,
    /// For `macvlan` and `ipvlan`: the interface of this machine, such as `eth0`. The VLAN is put after it.
    #[serde(default = "eth0")]
    #[schemars(length(min = 1, max = 15))]
    interface: String,
    /// Its addresses, such as `172.30.4.0/24`; free ones of the pool unless named. For a VLAN of the wire,
    /// those that are used there.
    #[serde(default)]
    subnet: Option<String>,
    /// Only say whether it can be made.
    #[serde(default)]
    dry_run: bool,
}

fn eth0() -> String {
    "eth0".to_owned()
}

/// A network.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct NetworkLine {
    /// Its name.
    pub name: String,
    /// Its VLAN; null for a network of one service alone.
    pub vlan_id: Option<u16>,
    /// How it joins its services.
    pub driver: Driver,
    /// The interface that it is on; null for a bridge.
    pub parent: Option<String>,
    /// Its addresses.
    pub subnet: String,
    /// The address of its gateway.
    pub gateway: String,
    /// Whether services can leave it only through the proxy.
    pub internal: bool,
    /// The services in it, by name.
    pub services: Vec<String>,
    /// When it was made; null for a plan.
    pub created_at: Option<String>,
    /// Why it cannot be made; empty when it can or was.
    pub refused: Vec<String>,
}

fn line(network: &Network, services: Vec<String>) -> NetworkLine {
    NetworkLine {
        name: network.name.clone(),
        vlan_id: network.vlan_id,
        driver: network.driver,
        parent: (!network.parent.is_empty()).then(|| network.parent.clone()),
        subnet: network.subnet.to_string(),
        gateway: network.subnet.gateway().to_string(),
        internal: network.driver == Driver::Bridge,
        services,
        created_at: Some(network.created_at.to_rfc3339()),
        refused: Vec::new(),
    }
}

pub async fn create_network(services: Services, call: Call, input: CreateNetwork) -> Result<NetworkLine> {
    let name = input.name.clone().unwrap_or_else(|| format!("vlan-{}", input.vlan_id));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !name.chars().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::invalid(format!(
            "name: `{}` is not of a-z, 0-9, `-`, `_` and `.`",
            name.escape_debug()
        )));
    }
    if name.starts_with("svc-") || name.starts_with("ctl-") {
        return Err(Error::invalid("name: `svc-` and `ctl-` begin the names of services' own networks"));
    }
    let on_the_wire = input.driver != Driver::Bridge;
    let parent = if on_the_wire { parent(&input.interface, input.vlan_id)? } else { String::new() };
    let asked = input.subnet.as_deref().map(str::parse).transpose()?;
    let preflight = match on_the_wire {
        true => services.inner.engine.preflight(input.driver, &parent).await,
        false => Ok(()),
    };
    let network = Network {
        name,
        team: call.caller.team().to_owned(),
        created_by: call.caller.subject.clone(),
        vlan_id: Some(input.vlan_id),
        driver: input.driver,
        parent,
        subnet: asked.map_or_else(|| services.inner.config.pool(), Ok)?,
        service: None,
        created_at: services.inner.clock.now(),
    };
    if input.dry_run {
        let mut planned = line(&network, Vec::new());
        planned.created_at = None;
        planned.refused = preflight.err().into_iter().map(|error| error.message).collect();
        let taken = services.inner.store.networks().await?;
        for other in
            taken.iter().filter(|other| other.vlan_id == network.vlan_id || other.name == network.name)
        {
            planned.refused.push(format!("the network `{}` has this VLAN or name already", other.name));
        }
        return Ok(planned);
    }
    preflight?;
    let made = services.make_network(network, asked).await?;
    Ok(line(&made, Vec::new()))
}

/// `eth0.100`, of names that an interface can have (15 characters at most).
fn parent(interface: &str, vlan: u16) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let parent = format!("{interface}.{vlan}");
    if interface.is_empty() || !interface.chars().all(plain) || parent.len() > 15 {
        return Err(Error::invalid(format!(
            "interface: `{}` is no name of an interface such as `eth0`",
            interface.escape_debug()
        )));
    }
    Ok(parent)
}

/// Lists networks with the services in them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListNetworks {}

/// Networks.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct NetworkList {
    /// The networks, oldest first.
    pub items: Vec<NetworkLine>,
}

pub async fn list_networks(services: Services, call: Call, _: ListNetworks) -> Result<NetworkList> {
    let all = services.inner.store.everywhere().await?;
    let items = services
        .inner
        .store
        .networks()
        .await?
        .iter()
        .filter(|network| call.caller.teams.contains(&network.team))
        .map(|network| {
            let inside = all.iter().filter(|it| {
                it.desired != Desired::Removed
                    && (it.spec.network_name == network.name || network.service == Some(it.id))
            });
            line(network, inside.map(|it| it.name.clone()).collect())
        })
        .collect();
    Ok(NetworkList { items })
}

/// Deletes a network that no service is in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteNetwork {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    name: String,
}

/// A network that was deleted.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct DeletedNetwork {
    /// Its name.
    pub name: String,
}

pub async fn delete_network(services: Services, call: Call, input: DeleteNetwork) -> Result<DeletedNetwork> {
    let inner = &services.inner;
    let found = inner.store.network(&input.name).await?;
    let found = found
        .filter(|network| call.caller.teams.contains(&network.team))
        .ok_or_else(|| Error::not_found(format!("there is no network `{}`", input.name.escape_debug())))?;
    let inside = inner.store.everywhere().await?;
    let users: Vec<&str> = inside
        .iter()
        .filter(|it| it.spec.network_name == found.name || found.service == Some(it.id))
        .map(|it| it.name.as_str())
        .collect();
    if !users.is_empty() {
        return Err(Error::conflict(format!("the network `{}` is used by {}", found.name, users.join(", "))));
    }
    // The engine's network goes first: a row without it is removed again, it without a row is swept.
    if let Ok(networks) = inner.engine.networks().await {
        for network in networks.into_iter().filter(|network| network.name == found.name) {
            inner.engine.remove_network(&network.id).await?;
        }
    }
    inner.store.remove_network(&found.name).await?;
    Ok(DeletedNetwork { name: found.name })
}
