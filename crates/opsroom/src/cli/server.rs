//! `opsroom serve` and `opsroom mcp`, and how the other commands find a server.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use opsroom_capabilities::room::{Room, RoomConfig};
use opsroom_core::caller::Face;
use opsroom_core::config::{self, ConfigFile, Flag, Loaded, Sources};
use opsroom_core::db::DbConfig;
use opsroom_core::files::{DataDir, DataLock, default_data_dir};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::{Caller, Clock, Error, Kind, Operation, Result};
use opsroom_gateway::View;

use super::Place;
use crate::client::Client;
use crate::config::{Config, NAMES};
use crate::faces::{Server, compat, mcp};
use crate::pipe::{self, Served};
use crate::{demo, serve as listeners};

/// How long running work may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(20);

/// Where people reach the running server, for the commands that print links.
pub const URL_FILE: &str = "opsroom.url";

/// Flags of `opsroom serve`.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Start with a demo in a folder of its own: sample logs with a real fault in them
    #[arg(long)]
    demo: bool,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// The port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// The data folder that the place or the platform names.
pub fn data_dir(place: &Place) -> Result<PathBuf> {
    match &place.data_dir {
        Some(folder) => std::path::absolute(folder).map_err(Error::internal),
        None => default_data_dir(&config::environment()?),
    }
}

/// The configuration in force.
pub fn configuration(place: &Place, data_dir: &Path, flags: Vec<Flag>) -> Result<Loaded<Config>> {
    let file = match &place.config {
        Some(path) => ConfigFile::Required(path.clone()),
        None if Path::new("opsroom.yaml").exists() => ConfigFile::Required(PathBuf::from("opsroom.yaml")),
        None => ConfigFile::IfPresent(data_dir.join("opsroom.yaml")),
    };
    let loaded: Loaded<Config> =
        config::load(&Sources { file, environment: config::environment()?, names: NAMES, flags })?;
    loaded.config.validate().map_err(|error| loaded.blame(error))?;
    Ok(loaded)
}

/// A room that this process holds open.
pub struct Opened {
    /// The room.
    pub room: Arc<Room>,
    _lock: DataLock,
}

impl Opened {
    /// Opens the room of a data folder, as its only holder.
    async fn open(folder: &DataDir, config: &Config) -> Result<Self> {
        let lock = folder.lock()?;
        let config = room_config(folder.path(), config)?;
        let room = Room::open(&config, Clock::System, Lifecycle::new()).await?;
        Ok(Self { room, _lock: lock })
    }

    /// Ends its work and closes its database.
    pub async fn close(self) -> Result<()> {
        let finished = self.room.lifecycle.finish(GRACE).await;
        self.room.database.close().await;
        finished
    }
}

/// What a room needs of the configuration.
///
/// # Errors
/// `Invalid` for an environment that is not UTF-8.
pub fn room_config(data_dir: &Path, config: &Config) -> Result<RoomConfig> {
    Ok(RoomConfig {
        data_dir: data_dir.to_owned(),
        database: config.database.clone(),
        files: config.files.clone(),
        jobs: config.jobs.clone(),
        egress: config.egress.clone(),
        notifications: config.notifications.clone(),
        alerts: config.alerts.clone(),
        dashboards: config.dashboards.clone(),
        planning: config.planning.clone(),
        kept_secrets: config.secrets.clone(),
        detection: config.detection.clone(),
        accounts: config.accounts.clone(),
        oauth: config.oauth.clone(),
        oidc: config.oidc.clone(),
        audit: config.audit.clone(),
        public_url: public_url(config, config.server.port),
        gateway: config.gateway.clone(),
        secrets: Resolver::new(data_dir, &config::environment()?),
        services: config.services.clone(),
        redis: config.redis.clone(),
        launcher: std::env::current_exe().ok(),
        logs: config.logs.clone(),
    })
}

/// The URL by which people reach the server: the configured one, or its address.
fn public_url(config: &Config, port: u16) -> String {
    match config.server.public_url.trim_end_matches('/') {
        "" => format!("http://{}:{port}", config.server.host),
        url => url.to_owned(),
    }
}

/// Where an operation's command is run.
pub enum Backend {
    /// On a running server.
    Remote(Client),
    /// In this process.
    Local(Opened),
}

/// The server that `--server` names, else the one that runs in the data folder, else a room opened here.
pub async fn backend(place: &Place) -> Result<Backend> {
    if let Some(url) = &place.server {
        let key = place.api_key.as_deref().ok_or_else(|| {
            Error::unauthenticated("`--server` needs a key: give one with `--api-key` or OPSROOM_API_KEY")
        })?;
        return Ok(Backend::Remote(Client::of_url(url, key)?));
    }
    let path = data_dir(place)?;
    if let Some(client) = running(&path).await {
        return Ok(Backend::Remote(client));
    }
    let config = configuration(place, &path, Vec::new())?.config;
    opsroom_core::telemetry::init_for_command(&config.log)?;
    match Opened::open(&DataDir::open(&path)?, &config).await {
        Ok(opened) => Ok(Backend::Local(opened)),
        // It may have been starting when it was asked first.
        Err(error) if error.kind == Kind::Conflict => match running(&path).await {
            Some(client) => Ok(Backend::Remote(client)),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

async fn running(data_dir: &Path) -> Option<Client> {
    if !data_dir.join("opsroom.sock").exists() {
        return None;
    }
    let client = Client::of_folder(data_dir).ok()?;
    client.answers().await.then_some(client)
}

/// The operations, for the command line's own help: a room in memory that nobody calls.
pub async fn describe() -> Result<Vec<Operation>> {
    let folder = tempfile::tempdir().map_err(Error::internal)?;
    let database = DbConfig { url: "sqlite::memory:".to_owned(), ..DbConfig::default() };
    let config = RoomConfig { data_dir: folder.path().to_owned(), database, ..RoomConfig::default() };
    let lifecycle = Lifecycle::new();
    let room = Room::open(&config, Clock::System, lifecycle.clone()).await?;
    let operations = room.operations().to_vec();
    lifecycle.stop();
    Ok(operations)
}

/// Runs the server until a signal.
pub async fn serve(place: &Place, args: ServeArgs) -> Result<ExitCode> {
    let folder = match data_dir(place)? {
        // Beside the usual folder, not in it: the demo must leave no trace where real data will be.
        usual if args.demo && place.data_dir.is_none() => usual.with_file_name("opsroom-demo"),
        folder => folder,
    };
    let loaded = configuration(place, &folder, flags(&args))?;
    let mut config = loaded.config;
    if args.demo {
        demo::allow_example(&mut config);
    }
    let folder = DataDir::open(&folder)?;
    let _telemetry = opsroom_core::telemetry::init(&config.log)?;
    let (listener, address) = listeners::bind(&config.server.host, config.server.port).await?;
    let older = match config.compatibility.enabled {
        true => Some(listeners::bind(&config.compatibility.host, config.compatibility.port).await?),
        false => None,
    };
    // With port 0 the system chose one, and links in mail must name it.
    let mut config = config;
    config.server.port = address.port();
    let opened = Opened::open(&folder, &config).await?;
    let room = opened.room.clone();
    let listening = std::iter::once(address).chain(older.iter().map(|(_, address)| *address));
    let elsewhere = listening.map(|address| address.ip()).find(|ip| !ip.is_loopback());
    if let Some(ip) = elsewhere
        && !room.identity.has_administrator().await?
    {
        return Err(Error::forbidden(format!(
            "{ip} can be reached from elsewhere and there is no administrator yet; start on 127.0.0.1 and set one up \
             first, or make a key with `opsroom create-api-key --name NAME --role administrator`"
        )));
    }
    room.identity.ensure_operator_key().await?;
    let socket = listeners::bind_socket(folder.path())?;
    if args.demo {
        demo::fill(&room, folder.path()).await?;
    }
    let server = Server::new(room.clone(), config.server.clone());
    // Services are connected to from the start, not from the first request on.
    let gateway = server.gateway()?;
    for pipe in config.pipes.clone() {
        let (served, egress, stop) =
            (pipe.served(gateway.clone()), room.egress.clone(), room.lifecycle.stopping());
        room.lifecycle.spawn("pipe", async move { pipe::run(&pipe.endpoint, served, &egress, stop).await });
    }
    let router = server.router();
    let mut others = Vec::new();
    if let Some((listener, address)) = older {
        let older = compat::router(&server, &config.compatibility.api_key)?;
        listeners::tcp(&room.lifecycle, listener, &server, older);
        others.push(format!("  Older       http://{address}\n"));
    }
    listeners::tcp(&room.lifecycle, listener, &server, router.clone());
    listeners::unix(&room.lifecycle, socket, &server, router);
    tracing::info!(http.address = %address, "listening");
    let base = match config.server.public_url.as_str() {
        "" => format!("http://{address}"),
        url => url.trim_end_matches('/').to_owned(),
    };
    folder.write_private(URL_FILE, base.as_bytes())?;
    // Before anybody is told that it runs, and may stop it.
    let signals = Signals::new()?;
    greet(&room, folder.path(), &base, &others, args.demo).await?;
    wait_for_end(&room, signals).await;
    tracing::info!("stopping");
    let closed = opened.close().await;
    // Another server's socket is not there: this process still holds the folder's lock.
    for name in ["opsroom.sock", URL_FILE] {
        let _gone_already = std::fs::remove_file(folder.path().join(name));
    }
    closed.map(|()| ExitCode::SUCCESS)
}

fn flags(args: &ServeArgs) -> Vec<Flag> {
    let flag =
        |name: &str, key: &str, text: String| Flag { name: name.to_owned(), key: key.to_owned(), text };
    let host = args.host.iter().map(|host| flag("--host", "server.host", host.clone()));
    let port = args.port.iter().map(|port| flag("--port", "server.port", port.to_string()));
    host.chain(port).collect()
}

/// What a person sees first. The setup link is printed to a terminal and never logged.
async fn greet(room: &Room, data_dir: &Path, base: &str, others: &[String], demo: bool) -> Result<()> {
    let program =
        std::env::current_exe().map_or_else(|_| "opsroom".to_owned(), |path| path.display().to_string());
    let mut text = format!("Opsroom {} listens on {base}\n\n", env!("CARGO_PKG_VERSION"));
    if !room.identity.has_administrator().await? {
        if demo || std::io::stdout().is_terminal() {
            let token = room.identity.new_setup_token().await?;
            text.push_str(&format!("  Set up      {base}/#setup={token}   (once, within 15 minutes)\n"));
        } else {
            text.push_str(&format!(
                "  Set up      {program} --data-dir {} setup-link prints a link for the administrator\n",
                data_dir.display()
            ));
        }
    }
    text.push_str(&format!("  Docs        {base}/docs   {base}/redoc\n"));
    others.iter().for_each(|line| text.push_str(line));
    text.push_str(&format!("  MCP         {base}/mcp\n"));
    text.push_str(&format!(
        "  Claude Code claude mcp add opsroom -- {program} --data-dir {} mcp\n",
        data_dir.display()
    ));
    if demo {
        text.push_str(&demo::hint(&program, data_dir));
    }
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the server runs all the same.
    let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(())
}

/// Until a signal, or until a task of the server failed. A second signal ends the process at once.
async fn wait_for_end(room: &Room, mut signals: Signals) {
    let stop = room.lifecycle.stopping();
    tokio::select! {
        () = signals.next() => {}
        () = stop.cancelled() => return,
    }
    room.lifecycle.stop();
    #[expect(
        clippy::disallowed_methods,
        reason = "it must not be waited for: it ends the process, or ends with it"
    )]
    drop(tokio::spawn(async move {
        signals.next().await;
        std::process::exit(130);
    }));
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
        let terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Speaks MCP on standard input and output.
pub async fn mcp(place: &Place) -> Result<ExitCode> {
    match backend(place).await? {
        Backend::Remote(client) => mcp::stdio::relay(client, &configured(place)?).await?,
        Backend::Local(opened) => {
            let served = mcp::stdio::serve(opened.room.clone(), &configured(place)?).await;
            opened.close().await?;
            served?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the server is configured, for what a command does without one.
fn configured(place: &Place) -> Result<crate::config::ServerConfig> {
    Ok(configuration(place, &data_dir(place)?, Vec::new())?.config.server)
}

/// Flags of `opsroom pipe`.
#[derive(clap::Args)]
pub struct PipeArgs {
    /// The WebSocket URL of the remote client, such as wss://example.com/mcp/?token=...
    #[arg(long, env = "MCP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    endpoint: String,
}

/// Serves a remote MCP client until a signal.
pub async fn pipe(place: &Place, args: PipeArgs) -> Result<ExitCode> {
    let endpoint = opsroom_core::Secret::new(args.endpoint);
    let mut signals = Signals::new()?;
    let stop = tokio_util::sync::CancellationToken::new();
    let backend = backend(place).await?;
    let folder = data_dir(place)?;
    let config = configuration(place, &folder, Vec::new())?.config;
    let egress = opsroom_core::egress::Egress::new(&config.egress)?;
    let served = match &backend {
        Backend::Remote(client) => Served::Server(client.clone()),
        Backend::Local(opened) => {
            let whom = (Caller::operator(Face::Mcp), View::All);
            Served::Here(mcp::gateway(&opened.room, &config.server)?, Box::new(whom))
        }
    };
    let ended = tokio::select! {
        ended = pipe::run(&endpoint, served, &egress, stop) => ended,
        () = signals.next() => Ok(()),
    };
    if let Backend::Local(opened) = backend {
        opened.close().await?;
    }
    ended.map(|()| ExitCode::SUCCESS)
}
