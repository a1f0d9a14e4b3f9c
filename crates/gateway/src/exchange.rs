//! A request that is a service's to answer: sent in the service's words, answered in the client's.

use std::sync::Arc;
use std::time::Duration;

use opsroom_core::Kind;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::bridge::{ASTRAY, Finish, Live, Way, asks_astray, rounds};
use crate::catalogue::Era;
use crate::client::{Answer, Client, Out};
use crate::era;
use crate::gateway::Inner;
use crate::message::{self, Members, UNAVAILABLE, raw_text};
use crate::routes::Served;
use crate::seal::Bound;
use crate::upstream::Connection;
use crate::upstream::call::{Call, Reply, Trouble};
use crate::upstream::lists::canonical;

/// How long a sealed `requestState` can be brought back, in seconds.
const STATE: i64 = 600;

/// A request for a service.
pub struct Exchange<'a> {
    /// The gateway.
    pub gateway: &'a Arc<Inner>,
    /// Who asks.
    pub client: &'a Client,
    /// Where what comes before the answer goes.
    pub out: &'a Out,
    /// The service.
    pub served: &'a Arc<Served>,
    /// The method.
    pub method: &'a str,
    /// The client's id.
    pub id: &'a RawValue,
    /// The tool, the prompt or the resource, as the service calls it.
    pub name: Option<&'a str>,
    /// The client's parameters, with the service's own name in them.
    pub params: Box<RawValue>,
    /// The headers that repeat arguments.
    pub headers: Vec<(String, String)>,
    /// The longest silence.
    pub deadline: Duration,
}

/// What the client brought back.
pub struct Back<'a> {
    /// The sealed state.
    pub state: Option<&'a str>,
    /// The answers to what was asked.
    pub responses: Option<&'a RawValue>,
    /// By what it knows the progress.
    pub progress: Option<&'a RawValue>,
    /// The arguments, to which a state is bound.
    pub arguments: Option<&'a RawValue>,
}

/// Why there is no answer.
pub enum Failed {
    /// The client's fault.
    Refused(i64, String),
    /// The service's.
    Trouble(Trouble),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Failed::Trouble(trouble)
    }
}

impl Exchange<'_> {
    /// The digest to which a state for this request is bound.
    fn digest(&self, arguments: Option<&RawValue>) -> Vec<u8> {
        let mut hash = Sha256::new();
        let service = &self.served.service.name;
        let arguments = arguments.and_then(canonical).unwrap_or_default();
        for part in [service.as_str(), self.name.unwrap_or_default(), arguments.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().to_vec()
    }

    /// Asks the service, and whoever the service asks.
    pub async fn run(&self, back: &Back<'_>, live: Option<Live>) -> Result<Reply, Failed> {
        let connection = self.served.link.connection(self.deadline).await?;
        let era = connection.era();
        let digest = self.digest(back.arguments);
        let bound = Bound { subject: &self.client.caller.subject, purpose: self.method, digest: &digest };
        let mut params = era::params(self.client, era, Some(&self.params));
        let mut taken = live;
        if let Some(sealed) = back.state {
            let refused = |text: &str| Failed::Refused(message::INVALID_PARAMS, text.to_owned());
            let open = self.gateway.seal.open(bound, sealed).and_then(|state| String::from_utf8(state).ok());
            let Some(state) = open else {
                return Err(refused("the requestState was not given for this request, or is too old"));
            };
            match state.split_at_checked(1) {
                Some(("p", ticket)) => {
                    let Some(mut live) = self.gateway.parked.take(ticket) else {
                        return Err(refused(
                            "the call that this requestState belongs to is over; call again",
                        ));
                    };
                    live.answer(back.responses);
                    taken = Some(live);
                }
                Some((_, of_service)) => params = with_state(&params, of_service),
                None => return Err(refused("the requestState is empty")),
            }
        }
        let way = Way {
            client: self.client,
            out: self.out,
            progress: back.progress.map(ToOwned::to_owned),
            deadline: self.deadline,
            parked: &self.gateway.parked,
        };
        for _ in rounds() {
            let live = match taken.take() {
                Some(live) => live,
                None => self.begin(&connection, params.clone()),
            };
            let finish = tokio::select! {
                finish = way.run(live) => finish?,
                () = self.client.cancel.cancelled() => {
                    return Err(Failed::Refused(message::INTERNAL_ERROR, "the request was cancelled".to_owned()));
                }
            };
            match finish {
                Finish::Parked(requests, ticket) => return self.wanting(bound, requests, &ticket),
                Finish::Reply(Reply::Result(result)) if era == Era::Modern && asks_astray(&result) => {
                    return Err(Trouble::garbled(ASTRAY).into());
                }
                Finish::Reply(Reply::Result(result)) if era == Era::Modern => {
                    if self.client.is_modern() {
                        return Ok(Reply::Result(self.resealed(bound, result)?));
                    }
                    match way.collect(&params, &result).await {
                        Some(again) => params = again,
                        None => return Ok(Reply::Result(result)),
                    }
                }
                Finish::Reply(reply) => return Ok(reply),
            }
        }
        Err(Trouble::garbled("it asks for input without an end").into())
    }

    fn begin(&self, connection: &Connection, params: Box<RawValue>) -> Live {
        let call = Call {
            method: self.method.to_owned(),
            params,
            name: self.name.map(str::to_owned),
            headers: self.headers.clone(),
            owner: self.client.owner(),
        };
        Live::begin(connection.clone(), call, self.id.to_owned())
    }

    fn wanting(&self, bound: Bound<'_>, requests: Box<RawValue>, ticket: &str) -> Result<Reply, Failed> {
        let mut result = Members::default();
        result.set("resultType", raw_text("input_required"));
        result.set("inputRequests", requests);
        let state = self.gateway.seal.seal(bound, format!("p{ticket}").as_bytes(), STATE);
        let state = state.map_err(|error| Failed::Refused(message::INTERNAL_ERROR, error.message))?;
        result.set("requestState", raw_text(&state));
        Ok(Reply::Result(result.to_raw()))
    }

    /// The service's state in ours, so that nobody else brings it back, and not for another request.
    fn resealed(&self, bound: Bound<'_>, result: Box<RawValue>) -> Result<Box<RawValue>, Failed> {
        if !result.get().contains("requestState") {
            return Ok(result);
        }
        let Some(mut members) = Members::of(&result) else { return Ok(result) };
        let Some(state) = members.text("requestState").map(|state| format!("u{state}")) else {
            return Ok(result);
        };
        let sealed = self.gateway.seal.seal(bound, state.as_bytes(), STATE);
        let sealed = sealed.map_err(|error| Failed::Refused(message::INTERNAL_ERROR, error.message))?;
        members.set("requestState", raw_text(&sealed));
        Ok(members.to_raw())
    }

    /// The whole way: with a place among the requests at work, and the answer in the client's words.
    pub async fn answer(&self, back: &Back<'_>) -> (Answer, Option<Trouble>) {
        let link = &self.served.link;
        let asked = async {
            let _permit = link.permit(self.deadline).await?;
            self.run(back, None).await
        };
        self.ended(asked.await)
    }

    /// What became of it, as a message.
    pub fn ended(&self, asked: Result<Reply, Failed>) -> (Answer, Option<Trouble>) {
        let link = &self.served.link;
        match asked {
            Ok(reply) => {
                link.learn(None);
                let era = link.connected().map_or(Era::Legacy, |connection| connection.era());
                (self.told(era::reply(self.client, era, &self.served.service, self.method, reply)), None)
            }
            Err(Failed::Refused(code, text)) => (Answer::error(self.id, code, &text), None),
            Err(Failed::Trouble(trouble)) => {
                link.learn(Some(&trouble));
                (troubled(self.id, &self.served.service.name, &trouble), Some(trouble))
            }
        }
    }

    fn told(&self, reply: Reply) -> Answer {
        match reply {
            Reply::Result(result) => Answer::result(self.id, &result),
            Reply::Error(error) => Answer::error_raw(self.id, era::code(&error), &error),
        }
    }
}

/// What a client is told of a service that gave no answer.
pub fn troubled(id: &RawValue, service: &str, trouble: &Trouble) -> Answer {
    let kind = if matches!(trouble, Trouble::Busy(_)) { Kind::Busy } else { Kind::Unavailable };
    Answer::error(id, UNAVAILABLE, &format!("the service {service} {trouble}")).because(kind)
}

fn with_state(params: &RawValue, state: &str) -> Box<RawValue> {
    let mut members = Members::of(params).unwrap_or_default();
    members.set("requestState", raw_text(state));
    members.to_raw()
}
