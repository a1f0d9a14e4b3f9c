//! Looks after one service: connects, reads its lists, hears of changes, and starts again when it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::call::{Call, Event, Notice, Trouble};
use super::probe::{Greeting, connect, own_meta};
use super::{Connection, Link, lists};
use crate::catalogue::{Era, Health, Service};
use crate::message::{Members, raw};

/// How long one reading of the lists may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest and the longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A connection that lasted so long was a good one: the pauses begin again from the shortest.
const GOOD: Duration = Duration::from_secs(30);

/// Which list changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list` and its templates.
    Resources,
}

impl List {
    /// Every list.
    pub const ALL: [List; 3] = [List::Tools, List::Prompts, List::Resources];

    /// The notification of its change.
    pub fn method(self) -> &'static str {
        match self {
            List::Tools => "notifications/tools/list_changed",
            List::Prompts => "notifications/prompts/list_changed",
            List::Resources => "notifications/resources/list_changed",
        }
    }

    fn of(method: &str) -> Option<Self> {
        List::ALL.into_iter().find(|list| list.method() == method)
    }
}

/// What the watcher tells of its service.
pub struct Update {
    /// The service as it is now.
    pub service: Service,
    /// The lists that the service said had changed.
    pub changed: Vec<List>,
}

/// Looks after a service until it is taken out or the process stops.
pub async fn run(link: Arc<Link>, updates: mpsc::Sender<Update>) {
    let mut service = Service::unknown(&link.upstream.name, &link.upstream.team);
    let stopping = link.means.lifecycle.stopping();
    let work = async {
        let mut pause = PAUSES.0;
        loop {
            let (begun, held) = (Instant::now(), CancellationToken::new());
            // What the connection holds open (a child, a stream) ends with it.
            let _ends = held.clone().drop_guard();
            let trouble = follow(&link, &held, &mut service, &updates).await;
            link.set(None, Some(trouble.to_string()));
            let since = match &service.health {
                Health::Unreachable { since, .. } => *since,
                _ => link.now(),
            };
            tracing::warn!(service = link.upstream.name, error = %trouble, "a service is not reached");
            service.health = Health::Unreachable { since, error: trouble.to_string() };
            if updates.send(Update { service: service.clone(), changed: Vec::new() }).await.is_err() {
                return;
            }
            pause = if begun.elapsed() > GOOD { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Somebody wants it now; but not more often than this.
                () = async { tokio::time::sleep(PAUSES.0 * 4).await; link.wake.notified().await } => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = link.stop.cancelled() => {}
        () = stopping.cancelled() => {}
    }
}

/// Connects and follows until something is wrong.
async fn follow(
    link: &Arc<Link>,
    held: &CancellationToken,
    service: &mut Service,
    updates: &mpsc::Sender<Update>,
) -> Trouble {
    let (connection, greeting) = match connect(link, held).await {
        Ok(connected) => connected,
        Err(trouble) => return trouble,
    };
    let (changes, mut heard) = mpsc::channel(16);
    let listening = listen(&connection, &greeting, changes);
    tokio::pin!(listening);
    greet(service, &connection, &greeting);
    let mut changed: Vec<List> = Vec::new();
    let mut lists: &[List] = &List::ALL;
    let mut first = true;
    loop {
        match tokio::time::timeout(PATIENCE, read(&connection, service, lists)).await {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => return trouble,
            Err(_) => return Trouble::Late(PATIENCE),
        }
        service.health = Health::Reachable;
        service.listed_at = Some(link.now());
        let told = Update { service: service.clone(), changed: std::mem::take(&mut changed) };
        if updates.send(told).await.is_err() {
            return Trouble::garbled("the gateway stopped");
        }
        if std::mem::take(&mut first) {
            link.set(Some(connection.clone()), None);
        }
        let gone = async {
            match &connection {
                Connection::Duplex(duplex, _) => duplex.ended.cancelled().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut listening => return Trouble::Unreachable { begun: false, what: "its stream ended".to_owned() },
            () = gone => return Trouble::Unreachable { begun: false, what: "it ended".to_owned() },
            Some(list) = heard.recv() => {
                changed.push(list);
                // What comes at once is read at once.
                while let Ok(list) = heard.try_recv() {
                    changed.push(list);
                }
                lists = match changed[..] {
                    [List::Tools] => &[List::Tools],
                    [List::Prompts] => &[List::Prompts],
                    [List::Resources] => &[List::Resources],
                    _ => &List::ALL,
                };
            }
            () = link.wake.notified() => lists = &List::ALL,
            () = tokio::time::sleep(link.means.refresh) => lists = &List::ALL,
        }
    }
}

/// The texts of a JSON value, without its escapes.
fn plain(value: &serde_json::value::RawValue) -> String {
    serde_json::from_str::<serde_json::Value>(value.get()).map_or_else(|_| String::new(), texts)
}

fn texts(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(items) => items.into_iter().map(texts).collect(),
        serde_json::Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| name + &texts(value)).collect()
        }
        _ => String::new(),
    }
}

fn greet(service: &mut Service, connection: &Connection, greeting: &Greeting) {
    service.era = Some(connection.era());
    service.version.clone_from(&greeting.version);
    // What an agent would read and a person does not see is not passed on.
    service.info = greeting.info.clone().filter(|info| lists::seen(&plain(info)).is_some()).map(Arc::from);
    service.instructions = greeting.instructions.clone().filter(|text| lists::seen(text).is_some());
    service.capabilities = greeting.capabilities.clone().map(Arc::from);
}

async fn read(connection: &Connection, service: &mut Service, wanted: &[List]) -> Result<(), Trouble> {
    let capabilities = service.capabilities.clone();
    let members = capabilities.as_deref().and_then(Members::of);
    let has = |name: &str| members.as_ref().is_none_or(|members| members.get(name).is_some());
    for list in wanted {
        match list {
            List::Tools if has("tools") => {
                let items = lists::items(connection, "tools/list", "tools").await?;
                let (tools, left_out) = lists::tools(connection.era(), items);
                if left_out != service.left_out {
                    for (tool, why) in &left_out {
                        tracing::warn!(service = service.name, tool, why, "a tool of a service is left out");
                    }
                }
                (service.tools, service.left_out) = (tools, left_out);
            }
            List::Prompts if has("prompts") => {
                let items = lists::items(connection, "prompts/list", "prompts").await?;
                service.prompts = lists::entries("name", items);
            }
            List::Resources if has("resources") => {
                let items = lists::items(connection, "resources/list", "resources").await?;
                service.resources = lists::entries("uri", items);
                let items = lists::items(connection, "resources/templates/list", "resourceTemplates").await?;
                service.templates = lists::entries("uriTemplate", items);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Hears of changes for as long as the connection lasts.
async fn listen(connection: &Connection, greeting: &Greeting, changes: mpsc::Sender<List>) {
    let capabilities = greeting.capabilities.as_deref().and_then(Members::of).unwrap_or_default();
    let told = |name: &str| {
        let part = capabilities.get(name).and_then(Members::of);
        part.is_some_and(|part| part.get("listChanged").is_some_and(|value| value.get() == "true"))
    };
    let filter = json!({
        "toolsListChanged": told("tools"),
        "promptsListChanged": told("prompts"),
        "resourcesListChanged": told("resources"),
    });
    let any = told("tools") || told("prompts") || told("resources");
    let connection = connection.clone();
    match &connection {
        Connection::Modern(_) if any => streams(&connection, &filter, &changes).await,
        Connection::Modern(_) => std::future::pending().await,
        Connection::Legacy(legacy) => {
            let Ok(session) = legacy.session(&super::call::Owner::gateway()).await else { return };
            let notices = session.notices.subscribe();
            // A session that is kept here would never end.
            drop(session);
            forward(notices, &changes).await;
        }
        Connection::Duplex(duplex, era) => {
            let notices = duplex.notices.subscribe();
            if *era == Era::Modern && any {
                let asked = streams(&connection, &filter, &changes);
                tokio::select! {
                    () = forward(notices, &changes) => {}
                    () = asked => {}
                }
            } else {
                forward(notices, &changes).await;
            }
        }
    }
}

/// Keeps a `subscriptions/listen` open, which a service may end at any time.
async fn streams(connection: &Connection, filter: &serde_json::Value, changes: &mpsc::Sender<List>) {
    loop {
        let (events, mut heard) = mpsc::channel(16);
        let params = raw(&json!({ "_meta": own_meta(), "notifications": filter }));
        let call = Call::own("subscriptions/listen", params);
        let id = raw(&json!("watch"));
        let asked = connection.call(&call, &id, &events);
        let hear = async {
            while let Some(event) = heard.recv().await {
                if let Event::Notice(notice) = event {
                    hear(&notice, changes).await;
                }
            }
        };
        tokio::select! {
            _ended = asked => {}
            () = hear => {}
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn forward(mut notices: broadcast::Receiver<Arc<Notice>>, changes: &mpsc::Sender<List>) {
    loop {
        match notices.recv().await {
            Ok(notice) => hear(&notice, changes).await,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                for list in List::ALL {
                    let _full = changes.try_send(list);
                }
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn hear(notice: &Notice, changes: &mpsc::Sender<List>) {
    if let Some(list) = List::of(&notice.method) {
        let _stopped = changes.send(list).await;
    }
}
