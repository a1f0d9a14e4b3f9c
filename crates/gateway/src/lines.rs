//! A client on one stream of messages in each direction: standard input and output, a WebSocket, or
//! HTTP+SSE of 2024-11-05. Requests overlap; each message is whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use opsroom_core::Caller;
use opsroom_core::id::new_id;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Client, Out, Speech};
use crate::edge::{hello, told};
use crate::era::negotiated;
use crate::gateway::{Gateway, Inner};
use crate::message::{self, Envelope, Members};
use crate::routes::View;
use crate::session::Session;
use crate::upstream::call::{Abilities, Reply};
use crate::upstream::modern::VERSION;
use crate::{dispatch, listen, tasks};

/// How many requests of one client may be at work at once.
const MOST_AT_WORK: usize = 256;

/// A conversation with one client.
pub struct Conversation {
    inner: Arc<Inner>,
    caller: Caller,
    view: View,
    out: mpsc::Sender<Bytes>,
    session: Mutex<Option<Arc<Session>>>,
    at_work: Arc<Mutex<HashMap<String, CancellationToken>>>,
    /// How many requests are at work that will have an answer by themselves.
    answering: Arc<AtomicUsize>,
    ended: CancellationToken,
    _end: DropGuard,
}

impl Gateway {
    /// Begins a conversation with a caller; what is said to it goes to `out`.
    pub fn converse(&self, caller: Caller, view: View, out: mpsc::Sender<Bytes>) -> Conversation {
        let ended = CancellationToken::new();
        Conversation {
            inner: self.0.clone(),
            caller,
            view,
            out,
            session: Mutex::default(),
            at_work: Arc::default(),
            answering: Arc::default(),
            _end: ended.clone().drop_guard(),
            ended,
        }
    }
}

impl Conversation {
    /// Takes a message of the client.
    pub async fn receive(&self, bytes: Bytes) {
        let envelope = match message::parse(&bytes) {
            Ok(envelope) => envelope,
            Err((code, text)) => return self.say(message::error(None, code, &text)).await,
        };
        let method = envelope.method.as_ref().map(|method| method.as_str());
        match (method, envelope.id) {
            (Some("initialize"), Some(id)) => self.greet(&envelope, id).await,
            (Some(_), Some(id)) => self.request(&envelope, id, bytes.clone()).await,
            (Some(method), None) => self.notified(method, envelope.params),
            (None, Some(id)) => {
                if let (Some(session), Some(reply)) = (self.session(), Reply::of(&envelope)) {
                    // An answer to nothing that was asked is left out.
                    let _known = session.answered(id, reply);
                }
            }
            (None, None) => {}
        }
    }

    /// Waits until what is at work is answered, but not for subscriptions.
    pub async fn finish(&self) {
        while self.answering.load(Ordering::SeqCst) > 0 && !self.out.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn say(&self, message: Bytes) {
        // A client that has gone needs no answer.
        let _gone = self.out.send(message).await;
    }

    async fn greet(&self, envelope: &Envelope<'_>, id: &RawValue) {
        let (wanted, hello) = hello(envelope.params);
        let version = negotiated(&wanted);
        let clock = &self.inner.clock;
        let session = Session::live(&self.caller, self.view.clone(), hello, self.out.clone(), clock);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        self.tell_changes();
        let client = Client::of_house(self.caller.clone(), self.view.clone(), None);
        crate::tools::wait_for_lists(&self.inner, &client).await;
        self.say(message::result(id, &dispatch::greeting(&self.inner, &client, version))).await;
    }

    /// Tells a legacy client which lists change, for as long as it is there.
    fn tell_changes(&self) {
        let client = Client::of_house(self.caller.clone(), self.view.clone(), None);
        let (inner, out, ended) = (self.inner.clone(), self.out.clone(), self.ended.clone());
        let mut changes = inner.changes.subscribe();
        let stop = inner.lifecycle.stopping();
        let work = async move {
            let told = async {
                loop {
                    match changes.recv().await {
                        Ok(change) if listen::concerns(&inner, &client, &change) => {
                            let message = message::request(None, change.list.method(), None);
                            if out.send(message).await.is_err() {
                                return;
                            }
                        }
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
            };
            tokio::select! {
                () = told => {}
                () = ended.cancelled() => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        };
        drop(self.inner.lifecycle.spawn_work(work));
    }

    fn notified(&self, method: &str, params: Option<&RawValue>) {
        if let Some(session) = self.session() {
            told(&session, method, params);
        }
        let members = params.and_then(Members::of).unwrap_or_default();
        if method == "notifications/cancelled"
            && let Some(id) = members.get("requestId")
            && let Some(cancel) = self.working().get(id.get())
        {
            cancel.cancel();
        }
    }

    fn working(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, id: &RawValue, cancel: &CancellationToken) -> bool {
        let mut working = self.working();
        let room = working.len() < MOST_AT_WORK;
        if room {
            working.insert(id.get().to_owned(), cancel.clone());
        }
        room
    }

    async fn request(&self, envelope: &Envelope<'_>, id: &RawValue, bytes: Bytes) {
        let (speech, tasks) = match self.speech(envelope) {
            Ok(speech) => speech,
            Err((code, text)) => return self.say(message::error(Some(id), code, &text)).await,
        };
        let cancel = self.ended.child_token();
        if !self.admit(id, &cancel) {
            let text = format!("more than {MOST_AT_WORK} requests are at work");
            return self.say(message::error(Some(id), message::UNAVAILABLE, &text)).await;
        }
        let client = Client {
            // Each message is a request of its own in the records.
            caller: Caller { request_id: Some(new_id()), ..self.caller.clone() },
            view: self.view.clone(),
            speech,
            deadline: None,
            cancel: cancel.clone(),
            tasks,
            headers: Vec::new(),
        };
        let (inner, out, id) = (self.inner.clone(), self.out.clone(), id.get().to_owned());
        let at_work = self.at_work.clone();
        let lasts = envelope.method.as_ref().is_some_and(|method| method.as_str() == "subscriptions/listen");
        let answering = self.answering.clone();
        answering.fetch_add(usize::from(!lasts), Ordering::SeqCst);
        let work = async move {
            let before = Out::new(out.clone());
            let answer = tokio::select! {
                answer = dispatch::request(&inner, &client, &bytes, &before) => Some(answer),
                // Who cancels wants no answer; a subscription says that it ends.
                () = cancel.cancelled() => None,
            };
            at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(answer) = answer {
                let _gone = out.send(answer.message).await;
            }
            answering.fetch_sub(usize::from(!lasts), Ordering::SeqCst);
            Ok(())
        };
        drop(self.inner.lifecycle.spawn_work(work));
    }

    /// In which era the request is, and whether its client knows tasks.
    fn speech(&self, envelope: &Envelope<'_>) -> Result<(Speech, bool), (i64, String)> {
        let params = message::params(envelope.params).map_err(|text| (message::INVALID_PARAMS, text))?;
        let version = params.meta.as_ref().and_then(|meta| meta.version.as_ref());
        match version {
            Some(version) if version.as_str() == VERSION => {
                let capabilities = params.meta.as_ref().and_then(|meta| meta.capabilities);
                if capabilities.is_none() {
                    let text = "params._meta[\"io.modelcontextprotocol/clientCapabilities\"] is missing";
                    return Err((message::INVALID_PARAMS, text.to_owned()));
                }
                Ok((Speech::Modern(Abilities::of(capabilities)), tasks::declared(capabilities)))
            }
            Some(version) => {
                let text = format!("the revision {:?} is not spoken", version.as_str());
                Err((message::UNSUPPORTED_VERSION, text))
            }
            None => self
                .session()
                .map(|session| (Speech::Legacy(session), false))
                .ok_or((message::INVALID_REQUEST, "begin with initialize".to_owned())),
        }
    }
}
