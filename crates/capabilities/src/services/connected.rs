//! From services to what the gateway connects to: containers by their address, URLs, child processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::resolver::{Purpose, SCHEME};
use opsroom_core::{Error, Result, Secret};
use opsroom_gateway::catalogue;
use opsroom_gateway::world::{Dial, Transport, Upstream};

use super::model::{Desired, Kind, Service, Status, Wire};
use super::store::Registration;
use super::{Inner, Services, limits, slug};

impl Services {
    /// Tells the gateway which services there are now. What is as it was is not told again.
    pub(super) async fn publish_upstreams(&self) -> Result<()> {
        let inner = &self.inner;
        // Of two at once, the one that read first must not be the one that tells last.
        let _turn = inner.publishing.lock().await;
        let mut upstreams = Vec::new();
        for it in inner.store.everywhere().await?.iter().filter(|it| it.desired == Desired::Running) {
            // One that cannot be connected to says so in its own status.
            if let Ok(Some(transport)) = inner.transport(it).await {
                let mut upstream = Upstream::new(&it.slug, &it.team, transport);
                upstream.deadline = Duration::from_secs(it.spec.timeout_seconds.max(1).into());
                upstream.generation = it.generation;
                upstream.concurrency = it.spec.max_concurrency.max(1) as usize;
                upstreams.push(Arc::new(upstream));
            }
        }
        for it in inner.store.registrations(None, inner.clock.now()).await? {
            let name = slug(&it.service_id);
            if it.service_type == "mcp" && !upstreams.iter().any(|known| known.name == name) {
                upstreams.push(Arc::new(Upstream::new(name, &it.team, registered(&it))));
            }
        }
        let upstreams = Arc::new(upstreams);
        inner.upstreams.send_if_modified(|known| {
            let changed = *known != upstreams;
            if changed {
                *known = upstreams;
            }
            changed
        });
        Ok(())
    }

    /// How the gateway's connection to a service is.
    pub(super) fn connection(&self, slug: &str) -> Option<Arc<catalogue::Service>> {
        self.inner.catalogue.get()?.borrow().service(slug).cloned()
    }

    /// The status of a service that has no engine: what the gateway says of its connection.
    pub(super) async fn connected_status(&self, it: &Service) -> Result<(Status, Option<String>)> {
        if it.desired != Desired::Running {
            return Ok((Status::Stopped, None));
        }
        if let Err(error) = self.inner.transport(it).await {
            return Ok((Status::Error, Some(error.message)));
        }
        Ok(match self.connection(&it.slug).map(|service| service.health.clone()) {
            Some(catalogue::Health::Reachable) => (Status::Running, None),
            Some(catalogue::Health::Unreachable { error, .. }) => {
                (Status::Error, Some(super::runtime::plain(&error)))
            }
            Some(catalogue::Health::Unknown) | None => (Status::Pending, None),
        })
    }
}

impl Inner {
    /// How a service is reached; `None` when it cannot be reached from here now.
    pub(super) async fn transport(&self, it: &Service) -> Result<Option<Transport>> {
        Ok(match it.kind {
            Kind::Docker if it.node != self.node || it.status != Status::Running => None,
            Kind::Docker => match it.seen.address {
                None => None,
                Some(address) => Some(container(it, address, self.headers(it).await?)),
            },
            Kind::Cloud | Kind::Remote => {
                let (url, headers, dial) = (it.spec.url.clone(), self.headers(it).await?, Dial::Checked);
                Some(match it.spec.transport {
                    Wire::Http => Transport::Http { url, headers, dial },
                    Wire::Sse => Transport::LegacySse { url, headers, dial },
                })
            }
            Kind::Local if it.node != self.node => None,
            Kind::Local => Some(Transport::Stdio {
                argv: self.argv(it)?,
                env: self.environment(it).await?,
                cwd: Some(self.folder(it.id)?),
            }),
            Kind::Kubernetes => None,
        })
    }

    /// The service's environment with its secrets, and what every service is told about itself.
    ///
    /// # Errors
    /// Those of the resolver, with the variable's name.
    pub(super) async fn environment(&self, it: &Service) -> Result<Vec<(String, Secret)>> {
        let subject = format!("service:{}", it.id);
        let purpose = Purpose { team: &it.team, owner: &it.created_by, user: &subject };
        let mut environment = vec![
            ("MCP_SERVICE_ID".to_owned(), it.id.to_string().into()),
            ("MCP_SERVICE_NAME".to_owned(), it.name.clone().into()),
        ];
        if let Some(port) = it.spec.service_port {
            environment.push(("MCP_SERVICE_PORT".to_owned(), port.to_string().into()));
        }
        for (name, text) in &it.spec.environment_vars {
            let value = self.secrets.value(text, purpose).await.map_err(|error| {
                Error::new(error.kind, format!("environment_vars: {name}: {}", error.message))
            })?;
            environment.push((name.clone(), value));
        }
        Ok(environment)
    }

    async fn headers(&self, it: &Service) -> Result<Vec<(String, Secret)>> {
        let subject = format!("service:{}", it.id);
        let purpose = Purpose { team: &it.team, owner: &it.created_by, user: &subject };
        let mut headers = Vec::new();
        for (name, text) in &it.spec.headers {
            let value = self
                .secrets
                .value(text, purpose)
                .await
                .map_err(|error| Error::new(error.kind, format!("headers: {name}: {}", error.message)))?;
            // `Bearer secret://...` would be no reference: the word is put before by us.
            let bare = name.eq_ignore_ascii_case("authorization") && text.starts_with(SCHEME);
            let value = if bare && !value.expose().contains(' ') {
                Secret::new(format!("Bearer {}", value.expose()))
            } else {
                value
            };
            headers.push((name.clone(), value));
        }
        // What was configured by hand counts more than a login.
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            headers.extend(self.login_header(it).await?);
        }
        Ok(headers)
    }

    /// The command of a local service: in a cage where there is one.
    fn argv(&self, it: &Service) -> Result<Vec<String>> {
        let Some(launcher) = &self.launcher else { return Ok(it.spec.command.clone()) };
        let folder = self.folder(it.id)?;
        let text = |path: PathBuf| path.display().to_string();
        let mut argv = vec![text(launcher.clone()), "contain".to_owned()];
        argv.extend(["--log".to_owned(), text(folder.join("stderr.log"))]);
        argv.extend(["--pid".to_owned(), text(folder.join("pid"))]);
        if !it.spec.memory_limit.is_empty() {
            argv.extend(["--memory".to_owned(), limits::memory(&it.spec.memory_limit)?.to_string()]);
        }
        argv.push("--".to_owned());
        argv.extend(it.spec.command.iter().cloned());
        Ok(argv)
    }

    /// The folder of a local service: where it runs, and where its output is.
    pub(super) fn folder(&self, id: i64) -> Result<PathBuf> {
        let folder = self.data_dir.join("services").join(id.to_string());
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&folder).map_err(|error| {
            Error::unavailable(format!("cannot make the folder {}: {error}", folder.display()))
        })?;
        Ok(folder)
    }

    /// Removes the folder of a local service that is gone.
    pub(super) fn remove_folder(&self, id: i64) {
        // It may never have been made.
        let _missing = std::fs::remove_dir_all(self.data_dir.join("services").join(id.to_string()));
    }
}

/// The process of a local service, when it is a child of ours and lives.
pub(super) fn process(folder: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything but ends at the last parenthesis: state, parent.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?);
    (state != "Z" && parent.parse() == Ok(std::process::id())).then_some(pid)
}

fn container(it: &Service, address: SocketAddr, headers: Vec<(String, Secret)>) -> Transport {
    let dial = Dial::At(address);
    let url = format!("http://{}:{}{}", it.slug.replace('_', "-"), address.port(), it.spec.path);
    match it.spec.transport {
        Wire::Http => Transport::Http { url, headers, dial },
        Wire::Sse => Transport::LegacySse { url, headers, dial },
    }
}

fn registered(it: &Registration) -> Transport {
    Transport::Http { url: it.url.clone(), headers: Vec::new(), dial: Dial::Checked }
}

/// The last lines that a local service wrote to its standard error; its output is the protocol.
pub(super) fn local_logs(folder: &Path, lines: usize) -> Vec<super::runtime::LogLine> {
    use std::io::{Read, Seek, SeekFrom};
    const MOST: u64 = 1 << 20;
    let mut text = Vec::new();
    if let Ok(mut file) = std::fs::File::open(folder.join("stderr.log")) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        // What cannot be read is shown as nothing.
        let _short = file
            .seek(SeekFrom::Start(length.saturating_sub(MOST)))
            .and_then(|_| file.take(MOST).read_to_end(&mut text));
    }
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let line = |text: &&str| super::runtime::LogLine {
        time: None,
        stream: "stderr".to_owned(),
        text: super::runtime::plain(text),
    };
    all[all.len().saturating_sub(lines)..].iter().map(line).collect()
}

/// What the process of a local service uses, as the system says.
pub(super) fn local_usage(folder: &Path) -> Option<super::runtime::Usage> {
    let pid = process(folder)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(super::runtime::Usage {
        memory_bytes: number("VmRSS:").unwrap_or(0) << 10,
        processes: number("Threads:").unwrap_or(1),
        ..super::runtime::Usage::default()
    })
}
