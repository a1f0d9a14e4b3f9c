//! The room: every capability wired to what they share, and the one way in.
//!
//! `Room::call` is what every face calls: authorise, validate, run, record. What is not `Read` is in the
//! audit trail before it is answered, whatever came of it; a `Read` is in the batched call record.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use opsroom_core::caller::Face;
use opsroom_core::capability::Status;
use opsroom_core::db::{Applied, DbConfig, Migration};
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::events::Events;
use opsroom_core::files::{DataDir, FilesConfig};
use opsroom_core::job::Started;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::metrics::{CallLabels, Metrics};
use opsroom_core::resolver::Resolver;
use opsroom_core::seal::{self, Sealer};
use opsroom_core::telemetry::known;
use opsroom_core::{Call, Caller, Capability, Check, Clock, Component, Effect, Error, Operation, Result};
use opsroom_gateway::Gateway;
use opsroom_gateway::config::GatewayConfig;
use opsroom_gateway::seam::{Calls, Finished, Shared};
use opsroom_gateway::world::World;
use serde_json::Value;
use tokio::sync::watch;
use tracing::Instrument;

use crate::alerts::{self, Alerts, AlertsConfig};
use crate::dashboards::{self, Dashboards, DashboardsConfig};
use crate::detection::learned::{DetectionConfig, Learned};
use crate::detection::{self, Detection};
use crate::health::Health;
use crate::identity::accounts::Accounts;
use crate::identity::accounts::config::AccountsConfig;
use crate::identity::cloud::Clouds;
use crate::identity::oauth::OAuth;
use crate::identity::oauth::config::OAuthConfig;
use crate::identity::oidc::Oidc;
use crate::identity::oidc::config::OidcConfig;
use crate::identity::{self, AuditConfig, AuditEntry, CallRecord, Identity};
use crate::jobs::{self, CallOperation, Jobs, JobsConfig, Rights, Running};
use crate::logs::{self, Logs, LogsConfig};
use crate::notifications::{self, Notifications, NotificationsConfig};
use crate::planning::config::PlanningConfig;
use crate::planning::{self, Planning};
use crate::secrets::config::SecretsConfig;
use crate::secrets::{self, Secrets};
use crate::services::{self, Services, ServicesConfig};
use crate::tools::{self, CallBuiltIn, RedisConfig, Tools};
use crate::validate::Inputs;

/// What a room is made of.
#[derive(Clone, Debug, Default)]
pub struct RoomConfig {
    /// Where keys, files and the embedded database are.
    pub data_dir: PathBuf,
    /// Where the database is.
    pub database: DbConfig,
    /// Which folders callers may name files in.
    pub files: FilesConfig,
    /// How jobs run.
    pub jobs: JobsConfig,
    /// Where requests to the outside may go.
    pub egress: EgressConfig,
    /// Where messages to people go.
    pub notifications: NotificationsConfig,
    /// How alerts are routed and kept.
    pub alerts: AlertsConfig,
    /// How dashboards are captured.
    pub dashboards: DashboardsConfig,
    /// Where metrics come from, and how plans are made.
    pub planning: PlanningConfig,
    /// Where the data of learned detection are.
    pub detection: DetectionConfig,
    /// MCP servers behind the gateway.
    pub gateway: GatewayConfig,
    /// Where references to secrets lead.
    pub secrets: Resolver,
    /// How secrets of our own are kept.
    pub kept_secrets: SecretsConfig,
    /// How services are run, and which may be.
    pub services: ServicesConfig,
    /// Where replicas share kept answers and limits.
    pub redis: RedisConfig,
    /// Our own program, which starts local services in a cage; without it they are started plainly.
    pub launcher: Option<PathBuf>,
    /// Log lines that are kept, and how they come in.
    pub logs: LogsConfig,
    /// Who may have an account.
    pub accounts: AccountsConfig,
    /// How clients connect by a login.
    pub oauth: OAuthConfig,
    /// How people log in with an account elsewhere.
    pub oidc: OidcConfig,
    /// How long records are kept.
    pub audit: AuditConfig,
    /// The URL by which people reach the server, for links in mail.
    pub public_url: String,
}

/// The room, open for calls.
pub struct Room {
    /// Who may do what, and what was done.
    pub identity: Identity,
    /// Clients that connect by a login.
    pub oauth: OAuth,
    /// People who log in with an account elsewhere.
    pub oidc: Oidc,
    /// Long work.
    pub jobs: Jobs,
    /// How the room is.
    pub health: Health,
    /// Messages to people.
    pub notifications: Notifications,
    /// Alerts: received, routed, answered.
    pub alerts: Alerts,
    /// Pictures of dashboards.
    pub dashboards: Dashboards,
    /// Metrics and plans.
    pub planning: Planning,
    /// MCP servers that are run, isolated and watched.
    pub services: Services,
    /// Every tool, built in or of a service.
    pub tools: Tools,
    /// What replicas share: kept answers and rate limits.
    pub shared: Arc<dyn Shared>,
    /// What the MCP gateway serves.
    pub world: watch::Sender<Arc<World>>,
    /// Log lines that are kept.
    pub logs: Logs,
    /// What happens.
    pub events: Events,
    /// Numbers about the server.
    pub metrics: Metrics,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// The way out.
    pub egress: Egress,
    /// The MCP gateway, once a face has made it.
    pub gateway: OnceLock<Gateway>,
    /// Where references to secrets lead.
    pub secrets: Resolver,
    /// Secrets of our own.
    pub kept_secrets: Secrets,
    /// The time.
    pub clock: Clock,
    /// The database.
    pub database: opsroom_core::db::Db,
    operations: Vec<Operation>,
    by_name: HashMap<&'static str, usize>,
    inputs: Inputs,
}

/// What a call gave.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The operation's answer.
    Done(Value),
    /// The job that goes on in the background.
    Started(Value),
}

impl Answer {
    /// The JSON of either.
    pub fn into_value(self) -> Value {
        match self {
            Answer::Done(value) | Answer::Started(value) => value,
        }
    }
}

/// Every capability's migrations, in the order in which they are made.
pub fn migrations() -> Vec<(&'static str, &'static [Migration])> {
    vec![
        ("identity", &identity::MIGRATIONS),
        ("jobs", &jobs::MIGRATIONS),
        ("notifications", &notifications::MIGRATIONS),
        ("logs", &logs::MIGRATIONS),
        ("planning", &planning::MIGRATIONS),
        ("services", &services::MIGRATIONS),
        ("tools", &tools::MIGRATIONS),
        ("detection", &detection::MIGRATIONS),
        ("seal", &seal::MIGRATIONS),
        ("secrets", &secrets::MIGRATIONS),
        ("alerts", &alerts::MIGRATIONS),
        ("dashboards", &dashboards::MIGRATIONS),
    ]
}

/// Opens the database and makes what is missing in it.
pub async fn migrate(config: &RoomConfig, clock: &Clock) -> Result<Vec<Applied>> {
    let database = config.database.open(&config.data_dir).await?;
    let applied = database.migrate(clock, &migrations()).await;
    database.close().await;
    applied
}

impl Room {
    /// Opens the database, makes what is missing in it, and wires the capabilities. Whoever opens a
    /// room on SQLite holds the data folder's lock.
    pub async fn open(config: &RoomConfig, clock: Clock, lifecycle: Lifecycle) -> Result<Arc<Room>> {
        let database = config.database.open(&config.data_dir).await?;
        // Before anything is put in it: an empty folder can still be closed to others.
        DataDir::open(&config.data_dir)?;
        database.migrate(&clock, &migrations()).await?;
        let events = Events::new(clock.clone());
        let metrics = Metrics::default();
        let roots = config.files.open(&config.data_dir)?;
        let jobs = Jobs::open(
            database.clone(),
            clock.clone(),
            lifecycle.clone(),
            events.clone(),
            metrics.clone(),
            config.jobs.clone(),
        )?;
        let egress = Egress::new(&config.egress)?;
        let logs = Logs::open(
            roots.clone(),
            &config.data_dir,
            database.clone(),
            clock.clone(),
            &lifecycle,
            &config.logs,
        )
        .await?
        .with_sources(&config.data_dir, database.clone(), egress.clone(), config.secrets.clone())
        .with_events(events.clone());
        logs::push::syslog::start(&logs, &lifecycle, &config.logs.syslog).await?;
        let notifications = Notifications::open(
            database.clone(),
            clock.clone(),
            lifecycle.clone(),
            egress.clone(),
            config.notifications.clone(),
        )?;
        let way_out = egress.clone();
        let sealing = config.kept_secrets.master_key.clone();
        let sealer = Sealer::new(database.clone(), clock.clone(), egress.clone(), sealing, &config.data_dir);
        let identity = Identity::open_with(
            database.clone(),
            clock.clone(),
            lifecycle.clone(),
            &config.data_dir,
            config.accounts.clone(),
            config.audit.clone(),
        )
        .await?
        .with_files(roots.clone());
        let accounts = Accounts::new(
            identity.clone(),
            sealer.clone(),
            notifications.clone(),
            config.accounts.clone(),
            &config.public_url,
        );
        let oauth = OAuth::new(identity.clone(), egress.clone(), config.oauth.clone(), &config.public_url);
        let oidc = Oidc::new(
            accounts.clone(),
            config.secrets.clone(),
            &config.egress,
            config.oidc.clone(),
            &config.public_url,
        )?;
        let clouds = Clouds::open(identity.clone(), sealer.clone(), egress.clone(), &config.secrets);
        let mailer = sealer.clone();
        let alerts = Alerts::open(alerts::Parts {
            db: database.clone(),
            clock: clock.clone(),
            events: events.clone(),
            lifecycle: lifecycle.clone(),
            notifications: notifications.clone(),
            sealer: sealer.clone(),
            config: config.alerts.clone(),
            public_url: config.public_url.clone(),
        })?;
        notifications.set_sealer(sealer.clone());
        alerts.take_in_what_is_raised();
        let dashboards = Dashboards::open(dashboards::Parts {
            db: database.clone(),
            clock: clock.clone(),
            events: events.clone(),
            lifecycle: lifecycle.clone(),
            egress: egress.clone(),
            secrets: config.secrets.clone(),
            data_dir: config.data_dir.clone(),
            config: config.dashboards.clone(),
        })?;
        let planning = Planning::open(
            database.clone(),
            clock.clone(),
            events.clone(),
            notifications.clone(),
            egress.clone(),
            config.planning.clone(),
        )?;
        let services = Services::open(services::Parts {
            db: database.clone(),
            clock: clock.clone(),
            lifecycle: lifecycle.clone(),
            events: events.clone(),
            egress: egress.clone(),
            secrets: config.secrets.clone(),
            sealer: sealer.clone(),
            public_url: config.public_url.clone(),
            data_dir: config.data_dir.clone(),
            launcher: config.launcher.clone(),
            config: config.services.clone(),
        })?;
        let logs = logs.with_services(services.clone(), &config.logs.containers);
        let configured = config.gateway.upstreams();
        let refresh = Duration::from_secs(config.gateway.refresh_seconds);
        let world = World { upstreams: configured.clone(), refresh, ..World::default() };
        let world = watch::channel(Arc::new(world)).0;
        let tools = Tools::open(tools::Parts {
            db: database.clone(),
            clock: clock.clone(),
            lifecycle: lifecycle.clone(),
            events: events.clone(),
            services: services.clone(),
            world: world.clone(),
            configured,
        });
        let kept_secrets = Secrets::open(secrets::Parts {
            db: database.clone(),
            clock: clock.clone(),
            lifecycle: lifecycle.clone(),
            events: events.clone(),
            egress: egress.clone(),
            sealer,
            identity: identity.clone(),
            resolver: config.secrets.clone(),
            config: config.kept_secrets.clone(),
            others: vec![
                accounts.resealing(),
                clouds.resealing(),
                notifications.resealing(mailer.clone()),
                alerts.resealing(),
                services.resealing(),
            ],
        });
        let mut identity_capability = identity.capability();
        identity_capability.operations.extend(accounts.operations());
        identity_capability.operations.extend(oauth.operations());
        identity_capability.operations.extend(oidc.operations());
        identity_capability.operations.extend(clouds.operations());
        let mut capabilities = vec![
            identity_capability,
            kept_secrets.capability(),
            jobs.capability(),
            logs.capability(),
            Detection::new(roots.clone())
                .with_logs(logs.clone())
                .learning(
                    Learned::new(
                        roots,
                        config.detection.clone(),
                        &config.data_dir,
                        database.clone(),
                        clock.clone(),
                    )
                    .with_jobs(jobs.clone()),
                )
                .capability(),
            notifications.capability(),
            alerts.capability(),
            dashboards.capability(),
            planning.capability(),
            services.capability(),
            tools.capability(),
        ];
        let health = health(&clock, &database, &config.data_dir, &capabilities);
        capabilities.push(health.capability());

        let operations: Vec<Operation> =
            capabilities.into_iter().flat_map(|capability| capability.operations).collect();
        let by_name = operations.iter().enumerate().map(|(at, operation)| (operation.name, at)).collect();
        let inputs = Inputs::new(&operations);
        let room = Arc::new(Room {
            identity,
            oauth,
            oidc,
            jobs,
            health,
            notifications,
            alerts,
            dashboards,
            planning,
            services,
            tools,
            world,
            logs,
            events,
            metrics,
            lifecycle,
            egress: way_out,
            gateway: OnceLock::new(),
            shared: config.redis.shared()?,
            secrets: config.secrets.clone(),
            kept_secrets,
            clock,
            database,
            operations,
            by_name,
            inputs,
        });
        room.notifications.start_mail(mailer);
        room.start().await?;
        Ok(room)
    }

    /// Every operation, by capability.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of that name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.by_name.get(name).map(|at| &self.operations[*at])
    }

    /// The operations that this caller may call.
    pub fn visible<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Operation> {
        self.operations.iter().filter(move |operation| caller.may(operation))
    }

    /// Calls an operation: the one way in, for every face.
    ///
    /// What changes something goes on to its end and to its record when the one who asked goes away.
    pub async fn call(self: &Arc<Self>, name: &str, call: Call, input: Value) -> Result<Answer> {
        let operation = self.operation(name).ok_or_else(|| {
            Error::not_found(format!(
                "there is no operation {name:?}; `list_tools` or /openapi.json has their names"
            ))
        })?;
        let span = tracing::info_span!("call", operation = operation.name, face = call.caller.face.as_str());
        if operation.effect == Effect::Read || operation.open {
            return self.call_recorded(operation, call, input).instrument(span).await;
        }
        let (room, operation) = (self.clone(), operation.clone());
        let work = async move { room.call_audited(&operation, call, input).await };
        self.lifecycle.spawn_work(work.instrument(span)).await
    }

    /// A look, or an open operation, which keeps its own records: in the call record.
    async fn call_recorded(&self, operation: &Operation, call: Call, input: Value) -> Result<Answer> {
        let (begun, caller) = (Instant::now(), call.caller.clone());
        let request_id = caller.request_id.as_deref();
        let answer = self.run(operation, call, input, None).await;
        let took = begun.elapsed();
        self.count(operation, &caller, &answer, took);
        let (operation, error) = (operation.name, answer.as_ref().err());
        self.identity.record_call(&CallRecord { caller: &caller, operation, error, took, request_id });
        answer
    }

    /// In the audit trail before the answer, whatever came of it.
    async fn call_audited(&self, operation: &Operation, call: Call, input: Value) -> Result<Answer> {
        let (begun, caller) = (Instant::now(), call.caller.clone());
        let entry = AuditEntry::started(&caller, &self.with_nested(operation, &input), &input);
        let entry = self.identity.begin_audit(entry).await?;
        let answer = self.run(operation, call, input, Some(&entry)).await;
        self.count(operation, &caller, &answer, begun.elapsed());
        let entry = match &answer {
            Ok(Answer::Started(job)) => entry.job(job["job_id"].as_str().unwrap_or_default()),
            other => entry.ended(other),
        };
        // What cannot be recorded is not answered as done.
        self.identity.audit(entry).await?;
        answer
    }

    /// The operation, with the schema of the one that its input is for in the place of a field that is the
    /// input of another: so its secrets are known when the call is recorded. Of one that there is not,
    /// everything may be secret.
    fn with_nested<'a>(&self, operation: &'a Operation, input: &Value) -> Cow<'a, Operation> {
        let nested = operation.fields().find_map(|(name, schema)| {
            Some((name.clone(), schema.get(jobs::INPUT_OF)?.as_str()?.to_owned()))
        });
        let Some((name, names_it)) = nested else { return Cow::Borrowed(operation) };
        let other = input.get(names_it).and_then(Value::as_str).and_then(|other| self.operation(other));
        let mut schema = operation.input().clone();
        schema["properties"][name] =
            other.map_or_else(|| serde_json::json!({ "writeOnly": true }), |other| other.input().clone());
        Cow::Owned(operation.clone().with_input(schema))
    }

    /// A call of a tool of a service behind the gateway ended: it is counted.
    pub fn proxied(&self, call: &Finished<'_>) {
        let labels = CallLabels {
            operation: "tools/call",
            face: call.caller.face.as_str(),
            outcome: call.outcome.as_str(),
        };
        self.metrics.count(labels, call.took);
        self.tools.finished(call);
        if call.challenge.is_some() {
            self.services.challenged(call.service, call.challenge);
        }
    }

    fn count(&self, operation: &Operation, caller: &Caller, answer: &Result<Answer>, took: Duration) {
        let outcome = match answer {
            Ok(Answer::Done(_)) => "ok",
            Ok(Answer::Started(_)) => "started",
            Err(error) => error.kind.as_str(),
        };
        let labels = CallLabels { operation: operation.name, face: caller.face.as_str(), outcome };
        self.metrics.count(labels, took);
    }

    async fn run(
        &self,
        operation: &Operation,
        call: Call,
        input: Value,
        entry: Option<&AuditEntry>,
    ) -> Result<Answer> {
        call.caller.authorise(operation)?;
        self.may_reveal(operation, &call.caller, &input).await?;
        let (input, background) = self.inputs.check(operation, input)?;
        authorise_resource(&call.caller, operation, &input)?;
        let repeats = REPEATERS.contains(&operation.capability);
        let shown = |mut answer: Value| {
            if repeats {
                hide_known(&mut answer);
            }
            Answer::Done(answer)
        };
        if !operation.long {
            return operation.run(call, input).await.map(shown);
        }
        let running = self.jobs.start(operation, call, input).await?;
        if !background {
            return running.result.await.map(shown);
        }
        let started = match entry {
            None => running.detach(),
            Some(entry) => self.audit_when_done(entry.clone(), running),
        };
        Ok(Answer::Started(serde_json::to_value(started).map_err(Error::internal)?))
    }

    /// What shows a secret is withheld from models, unless a person granted exactly that, and from schedules,
    /// whose answers are kept.
    async fn may_reveal(&self, operation: &Operation, caller: &Caller, input: &Value) -> Result<()> {
        if operation.effect != Effect::Reveal {
            return Ok(());
        }
        match caller.face {
            Face::Rest | Face::Cli => Ok(()),
            Face::Mcp if operation.name == GRANTED && self.kept_secrets.is_granted(caller, input).await? => {
                Ok(())
            }
            Face::Mcp => Err(Error::forbidden(format!(
                "{} shows a secret, which is withheld over MCP; a person can call it in the terminal, over REST or in the console",
                operation.name
            ))),
            Face::Schedule => Err(Error::forbidden(format!(
                "{} shows a secret, and no schedule may call it, because its answers are kept",
                operation.name
            ))),
        }
    }

    /// A background job that changes something leaves a second record when it ends.
    fn audit_when_done(&self, entry: AuditEntry, running: Running) -> Started {
        let identity = self.identity.clone();
        let started = running.detach();
        let work = async move {
            let id = running.id.clone();
            let result = running.result.await;
            identity.audit(entry.job(&id).ended(&result)).await
        };
        // The record is written whether anybody waits for it or not.
        drop(self.lifecycle.spawn_work(work));
        started
    }

    async fn start(self: &Arc<Self>) -> Result<()> {
        self.identity.recover_audit().await?;
        self.jobs.recover().await?;
        self.jobs.set_operations(self.operations.clone());
        self.identity.set_operations(self.operations.clone());
        self.jobs.start_upkeep();
        self.notifications.start();
        self.alerts.start();
        self.dashboards.start();
        self.kept_secrets.start();
        self.planning.start(&self.lifecycle);
        self.identity.start_sinks(&self.egress);
        self.services.start();
        self.tools.start();
        let weak = Arc::downgrade(self);
        let call: CallBuiltIn = Arc::new(move |call, name, input| {
            let room = weak.upgrade();
            Box::pin(async move {
                let room = room.ok_or_else(|| Error::unavailable("the server is stopping"))?;
                room.call(&name, call, input).await.map(Answer::into_value)
            })
        });
        self.tools.set_builtin(self.operations.clone(), call);
        let weak = Arc::downgrade(self);
        let call: CallOperation = Arc::new(move |caller, name, input| {
            let room = weak.upgrade();
            Box::pin(async move {
                let room = room.ok_or_else(|| Error::unavailable("the server is stopping"))?;
                room.call(&name, Call::new(caller), input).await.map(Answer::into_value)
            })
        });
        let identity = self.identity.clone();
        let rights: Rights = Arc::new(move |subject| {
            let caller = identity.caller_of(subject, Face::Schedule);
            Box::pin(std::future::ready(caller))
        });
        self.alerts.set_call(call.clone());
        self.logs.batches()?.start(call.clone(), rights.clone()).await?;
        self.jobs.start_scheduler(call, rights);
        Ok(())
    }
}

/// What a person can let a model be shown.
const GRANTED: &str = "get_secret";

/// Capabilities that repeat texts from elsewhere, in which a secret of ours may stand.
const REPEATERS: [&str; 6] = ["logs", "detection", "jobs", "notifications", "alerts", "dashboards"];

/// Hides the values of known secrets wherever the answer has them.
fn hide_known(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(hidden) = known::redact(text) {
                *text = hidden;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_known),
        Value::Object(fields) => fields.values_mut().for_each(hide_known),
        _ => {}
    }
}

/// Holds the resource that the input names against the caller's scopes, after the input is known to be
/// well formed. An operation on several resources does that itself.
fn authorise_resource(caller: &Caller, operation: &Operation, input: &Value) -> Result<()> {
    let Some(field) = operation.resource.filter(|field| !field.is_empty() && !operation.open) else {
        return Ok(());
    };
    let (capability, name) = (operation.capability, operation.name);
    // A name that is left out is no resource's, so that a part of an operation does not cover it.
    let resource = input.get(field).and_then(Value::as_str).unwrap_or_default();
    caller.authorise_resource(capability, name, operation.effect, operation.role, resource)
}

fn health(
    clock: &Clock,
    database: &opsroom_core::db::Db,
    data_dir: &Path,
    capabilities: &[Capability],
) -> Health {
    let kind = database.dialect().as_str();
    let pinged = database.clone();
    let folder = data_dir.to_owned();
    let mut checks = vec![
        Check {
            name: "database",
            critical: true,
            run: Arc::new(move || {
                let database = pinged.clone();
                Box::pin(async move {
                    match database.ping().await {
                        Ok(()) => healthy(format!("{kind} answers")),
                        Err(error) => Component { status: Status::Unhealthy, message: error.message },
                    }
                })
            }),
        },
        Check {
            name: "data_folder",
            critical: false,
            run: Arc::new(move || {
                let folder = folder.clone();
                Box::pin(async move { data_folder(&folder) })
            }),
        },
    ];
    checks.extend(capabilities.iter().flat_map(|capability| capability.checks.iter().cloned()));
    let names = capabilities.iter().map(|capability| capability.name).chain(["health"]).collect();
    let operations = capabilities.iter().map(|capability| capability.operations.len()).sum();
    Health::new(clock.clone(), kind, checks, names, operations)
}

fn healthy(message: String) -> Component {
    Component { status: Status::Healthy, message }
}

/// Degraded when less than 256 MiB are free: the database is about to fail.
fn data_folder(folder: &Path) -> Component {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
            let status = if free < 256 { Status::Degraded } else { Status::Healthy };
            Component { status, message: format!("{free} MiB free") }
        }
        Err(error) => Component { status: Status::Unhealthy, message: format!("cannot be read: {error}") },
    }
}
