//! One request on its way to a service and back, whatever the eras of the two sides.
//!
//! What a service asks of the client in between reaches it in the client's own way: a legacy client gets a
//! request on its stream; a client of 2026-07-28 gets `input_required` and asks again with the answers.
//! Between the two the service's call is *parked*: it goes on, and the sealed `requestState` finds it.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use opsroom_core::id::new_token;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::client::{Client, Out, Speech};
use crate::message::{self, Members, raw, raw_text};
use crate::upstream::Connection;
use crate::upstream::call::{Ask, Call, Event, Notice, Reply, Trouble};

/// The most calls that are parked at once.
const MOST_PARKED: usize = 512;
/// How long a person may take to answer.
pub const PARKED: Duration = Duration::from_secs(600);
/// How often one request may ask for input.
const MOST_ROUNDS: usize = 16;

/// A call that waits for a client to come back.
#[derive(Default)]
pub struct Parked(Mutex<HashMap<String, (Live, Instant)>>);

impl Parked {
    /// Parks a call; `None` when too many are.
    fn park(&self, live: Live) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_PARKED {
            return None;
        }
        let ticket = new_token("");
        all.insert(ticket.clone(), (live, Instant::now() + PARKED));
        Some(ticket)
    }

    /// Takes a call up again; it can be taken once.
    pub fn take(&self, ticket: &str) -> Option<Live> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(ticket).filter(|(_, end)| Instant::now() < *end).map(|(live, _)| live)
    }

    /// Gives up those that nobody came back for.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, end)| now < *end);
    }
}

/// A call at work.
pub struct Live {
    future: Pin<Box<dyn Future<Output = Result<Reply, Trouble>> + Send>>,
    events: mpsc::Receiver<Event>,
    /// What the service asked and the client has not answered, by the keys of `inputRequests`.
    asked: BTreeMap<String, Ask>,
    keys: usize,
}

impl Live {
    /// Begins a call.
    pub fn begin(connection: Connection, call: Call, id: Box<RawValue>) -> Self {
        let (sender, events) = mpsc::channel(32);
        let future = async move { connection.call(&call, &id, &sender).await };
        Self { future: Box::pin(future), events, asked: BTreeMap::new(), keys: 0 }
    }

    /// Goes on with an answer that has begun.
    pub fn follow(
        future: impl Future<Output = Result<Reply, Trouble>> + Send + 'static,
        events: mpsc::Receiver<Event>,
    ) -> Self {
        Self { future: Box::pin(future), events, asked: BTreeMap::new(), keys: 0 }
    }

    /// Hands the client's answers to the service.
    pub fn answer(&mut self, responses: Option<&RawValue>) {
        let Some(responses) = responses.and_then(Members::of) else { return };
        for (key, value) in &responses.0 {
            if let Some(ask) = self.asked.remove(key.as_ref()) {
                // The service may have gone on without it.
                let _gone = ask.reply.send(Reply::Result((**value).to_owned()));
            }
        }
    }
}

/// What came of a request.
pub enum Finish {
    /// The service answered.
    Reply(Reply),
    /// The service wants something of a client of 2026-07-28: the `inputRequests`, and the ticket by
    /// which the call is found again.
    Parked(Box<RawValue>, String),
}

/// How a call is accompanied.
pub struct Way<'a> {
    /// Who asked.
    pub client: &'a Client,
    /// Where what comes before the answer goes.
    pub out: &'a Out,
    /// By what the client knows the progress.
    pub progress: Option<Box<RawValue>>,
    /// The longest silence of the service.
    pub deadline: Duration,
    /// Where calls are parked.
    pub parked: &'a Parked,
}

impl Way<'_> {
    /// Accompanies a call to its end, or until it is parked.
    pub async fn run(&self, mut live: Live) -> Result<Finish, Trouble> {
        if !live.asked.is_empty() {
            // Not everything was answered.
            return self.park(live);
        }
        let mut answers: FuturesUnordered<BoxFuture<'_, (oneshot::Sender<Reply>, Reply)>> =
            FuturesUnordered::new();
        let sleep = tokio::time::sleep(self.deadline);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                Some(event) = live.events.recv() => {
                    sleep.as_mut().reset(Instant::now() + self.deadline);
                    match event {
                        Event::Notice(notice) => self.notice(notice).await,
                        Event::Ask(ask) if leads_astray(&ask.method, ask.params.as_deref()) => {
                            let _gone = ask.reply.send(Reply::error(message::INVALID_PARAMS, ASTRAY));
                        }
                        Event::Ask(ask) => match &self.client.speech {
                            _ if !self.client.abilities().can(&ask.method) => {
                                let text = format!("the client cannot be asked for {}", ask.method);
                                let _gone = ask.reply.send(Reply::error(message::METHOD_NOT_FOUND, &text));
                            }
                            Speech::Legacy(session) => answers.push(Box::pin(async move {
                                let params = ask.params.as_deref();
                                let reply = session.ask(Some(self.out.sink()), &ask.method, params).await;
                                (ask.reply, reply)
                            })),
                            _ => {
                                live.keys += 1;
                                live.asked.insert(format!("ask-{}", live.keys), ask);
                                return self.park(live);
                            }
                        },
                    }
                }
                Some((ask, reply)) = answers.next(), if !answers.is_empty() => {
                    sleep.as_mut().reset(Instant::now() + self.deadline);
                    let _gone = ask.send(reply);
                }
                reply = &mut live.future => {
                    while let Ok(event) = live.events.try_recv() {
                        if let Event::Notice(notice) = event {
                            self.notice(notice).await;
                        }
                    }
                    return reply.map(Finish::Reply);
                }
                // A person who is asked may take longer than a service.
                () = &mut sleep => {
                    if answers.is_empty() {
                        return Err(Trouble::Late(self.deadline));
                    }
                    sleep.as_mut().reset(Instant::now() + PARKED);
                }
            }
        }
    }

    fn park(&self, live: Live) -> Result<Finish, Trouble> {
        let mut requests = Members::default();
        for (key, ask) in &live.asked {
            let mut request = Members::default();
            request.set("method", raw_text(&ask.method));
            request.set("params", ask.params.clone().unwrap_or_else(|| raw(&json!({}))));
            requests.set(key, request.to_raw());
        }
        let requests = requests.to_raw();
        match self.parked.park(live) {
            Some(ticket) => Ok(Finish::Parked(requests, ticket)),
            None => Err(Trouble::Busy(MOST_PARKED)),
        }
    }

    /// Hands a notification on, with the token by which the client knows its request.
    async fn notice(&self, notice: Notice) {
        let mut params = notice.params;
        if notice.method == "notifications/progress" {
            let Some(token) = &self.progress else { return };
            if let Some(mut members) = params.as_deref().and_then(Members::of) {
                members.set("progressToken", token.clone());
                let told = members.to_raw();
                params = Some(told);
            }
        } else if notice.method == "notifications/message" && !self.wants(params.as_deref()) {
            return;
        }
        self.out.send(message::request(None, &notice.method, params.as_deref())).await;
    }

    /// Whether a legacy client wants a log message of that level.
    fn wants(&self, params: Option<&RawValue>) -> bool {
        let Some(least) = self.client.session().and_then(|session| session.level()) else { return true };
        let level = params.and_then(Members::of).and_then(|members| members.text("level").map(String::from));
        rank(level.as_deref().unwrap_or("emergency")) >= rank(&least)
    }

    /// Puts what a service of 2026-07-28 asked to a legacy client, and gives the parameters with which
    /// the service is asked again; `None` when the result asks for nothing.
    pub async fn collect(&self, params: &RawValue, result: &RawValue) -> Option<Box<RawValue>> {
        let members = Members::of(result)?;
        if members.text("resultType").as_deref() != Some("input_required") {
            return None;
        }
        let session: Arc<_> = self.client.session()?.clone();
        let requests = members.get("inputRequests").and_then(Members::of).unwrap_or_default();
        let asks = requests.0.iter().map(|(key, request)| {
            let session = session.clone();
            async move {
                let request = Members::of(request)?;
                let method = request.text("method")?;
                if !session.abilities.can(&method) {
                    return None;
                }
                match session.ask(Some(self.out.sink()), &method, request.get("params")).await {
                    Reply::Result(answer) => Some((key.to_string(), answer)),
                    Reply::Error(_) => None,
                }
            }
        });
        let mut responses = Members::default();
        for (key, answer) in futures_util::future::join_all(asks).await.into_iter().flatten() {
            responses.set(&key, answer);
        }
        let mut again = Members::of(params)?;
        again.set("inputResponses", responses.to_raw());
        match members.get("requestState") {
            Some(state) => again.set("requestState", state.to_owned()),
            None => again.remove("requestState"),
        }
        Some(again.to_raw())
    }
}

/// What a service is told that asks for such a URL.
pub const ASTRAY: &str = "a person is only asked to open an https URL, or an http URL of their own machine";

/// Whether a service wants a person to open what is no web page: a client that hands such a URL to its
/// system runs or reads something there.
pub fn leads_astray(method: &str, params: Option<&RawValue>) -> bool {
    let members = (method == "elicitation/create").then(|| params.and_then(Members::of)).flatten();
    let Some(url) = members.as_ref().and_then(|members| members.get("url")) else { return false };
    let Some(url) = message::text(url) else { return true };
    let own = |host: &str| {
        let rest = url.strip_prefix("http://").and_then(|rest| rest.strip_prefix(host));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']) && !rest.contains('@'))
    };
    let web = url.starts_with("https://") || ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| own(host));
    !web || url.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Whether a result that asks for input asks for such a URL.
pub fn asks_astray(result: &RawValue) -> bool {
    if !result.get().contains("inputRequests") {
        return false;
    }
    let members = Members::of(result).unwrap_or_default();
    let requests = members.get("inputRequests").and_then(Members::of).unwrap_or_default();
    requests.0.iter().any(|(_, request)| {
        let request = Members::of(request).unwrap_or_default();
        request.text("method").is_some_and(|method| leads_astray(&method, request.get("params")))
    })
}

/// How often a legacy client is asked on behalf of one request.
pub fn rounds() -> std::ops::Range<usize> {
    0..MOST_ROUNDS
}

/// The place of a level of RFC 5424 among the others.
pub fn rank(level: &str) -> usize {
    const LEVELS: [&str; 8] =
        ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    LEVELS.iter().position(|known| *known == level).unwrap_or(LEVELS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_would_run_something_is_put_to_nobody() {
        let asked = |url: &str| raw(&json!({ "mode": "url", "message": "Log in", "url": url }));
        for url in ["https://login.example/authorize?x=1", "http://localhost:3000/back", "http://[::1]/"] {
            assert!(!leads_astray("elicitation/create", Some(&asked(url))), "{url}");
        }
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "http://login.example/",
            "http://localhost@login.example/",
            "http://localhost.login.example/",
            "https://login.example/\n$(id)",
            "vscode://run",
            " https://login.example",
        ] {
            assert!(leads_astray("elicitation/create", Some(&asked(url))), "{url}");
            let request = json!({ "method": "elicitation/create", "params": { "mode": "url", "url": url } });
            assert!(asks_astray(&raw(&json!({ "inputRequests": { "a": request } }))), "{url}");
        }
        assert!(!leads_astray("elicitation/create", Some(&raw(&json!({ "message": "A form" })))));
    }
}
