//! What clients hear of without asking again: lists that changed, resources that changed.
//!
//! A client of 2026-07-28 opens `subscriptions/listen`; a legacy client has its session's stream and
//! `resources/subscribe`. Either may be of a service of either era.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::catalogue::Era;
use crate::client::{Answer, Client, Out};
use crate::gateway::{Change, Inner};
use crate::message::{self, Members, raw, raw_text};
use crate::routes::{Served, View};
use crate::session::{MOST_SUBSCRIPTIONS, Session};
use crate::upstream::Connection;
use crate::upstream::call::{Call, Event, Notice, Owner, Reply, Trouble};
use crate::upstream::modern::VERSION;
use crate::upstream::watch::List;

/// The notification that a resource changed.
const UPDATED: &str = "notifications/resources/updated";
/// The most resources of one `subscriptions/listen`.
const MOST_RESOURCES: usize = 256;

/// Whether a change is any business of an endpoint.
pub fn concerns(gateway: &Inner, client: &Client, change: &Change) -> bool {
    match (&client.view, &change.service) {
        (View::Service(name), Some(service)) => **name == **service,
        (View::Profile(_), _) if change.list != List::Tools => false,
        (_, Some(service)) => {
            let routes = gateway.routes.borrow();
            routes.service(service).is_some_and(|served| served.is_of(&client.caller))
        }
        (_, None) => true,
    }
}

/// `subscriptions/listen`: until the client goes away or the server stops.
pub async fn serve(
    gateway: &Arc<Inner>,
    client: &Client,
    id: &RawValue,
    params: Option<&RawValue>,
    out: &Out,
) -> Answer {
    let wanted =
        params.and_then(Members::of).and_then(|members| Some(members.get("notifications")?.to_owned()));
    let Some(wanted) = wanted.as_deref().and_then(Members::of) else {
        return Answer::error(
            id,
            message::INVALID_PARAMS,
            "params.notifications, what is listened for, is missing",
        );
    };
    let yes = |name: &str| wanted.get(name).is_some_and(|value| value.get() == "true");
    let lists: Vec<List> = [
        (List::Tools, "toolsListChanged"),
        (List::Prompts, "promptsListChanged"),
        (List::Resources, "resourcesListChanged"),
    ]
    .into_iter()
    .filter(|(list, name)| yes(name) && (*list == List::Tools || !matches!(client.view, View::Profile(_))))
    .map(|(list, _)| list)
    .collect();
    let uris: Vec<String> = wanted
        .get("resourceSubscriptions")
        .and_then(|uris| serde_json::from_str(uris.get()).ok())
        .unwrap_or_default();
    if uris.len() > MOST_RESOURCES {
        let text = format!("more than {MOST_RESOURCES} resources are listened for at once");
        return Answer::error(id, message::INVALID_PARAMS, &text);
    }
    // What changes from now on is told, whatever comes first.
    let mut changes = gateway.changes.subscribe();
    let (updates, mut updated) = mpsc::channel(32);
    let mut followed = FuturesUnordered::new();
    let mut accepted = Vec::new();
    for uri in uris {
        let routes = gateway.routes.borrow().clone();
        let served = routes.sight(&client.view, &client.caller).and_then(|sight| sight.resource(&uri));
        if let Some(served) = served {
            accepted.push(uri.clone());
            followed.push(follow(served, client.owner(), uri, updates.clone(), None));
        }
    }
    acknowledge(id, &lists, &accepted, out).await;
    let stop = gateway.lifecycle.stopping();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) if lists.contains(&change.list) && concerns(gateway, client, &change) => {
                    tell(id, change.list.method(), None, out).await;
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    for list in &lists {
                        tell(id, list.method(), None, out).await;
                    }
                }
                Err(broadcast::error::RecvError::Closed) => break,
            },
            Some(notice) = updated.recv() => {
                let notice: Notice = notice;
                tell(id, UPDATED, notice.params.as_deref(), out).await;
            }
            Some(_ended) = followed.next(), if !followed.is_empty() => {}
            () = client.cancel.cancelled() => break,
            () = stop.cancelled() => break,
        }
    }
    let mut meta = Members::default();
    meta.set("io.modelcontextprotocol/subscriptionId", id.to_owned());
    let mut result = Members::default();
    result.set("resultType", raw_text("complete"));
    result.set("_meta", meta.to_raw());
    Answer::result(id, &result.to_raw())
}

async fn acknowledge(id: &RawValue, lists: &[List], uris: &[String], out: &Out) {
    let mut filter = serde_json::Map::new();
    for list in lists {
        let name = match list {
            List::Tools => "toolsListChanged",
            List::Prompts => "promptsListChanged",
            List::Resources => "resourcesListChanged",
        };
        filter.insert(name.to_owned(), json!(true));
    }
    if !uris.is_empty() {
        filter.insert("resourceSubscriptions".to_owned(), json!(uris));
    }
    let params = raw(&json!({ "notifications": filter }));
    tell(id, "notifications/subscriptions/acknowledged", Some(&params), out).await;
}

/// Tells something on the stream of the request with this id.
async fn tell(id: &RawValue, method: &str, params: Option<&RawValue>, out: &Out) {
    let mut members = params.and_then(Members::of).unwrap_or_default();
    let given = members.get("_meta").map(ToOwned::to_owned);
    let mut meta = given.as_deref().and_then(Members::of).unwrap_or_default();
    meta.set("io.modelcontextprotocol/subscriptionId", id.to_owned());
    let meta = meta.to_raw();
    members.set("_meta", meta);
    out.send(message::request(None, method, Some(&members.to_raw()))).await;
}

/// Follows a resource for as long as it can be. `begun` is told when the service has agreed.
async fn follow(
    served: Arc<Served>,
    owner: Owner,
    uri: String,
    updates: mpsc::Sender<Notice>,
    begun: Option<oneshot::Sender<Result<(), Trouble>>>,
) -> Result<(), Trouble> {
    let mut begun = begun;
    let mut agreed = |result: Result<(), Trouble>| {
        if let Some(begun) = begun.take() {
            // Whoever waited may have gone.
            let _gone = begun.send(result);
        }
    };
    let connection = match served.link.connection(served.link.upstream.deadline).await {
        Ok(connection) => connection,
        Err(trouble) => {
            agreed(Err(trouble));
            return Ok(());
        }
    };
    let params = raw(&json!({ "uri": uri }));
    let notices = match &connection {
        Connection::Legacy(legacy) => legacy.session(&owner).await?.notices.subscribe(),
        Connection::Duplex(duplex, Era::Legacy) => duplex.notices.subscribe(),
        _ => {
            agreed(Ok(()));
            return follow_modern(&connection, owner, &uri, &updates).await;
        }
    };
    let call = Call { owner, ..Call::own("resources/subscribe", params) };
    match connection.ask(&call, &raw(&json!(0))).await {
        Ok(Reply::Result(_)) => agreed(Ok(())),
        Ok(Reply::Error(_)) => {
            agreed(Err(Trouble::garbled("it refuses the subscription")));
            return Ok(());
        }
        Err(trouble) => {
            agreed(Err(trouble));
            return Ok(());
        }
    }
    hear(notices, &uri, &updates).await;
    Ok(())
}

async fn follow_modern(
    connection: &Connection,
    owner: Owner,
    uri: &str,
    updates: &mpsc::Sender<Notice>,
) -> Result<(), Trouble> {
    let params = raw(&json!({
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": { "name": "opsroom", "version": env!("CARGO_PKG_VERSION") },
            "io.modelcontextprotocol/clientCapabilities": {},
        },
        "notifications": { "resourceSubscriptions": [uri] },
    }));
    let (events, mut heard) = mpsc::channel(16);
    let call = Call { owner, ..Call::own("subscriptions/listen", params) };
    let id = raw(&json!(format!("listen-{}", opsroom_core::id::new_id())));
    let hear_of_streams = async {
        match connection {
            Connection::Duplex(duplex, _) => hear(duplex.notices.subscribe(), uri, updates).await,
            _ => std::future::pending().await,
        }
    };
    let asked = connection.call(&call, &id, &events);
    let forward = async {
        while let Some(event) = heard.recv().await {
            if let Event::Notice(notice) = event
                && notice.method == UPDATED
                && updates.send(notice).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        ended = asked => ended.map(drop),
        () = forward => Ok(()),
        () = hear_of_streams => Ok(()),
    }
}

async fn hear(mut notices: broadcast::Receiver<Arc<Notice>>, uri: &str, updates: &mpsc::Sender<Notice>) {
    loop {
        match notices.recv().await {
            Ok(notice) if notice.method == UPDATED => {
                let members = notice.params.as_deref().and_then(Members::of);
                let this = members.is_some_and(|members| members.text("uri").as_deref() == Some(uri));
                if this && updates.send((*notice).clone()).await.is_err() {
                    return;
                }
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Begins to follow a resource for a legacy client's session.
///
/// # Errors
/// The words for the client.
pub async fn subscribe(
    gateway: &Arc<Inner>,
    client: &Client,
    session: &Arc<Session>,
    served: &Arc<Served>,
    uri: &str,
    patience: Duration,
) -> Result<(), String> {
    let cancel = CancellationToken::new();
    {
        let mut all = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_SUBSCRIPTIONS && !all.contains_key(uri) {
            return Err(format!("a session follows at most {MOST_SUBSCRIPTIONS} resources"));
        }
        if let Some(before) = all.insert(uri.to_owned(), cancel.clone()) {
            before.cancel();
        }
    }
    let (updates, mut updated) = mpsc::channel::<Notice>(32);
    let (begun, agreed) = oneshot::channel();
    let following = follow(served.clone(), client.owner(), uri.to_owned(), updates, Some(begun));
    let weak = Arc::downgrade(session);
    let stop = gateway.lifecycle.stopping();
    let work = async move {
        let forward = async {
            while let Some(notice) = updated.recv().await {
                let Some(session) = weak.upgrade() else { return };
                session.push(message::request(None, &notice.method, notice.params.as_deref()));
            }
        };
        tokio::select! {
            _ended = following => {}
            () = forward => {}
            () = cancel.cancelled() => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    };
    drop(gateway.lifecycle.spawn_work(work));
    let name = &served.service.name;
    match tokio::time::timeout(patience, agreed).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(trouble))) => {
            unsubscribe(session, uri);
            Err(format!("the service {name} {trouble}"))
        }
        _ => {
            unsubscribe(session, uri);
            Err(format!("the service {name} did not answer in time"))
        }
    }
}

/// Ends it.
pub fn unsubscribe(session: &Session, uri: &str) {
    let mut all = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cancel) = all.remove(uri) {
        cancel.cancel();
    }
}
