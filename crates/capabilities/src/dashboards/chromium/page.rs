//! One picture of one page, in a profile of its own that goes with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use opsroom_core::{Error, Result, Secret};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::Browser;
use super::protocol::{Devtools, Event};
pub use super::settle::Panel;
use super::settle::{Frame, Look, given, waits_for};
use super::watch::{Credentials, Watch, auto_attach, place_of, quiet_network};
use crate::dashboards::model::Format;
use crate::dashboards::proxy::Proxy;

/// How long one answer of the browser may take.
const STEP: Duration = Duration::from_secs(15);
/// Between two looks at the page.
const BETWEEN: Duration = Duration::from_millis(80);
/// Between the two pictures that must be the same.
const APART: Duration = Duration::from_millis(220);
/// The most pixels of a side.
const LONGEST_SIDE: f64 = 16_384.0;
/// The most pixels of a picture: what it takes unpacked is bounded by it.
pub const MOST_PIXELS: f64 = 24e6;
/// What watches the page from within.
const WATCHER: &str = include_str!("watch.js");

/// What is to be taken.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Where.
    pub url: String,
    /// The window, in CSS pixels.
    pub width: u32,
    pub height: u32,
    /// Pixels of the picture for one of the page.
    pub scale: f64,
    /// The whole height of the page.
    pub full_page: bool,
    /// The first element that this CSS selector matches, alone.
    pub element: Option<String>,
    /// An element that must be seen first.
    pub wait_for: Option<String>,
    pub format: Format,
    /// Whether pages that have a dark theme show it.
    pub dark: bool,
    /// The browser's time zone.
    pub zone: Option<String>,
    /// How long the page may take to settle after it was loaded.
    pub settle: Duration,
    /// How long all of it may take.
    pub limit: Duration,
    /// Headers for one origin.
    pub credentials: Option<Credentials>,
    /// A form to log in by first.
    pub form: Option<Form>,
}

/// A login page.
#[derive(Clone, Debug)]
pub struct Form {
    /// Where it is.
    pub url: String,
    /// The only origin that is given the password.
    pub origin: String,
    pub username: String,
    pub password: Secret,
    /// The field of the name, as a CSS selector.
    pub username_field: String,
    /// The field of the password.
    pub password_field: String,
}

/// A picture and what was seen while it was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub bytes: Bytes,
    /// Of the picture, in its own pixels; of a PDF, of the window.
    pub width: u32,
    pub height: u32,
    /// Where the page was in the end.
    pub url: String,
    pub title: String,
    pub panels: Vec<Panel>,
    /// The signals that said that the page is done.
    pub signals: Vec<String>,
    /// What it still waited for when the time was up; empty for a page that is done.
    pub waiting: Vec<String>,
    /// From the first request to the picture.
    pub took: Duration,
    pub dialogs: Vec<String>,
    pub downloads: Vec<String>,
    pub failures: Vec<String>,
}

/// Takes a picture.
///
/// # Errors
/// `Forbidden` for a page at or behind a place that may not be reached, `Conflict` for one that asks for a login,
/// `NotFound`, `Invalid` or `Unavailable` for one that is no page, does not come, or breaks.
pub async fn take(browser: &Arc<Browser>, proxy: &Proxy, shot: &Shot) -> Result<Taken> {
    let deadline = Instant::now() + shot.limit;
    let late = || Error::unavailable(format!("the capture was not done within {} s", shot.limit.as_secs()));
    let opened = timeout_at(deadline, Tab::open(browser, proxy, shot)).await.map_err(|_| late())?;
    let (tab, mut events) = opened?;
    let follow = async {
        while let Some(event) = events.recv().await {
            let mut watch = tab.watch();
            watch.take(&event, &tab.devtools);
            if watch.crashed {
                tab.crashed.notify_one();
            }
        }
        Err(Error::unavailable("the browser ended in the middle of the capture"))
    };
    tokio::select! {
        taken = timeout_at(deadline, tab.take(proxy, shot)) => taken.map_err(|_| late())?,
        gone = follow => gone,
        () = tab.crashed.notified() => Err(Error::unavailable(
            "the page crashed: its process ended, perhaps because it wanted more memory than `dashboards.page_mib`"
        )),
    }
}

/// A page; its profile is gone when it is dropped.
struct Tab {
    devtools: Devtools,
    session: String,
    context: String,
    /// The name under which the page's watcher is asked, which no page can know.
    name: String,
    watch: Mutex<Watch>,
    crashed: Notify,
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.devtools.tell("", "Target.disposeBrowserContext", json!({ "browserContextId": self.context }));
        self.devtools.forget();
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

impl Tab {
    async fn open(browser: &Browser, proxy: &Proxy, shot: &Shot) -> Result<(Self, mpsc::Receiver<Event>)> {
        let devtools = browser.devtools.clone();
        let call = async |session: &str, method: &str, params: Value| {
            devtools.call(session, method, params, STEP).await
        };
        let way_out = format!("http://127.0.0.1:{}", proxy.port);
        let own =
            json!({ "proxyServer": way_out, "proxyBypassList": "<-loopback>", "disposeOnDetach": true });
        let context = text(&call("", "Target.createBrowserContext", own).await?, "browserContextId");
        let mut tab = Self {
            devtools: devtools.clone(),
            session: String::new(),
            context: context.clone(),
            name: opsroom_core::id::new_token("w"),
            watch: Mutex::new(Watch::new("", "", None)),
            crashed: Notify::new(),
        };
        let deny = json!({ "behavior": "deny", "browserContextId": context, "eventsEnabled": true });
        call("", "Browser.setDownloadBehavior", deny).await?;
        let blank = json!({ "url": "about:blank", "browserContextId": context, "width": shot.width, "height": shot.height });
        let target = text(&call("", "Target.createTarget", blank).await?, "targetId");
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&call("", "Target.attachToTarget", attach).await?, "sessionId");
        let events = devtools.listen(&session);
        tab.watch = Mutex::new(Watch::new(&session, &target, shot.credentials.clone()));
        tab.session = session;
        tab.prepare(shot).await?;
        Ok((tab, events))
    }

    async fn prepare(&self, shot: &Shot) -> Result<()> {
        let scheme = if shot.dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        let script = WATCHER.replace("%NAME%", &self.name);
        // All are on their way before the first is waited for.
        let mut steps = vec![
            ("Page.enable", json!({})),
            ("Inspector.enable", json!({})),
            ("Network.enable", quiet_network()),
            ("Network.setBypassServiceWorker", json!({ "bypass": true })),
            ("Target.setAutoAttach", auto_attach()),
            ("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })),
            ("Emulation.setEmulatedMedia", json!({ "features": features })),
            ("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })),
        ];
        if let Some(zone) = &shot.zone {
            steps.push(("Emulation.setTimezoneOverride", json!({ "timezoneId": zone })));
        }
        if let Some(known) = &shot.credentials {
            let pattern = json!({ "urlPattern": format!("{}/*", known.origin) });
            steps.push(("Fetch.enable", json!({ "patterns": [pattern] })));
        }
        for (method, params) in steps {
            self.call(method, params).await.map_err(|error| match method {
                "Emulation.setTimezoneOverride" => {
                    Error::invalid("`tz` is not a time zone such as `Europe/Berlin`")
                }
                _ => error,
            })?;
        }
        self.resize(shot, shot.height).await
    }

    async fn resize(&self, shot: &Shot, height: u32) -> Result<()> {
        let size = json!({ "width": shot.width, "height": height, "deviceScaleFactor": shot.scale, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.devtools.call(&self.session, method, params, STEP).await
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, proxy: &Proxy, shot: &Shot) -> Result<Taken> {
        if let Some(form) = &shot.form {
            self.log_in(proxy, form, shot).await?;
        }
        let begun = Instant::now();
        self.go(proxy, shot, &shot.url).await?;
        let mut settled = self.settle(shot, begun + shot.settle).await?;
        self.is_the_page(proxy, shot, &settled.look)?;
        if shot.full_page {
            // What lies further down may be loaded only when it can be seen.
            for _ in 0..3 {
                let size = self.look(&json!({ "size": true })).await?;
                let height = size.height.min(longest(shot, shot.width.into())).max(shot.height.into()) as u32;
                if settled.height == height {
                    break;
                }
                self.resize(shot, height).await?;
                settled = self
                    .settle(shot, begun + shot.settle.max(begun.elapsed() + Duration::from_secs(3)))
                    .await?;
                settled.height = height;
            }
        }
        let (bytes, width, height) = self.picture(shot, settled.picture).await?;
        self.is_the_page(proxy, shot, &settled.look)?;
        let watch = self.watch();
        Ok(Taken {
            bytes,
            width,
            height,
            signals: if settled.waiting.is_empty() { given(&settled.look, &watch) } else { Vec::new() },
            url: settled.look.url,
            title: settled.look.title,
            panels: settled.look.panels,
            waiting: settled.waiting,
            took: begun.elapsed(),
            dialogs: watch.dialogs.clone(),
            downloads: watch.downloads.clone(),
            failures: watch.failures.clone(),
        })
    }

    /// Goes to a document, and says why it did not come.
    async fn go(&self, proxy: &Proxy, shot: &Shot, url: &str) -> Result<()> {
        self.watch().begin();
        let gone = self.devtools.call(
            &self.session,
            "Page.navigate",
            json!({ "url": url }),
            Duration::from_secs(60),
        );
        let gone = gone.await?;
        let error = text(&gone, "errorText");
        let download = gone["isDownload"] == Value::Bool(true);
        if error.is_empty() && !download {
            return Ok(());
        }
        // Why it did not come is known a moment later than that it did not.
        let until = Instant::now() + Duration::from_secs(if download { 5 } else { 0 });
        sleep(Duration::from_millis(100)).await;
        while self.watch().downloads.is_empty() && Instant::now() < until {
            sleep(BETWEEN).await;
        }
        if download || !self.watch().downloads.is_empty() {
            return Err(self.is_a_file(url));
        }
        if error.contains("AUTH_CREDENTIALS") {
            return Err(self.wants_login(shot, &place_of(url), "answers 401"));
        }
        Err(self.kept_from(proxy, &place_of(url), &error))
    }

    fn wants_login(&self, shot: &Shot, place: &str, what: &str) -> Error {
        let told = if shot.credentials.is_some() || shot.form.is_some() {
            "the login of its dashboard source is not accepted there"
        } else {
            "add a dashboard source for it with a `login`, and capture through that"
        };
        Error::conflict(format!("the page asks for a login ({place} {what}); {told}"))
    }

    fn is_a_file(&self, url: &str) -> Error {
        let name = self.watch().downloads.first().cloned().unwrap_or_default();
        Error::invalid(format!("{} is a file to save ({name:?}) and not a page", place_of(url)))
    }

    fn kept_from(&self, proxy: &Proxy, place: &str, why: &str) -> Error {
        let refused = proxy.refused();
        if let Some(refused) = refused.iter().find(|refused| refused.forbidden) {
            return Error::forbidden(format!(
                "{place} leads to a place that is kept from pages: {}",
                refused.why
            ));
        }
        if proxy.is_spent() {
            return Error::unavailable(format!("{place} loads more than `dashboards.traffic_mib`"));
        }
        match refused.first() {
            Some(refused) => Error::unavailable(format!("{place} cannot be reached: {}", refused.why)),
            None => Error::unavailable(format!("{place} cannot be shown: {why}")),
        }
    }

    /// Refuses what is not the page that was asked for.
    fn is_the_page(&self, proxy: &Proxy, shot: &Shot, look: &Look) -> Result<()> {
        let watch = self.watch();
        let (failed, answered) = (watch.failed.clone(), watch.answered.clone());
        drop(watch);
        if let Some(place) = failed {
            return Err(self.kept_from(proxy, &place, "it is an error of the browser"));
        }
        let path =
            |url: &str| reqwest::Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned()).ok();
        let elsewhere = path(&look.url) != path(&shot.url);
        let status = answered.map_or(200, |(status, _)| status);
        if matches!(status, 401 | 403) || look.password && elsewhere {
            let known = matches!(status, 401 | 403);
            let what = if known { format!("answers {status}") } else { "is a login page".to_owned() };
            return Err(self.wants_login(shot, &place_of(&look.url), &what));
        }
        match status {
            404 | 410 => Err(Error::not_found(format!("{} answers {status}", place_of(&look.url)))),
            400.. => Err(Error::unavailable(format!("{} answers {status}", place_of(&look.url)))),
            _ => Ok(()),
        }
    }

    async fn look(&self, what: &Value) -> Result<Look> {
        let expression = format!("window[{:?}] && window[{:?}]({what})", self.name, self.name);
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked).await?;
        let text = match (&answer["result"]["value"], &answer["exceptionDetails"]) {
            (Value::String(text), _) => text,
            (_, Value::Object(_)) => {
                return Err(Error::invalid(
                    "the page cannot be looked at; is `element` or `wait_for` a CSS selector?",
                ));
            }
            // Between two documents there is nobody to ask.
            _ => return Ok(Look { url: "about:blank".to_owned(), ..Look::default() }),
        };
        serde_json::from_str(text)
            .map_err(|error| Error::unavailable("the page cannot be looked at").because(error))
    }

    /// Waits until all signals agree, or the time is up.
    async fn settle(&self, shot: &Shot, until: Instant) -> Result<Settled> {
        let what = json!({ "wanted": shot.wait_for.as_ref().or(shot.element.as_ref()), "panels": true });
        let mut last: Option<Bytes> = None;
        loop {
            let look = match self.look(&what).await {
                // Its scripts run on: there may be an answer later.
                Err(error) if error.message.contains("does not let") && Instant::now() < until => continue,
                look => look?,
            };
            if self.watch().failed.is_some() {
                return Ok(Settled { look, waiting: Vec::new(), picture: None, height: shot.height });
            }
            let mut waiting = waits_for(&look, &self.watch());
            if waiting.is_empty() {
                let picture = self.screenshot(json!({ "format": "png", "optimizeForSpeed": true })).await?;
                if last.as_ref() == Some(&picture) {
                    return Ok(Settled { look, waiting, picture: Some(picture), height: shot.height });
                }
                last = Some(picture);
                waiting.push("pixels: they change".to_owned());
            } else {
                last = None;
            }
            if Instant::now() >= until {
                return Ok(Settled { look, waiting, picture: None, height: shot.height });
            }
            sleep(if last.is_some() { APART } else { BETWEEN }).await;
        }
    }

    async fn screenshot(&self, how: Value) -> Result<Bytes> {
        let answer = self.call("Page.captureScreenshot", how).await?;
        decoded(&answer["data"])
    }

    async fn picture(&self, shot: &Shot, known: Option<Bytes>) -> Result<(Bytes, u32, u32)> {
        if shot.format == Format::Pdf {
            let paper = json!({ "printBackground": true, "paperWidth": f64::from(shot.width) / 96.0, "paperHeight": f64::from(shot.height) / 96.0, "marginTop": 0, "marginBottom": 0, "marginLeft": 0, "marginRight": 0 });
            let answer = self.call("Page.printToPDF", paper).await?;
            return Ok((decoded(&answer["data"])?, shot.width, shot.height));
        }
        let mut how = match shot.format {
            Format::Jpeg => json!({ "format": "jpeg", "quality": 85 }),
            _ => json!({ "format": "png", "optimizeForSpeed": true }),
        };
        if let Some(selector) = &shot.element {
            let frame = self.look(&json!({ "element": selector })).await?.frame.ok_or_else(|| {
                Error::not_found(format!(
                    "nothing on the page matches the element `{}`",
                    selector.escape_debug()
                ))
            })?;
            let Frame { x, y, width, height } = frame;
            if width < 1.0 || height < 1.0 {
                return Err(Error::conflict(format!(
                    "the element `{}` has no size",
                    selector.escape_debug()
                )));
            }
            let width = width.min(LONGEST_SIDE / shot.scale);
            let most = longest(shot, width);
            how["clip"] = json!({ "x": x.max(0.0), "y": y.max(0.0), "width": width, "height": height.min(most), "scale": 1 });
            how["captureBeyondViewport"] = json!(true);
        }
        let bytes = match known.filter(|_| shot.element.is_none() && shot.format == Format::Png) {
            Some(settled) => settled,
            None => self.screenshot(how).await?,
        };
        let (width, height) = crate::dashboards::picture::size(&bytes).unwrap_or((
            (f64::from(shot.width) * shot.scale) as u32,
            (f64::from(shot.height) * shot.scale) as u32,
        ));
        Ok((bytes, width, height))
    }

    /// Fills the form in and sends it, on its own origin alone.
    async fn log_in(&self, proxy: &Proxy, form: &Form, shot: &Shot) -> Result<()> {
        self.go(proxy, shot, &form.url).await?;
        let until = Instant::now() + shot.settle;
        let there = Shot { wait_for: Some(form.password_field.clone()), element: None, ..shot.clone() };
        let look = self.settle(&there, until).await?.look;
        if let Some(place) = self.watch().failed.clone() {
            return Err(self.kept_from(proxy, &place, "it is an error of the browser"));
        }
        let origin =
            reqwest::Url::parse(&look.url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        if origin != form.origin {
            return Err(Error::conflict(format!(
                "the login page leads to {origin}, and the password is for {} alone",
                form.origin
            )));
        }
        if !look.wanted {
            return Err(Error::conflict(format!(
                "the login page {} has no field `{}`",
                place_of(&look.url),
                form.password_field.escape_debug()
            )));
        }
        for (field, value) in
            [(&form.username_field, form.username.as_str()), (&form.password_field, form.password.expose())]
        {
            let focus = format!(
                "(() => {{ const field = document.querySelector({}); if (!field) return false; field.focus(); field.select && field.select(); return location.origin === {}; }})()",
                json!(field),
                json!(form.origin)
            );
            let focused =
                self.call("Runtime.evaluate", json!({ "expression": focus, "returnByValue": true })).await?;
            if focused["result"]["value"] != Value::Bool(true) {
                let field = field.escape_debug();
                return Err(Error::conflict(format!(
                    "the login page {} has no field `{field}`",
                    place_of(&look.url)
                )));
            }
            self.call("Input.insertText", json!({ "text": value })).await?;
        }
        self.watch().begin();
        let before = self.watch().requests;
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
            self.call("Input.dispatchKeyEvent", key).await?;
        }
        // The answer to the form may be a new page or a script's.
        while self.watch().requests == before && Instant::now() < until {
            sleep(BETWEEN).await;
        }
        let after = Shot { wait_for: None, element: None, ..shot.clone() };
        self.settle(&after, until).await.map(drop)
    }
}

/// How high a picture of this width may be, in CSS pixels.
fn longest(shot: &Shot, width: f64) -> f64 {
    (LONGEST_SIDE / shot.scale).min(MOST_PIXELS / (width * shot.scale * shot.scale))
}

struct Settled {
    look: Look,
    waiting: Vec<String>,
    /// The picture that was the same twice.
    picture: Option<Bytes>,
    height: u32,
}

fn decoded(data: &Value) -> Result<Bytes> {
    let bytes = data.as_str().and_then(|data| STANDARD.decode(data).ok()).filter(|bytes| !bytes.is_empty());
    bytes.map(Bytes::from).ok_or_else(|| Error::unavailable("the browser gave no picture"))
}
