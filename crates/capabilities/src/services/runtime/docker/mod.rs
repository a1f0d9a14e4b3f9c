//! The Docker engine, over its socket on this machine.
//!
//! The socket is root on this machine: what goes over it is made here, of checked parts, and never handed
//! on from a caller. Everything that is made carries labels: of which Opsroom (its node), of which service.

mod create;
mod images;
mod networks;
mod output;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::errors::Error as DockerError;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use opsroom_core::{Error, Kind, Result, Secret};
use tokio::sync::Mutex;

use super::{Container, Engine, Holding, LogLine, Look, Note, Piece, Placement, Usage, plain};
use crate::services::addresses::Subnet;
use crate::services::config::ServicesConfig;
use crate::services::model::{Service, Spec};
use crate::services::store::Driver;

pub(in crate::services) use images::{check as check_image, is_root};

/// Whose it is: the node of the Opsroom that made it.
const NODE: &str = "opsroom.node";
/// Of which service.
const SERVICE: &str = "opsroom.service";
/// Of which generation of it.
const GENERATION: &str = "opsroom.generation";
/// How long a service may take to end before it is killed, in seconds.
const GRACE: i32 = 10;

/// The engine. Nothing is sent to it before it is needed.
pub struct Docker {
    socket: PathBuf,
    node: String,
    allowed_images: Vec<String>,
    default_cpu: String,
    default_memory: String,
    pids: i64,
    client: Mutex<Option<(Client, bool)>>,
}

impl Docker {
    /// The engine of this configuration; `node` marks what is ours.
    pub fn new(config: &ServicesConfig, node: &str) -> Self {
        Self {
            socket: config.docker_socket.clone(),
            node: node.to_owned(),
            allowed_images: config.allowed_images.clone(),
            default_cpu: config.default_cpu_limit.clone(),
            default_memory: config.default_memory_limit.clone(),
            pids: config.pids_limit.into(),
            client: Mutex::new(None),
        }
    }

    /// A client that has agreed on a version with the engine.
    async fn client(&self) -> Result<Client> {
        self.connected().await.map(|(client, _)| client)
    }

    /// A client, and whether the engine has a program that reaps the dead in a container.
    async fn connected(&self) -> Result<(Client, bool)> {
        let mut held = self.client.lock().await;
        if let Some(known) = held.as_ref() {
            return Ok(known.clone());
        }
        let path = self
            .socket
            .to_str()
            .ok_or_else(|| Error::invalid("services.docker_socket: the path is not UTF-8"))?;
        let client =
            Client::connect_with_unix(path, 120, API_DEFAULT_VERSION).map_err(|error| self.failed(error))?;
        let client = client.negotiate_version().await.map_err(|error| self.failed(error))?;
        let version = client.version().await.map_err(|error| self.failed(error))?;
        let init = version
            .components
            .into_iter()
            .flatten()
            .any(|part| part.name == "docker-init" && !part.version.is_empty());
        *held = Some((client.clone(), init));
        Ok((client, init))
    }

    /// An error of the engine, for a caller.
    fn failed(&self, error: DockerError) -> Error {
        failure(&self.socket, error)
    }

    /// A container's name: of this Opsroom, for people and for the engine's uniqueness.
    fn name(&self, it: &Service) -> String {
        format!("opsroom-{}-{}-{}", &self.node[..self.node.len().min(8)], it.id, it.slug)
    }

    fn labelled(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{NODE}={}", self.node)])])
    }

    async fn containers_of(&self, service: Option<i64>) -> Result<Vec<Holding>> {
        let client = self.client().await?;
        let mut filters = self.labelled();
        if let Some(id) = service {
            filters.entry("label".to_owned()).or_default().push(format!("{SERVICE}={id}"));
        }
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = client.list_containers(Some(options)).await.map_err(|error| self.failed(error))?;
        let holding = |it: bollard::models::ContainerSummary| {
            let service = it.labels.and_then(|labels| labels.get(SERVICE)?.parse().ok());
            let name = it.names.unwrap_or_default().pop().unwrap_or_default();
            Some(Holding { id: it.id?, service, name: name.trim_start_matches('/').to_owned() })
        };
        Ok(found.into_iter().filter_map(holding).collect())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        gone(self.client().await?.remove_container(id, Some(options)).await)
            .map_err(|error| self.failed(error))
    }

    async fn stop_container(&self, it: &Service) -> Result<()> {
        let client = self.client().await?;
        for holding in self.containers_of(Some(it.id)).await? {
            let options = StopContainerOptionsBuilder::new().t(GRACE).build();
            gone(client.stop_container(&holding.id, Some(options)).await)
                .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    async fn list_networks(&self) -> Result<Vec<Holding>> {
        let options = ListNetworksOptionsBuilder::new().filters(&self.labelled()).build();
        let found =
            self.client().await?.list_networks(Some(options)).await.map_err(|error| self.failed(error))?;
        let holding = |it: bollard::models::Network| {
            let name = it.labels.and_then(|labels| labels.get(networks::NETWORK).cloned());
            Some(Holding { id: it.id?, service: None, name: name.unwrap_or_default() })
        };
        Ok(found.into_iter().filter_map(holding).collect())
    }
}

/// An error of the engine at this socket, for a caller.
fn failure(socket: &Path, error: DockerError) -> Error {
    match &error {
        DockerError::DockerResponseServerError { status_code, message } => {
            let message = plain(message);
            let kind = match status_code {
                400 => Kind::Invalid,
                404 => Kind::NotFound,
                403 | 409 => Kind::Conflict,
                _ => Kind::Unavailable,
            };
            Error::new(kind, format!("the Docker engine refused: {message}"))
        }
        _ => Error::unavailable(format!(
            "the Docker engine at {} does not answer (`services.docker_socket`)",
            socket.display()
        ))
        .because(error),
    }
}

/// What is not there, or is being removed already, is as good as removed or stopped.
fn gone(answer: Result<(), DockerError>) -> Result<(), DockerError> {
    match answer {
        Err(DockerError::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
        Err(DockerError::DockerResponseServerError { status_code: 409, message })
            if message.contains("is already in progress") =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Engine for Docker {
    fn pin<'a>(&'a self, spec: &'a Spec, note: Note<'a>) -> BoxFuture<'a, Result<String>> {
        Box::pin(self.pin_image(&spec.image, note))
    }

    fn look<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Look>> {
        Box::pin(self.look_at(it))
    }

    fn start<'a>(
        &'a self,
        it: &'a Service,
        placement: &'a Placement,
        environment: &'a [(String, Secret)],
        note: Note<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.create_and_start(it, placement, environment, note))
    }

    fn stop<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.stop_container(it))
    }

    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_container(container))
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            gone(self.client().await?.remove_network(id).await).map_err(|error| self.failed(error))
        })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<Holding>>> {
        Box::pin(self.containers_of(None))
    }

    fn networks(&self) -> BoxFuture<'_, Result<Vec<Holding>>> {
        Box::pin(self.list_networks())
    }

    fn subnets(&self) -> BoxFuture<'_, Result<Vec<Subnet>>> {
        Box::pin(self.known_subnets())
    }

    fn preflight<'a>(&'a self, driver: Driver, parent: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.check_driver(driver, parent))
    }

    fn logs<'a>(&'a self, it: &'a Service, lines: u32, since: i64) -> BoxFuture<'a, Result<Vec<LogLine>>> {
        Box::pin(self.read_logs(it, lines, since))
    }

    fn every_container(&self) -> BoxFuture<'_, Result<Vec<Container>>> {
        Box::pin(self.list_all())
    }

    fn container_of<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move { Ok(self.containers_of(Some(it.id)).await?.into_iter().next().map(|it| it.id)) })
    }

    fn output<'a>(
        &'a self,
        container: &'a str,
        since: i64,
        until: i64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Piece>>>> {
        Box::pin(self.read_output(container, since, until))
    }

    fn usage<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Option<Usage>>> {
        Box::pin(self.read_usage(it))
    }

    fn ping(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move {
            let version = self.client().await?.version().await.map_err(|error| self.failed(error))?;
            Ok(version.version.unwrap_or_default())
        })
    }
}
