//! Where services go: networks are found or made, with addresses that overlap nothing.

use std::net::Ipv4Addr;

use opsroom_core::{Error, Kind, Result};

use super::addresses::{Subnet, lowest_free, routed};
use super::model::Service;
use super::runtime::Placement;
use super::store::{Driver, Network};
use super::{Inner, Services};

impl Services {
    /// Where a service goes; what is missing of that is made.
    pub(super) async fn place(&self, it: &Service) -> Result<Placement> {
        let inner = &self.inner;
        let network = match it.spec.network_name.as_str() {
            "" => self.own_network(it, "svc").await?,
            name => inner.store.network(name).await?.ok_or_else(|| {
                Error::not_found(format!(
                    "its network `{name}` is gone; give the service another with `update_service`"
                ))
            })?,
        };
        let control = match network.driver {
            // This machine reaches its own bridges.
            Driver::Bridge => None,
            Driver::Macvlan | Driver::Ipvlan => Some(self.own_network(it, "ctl").await?),
        };
        let address = it.spec.ip_address.as_deref().map(|text| address(text, network.subnet)).transpose()?;
        Ok(Placement { network, control, address })
    }

    async fn own_network(&self, it: &Service, what: &str) -> Result<Network> {
        let name = format!("{what}-{}", it.id);
        if let Some(known) = self.inner.store.network(&name).await? {
            return Ok(known);
        }
        let template = Network {
            name,
            team: it.team.clone(),
            created_by: it.created_by.clone(),
            vlan_id: None,
            driver: Driver::Bridge,
            parent: String::new(),
            subnet: self.inner.config.pool()?,
            service: Some(it.id),
            created_at: self.inner.clock.now(),
        };
        self.make_network(template, None).await
    }

    /// Makes a network with the addresses that were asked for, or else with free ones.
    pub(super) async fn make_network(&self, mut network: Network, asked: Option<Subnet>) -> Result<Network> {
        let inner = &self.inner;
        let _one_at_a_time = inner.placing.lock().await;
        // Other Opsrooms of the same database take addresses, too: the table's own rule decides.
        for _ in 0..8 {
            let taken = inner.taken().await?;
            network.subnet = match asked {
                None => lowest_free(inner.config.pool()?, inner.config.network_prefix, &taken)?,
                Some(asked) => free(asked, &taken)?,
            };
            match inner.store.insert_network(&network).await {
                Err(error) if error.kind == Kind::Conflict && asked.is_none() => {
                    let same = |other: &Network| {
                        other.name == network.name
                            || other.vlan_id.is_some() && other.vlan_id == network.vlan_id
                    };
                    if let Some(taken) = inner.store.networks().await?.into_iter().find(same) {
                        return if taken.service.is_some() && taken.service == network.service {
                            Ok(taken)
                        } else {
                            Err(error)
                        };
                    }
                }
                answer => return answer.map(|()| network),
            }
        }
        Err(Error::busy("others take addresses at the same time; try again"))
    }
}

impl Inner {
    /// Every range that is in use, as far as can be known: our own list, the engine's, this machine's
    /// routes. An engine that does not answer is told by whoever needs it.
    async fn taken(&self) -> Result<Vec<Subnet>> {
        let mut taken: Vec<Subnet> =
            self.store.networks().await?.into_iter().map(|network| network.subnet).collect();
        if let Ok(known) = self.engine.subnets().await {
            taken.extend(known);
        }
        // On another system than Linux there is no such file, and the engine's list must do.
        if let Ok(table) = std::fs::read_to_string("/proc/net/route") {
            taken.extend(routed(&table));
        }
        Ok(taken)
    }
}

fn free(asked: Subnet, taken: &[Subnet]) -> Result<Subnet> {
    if !asked.is_private() {
        return Err(Error::invalid(format!("subnet: {asked} is not private; use such as 172.30.4.0/24")));
    }
    if !(16..=29).contains(&asked.prefix()) {
        return Err(Error::invalid(format!("subnet: {asked} is not from /16 to /29")));
    }
    match taken.iter().find(|other| other.overlaps(asked)) {
        None => Ok(asked),
        Some(other) => Err(Error::conflict(format!("subnet: {asked} overlaps {other}, which is in use"))),
    }
}

/// An address that a service asked for, in its network.
pub(super) fn address(text: &str, subnet: Subnet) -> Result<Ipv4Addr> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) if subnet.usable(address) => Ok(address),
        _ => Err(Error::invalid(format!(
            "ip_address: `{}` is no address that a service can have in {subnet}",
            text.escape_debug()
        ))),
    }
}
