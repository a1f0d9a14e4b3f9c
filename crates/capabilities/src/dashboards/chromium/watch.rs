//! What a page does, as its events tell it: what it loads, where it goes, what it asks, how it fails.

use std::collections::HashMap;

use opsroom_core::Secret;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::protocol::{Devtools, Event};

/// The most texts of one kind that are kept.
const MOST: usize = 20;
/// The longest text that is kept, in characters.
const LONGEST: usize = 300;

/// Headers that go to one origin and to no other.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Scheme, host and port.
    pub origin: String,
    /// The headers.
    pub headers: Vec<(String, Secret)>,
}

impl Credentials {
    /// Whether a request to this URL gets them.
    pub fn are_for(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| url.origin().ascii_serialization() == self.origin)
    }
}

struct Flight {
    place: String,
    /// It never ends by itself: a stream of events, a socket.
    endless: bool,
}

/// What is known of a page.
pub struct Watch {
    session: String,
    target: String,
    frame: String,
    credentials: Option<Credentials>,
    flying: HashMap<(String, String), Flight>,
    /// When something was last asked for or answered.
    pub network: Instant,
    /// How many requests there were.
    pub requests: u64,
    /// The number of the document's own answer, and where it came from.
    pub answered: Option<(u16, String)>,
    /// The document whose answer counts.
    loader: String,
    /// Why the document did not come.
    pub failed: Option<String>,
    /// Its process is gone.
    pub crashed: bool,
    /// Requests that failed, by their places.
    pub failures: Vec<String>,
    /// What it asked in windows of its own, which were dismissed.
    pub dialogs: Vec<String>,
    /// The files that it wanted to save, which was denied.
    pub downloads: Vec<String>,
}

impl Watch {
    /// Of a page of which nothing is known.
    pub fn new(session: &str, target: &str, credentials: Option<Credentials>) -> Self {
        Self {
            session: session.to_owned(),
            target: target.to_owned(),
            frame: target.to_owned(),
            credentials,
            flying: HashMap::new(),
            network: Instant::now(),
            requests: 0,
            answered: None,
            loader: String::new(),
            failed: None,
            crashed: false,
            failures: Vec::new(),
            dialogs: Vec::new(),
            downloads: Vec::new(),
        }
    }

    /// Before it goes to another document.
    pub fn begin(&mut self) {
        self.flying.clear();
        self.network = Instant::now();
        (self.answered, self.failed) = (None, None);
        self.loader.clear();
    }

    /// The places of requests that are not answered and will be.
    pub fn waiting(&self) -> Vec<String> {
        let mut places: Vec<String> = self
            .flying
            .values()
            .filter(|flight| !flight.endless)
            .map(|flight| flight.place.clone())
            .collect();
        places.sort();
        places.truncate(5);
        places
    }

    /// Takes an event in, and answers what must be answered at once.
    pub fn take(&mut self, event: &Event, devtools: &Devtools) {
        let params = &event.params;
        let text = |name: &str| params[name].as_str().unwrap_or_default();
        let key = || (event.session.clone(), text("requestId").to_owned());
        let own = event.session == self.session;
        match event.method.as_str() {
            "Network.requestWillBeSent" => self.asked(event, key()),
            "Network.responseReceived" => self.response(event, &key()),
            "Network.loadingFinished" => self.over(&key()),
            "Network.loadingFailed" => self.broken(event, &key()),
            "Fetch.requestPaused" => self.pass(event, devtools),
            "Page.javascriptDialogOpening" => {
                keep(&mut self.dialogs, &format!("{}: {}", text("type"), text("message")));
                // A page that asks whether it may be left may be.
                let accept = text("type") == "beforeunload";
                devtools.tell(&event.session, "Page.handleJavaScriptDialog", json!({ "accept": accept }));
            }
            "Browser.downloadWillBegin" if text("frameId") == self.frame => {
                keep(&mut self.downloads, text("suggestedFilename"));
            }
            "Page.frameNavigated" if own && params["frame"].get("parentId").is_none() => {
                let frame = &params["frame"];
                if let Some(url) = frame["unreachableUrl"].as_str().filter(|url| !url.is_empty()) {
                    self.failed.get_or_insert_with(|| place_of(url));
                }
            }
            "Inspector.targetCrashed" if own => self.crashed = true,
            "Target.targetCrashed" if text("targetId") == self.target => self.crashed = true,
            "Target.attachedToTarget" => self.attached(params, devtools),
            "Target.detachedFromTarget" => {
                let gone = text("sessionId").to_owned();
                self.flying.retain(|(session, _), _| *session != gone);
            }
            _ => {}
        }
    }

    fn asked(&mut self, event: &Event, key: (String, String)) {
        let request = &event.params["request"];
        let url = request["url"].as_str().unwrap_or_default();
        if url.starts_with("data:") || url.starts_with("blob:") {
            return;
        }
        (self.network, self.requests) = (Instant::now(), self.requests + 1);
        let kind = event.params["type"].as_str().unwrap_or_default();
        if kind == "Document" && event.session == self.session && event.params["frameId"] == *self.frame {
            event.params["loaderId"].as_str().unwrap_or_default().clone_into(&mut self.loader);
        }
        let endless =
            matches!(kind, "EventSource" | "WebSocket" | "Ping" | "CSPViolationReport" | "Preflight");
        // A page that asks without end is not remembered without end.
        if self.flying.len() < 4096 {
            self.flying.insert(key, Flight { place: place_of(url), endless });
        }
    }

    fn response(&mut self, event: &Event, key: &(String, String)) {
        let response = &event.params["response"];
        self.network = Instant::now();
        if response["mimeType"] == "text/event-stream"
            && let Some(flight) = self.flying.get_mut(key)
        {
            flight.endless = true;
        }
        let status = response["status"].as_u64().unwrap_or_default() as u16;
        let document = event.params["type"] == "Document" && event.params["loaderId"] == *self.loader;
        if document && !self.loader.is_empty() && event.session == self.session {
            let url = response["url"].as_str().unwrap_or_default();
            self.answered = Some((status, url.to_owned()));
        } else if status >= 400 {
            let place = place_of(response["url"].as_str().unwrap_or_default());
            keep(&mut self.failures, &format!("{place}: {status}"));
        }
    }

    fn over(&mut self, key: &(String, String)) {
        if self.flying.remove(key).is_some_and(|flight| !flight.endless) {
            self.network = Instant::now();
        }
    }

    fn broken(&mut self, event: &Event, key: &(String, String)) {
        let Some(flight) = self.flying.remove(key) else { return };
        self.network = Instant::now();
        // What the page itself called off is no failure.
        if event.params["canceled"] != Value::Bool(true) && !flight.endless {
            let why = event.params["errorText"].as_str().unwrap_or_default();
            keep(&mut self.failures, &format!("{}: {why}", flight.place));
        }
    }

    /// Lets a request go on, with the credentials if it goes to their origin.
    fn pass(&self, event: &Event, devtools: &Devtools) {
        let mut passed = json!({ "requestId": event.params["requestId"] });
        let request = &event.params["request"];
        let url = request["url"].as_str().unwrap_or_default();
        if let Some(known) = self.credentials.as_ref().filter(|known| known.are_for(url)) {
            let given = |name: &str| known.headers.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name));
            let sent = request["headers"].as_object().into_iter().flatten();
            let mut headers: Vec<Value> = sent
                .filter(|(name, _)| !given(name))
                .map(|(name, value)| json!({ "name": name, "value": value }))
                .collect();
            headers.extend(
                known.headers.iter().map(|(name, value)| json!({ "name": name, "value": value.expose() })),
            );
            passed["headers"] = Value::Array(headers);
        }
        devtools.tell(&event.session, "Fetch.continueRequest", passed);
    }

    /// A frame of another origin or a worker: its requests count, and it goes on.
    fn attached(&self, params: &Value, devtools: &Devtools) {
        let child = params["sessionId"].as_str().unwrap_or_default();
        let kind = params["targetInfo"]["type"].as_str().unwrap_or_default();
        if matches!(kind, "iframe" | "worker" | "shared_worker" | "service_worker") {
            devtools.tell(child, "Network.enable", quiet_network());
            devtools.tell(child, "Target.setAutoAttach", auto_attach());
        }
        if kind == "iframe" {
            devtools.tell(child, "Page.enable", json!({}));
        }
        devtools.tell(child, "Runtime.runIfWaitingForDebugger", json!({}));
    }
}

/// Bodies of answers are not kept for anybody to ask for.
pub fn quiet_network() -> Value {
    json!({ "maxTotalBufferSize": 0, "maxResourceBufferSize": 0, "maxPostDataSize": 0 })
}

/// Every frame and worker from its first moment.
pub fn auto_attach() -> Value {
    json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true })
}

/// A URL without what may be secret in it.
pub fn place_of(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if url.has_host() => {
            format!("{}{}", url.origin().ascii_serialization(), short(url.path(), 120))
        }
        _ => short(url, 40),
    }
}

fn short(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

fn keep(texts: &mut Vec<String>, text: &str) {
    let text = short(text, LONGEST);
    if texts.len() < MOST && !texts.contains(&text) {
        texts.push(text);
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::lifecycle::Lifecycle;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn credentials_are_for_their_exact_origin() {
        let known = Credentials { origin: "http://grafana.example:3000".to_owned(), headers: Vec::new() };
        assert!(known.are_for("http://grafana.example:3000/d/x?y"));
        for other in [
            "https://grafana.example:3000/",
            "http://grafana.example/",
            "http://grafana.example:3001/",
            "http://grafana.example:3000.evil.example/",
            "http://grafana.example:3000@evil.example/",
            "http://x.grafana.example:3000/",
        ] {
            assert!(!known.are_for(other), "{other}");
        }
    }

    fn event(method: &str, params: Value) -> Event {
        Event { method: method.to_owned(), session: "s".to_owned(), params }
    }

    fn devtools() -> (Devtools, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        (Devtools::start(&Lifecycle::new(), ours, tokio::io::duplex(16).1), theirs)
    }

    #[tokio::test]
    async fn what_never_ends_is_not_waited_for() {
        let (devtools, _theirs) = devtools();
        let mut watch = Watch::new("s", "t", None);
        let asked = |id: &str, kind: &str| json!({ "requestId": id, "type": kind, "frameId": "t", "request": { "url": format!("http://a/{id}?token=x") } });
        for (id, kind) in [("1", "Fetch"), ("2", "EventSource"), ("3", "Fetch"), ("4", "Fetch")] {
            watch.take(&event("Network.requestWillBeSent", asked(id, kind)), &devtools);
        }
        assert_eq!(watch.waiting(), ["http://a/1", "http://a/3", "http://a/4"]);
        watch.take(&event("Network.loadingFinished", json!({ "requestId": "1" })), &devtools);
        watch.take(
            &event("Network.loadingFailed", json!({ "requestId": "3", "errorText": "net::ERR_X" })),
            &devtools,
        );
        let stream =
            json!({ "requestId": "4", "response": { "mimeType": "text/event-stream", "status": 200 } });
        watch.take(&event("Network.responseReceived", stream), &devtools);
        assert!(watch.waiting().is_empty());
        assert_eq!(watch.failures, ["http://a/3: net::ERR_X"]);
    }

    #[tokio::test]
    async fn a_redirect_to_another_origin_takes_no_credentials_along() {
        let (devtools, mut theirs) = devtools();
        let headers = vec![("Authorization".to_owned(), Secret::new("Bearer hunter2"))];
        let known = Credentials { origin: "http://a".to_owned(), headers };
        let mut watch = Watch::new("s", "t", Some(known));
        for (id, url) in [("1", "http://a/"), ("2", "http://evil.example/")] {
            let request = json!({ "url": url, "headers": { "Accept": "*/*", "authorization": "mine" } });
            watch.take(
                &event("Fetch.requestPaused", json!({ "requestId": id, "request": request })),
                &devtools,
            );
        }
        let mut heard = String::new();
        while heard.matches('\0').count() < 2 {
            let mut part = [0; 4096];
            let read = theirs.read(&mut part).await.unwrap();
            heard.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        let mut messages =
            heard.split_terminator('\0').map(|text| serde_json::from_str::<Value>(text).unwrap());
        let headers = messages.next().unwrap()["params"]["headers"].take();
        assert_eq!(
            headers,
            json!([{ "name": "Accept", "value": "*/*" }, { "name": "Authorization", "value": "Bearer hunter2" }])
        );
        assert!(messages.next().unwrap()["params"].get("headers").is_none());
    }

    #[tokio::test]
    async fn a_page_that_talks_without_end_is_not_remembered_without_end() {
        let (devtools, _theirs) = devtools();
        let mut watch = Watch::new("s", "t", None);
        for n in 0..500 {
            let text = format!("{n}{}", "x".repeat(5000));
            watch.take(
                &event("Page.javascriptDialogOpening", json!({ "type": "alert", "message": text })),
                &devtools,
            );
        }
        assert_eq!(watch.dialogs.len(), MOST);
        assert!(watch.dialogs.iter().all(|text| text.len() <= LONGEST));
    }
}
