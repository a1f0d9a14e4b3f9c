//! `tools/call`: found, allowed, counted, cached, and sent on.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opsroom_core::Kind;
use opsroom_core::job::{Progress, Step};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::bridge::Live;
use crate::client::{Answer, Client, Out};
use crate::exchange::{Back, Exchange, Failed, troubled};
use crate::gateway::Inner;
use crate::header::{agree, of_arguments};
use crate::message::{self, INVALID_PARAMS, Members, Params, Text, raw, raw_text, splice};
use crate::routes::{Found, Served, ServedTool};
use crate::seam::{BuiltInCall, Finished, Outcome};
use crate::upstream::Connection;
use crate::upstream::call::{Reply, Trouble};
use crate::upstream::lists::canonical;
use crate::upstream::modern::{Opened, follow};

/// How long a service that was just made known may take to say what it has, at its own endpoint; the
/// common one waits less, because one service must not delay the others.
const FIRST_LIST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// A call as the client sent it.
pub struct Asked<'a> {
    /// The whole message.
    pub body: &'a [u8],
    /// Its id.
    pub id: &'a RawValue,
    /// Its parameters, whole and read.
    pub raw_params: Option<&'a RawValue>,
    /// The same, read.
    pub params: &'a Params<'a>,
}

/// The tool that a call means.
pub async fn find(gateway: &Arc<Inner>, client: &Client, name: &str) -> Option<Found> {
    let found = |gateway: &Inner| {
        let routes = gateway.routes.borrow().clone();
        let sight = routes.sight(&client.view, &client.caller)?;
        match sight.tool(name) {
            Some(Found::BuiltIn) if !gateway.builtin.has(&client.caller, name) => None,
            found => found,
        }
    };
    if let Some(found) = found(gateway) {
        return Some(found);
    }
    wait_for_lists(gateway, client).await.then(|| found(gateway)).flatten()
}

/// Waits for the first lists of the services of an endpoint; `false` when there was nothing to wait for.
pub async fn wait_for_lists(gateway: &Arc<Inner>, client: &Client) -> bool {
    let mut routes = gateway.routes.clone();
    let unknown = |routes: &Arc<crate::routes::Routes>| {
        routes.sight(&client.view, &client.caller).is_some_and(|sight| {
            sight.services().any(|served| served.service.health == crate::catalogue::Health::Unknown)
        })
    };
    let waits = unknown(&routes.borrow());
    if waits {
        // Those that do not answer in time are not waited for.
        let own = matches!(client.view, crate::routes::View::Service(_));
        let patience = if own { FIRST_LIST.0 } else { FIRST_LIST.1 };
        let _late = tokio::time::timeout(patience, routes.wait_for(|routes| !unknown(routes))).await;
    }
    waits
}

/// Calls a tool.
pub async fn call(
    gateway: &Arc<Inner>,
    client: &Client,
    asked: &Asked<'_>,
    out: &Out,
    opened: Option<Opened>,
) -> Answer {
    let Some(name) = asked.params.name.and_then(message::text) else {
        return Answer::error(asked.id, INVALID_PARAMS, "params.name, the tool's name, is missing");
    };
    match find(gateway, client, &name).await {
        None => unknown(asked.id, &name),
        Some(Found::BuiltIn) => builtin(gateway, client, asked, &name, out).await,
        Some(Found::Tool(served, at)) => {
            Tool { gateway, client, asked, served: &served, tool: &served.tools[at] }.call(out, opened).await
        }
    }
}

/// The same for a tool that is not there and for one that the caller may not use.
fn unknown(id: &RawValue, name: &str) -> Answer {
    let text =
        format!("Unknown tool: there is no tool {name:?} for this key; tools/list names those there are");
    Answer::error(id, INVALID_PARAMS, &text).because(Kind::NotFound)
}

/// What was found out on the quick way.
pub enum Quick {
    /// The answer.
    Done(Answer),
    /// It takes the long way, with what has begun already.
    Slow(Option<Opened>),
}

/// The quick way, for what most calls are: a tool of a service of 2026-07-28 that answers with one message.
/// Nothing is spawned, boxed or copied on it.
pub async fn quick(gateway: &Arc<Inner>, client: &Client, asked: &Asked<'_>) -> Quick {
    let Some(name) = asked.params.name.and_then(message::text) else { return Quick::Slow(None) };
    let routes = gateway.routes.borrow().clone();
    let found = routes.sight(&client.view, &client.caller).and_then(|sight| sight.tool(&name));
    let Some(Found::Tool(served, at)) = found else { return Quick::Slow(None) };
    let tool = &served.tools[at];
    let policy = &tool.policy;
    let plain = policy.rate_per_minute.is_none() && policy.cache_seconds == 0 && policy.retries == 0;
    if !plain || asked.params.request_state.is_some() || !client.is_modern() {
        return Quick::Slow(None);
    }
    let Some(Connection::Modern(modern)) = served.link.connected() else { return Quick::Slow(None) };
    let this = Tool { gateway, client, asked, served: &served, tool };
    let begun = Instant::now();
    if let Err(text) = this.headers_agree() {
        return Quick::Done(Answer::error(asked.id, message::HEADER_MISMATCH, &text));
    }
    let Ok(_permit) = served.link.permit(Duration::ZERO).await else { return Quick::Slow(None) };
    let body = this.body();
    let headers = this.headers();
    let limit = this.deadline();
    let sent = modern.open("tools/call", Some(&tool.tool.name), &headers, &body);
    let opened = match tokio::time::timeout(limit, sent).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(trouble)) => return Quick::Done(this.failed(begun, &trouble)),
        Err(_) => return Quick::Done(this.failed(begun, &Trouble::Late(limit))),
    };
    let bytes = match opened {
        Opened::Whole(bytes) => bytes,
        stream => return Quick::Slow(Some(stream)),
    };
    match this.passes(&bytes) {
        Ok(Some(outcome)) => {
            served.link.learn(None);
            this.count(outcome, begun, bytes.len());
            Quick::Done(Answer { status: status_of(outcome, &bytes), message: bytes, kind: None })
        }
        Ok(None) => Quick::Slow(Some(Opened::Whole(bytes))),
        Err(trouble) => Quick::Done(this.failed(begun, &trouble)),
    }
}

fn status_of(outcome: Outcome, bytes: &[u8]) -> u16 {
    if outcome != Outcome::ProtocolError {
        return 200;
    }
    let code = message::parse(bytes).ok().and_then(|envelope| envelope.error.map(crate::era::code));
    match code {
        Some(message::METHOD_NOT_FOUND) => 404,
        Some(message::HEADER_MISMATCH | message::MISSING_CAPABILITY | message::UNSUPPORTED_VERSION) => 400,
        _ => 200,
    }
}

/// What is looked at in the result of a call.
#[derive(Deserialize)]
struct Looked<'a> {
    #[serde(borrow, default, rename = "resultType")]
    kind: Option<Text<'a>>,
    #[serde(default, rename = "isError")]
    failed: Option<bool>,
}

struct Tool<'a> {
    gateway: &'a Arc<Inner>,
    client: &'a Client,
    asked: &'a Asked<'a>,
    served: &'a Arc<Served>,
    tool: &'a ServedTool,
}

impl Tool<'_> {
    fn deadline(&self) -> Duration {
        let own = self.tool.policy.deadline.unwrap_or(self.served.link.upstream.deadline);
        self.client.deadline.map_or(own, |wanted| wanted.min(own))
    }

    /// The message with the name that the service gives the tool.
    fn body(&self) -> Cow<'_, [u8]> {
        match self.asked.params.name {
            Some(name) if message::text(name).as_deref() != Some(self.tool.tool.name.as_str()) => {
                let own = raw_text(&self.tool.tool.name);
                Cow::Owned(splice(self.asked.body, &[(name.get(), own.get())]))
            }
            _ => Cow::Borrowed(self.asked.body),
        }
    }

    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = of_arguments(&self.tool.tool.headers, self.asked.params.arguments);
        for (name, value) in &self.client.headers {
            if headers.iter().all(|(known, _)| !known.eq_ignore_ascii_case(name)) {
                headers.push((name.clone(), value.clone()));
            }
        }
        headers
    }

    /// Whether the headers of a client of 2026-07-28 say what the arguments say.
    fn headers_agree(&self) -> Result<(), String> {
        if self.tool.tool.headers.is_empty()
            || !matches!(self.client.speech, crate::client::Speech::Modern(_))
        {
            return Ok(());
        }
        let mut given = http::HeaderMap::new();
        for (name, value) in &self.client.headers {
            let pair =
                (http::HeaderName::try_from(name.as_str()), http::HeaderValue::try_from(value.as_str()));
            if let (Ok(name), Ok(value)) = pair {
                given.append(name, value);
            }
        }
        agree(&self.tool.tool.headers, self.asked.params.arguments, &given)
    }

    /// Whether an answer can be handed on as it is, and what it is; `None` when something has to be changed.
    fn passes(&self, bytes: &[u8]) -> Result<Option<Outcome>, Trouble> {
        let envelope = message::parse(bytes).map_err(|(_, what)| Trouble::Garbled(what))?;
        if envelope.id.is_none_or(|id| id.get() != self.asked.id.get()) {
            return Err(Trouble::garbled("the answer has the id of another request"));
        }
        let Some(result) = envelope.result else {
            return if envelope.error.is_some() {
                Ok(Some(Outcome::ProtocolError))
            } else {
                Err(Trouble::garbled("neither a result nor an error"))
            };
        };
        let looked: Looked<'_> = serde_json::from_str(result.get())
            .map_err(|_| Trouble::garbled("a result that is no result of a call"))?;
        Ok(match looked.kind {
            Some(kind) if kind.as_str() == "complete" || kind.as_str() == "task" => {
                Some(if looked.failed == Some(true) { Outcome::ToolError } else { Outcome::Ok })
            }
            _ => None,
        })
    }

    fn count(&self, outcome: Outcome, begun: Instant, bytes: usize) {
        self.tell(outcome, begun, bytes, None);
    }

    fn count_failed(&self, trouble: &Trouble, begun: Instant, bytes: usize) {
        let challenge = match trouble {
            Trouble::Unauthorized(challenge) => challenge.as_deref(),
            _ => None,
        };
        self.tell(outcome_of(trouble), begun, bytes, challenge);
    }

    fn tell(&self, outcome: Outcome, begun: Instant, bytes: usize, challenge: Option<&str>) {
        self.gateway.calls.finished(&Finished {
            caller: &self.client.caller,
            service: &self.served.service.name,
            tool: &self.tool.tool.name,
            outcome,
            took: begun.elapsed(),
            bytes,
            challenge,
        });
    }

    fn failed(&self, begun: Instant, trouble: &Trouble) -> Answer {
        self.served.link.learn(Some(trouble));
        self.count_failed(trouble, begun, 0);
        troubled(self.asked.id, &self.served.service.name, trouble)
    }

    /// The long way.
    async fn call(&self, out: &Out, opened: Option<Opened>) -> Answer {
        let begun = Instant::now();
        if let Err(text) = self.headers_agree() {
            return Answer::error(self.asked.id, message::HEADER_MISMATCH, &text);
        }
        let policy = &self.tool.policy;
        if let Some(rate) = policy.rate_per_minute
            && opened.is_none()
            && !self.gateway.shared.take(&self.key("rate"), rate).await
        {
            self.count(Outcome::Refused, begun, 0);
            let text = format!("the tool may be called {rate} times a minute; try again later");
            return Answer::error(self.asked.id, message::UNAVAILABLE, &text).because(Kind::Busy);
        }
        let cache = self.cache_key();
        if let Some(key) = &cache
            && let Some(kept) = self.gateway.shared.get(key).await
            && let Ok(result) = serde_json::from_slice::<Box<RawValue>>(&kept)
        {
            self.count(Outcome::Cached, begun, kept.len());
            return self.told(Reply::Result(result));
        }
        let (answer, trouble) = self.tried(out, opened).await;
        let envelope = message::parse(&answer.message).ok();
        let result = envelope.as_ref().and_then(|envelope| envelope.result);
        let looked = result.and_then(|result| serde_json::from_str::<Looked<'_>>(result.get()).ok());
        if let Some(trouble) = &trouble {
            self.count_failed(trouble, begun, answer.message.len());
            return answer;
        }
        let outcome = match &looked {
            None => Outcome::ProtocolError,
            Some(looked) if looked.failed == Some(true) => Outcome::ToolError,
            Some(looked) => match &looked.kind {
                Some(kind) if kind.as_str() == "input_required" => Outcome::InputRequired,
                _ => Outcome::Ok,
            },
        };
        self.count(outcome, begun, answer.message.len());
        if let (Outcome::Ok, Some(key), Some(result)) = (outcome, cache, result) {
            let keep = Duration::from_secs(u64::from(policy.cache_seconds));
            self.gateway.shared.put(&key, Bytes::copy_from_slice(result.get().as_bytes()), keep).await;
        }
        answer
    }

    async fn tried(&self, out: &Out, opened: Option<Opened>) -> (Answer, Option<Trouble>) {
        let mut members = self.asked.raw_params.and_then(Members::of).unwrap_or_default();
        members.set("name", raw_text(&self.tool.tool.name));
        let exchange = Exchange {
            gateway: self.gateway,
            client: self.client,
            out,
            served: self.served,
            method: "tools/call",
            id: self.asked.id,
            name: Some(&self.tool.tool.name),
            params: members.to_raw(),
            headers: self.headers(),
            deadline: self.deadline(),
        };
        let back = Back {
            state: self.asked.params.request_state.as_ref().map(Text::as_str),
            responses: self.asked.params.input_responses,
            progress: self.asked.params.meta.as_ref().and_then(|meta| meta.progress),
            arguments: self.asked.params.arguments,
        };
        if let Some(opened) = opened {
            let (sender, events) = mpsc::channel(32);
            let id = self.asked.id.to_owned();
            let live = Live::follow(async move { follow(opened, &id, &sender).await }, events);
            let asked = exchange.run(&Back { state: None, ..back }, Some(live)).await;
            return exchange.ended(asked);
        }
        let may_repeat = self.tool.tool.read_only || self.tool.tool.idempotent;
        for left in (0..=self.tool.policy.retries).rev() {
            let (answer, trouble) = exchange.answer(&back).await;
            let again = trouble.as_ref().is_some_and(|trouble| trouble.was_not_begun() || may_repeat);
            if left == 0 || !again {
                return (answer, trouble);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        exchange.ended(Err(Failed::Trouble(Trouble::garbled("it was not asked"))))
    }

    fn key(&self, what: &str) -> String {
        format!("mcp:{what}:{}:{}", self.served.service.name, self.tool.tool.name)
    }

    /// Under what the result is kept. What one team's service answers is not shown to another's, and what
    /// a principal was shown is shown to no other.
    fn cache_key(&self) -> Option<String> {
        if self.tool.policy.cache_seconds == 0 || !self.tool.tool.read_only {
            return None;
        }
        if self.asked.params.request_state.is_some() || self.asked.params.input_responses.is_some() {
            return None;
        }
        let arguments = match self.asked.params.arguments {
            Some(arguments) => canonical(arguments)?,
            None => String::new(),
        };
        let era = if self.client.is_modern() { "m" } else { "l" };
        let whole = format!("{}\0{}\0{era}\0{arguments}", self.client.caller.subject, self.tool.tool.hash);
        Some(format!("{}:{}", self.key("result"), opsroom_core::id::sha256_hex(&whole)))
    }

    fn told(&self, reply: Reply) -> Answer {
        match reply {
            Reply::Result(result) => Answer::result(self.asked.id, &result),
            Reply::Error(error) => Answer::error_raw(self.asked.id, crate::era::code(&error), &error),
        }
    }
}

fn outcome_of(trouble: &Trouble) -> Outcome {
    match trouble {
        Trouble::Late(_) => Outcome::Late,
        Trouble::Busy(_) => Outcome::Refused,
        _ => Outcome::Unreachable,
    }
}

/// Calls a tool of the house.
async fn builtin(gateway: &Arc<Inner>, client: &Client, asked: &Asked<'_>, name: &str, out: &Out) -> Answer {
    let meta = asked.params.meta.as_ref();
    let progress = match meta.and_then(|meta| meta.progress) {
        Some(token) => progress(token, out),
        None => Progress::silent(),
    };
    let called = gateway.builtin.call(BuiltInCall {
        caller: client.caller.clone(),
        tool: name.to_owned(),
        arguments: asked.params.arguments.map(ToOwned::to_owned),
        progress,
        cancel: client.cancel.clone(),
        task: client.tasks,
        traceparent: meta.and_then(|meta| Some(meta.traceparent.as_ref()?.as_str().to_owned())),
    });
    match called.await {
        Ok(result) if client.is_modern() => {
            let mut members = Members::of(&result).unwrap_or_default();
            members.fill("resultType", raw_text("complete"));
            Answer::result(asked.id, &members.to_raw())
        }
        Ok(result) => Answer::result(asked.id, &result),
        Err(error) => Answer::error(asked.id, message::INTERNAL_ERROR, &error.message).because(error.kind),
    }
}

/// How far to say it is, after `last`: more than before, and at most all of it; `None` when all of it was
/// said already.
fn further(last: f64, now: f64) -> Option<f64> {
    let next = if now > last { now.min(1.0) } else { last + (1.0 - last) / 1024.0 };
    (next > last).then_some(next)
}

/// Progress as notifications. It only ever grows, as the protocol wants it.
fn progress(token: &RawValue, out: &Out) -> Progress {
    let (token, out) = (token.to_owned(), out.clone());
    let last = std::sync::Mutex::new(-1.0f64);
    Progress::to(move |step: Step| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(next) = further(*last, step.fraction.unwrap_or(0.0)) else { return };
        *last = next;
        let mut params = Members::default();
        params.set("progressToken", token.clone());
        params.set("progress", raw(&json!(*last)));
        if step.fraction.is_some() {
            params.set("total", raw(&json!(1.0)));
        }
        params.set("message", raw_text(&step.message));
        // A slow client misses steps; it never slows the work.
        out.offer(message::request(None, "notifications/progress", Some(&params.to_raw())));
    })
}

#[cfg(test)]
mod tests {
    use super::further;

    #[test]
    fn progress_grows_and_never_beyond_the_whole() {
        let (mut last, mut told) = (-1.0, Vec::new());
        for now in [0.0, 0.0, 0.5, 0.4, 1.0, 1.0, 7.0] {
            if let Some(next) = further(last, now) {
                told.push(next);
                last = next;
            }
        }
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        assert_eq!((told.len(), told.last()), (5, Some(&1.0)), "{told:?}");
    }
}
