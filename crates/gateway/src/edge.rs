//! The HTTP edge: one endpoint for both eras of the protocol.
//!
//! A request of 2026-07-28 names its revision in the body, and repeats in headers what those who stand
//! between need to know; the two are compared. Everything else is of the legacy era: a handshake makes a
//! session, which later requests name. `Host`, `Origin` and the key are checked before this.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opsroom_core::Caller;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::client::{Answer, Client, Out, Speech};
use crate::dispatch;
use crate::era::negotiated;
use crate::gateway::{Gateway, Inner};
use crate::header::decode;
use crate::listen;
use crate::message::{self, Envelope, HEADER_MISMATCH, Members, Params, UNSUPPORTED_VERSION};
use crate::routes::View;
use crate::session::{Hello, Session};
use crate::sse::{self, KEEP_ALIVE};
use crate::tasks;
use crate::tools::{self, Asked, Quick};
use crate::upstream::call::{Abilities, Reply};
use crate::upstream::legacy::VERSIONS;
use crate::upstream::modern::{Opened, VERSION};

/// After so long without a message, an answer becomes a stream, which can be kept open.
const QUIET: Duration = Duration::from_secs(5);
/// Methods of which `Mcp-Name` names the subject.
const NAMED: [&str; 6] =
    ["tools/call", "prompts/get", "resources/read", "tasks/get", "tasks/update", "tasks/cancel"];

impl Gateway {
    /// Answers a request to an MCP endpoint, for a caller whose key was checked.
    pub async fn handle<B>(&self, request: Request<B>, caller: Caller, view: View) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let inner = &self.0;
        if !matches!(view, View::All) {
            let routes = inner.routes.borrow().clone();
            if routes.sight(&view, &caller).is_none() {
                return plain(StatusCode::NOT_FOUND, "there is no such MCP endpoint for this key");
            }
        }
        let (head, body) = request.into_parts();
        match head.method {
            Method::POST => match whole(inner, &head.headers, body).await {
                Ok(bytes) => post(inner, &head.headers, caller, view, bytes).await,
                Err(refused) => refused,
            },
            Method::GET => stream(inner, &head.headers, caller, view),
            Method::DELETE => end(inner, &head.headers, &caller, &view),
            _ => not_allowed(),
        }
    }
}

/// The body, within its bounds.
async fn whole<B>(inner: &Inner, headers: &HeaderMap, body: B) -> Result<Bytes, Response<Body>>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not application/json"));
    }
    let limited = Limited::new(body, inner.limits.max_body_bytes).collect();
    match tokio::time::timeout(inner.limits.body_time, limited).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "the message is larger than what is taken"))
        }
        Ok(Err(_)) => Err(plain(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

async fn post(
    inner: &Arc<Inner>,
    headers: &HeaderMap,
    caller: Caller,
    view: View,
    body: Bytes,
) -> Response<Body> {
    let envelope = match message::parse(&body) {
        Ok(envelope) => envelope,
        Err((code, text)) => return json_of(StatusCode::BAD_REQUEST, message::error(None, code, &text)),
    };
    let said = headers.get("mcp-protocol-version");
    let newer = said.is_some_and(|version| version.as_bytes() >= VERSION.as_bytes());
    // What passes parameters that cannot be read is refused in the words of whichever era it is.
    let params = match message::params(envelope.params) {
        Ok(params) => params,
        Err(text) => {
            let error = message::error(envelope.id, message::INVALID_PARAMS, &text);
            return json_of(StatusCode::BAD_REQUEST, error);
        }
    };
    let modern = newer || params.meta.as_ref().is_some_and(|meta| meta.version.is_some());
    if modern {
        return modern_post(inner, headers, caller, view, &body, &envelope, &params).await;
    }
    legacy_post(inner, headers, caller, view, &body, &envelope).await
}

/// A refusal of the envelope itself.
fn refused(id: Option<&RawValue>, code: i64, text: &str, data: Option<serde_json::Value>) -> Response<Body> {
    let status =
        if code == message::METHOD_NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
    json_of(status, message::error_raw(id, &message::error_object(code, text, data)))
}

/// What the headers of a request of 2026-07-28 must say.
fn agreed(headers: &HeaderMap, envelope: &Envelope<'_>, params: &Params<'_>) -> Result<(), (i64, String)> {
    let mismatch = |text: String| Err((HEADER_MISMATCH, text));
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let first = all.next().and_then(|value| decode(value.as_bytes()).map(|value| value.into_owned()));
        if all.next().is_some() { None } else { first }
    };
    let version = params.meta.as_ref().and_then(|meta| meta.version.as_ref());
    let Some(version) = version else {
        let text = "params._meta[\"io.modelcontextprotocol/protocolVersion\"] is missing";
        return Err((message::INVALID_PARAMS, text.to_owned()));
    };
    if one("mcp-protocol-version").as_deref() != Some(version.as_str()) {
        return mismatch("the header MCP-Protocol-Version does not say the revision of the body".to_owned());
    }
    if version.as_str() != VERSION {
        let text = format!("the revision {:?} is not spoken with this request", version.as_str());
        return Err((UNSUPPORTED_VERSION, text));
    }
    let method = envelope.method.as_ref().map(|method| method.as_str()).unwrap_or_default();
    if one("mcp-method").as_deref() != Some(method) {
        return mismatch("the header Mcp-Method does not say the method of the body".to_owned());
    }
    if NAMED.contains(&method) {
        let name = match method {
            "resources/read" => params.uri,
            "tools/call" | "prompts/get" => params.name,
            _ => params.task,
        };
        let name = name.and_then(message::text);
        if name.is_some() && one("mcp-name") != name.map(String::from) {
            return mismatch("the header Mcp-Name does not say the name of the body".to_owned());
        }
    }
    if params.meta.as_ref().is_none_or(|meta| meta.capabilities.is_none()) {
        let text = "params._meta[\"io.modelcontextprotocol/clientCapabilities\"] is missing";
        return Err((message::INVALID_PARAMS, text.to_owned()));
    }
    Ok(())
}

async fn modern_post(
    inner: &Arc<Inner>,
    headers: &HeaderMap,
    caller: Caller,
    view: View,
    body: &Bytes,
    envelope: &Envelope<'_>,
    params: &Params<'_>,
) -> Response<Body> {
    let Some(method) = &envelope.method else {
        let text = "a client of 2026-07-28 sends no responses";
        return refused(envelope.id, message::INVALID_REQUEST, text, None);
    };
    if let Err((code, text)) = agreed(headers, envelope, params) {
        let requested = params.meta.as_ref().and_then(|meta| meta.version.as_ref()).map(|v| v.as_str());
        let data = (code == UNSUPPORTED_VERSION).then(|| {
            // Those that can be named in a request; older ones begin with `initialize`.
            json!({ "supported": [VERSION], "requested": requested })
        });
        return refused(envelope.id, code, &text, data);
    }
    let Some(id) = envelope.id else {
        // There is nothing that a notification over HTTP could mean: closing the stream cancels.
        return empty(StatusCode::ACCEPTED);
    };
    let capabilities = params.meta.as_ref().and_then(|meta| meta.capabilities);
    let client = Client {
        caller,
        view,
        speech: Speech::Modern(Abilities::of(capabilities)),
        deadline: None,
        cancel: CancellationToken::new(),
        tasks: tasks::declared(capabilities),
        headers: argument_headers(headers),
    };
    let mut opened = None;
    if method.as_str() == "tools/call" {
        let asked = Asked { body, id, raw_params: envelope.params, params };
        match tools::quick(inner, &client, &asked).await {
            Quick::Done(answer) => return json_of(status(answer.status), answer.message),
            Quick::Slow(begun) => opened = begun,
        }
    }
    answered(inner, headers, client, body.clone(), opened).await
}

/// The `Mcp-Param-*` headers, which a service may know although we do not.
fn argument_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("mcp-param-"));
    ours.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

async fn legacy_post(
    inner: &Arc<Inner>,
    headers: &HeaderMap,
    caller: Caller,
    view: View,
    body: &Bytes,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    let method = envelope.method.as_ref().map(|method| method.as_str());
    if method == Some("initialize") {
        return initialize(inner, caller, view, envelope).await;
    }
    let session = match session(inner, headers, &caller, &view) {
        Ok(session) => session,
        Err((status, text)) => {
            return json_of(status, message::error(envelope.id, message::INVALID_REQUEST, text));
        }
    };
    let client = Client {
        caller,
        view,
        speech: Speech::Legacy(session.clone()),
        deadline: None,
        cancel: CancellationToken::new(),
        tasks: false,
        headers: Vec::new(),
    };
    match (method, envelope.id) {
        (Some(_), Some(id)) => {
            session.begin(id, client.cancel.clone());
            answered(inner, headers, client, body.clone(), None).await
        }
        (Some(method), None) => {
            told(&session, method, envelope.params);
            empty(StatusCode::ACCEPTED)
        }
        (None, Some(id)) => match Reply::of(envelope) {
            Some(reply) => {
                // An answer to nothing that was asked is left out.
                let _known = session.answered(id, reply);
                empty(StatusCode::ACCEPTED)
            }
            None => refused(Some(id), message::INVALID_REQUEST, "neither a result nor an error", None),
        },
        (None, None) => refused(None, message::INVALID_REQUEST, "neither a request nor an answer", None),
    }
}

/// A notification of a legacy client.
pub(crate) fn told(session: &Session, method: &str, params: Option<&RawValue>) {
    if method == "notifications/cancelled"
        && let Some(members) = params.and_then(Members::of)
        && let Some(id) = members.get("requestId")
    {
        session.cancel(id);
    }
}

/// What a client says in the handshake.
pub(crate) fn hello(params: Option<&RawValue>) -> (String, Hello) {
    let members = params.and_then(Members::of).unwrap_or_default();
    let wanted = members.text("protocolVersion").unwrap_or_default().into_owned();
    let hello = Hello {
        capabilities: members.get("capabilities").map(ToOwned::to_owned),
        info: members.get("clientInfo").map(ToOwned::to_owned),
    };
    (wanted, hello)
}

async fn initialize(
    inner: &Arc<Inner>,
    caller: Caller,
    view: View,
    envelope: &Envelope<'_>,
) -> Response<Body> {
    let Some(id) = envelope.id else {
        return refused(None, message::INVALID_REQUEST, "initialize is a request and has an id", None);
    };
    let (wanted, hello) = hello(envelope.params);
    let version = negotiated(&wanted);
    let (session, ended) = inner.sessions.begin(&caller, view.clone(), hello);
    ended.iter().for_each(|session| inner.forget(&session.id));
    let client = Client::of_house(caller, view, None);
    tools::wait_for_lists(inner, &client).await;
    let greeting = dispatch::greeting(inner, &client, version);
    let mut answer = json_of(StatusCode::OK, message::result(id, &greeting));
    if let Ok(value) = HeaderValue::from_str(&session.id) {
        answer.headers_mut().insert("mcp-session-id", value);
    }
    answer
}

type Refusal = (StatusCode, &'static str);

fn session(
    inner: &Inner,
    headers: &HeaderMap,
    caller: &Caller,
    view: &View,
) -> Result<Arc<Session>, Refusal> {
    if let Some(version) = headers.get("mcp-protocol-version") {
        let known = VERSIONS.iter().any(|known| known.as_bytes() == version.as_bytes());
        if !known {
            return Err((
                StatusCode::BAD_REQUEST,
                "the header MCP-Protocol-Version names a revision that is not spoken",
            ));
        }
    }
    let Some(id) = headers.get("mcp-session-id") else {
        return Err((StatusCode::BAD_REQUEST, "the header Mcp-Session-Id is missing: begin with initialize"));
    };
    let session = id.to_str().ok().and_then(|id| inner.sessions.get(id, caller, view));
    session.ok_or((StatusCode::NOT_FOUND, "there is no such session: begin again with initialize"))
}

/// The event stream of a legacy client's session.
fn stream(inner: &Arc<Inner>, headers: &HeaderMap, caller: Caller, view: View) -> Response<Body> {
    if !accepts_events(headers) {
        return not_allowed();
    }
    let session = match session(inner, headers, &caller, &view) {
        Ok(session) => session,
        // Without a session there is no such stream, as in 2026-07-28.
        Err((StatusCode::BAD_REQUEST, _)) => return not_allowed(),
        Err((status, text)) => return plain(status, text),
    };
    let client = Client::of_house(caller, view, None);
    events(Box::pin(backchannel(inner.clone(), session, client)))
}

fn backchannel(
    inner: Arc<Inner>,
    session: Arc<Session>,
    client: Client,
) -> impl futures_util::Stream<Item = Bytes> + Send {
    let changes = inner.changes.subscribe();
    let stop = inner.lifecycle.stopping();
    let first = Some(Bytes::from_static(KEEP_ALIVE));
    futures_util::stream::unfold((inner, session, client, changes, stop, first), async |state| {
        let (inner, session, client, mut changes, stop, mut first) = state;
        if let Some(first) = first.take() {
            return Some((first, (inner, session, client, changes, stop, None)));
        }
        let piece = loop {
            tokio::select! {
                message = session.next() => break sse::event(None, &message),
                change = changes.recv() => match change {
                    Ok(change) if listen::concerns(&inner, &client, &change) => {
                        break sse::event(None, &message::request(None, change.list.method(), None));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(inner.limits.keep_alive) => break Bytes::from_static(KEEP_ALIVE),
                () = session.ended.cancelled() => return None,
                () = stop.cancelled() => return None,
            }
        };
        Some((piece, (inner, session, client, changes, stop, None)))
    })
}

fn end(inner: &Inner, headers: &HeaderMap, caller: &Caller, view: &View) -> Response<Body> {
    match session(inner, headers, caller, view) {
        Ok(session) => {
            inner.sessions.end(&session.id);
            inner.forget(&session.id);
            empty(StatusCode::NO_CONTENT)
        }
        Err((StatusCode::BAD_REQUEST, _)) => not_allowed(),
        Err((status, text)) => plain(status, text),
    }
}

/// Answers a request: with one message when it comes first, else with a stream.
async fn answered(
    inner: &Arc<Inner>,
    headers: &HeaderMap,
    client: Client,
    body: Bytes,
    opened: Option<Opened>,
) -> Response<Body> {
    let (sink, mut before) = mpsc::channel(16);
    let streams = accepts_events(headers);
    let modern = client.is_modern();
    let mut work: BoxFuture<'static, Answer> = {
        let inner = inner.clone();
        Box::pin(async move {
            // When nobody waits any more, what runs for it stops.
            let _stop = client.cancel.clone().drop_guard();
            let answer = dispatch::with(&inner, &client, &body, &Out::new(sink), opened).await;
            if let (Some(session), Ok(envelope)) = (client.session(), message::parse(&body))
                && let Some(id) = envelope.id
            {
                session.end(id);
            }
            answer
        })
    };
    let first = tokio::select! {
        biased;
        Some(first) = before.recv() => Some(first),
        answer = &mut work => match before.try_recv() {
            Ok(first) => {
                work = Box::pin(std::future::ready(answer));
                Some(first)
            }
            Err(_) => return single(modern, answer),
        },
        () = tokio::time::sleep(QUIET), if streams => None,
    };
    if !streams {
        // Whoever takes no stream gets the answer alone.
        let unheard = async { while before.recv().await.is_some() {} };
        let (answer, ()) = futures_util::future::join(work, unheard).await;
        return single(modern, answer);
    }
    let first = first.map_or_else(|| Bytes::from_static(KEEP_ALIVE), |first| sse::event(None, &first));
    events(Box::pin(flow(first, work, before, inner.limits.keep_alive)))
}

fn single(modern: bool, answer: Answer) -> Response<Body> {
    let status = if modern { status(answer.status) } else { StatusCode::OK };
    json_of(status, answer.message)
}

/// The messages before an answer and the answer, as events.
fn flow(
    first: Bytes,
    work: BoxFuture<'static, Answer>,
    before: mpsc::Receiver<Bytes>,
    keep_alive: Duration,
) -> impl futures_util::Stream<Item = Bytes> + Send {
    let state = (Some(first), Some(work), before, None::<Answer>);
    futures_util::stream::unfold(state, move |state| async move {
        let (mut first, mut work, mut before, mut answer) = state;
        if let Some(first) = first.take() {
            return Some((first, (None, work, before, answer)));
        }
        if let Some(running) = &mut work {
            tokio::select! {
                biased;
                Some(message) = before.recv() => {
                    return Some((sse::event(None, &message), (None, work, before, answer)));
                }
                ready = running => answer = Some(ready),
                () = tokio::time::sleep(keep_alive) => {
                    return Some((Bytes::from_static(KEEP_ALIVE), (None, work, before, answer)));
                }
            }
            work = None;
        }
        // What was sent before the answer comes before it.
        if let Ok(message) = before.try_recv() {
            return Some((sse::event(None, &message), (None, work, before, answer)));
        }
        let answer = answer.take()?;
        Some((sse::event(None, &answer.message), (None, work, before, None)))
    })
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|accept| {
        let accept = accept.to_str().unwrap_or_default();
        accept.split(',').any(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("text/event-stream") || kind == "*/*" || kind == "text/*"
        })
    })
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::OK)
}

fn json_of(status: StatusCode, message: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::whole(message));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn events(stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = Bytes> + Send>>) -> Response<Body> {
    let mut answer = Response::new(Body::Events(stream));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::Whole(None));
    *answer.status_mut() = status;
    answer
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    json_of(status, message::error(None, message::INVALID_REQUEST, text))
}

fn not_allowed() -> Response<Body> {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "messages are sent with POST");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
    answer
}
