//! Every method that a client may ask for, in both eras.

use std::sync::Arc;
use std::time::Duration;

use opsroom_core::Kind;
use serde_json::json;
use serde_json::value::RawValue;

use crate::client::{Answer, Client, Out, Speech};
use crate::exchange::{Back, Exchange};
use crate::gateway::Inner;
use crate::listen;
use crate::message::{self, INVALID_PARAMS, METHOD_NOT_FOUND, Members, Params, Text, raw, raw_text};
use crate::page::Page;
use crate::routes::{Entries, Served, Sight};
use crate::tasks;
use crate::tools::{self, Asked};
use crate::upstream::modern::{Opened, VERSION};

/// For how long a client may keep a list, in milliseconds: changes are told, so this is for those who do
/// not listen.
const KEEP: u64 = 5_000;
/// Methods of the legacy era alone.
const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
/// Methods of 2026-07-28 alone.
const ADDED: [&str; 2] = ["server/discover", "subscriptions/listen"];

/// Answers a request; what comes before the answer goes to `out`.
pub async fn request(gateway: &Arc<Inner>, client: &Client, body: &[u8], out: &Out) -> Answer {
    with(gateway, client, body, out, None).await
}

/// The same, where a service has begun to answer a call already.
pub async fn with(
    gateway: &Arc<Inner>,
    client: &Client,
    body: &[u8],
    out: &Out,
    opened: Option<Opened>,
) -> Answer {
    let no_id = RawValue::NULL;
    let envelope = match message::parse(body) {
        Ok(envelope) => envelope,
        Err((code, text)) => return Answer::error(no_id, code, &text),
    };
    let (Some(id), Some(method)) = (envelope.id, &envelope.method) else {
        return Answer::error(no_id, message::INVALID_REQUEST, "the message is no request");
    };
    let params = match message::params(envelope.params) {
        Ok(params) => params,
        Err(text) => return Answer::error(id, INVALID_PARAMS, &text),
    };
    let asked = Asked { body, id, raw_params: envelope.params, params: &params };
    if method.as_str() == "tools/call" {
        return tools::call(gateway, client, &asked, out, opened).await;
    }
    Request { gateway, client, out, method: method.as_str(), asked: &asked }.answer().await
}

struct Request<'a> {
    gateway: &'a Arc<Inner>,
    client: &'a Client,
    out: &'a Out,
    method: &'a str,
    asked: &'a Asked<'a>,
}

impl Request<'_> {
    fn params(&self) -> &Params<'_> {
        self.asked.params
    }

    async fn answer(&self) -> Answer {
        let modern = self.client.is_modern();
        let other_era = if modern { REMOVED.contains(&self.method) } else { ADDED.contains(&self.method) };
        if other_era {
            return self.no_method();
        }
        match self.method {
            "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
                self.list().await
            }
            "server/discover" => {
                tools::wait_for_lists(self.gateway, self.client).await;
                self.result(discovery(self.gateway, self.client))
            }
            "subscriptions/listen" => {
                listen::serve(self.gateway, self.client, self.asked.id, self.asked.raw_params, self.out).await
            }
            "ping" => self.result(Members::default()),
            "logging/setLevel" => self.set_level().await,
            "resources/subscribe" => self.subscribe(true).await,
            "resources/unsubscribe" => self.subscribe(false).await,
            "prompts/get" => self.prompt().await,
            "resources/read" => self.resource().await,
            "completion/complete" => self.complete().await,
            "tasks/get" | "tasks/update" | "tasks/cancel" if modern && self.is_of_house() => {
                tasks::answer(self.gateway, self.client, self.method, self.asked).await
            }
            _ => self.other().await,
        }
    }

    /// Whether it was sent to an endpoint of the house, and not to a service's own.
    fn is_of_house(&self) -> bool {
        !matches!(self.client.view, crate::routes::View::Service(_))
    }

    fn no_method(&self) -> Answer {
        let other_era = match self.client.is_modern() {
            true => REMOVED.contains(&self.method),
            false => ADDED.contains(&self.method),
        };
        let why = if other_era {
            "it belongs to another revision of the protocol than the one that this client speaks"
        } else {
            "methods are such as tools/list and tools/call; a tool's name stands in params.name of tools/call"
        };
        let text = format!("Method not found: there is no method {:?}; {why}", self.method);
        Answer::error(self.asked.id, METHOD_NOT_FOUND, &text)
    }

    fn invalid(&self, text: &str) -> Answer {
        Answer::error(self.asked.id, INVALID_PARAMS, text)
    }

    fn result(&self, mut members: Members<'_>) -> Answer {
        if self.client.is_modern() {
            members.fill("resultType", raw_text("complete"));
        }
        Answer::result(self.asked.id, &members.to_raw())
    }

    /// A list, made of what is known: no service is asked.
    async fn list(&self) -> Answer {
        let Some(mut page) = Page::at(self.params().cursor.as_ref().map(Text::as_str)) else {
            return self.invalid("params.cursor is not one that was given as nextCursor");
        };
        tools::wait_for_lists(self.gateway, self.client).await;
        let routes = self.gateway.routes.borrow().clone();
        let Some(sight) = routes.sight(&self.client.view, &self.client.caller) else {
            return self.no_method();
        };
        let key = match self.method {
            "tools/list" => {
                sight.list_tools(&self.gateway.builtin.tools(&self.client.caller), &mut page);
                "tools"
            }
            "prompts/list" => {
                sight.list_entries(Entries::Prompts, &mut page);
                "prompts"
            }
            "resources/list" => {
                sight.list_entries(Entries::Resources, &mut page);
                "resources"
            }
            _ => {
                sight.list_entries(Entries::Templates, &mut page);
                "resourceTemplates"
            }
        };
        let id = self.asked.id.get();
        let mut out = String::with_capacity(page.items().len() + 256);
        out.push_str(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"{key}":["#));
        out.push_str(page.items());
        out.push(']');
        if let Some(next) = page.next() {
            out.push_str(&format!(r#","nextCursor":"{next}""#));
        }
        if self.client.is_modern() {
            let info = info(&sight);
            out.push_str(&format!(
                r#","resultType":"complete","ttlMs":{KEEP},"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{}}}"#,
                info.get()
            ));
        }
        out.push_str("}}");
        Answer::whole(out.into())
    }

    fn named(&self) -> Option<String> {
        self.params().name.and_then(message::text).map(String::from)
    }

    async fn prompt(&self) -> Answer {
        let Some(name) = self.named() else {
            return self.invalid("params.name, the prompt's name, is missing");
        };
        let routes = self.gateway.routes.borrow().clone();
        let sight = routes.sight(&self.client.view, &self.client.caller);
        let Some((served, own)) = sight.and_then(|sight| sight.prompt(&name)) else {
            return self.invalid(&format!("there is no prompt {name:?}; prompts/list names those there are"));
        };
        let mut members = self.asked.raw_params.and_then(Members::of).unwrap_or_default();
        members.set("name", raw_text(&own));
        self.ask(&served, Some(&own), members.to_raw()).await
    }

    async fn resource(&self) -> Answer {
        let Some(uri) = self.params().uri.and_then(message::text) else {
            return self.invalid("params.uri, the resource's URI, is missing");
        };
        let Some(served) = self.of_resource(&uri) else { return self.no_resource(&uri) };
        self.ask(&served, Some(&uri), self.all_params()).await
    }

    fn of_resource(&self, uri: &str) -> Option<Arc<Served>> {
        let routes = self.gateway.routes.borrow().clone();
        routes.sight(&self.client.view, &self.client.caller)?.resource(uri)
    }

    fn no_resource(&self, uri: &str) -> Answer {
        let modern = self.client.is_modern();
        let code = if modern { INVALID_PARAMS } else { message::LEGACY_RESOURCE_NOT_FOUND };
        let data = json!({ "uri": uri });
        let error = message::error_object(code, "Resource not found", Some(data));
        Answer::error_raw(self.asked.id, code, &error)
    }

    fn all_params(&self) -> Box<RawValue> {
        self.asked.raw_params.map_or_else(|| raw(&json!({})), ToOwned::to_owned)
    }

    async fn complete(&self) -> Answer {
        let mut members = self.asked.raw_params.and_then(Members::of).unwrap_or_default();
        let reference = members.get("ref").map(ToOwned::to_owned);
        let Some(mut reference) = reference.as_deref().and_then(Members::of) else {
            return self.invalid("params.ref, what is completed, is missing");
        };
        let routes = self.gateway.routes.borrow().clone();
        let sight = routes.sight(&self.client.view, &self.client.caller);
        let served = match (reference.text("name"), reference.text("uri")) {
            (Some(name), _) => {
                let found = sight.and_then(|sight| sight.prompt(&name));
                found.map(|(served, own)| {
                    reference.set("name", raw_text(&own));
                    served
                })
            }
            (None, Some(uri)) => sight.and_then(|sight| {
                let own =
                    |served: &Arc<Served>| served.service.templates.iter().any(|entry| entry.key == *uri);
                let of_template = sight.services().find(|served| own(served)).cloned();
                of_template.or_else(|| sight.resource(&uri))
            }),
            _ => None,
        };
        let Some(served) = served else { return self.invalid("params.ref names nothing that is there") };
        let reference = reference.to_raw();
        members.set("ref", reference);
        self.ask(&served, None, members.to_raw()).await
    }

    /// What no revision that we know has: an extension, which is the service's to answer.
    async fn other(&self) -> Answer {
        let routes = self.gateway.routes.borrow().clone();
        let sight = routes.sight(&self.client.view, &self.client.caller);
        let Some(served) = sight.and_then(|sight| sight.only().cloned()) else { return self.no_method() };
        let era = served.link.connected().map(|connection| connection.era());
        let same = era
            == Some(if self.client.is_modern() {
                crate::catalogue::Era::Modern
            } else {
                crate::catalogue::Era::Legacy
            });
        if !same || !served.may_read(&self.client.caller) {
            return self.no_method();
        }
        let task = self.asked.raw_params.and_then(Members::of);
        let task = task.and_then(|members| members.text("taskId").map(String::from));
        self.ask(&served, task.as_deref(), self.all_params()).await
    }

    async fn ask(&self, served: &Arc<Served>, name: Option<&str>, params: Box<RawValue>) -> Answer {
        let exchange = Exchange {
            gateway: self.gateway,
            client: self.client,
            out: self.out,
            served,
            method: self.method,
            id: self.asked.id,
            name,
            params,
            headers: Vec::new(),
            deadline: self.client.deadline.unwrap_or(served.link.upstream.deadline),
        };
        let back = Back {
            state: self.params().request_state.as_ref().map(Text::as_str),
            responses: self.params().input_responses,
            progress: self.params().meta.as_ref().and_then(|meta| meta.progress),
            arguments: self.params().arguments,
        };
        exchange.answer(&back).await.0
    }

    async fn set_level(&self) -> Answer {
        let members = self.asked.raw_params.and_then(Members::of).unwrap_or_default();
        let level = members.text("level").unwrap_or_default().into_owned();
        if crate::bridge::rank(&level) > 7 {
            return self.invalid(
                "params.level is none of debug, info, notice, warning, error, critical, alert, emergency",
            );
        }
        if let Speech::Legacy(session) = &self.client.speech {
            session.set_level(level);
        }
        let routes = self.gateway.routes.borrow().clone();
        let sight = routes.sight(&self.client.view, &self.client.caller);
        let only = sight.and_then(|sight| sight.only().cloned());
        let legacy = |served: &Arc<Served>| {
            let era = served.link.connected().map(|connection| connection.era());
            era == Some(crate::catalogue::Era::Legacy) && says(served, "logging")
        };
        match only.filter(legacy) {
            Some(served) => self.ask(&served, None, self.all_params()).await,
            None => self.result(Members::default()),
        }
    }

    async fn subscribe(&self, on: bool) -> Answer {
        let Speech::Legacy(session) = &self.client.speech else { return self.no_method() };
        let Some(uri) = self.params().uri.and_then(message::text) else {
            return self.invalid("params.uri, the resource's URI, is missing");
        };
        if !on {
            listen::unsubscribe(session, &uri);
            return self.result(Members::default());
        }
        let Some(served) = self.of_resource(&uri) else { return self.no_resource(&uri) };
        let patience = served.link.upstream.deadline.min(Duration::from_secs(30));
        match listen::subscribe(self.gateway, self.client, session, &served, &uri, patience).await {
            Ok(()) => self.result(Members::default()),
            Err(text) => Answer::error(self.asked.id, message::UNAVAILABLE, &text).because(Kind::Unavailable),
        }
    }
}

/// Whether a service says that it can do this.
fn says(served: &Served, capability: &str) -> bool {
    let members = served.service.capabilities.as_deref().and_then(Members::of);
    members.is_some_and(|members| members.get(capability).is_some())
}

/// Who answers at an endpoint.
fn info(sight: &Sight<'_>) -> Box<RawValue> {
    let of_service = sight.only().and_then(|served| served.service.info.as_deref().map(ToOwned::to_owned));
    of_service.unwrap_or_else(|| {
        raw(&json!({ "name": "opsroom", "title": "Opsroom", "version": env!("CARGO_PKG_VERSION") }))
    })
}

/// What can be done at an endpoint.
fn capabilities(sight: &Sight<'_>, modern: bool) -> Box<RawValue> {
    if sight.profile().is_some() {
        let mut own = json!({ "tools": { "listChanged": true } });
        if modern {
            tasks::offered(&mut own);
        }
        return raw(&own);
    }
    let Some(served) = sight.only() else {
        let mut own = json!({
            "tools": { "listChanged": true },
            "prompts": { "listChanged": true },
            "resources": { "listChanged": true, "subscribe": true },
            "completions": {},
            "logging": {},
        });
        if modern {
            tasks::offered(&mut own);
        }
        return raw(&own);
    };
    let given = served.service.capabilities.as_deref();
    let mut members = given.and_then(Members::of).unwrap_or_default();
    let same = served.service.era
        == Some(if modern { crate::catalogue::Era::Modern } else { crate::catalogue::Era::Legacy });
    if !same {
        // What is an extension of one era is nothing in the other.
        for name in ["extensions", "tasks", "experimental"] {
            members.remove(name);
        }
    }
    members.to_raw()
}

fn instructions(gateway: &Inner, sight: &Sight<'_>) -> Option<String> {
    match (sight.profile(), sight.only()) {
        (Some(profile), _) => profile.instructions.clone(),
        (_, Some(served)) => served.service.instructions.clone(),
        _ => Some(gateway.builtin.instructions().to_owned()),
    }
}

/// The result of `server/discover`.
fn discovery(gateway: &Inner, client: &Client) -> Members<'static> {
    let routes = gateway.routes.borrow().clone();
    let mut members = Members::default();
    let Some(sight) = routes.sight(&client.view, &client.caller) else { return members };
    members.set("supportedVersions", raw(&json!([VERSION])));
    members.set("capabilities", capabilities(&sight, true));
    if let Some(text) = instructions(gateway, &sight) {
        members.set("instructions", raw_text(&text));
    }
    members.set("ttlMs", raw(&json!(KEEP)));
    members.set("cacheScope", raw_text("private"));
    let mut meta = Members::default();
    meta.set("io.modelcontextprotocol/serverInfo", info(&sight));
    members.set("_meta", meta.to_raw());
    members
}

/// The result of `initialize`.
pub fn greeting(gateway: &Inner, client: &Client, version: &str) -> Box<RawValue> {
    let routes = gateway.routes.borrow().clone();
    let mut members = Members::default();
    if let Some(sight) = routes.sight(&client.view, &client.caller) {
        members.set("protocolVersion", raw_text(version));
        members.set("capabilities", capabilities(&sight, false));
        members.set("serverInfo", info(&sight));
        if let Some(text) = instructions(gateway, &sight) {
            members.set("instructions", raw_text(&text));
        }
    }
    members.to_raw()
}
