//! From a service to a container: what it may never have is not a choice here.

use std::collections::HashMap;

use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, NetworkConnectRequest, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use opsroom_core::{Result, Secret};

use super::super::{Note, Placement};
use super::{Docker, GENERATION, GRACE, NODE, SERVICE};
use crate::services::limits;
use crate::services::model::Service;

/// Who runs in a container whose image names nobody: a number that no system gives to anybody.
const NOBODY: &str = "65532:65532";

impl Docker {
    pub(super) async fn create_and_start(
        &self,
        it: &Service,
        placement: &Placement,
        environment: &[(String, Secret)],
        note: Note<'_>,
    ) -> Result<()> {
        let (client, _) = self.connected().await?;
        for old in self.containers_of(Some(it.id)).await? {
            note("removing the container before");
            self.remove_container(&old.id).await?;
        }
        note("making the network");
        self.ensure_network(&placement.network).await?;
        if let Some(control) = &placement.control {
            self.ensure_network(control).await?;
        }
        note("making the container");
        let name = self.name(it);
        let body = self.body(it, placement, environment).await?;
        let options =
            || CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let made = client.create_container(Some(options()), body.clone()).await;
        let made = match made {
            // What carries our name and not our labels is not ours to remove.
            Err(DockerError::DockerResponseServerError { status_code: 404, message })
                if message.contains("image") =>
            {
                return Err(opsroom_core::Error::not_found(format!(
                    "the image {} is no longer on the engine",
                    it.spec.pinned_image
                )));
            }
            answer => answer.map_err(|error| self.failed(error))?,
        };
        if let Some(control) = &placement.control {
            let request =
                NetworkConnectRequest { container: made.id.clone(), ..NetworkConnectRequest::default() };
            let connected = client.connect_network(&self.network_name(control), request).await;
            connected.map_err(|error| self.failed(error))?;
        }
        note("starting the container");
        client
            .start_container(&made.id, None::<StartContainerOptions>)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn body(
        &self,
        it: &Service,
        placement: &Placement,
        environment: &[(String, Secret)],
    ) -> Result<ContainerCreateBody> {
        let spec = &it.spec;
        let user = match spec.user.as_str() {
            "" => self.image_user(&spec.pinned_image).await?.unwrap_or_else(|| NOBODY.to_owned()),
            user => user.to_owned(),
        };
        let (_, init) = self.connected().await?;
        let network = self.network_name(&placement.network);
        let endpoint = EndpointSettings {
            ipam_config: placement.address.map(|address| EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            aliases: Some(vec![it.slug.clone()]),
            ..EndpointSettings::default()
        };
        Ok(ContainerCreateBody {
            hostname: Some(it.slug.clone()),
            image: Some(spec.pinned_image.clone()),
            cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
            env: Some(environment.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()),
            user: Some(user),
            labels: Some(self.labels(it)),
            stop_timeout: Some(GRACE.into()),
            host_config: Some(self.host_config(it, network.clone(), init)?),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network, endpoint)])),
            }),
            ..ContainerCreateBody::default()
        })
    }

    fn labels(&self, it: &Service) -> HashMap<String, String> {
        HashMap::from([
            (NODE.to_owned(), self.node.clone()),
            (SERVICE.to_owned(), it.id.to_string()),
            (GENERATION.to_owned(), it.generation.to_string()),
            ("mcp.service.id".to_owned(), it.id.to_string()),
            ("mcp.service.name".to_owned(), it.name.clone()),
            ("mcp.service.type".to_owned(), it.kind.as_str().to_owned()),
        ])
    }

    fn host_config(&self, it: &Service, network: String, init: bool) -> Result<HostConfig> {
        let or =
            |given: &str, usual: &str| if given.is_empty() { usual.to_owned() } else { given.to_owned() };
        let memory = limits::memory(&or(&it.spec.memory_limit, &self.default_memory))?;
        let nano_cpus = limits::nano_cpus(&or(&it.spec.cpu_limit, &self.default_cpu))?;
        let disk = limits::bytes("disk_limit", &or(&it.spec.disk_limit, "64Mi"))?;
        let words = |words: &[(&str, &str)]| {
            words
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<HashMap<_, _>>()
        };
        Ok(HostConfig {
            memory: Some(memory),
            // No swap besides: the limit is the limit.
            memory_swap: Some(memory),
            nano_cpus: Some(nano_cpus),
            pids_limit: Some(self.pids),
            network_mode: Some(network),
            privileged: Some(false),
            publish_all_ports: Some(false),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            tmpfs: Some(HashMap::from([(
                "/tmp".to_owned(),
                format!("rw,nosuid,nodev,noexec,mode=1777,size={disk}"),
            )])),
            ipc_mode: Some("private".to_owned()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            init: Some(init),
            // We start it again, with pauses that grow.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                ..RestartPolicy::default()
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(words(&[("max-size", "10m"), ("max-file", "3")])),
            }),
            ..HostConfig::default()
        })
    }
}
