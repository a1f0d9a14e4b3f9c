//! Networks of the engine.

use std::collections::HashMap;
use std::path::Path;

use bollard::errors::Error as DockerError;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use opsroom_core::{Error, Result};

use super::{Docker, NODE};
use crate::services::addresses::Subnet;
use crate::services::store::{Driver, Network};

/// The network's name in our list.
pub(super) const NETWORK: &str = "opsroom.network";

impl Docker {
    /// The engine's name of a network: other Opsrooms on the engine have theirs.
    pub(super) fn network_name(&self, network: &Network) -> String {
        format!("opsroom-{}-{}", &self.node[..self.node.len().min(8)], network.name)
    }

    /// Makes a network, unless it is there.
    pub(super) async fn ensure_network(&self, network: &Network) -> Result<()> {
        let client = self.client().await?;
        let name = self.network_name(network);
        match client.inspect_network(&name, None).await {
            Ok(_) => return Ok(()),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(self.failed(error)),
        }
        if network.driver != Driver::Bridge {
            self.check_driver(network.driver, &network.parent).await?;
        }
        let mut labels =
            HashMap::from([(NODE.to_owned(), self.node.clone()), (NETWORK.to_owned(), network.name.clone())]);
        if let Some(vlan) = network.vlan_id {
            labels.insert("mcp.network.type".to_owned(), "vlan".to_owned());
            labels.insert("vlan_id".to_owned(), vlan.to_string());
        }
        let mut options = HashMap::new();
        match network.driver {
            Driver::Bridge => {
                options.insert("com.docker.network.bridge.enable_icc".to_owned(), "true".to_owned());
            }
            Driver::Macvlan | Driver::Ipvlan => {
                options.insert("parent".to_owned(), network.parent.clone());
            }
        }
        let addresses = IpamConfig {
            subnet: Some(network.subnet.to_string()),
            gateway: Some(network.subnet.gateway().to_string()),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name,
            driver: Some(network.driver.as_str().to_owned()),
            // No way out of it, and none in from another network.
            internal: Some(network.driver == Driver::Bridge),
            ipam: Some(Ipam { config: Some(vec![addresses]), ..Ipam::default() }),
            enable_ipv6: Some(false),
            options: Some(options),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        match client.create_network(request).await {
            // Another service of the same network was faster.
            Err(DockerError::DockerResponseServerError { status_code: 409, message })
                if message.contains("already exists") =>
            {
                Ok(())
            }
            answer => answer.map(drop).map_err(|error| self.failed(error)),
        }
    }

    /// The addresses of every network of the engine.
    pub(super) async fn known_subnets(&self) -> Result<Vec<Subnet>> {
        let client = self.client().await?;
        let found =
            client.list_networks(None::<ListNetworksOptions>).await.map_err(|error| self.failed(error))?;
        let ranges = found.into_iter().filter_map(|network| network.ipam?.config).flatten();
        // An IPv6 range is none of ours, and overlaps none.
        Ok(ranges.filter_map(|range| range.subnet?.parse().ok()).collect())
    }

    /// Whether a VLAN of the wire can be made on this machine, or why not.
    pub(super) async fn check_driver(&self, driver: Driver, parent: &str) -> Result<()> {
        if driver == Driver::Bridge {
            return Ok(());
        }
        let no = |why: String| {
            Err(Error::conflict(format!("a {} network cannot be made here: {why}", driver.as_str())))
        };
        let base = parent.rsplit_once('.').map_or(parent, |(base, _)| base);
        let interfaces = Path::new("/sys/class/net");
        if !interfaces.join(base).exists() {
            let names: Vec<String> = std::fs::read_dir(interfaces)
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name != "lo" && !name.starts_with("br-") && !name.starts_with("veth"))
                .collect();
            return no(format!("this machine has no interface `{base}`; it has {}", names.join(", ")));
        }
        if interfaces.join(base).join("wireless").exists() {
            return no(format!(
                "`{base}` is wireless, and such networks drop frames of addresses they do not know; use ipvlan on a wire"
            ));
        }
        let info = self.client().await?.info().await.map_err(|error| self.failed(error))?;
        let drivers = info.plugins.and_then(|plugins| plugins.network).unwrap_or_default();
        if !drivers.iter().any(|name| name == driver.as_str()) {
            return no(format!("the engine has no such driver; it has {}", drivers.join(", ")));
        }
        if info.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless")) {
            return no("the engine runs without root, and may not touch the machine's interfaces".to_owned());
        }
        Ok(())
    }
}
