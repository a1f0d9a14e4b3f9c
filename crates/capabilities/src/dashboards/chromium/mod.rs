//! The browser: found on the machine, started when the first picture is asked for, stopped when nobody needs it.
//!
//! It runs as a user without rights where the server is root, with its own sandbox on unless the configuration
//! says otherwise, in a folder that goes with it. It looks no name up and has no way out but the proxy of each
//! page. It ends when its pipe does, however the server ends.

pub mod page;
mod protocol;
pub mod settle;
pub mod watch;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::config::{DashboardsConfig, Sandbox};
use protocol::Devtools;

/// Where programs are looked for.
const FOLDERS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/opt/google/chrome", "/snap/bin"];
/// What they are called.
const NAMES: [&str; 6] = [
    "chromium",
    "chromium-headless-shell",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chromium-browser",
];
/// How long the browser may take to say that it is there.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What is kept of its standard error, in bytes.
const KEPT_WORDS: usize = 4096;

/// Starts browsers, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Chromium(Arc<Inner>);

struct Inner {
    lifecycle: Lifecycle,
    config: DashboardsConfig,
    running: tokio::sync::Mutex<Option<Arc<Browser>>>,
}

/// A browser that runs. It ends when nobody holds it.
pub struct Browser {
    pub(super) devtools: Devtools,
    /// Whether its sandbox is on.
    pub sandbox: bool,
    captures: AtomicU32,
    used: Mutex<Instant>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.devtools.end();
    }
}

impl Browser {
    fn use_now(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Chromium {
    /// Starts nothing yet.
    pub fn new(lifecycle: Lifecycle, config: DashboardsConfig) -> Self {
        Self(Arc::new(Inner { lifecycle, config, running: tokio::sync::Mutex::default() }))
    }

    /// The program, if there is one.
    pub fn program(&self) -> Option<PathBuf> {
        let named = &self.0.config.chromium;
        if !named.as_os_str().is_empty() {
            return named.is_file().then(|| named.clone());
        }
        let places =
            FOLDERS.iter().flat_map(|folder| NAMES.iter().map(move |name| Path::new(folder).join(name)));
        let mac = [
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
        ];
        places.chain(mac.map(PathBuf::from)).find(|path| path.is_file())
    }

    /// What to say where there is no program.
    pub fn missing(&self) -> Error {
        let named = &self.0.config.chromium;
        if named.as_os_str().is_empty() {
            return Error::unavailable(
                "no browser was found on the server; install `chromium` (Debian) or `google-chrome` there, or name \
                 one with `dashboards.chromium`",
            );
        }
        Error::unavailable(format!("`dashboards.chromium`: there is no program `{}`", named.display()))
    }

    /// The browser that runs, or a new one.
    ///
    /// # Errors
    /// `Unavailable` when there is none or it does not start.
    pub async fn browser(&self) -> Result<Arc<Browser>> {
        let mut running = self.0.running.lock().await;
        let limit = self.0.config.restart_after;
        // Memory that a browser never gives back goes with it. Those who use it keep it until they are done.
        let known = running.take().filter(|browser| {
            !browser.devtools.ended().is_cancelled() && browser.captures.load(Ordering::Relaxed) < limit
        });
        let browser = match known {
            Some(browser) => browser,
            None => self.start().await?,
        };
        browser.captures.fetch_add(1, Ordering::Relaxed);
        browser.use_now();
        *running = Some(browser.clone());
        Ok(browser)
    }

    /// Whether a browser runs now.
    #[cfg(test)]
    pub async fn runs(&self) -> bool {
        self.0.running.lock().await.is_some()
    }

    async fn start(&self) -> Result<Arc<Browser>> {
        let program = self.program().ok_or_else(|| self.missing())?;
        let sandbox = self.0.config.sandbox == Sandbox::On;
        let profile =
            tempfile::Builder::new().prefix("opsroom-browser-").tempdir().map_err(Error::internal)?;
        let mut child = self.command(&program, profile.path())?.spawn().map_err(|error| {
            Error::unavailable(format!("`{}` cannot be started: {error}", program.display()))
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(Error::internal("a child without pipes"));
        };
        let life = &self.0.lifecycle;
        let devtools = Devtools::start(life, input, output);
        let words = Arc::new(Mutex::new(Vec::new()));
        drop(life.spawn_work(listen(errors, words.clone())));
        drop(life.spawn_work(see_off(life.clone(), devtools.clone(), child, profile)));
        let version = devtools.call("", "Browser.getVersion", json!({}), START).await;
        let version = version.map_err(|error| {
            devtools.end();
            let words = words.lock().unwrap_or_else(PoisonError::into_inner);
            not_started(&program, sandbox, &String::from_utf8_lossy(&words), error)
        })?;
        tracing::debug!(version = version["product"].as_str(), sandbox, "a browser was started");
        let browser = Arc::new(Browser {
            devtools,
            sandbox,
            captures: AtomicU32::new(0),
            used: Mutex::new(Instant::now()),
        });
        drop(life.spawn_work(stop_when_idle(Arc::downgrade(&self.0), Arc::downgrade(&browser))));
        Ok(browser)
    }

    fn command(&self, program: &Path, profile: &Path) -> Result<Command> {
        // The protocol's descriptors are 3 and 4; a shell lays the pipes there and becomes the browser.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null", "sh"]).arg(program);
        command.args(ARGUMENTS).arg(format!("--user-data-dir={}", profile.display()));
        command.arg(format!("--js-flags=--max-old-space-size={}", self.0.config.page_mib));
        if self.0.config.sandbox == Sandbox::Off {
            command.arg("--no-sandbox");
        }
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        for name in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, profile);
        }
        command.current_dir(profile).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            let (user, group) = account(&self.0.config.user)?;
            std::os::unix::fs::chown(profile, Some(user), Some(group)).map_err(Error::internal)?;
            command.uid(user).gid(group);
        }
        Ok(command)
    }
}

/// What keeps the browser to itself: no services of its maker, no names looked up, no way out but a page's
/// proxy, no windows, no questions.
const ARGUMENTS: [&str; 36] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--proxy-server=127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-quic",
    "--dns-prefetch-disable",
    "--no-pings",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-component-extensions-with-background-pages",
    "--disable-breakpad",
    "--disable-features=Translate,MediaRouter,OptimizationHints,AutofillServerCommunication,WebTransport,\
     InterestFeedContentSuggestions,CertificateTransparencyComponentUpdater",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--use-mock-keychain",
    "--block-new-web-contents",
    "--deny-permission-prompts",
    "--disable-notifications",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--mute-audio",
];

/// The user's and the group's numbers.
fn account(name: &str) -> Result<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").map_err(Error::internal)?;
    let fields =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let numbers =
        fields.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    match numbers {
        Some((0, _)) => {
            Err(Error::invalid(format!("`dashboards.user`: `{name}` is root; name a user without rights")))
        }
        Some(numbers) => Ok(numbers),
        None => {
            Err(Error::unavailable(format!("`dashboards.user`: there is no user `{name}` on the server")))
        }
    }
}

fn not_started(program: &Path, sandbox: bool, words: &str, error: Error) -> Error {
    let program = program.display();
    if sandbox && (words.contains("sandbox") || words.contains("namespace")) {
        return Error::unavailable(format!(
            "`{program}` cannot set up its sandbox here; let its user make namespaces \
             (`kernel.unprivileged_userns_clone`, `kernel.apparmor_restrict_unprivileged_userns`), install \
             `chromium-sandbox`, or accept the risk with `dashboards.sandbox: off`"
        ))
        .because(words.to_owned());
    }
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last: String = last.chars().take(300).collect();
    Error::unavailable(format!("`{program}` did not start: {last}")).because(error)
}

/// Reads its standard error to the end, and keeps the last of it.
async fn listen(mut errors: impl tokio::io::AsyncRead + Unpin, words: Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let mut part = [0; 2048];
    while let Ok(read) = errors.read(&mut part).await {
        if read == 0 {
            break;
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&part[..read]);
        let more = words.len().saturating_sub(KEPT_WORDS);
        words.drain(..more);
    }
    Ok(())
}

/// Waits for its end, helps where that takes long, and removes its folder.
async fn see_off(
    life: Lifecycle,
    devtools: Devtools,
    mut child: Child,
    profile: tempfile::TempDir,
) -> Result<()> {
    let (ended, stopping) = (devtools.ended(), life.stopping());
    tokio::select! {
        () = ended.cancelled() => {}
        () = stopping.cancelled() => devtools.end(),
        _exited = child.wait() => devtools.end(),
    }
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    let _late = tokio::time::timeout(LAST_WORDS, child.wait()).await;
    if let Some(group) = group {
        // What of its group is left has no reason to be.
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _waited = child.wait().await;
    Lifecycle::blocking(move || profile.close().map_err(Error::internal)).await
}

async fn stop_when_idle(inner: Weak<Inner>, browser: Weak<Browser>) -> Result<()> {
    loop {
        let Some(held) = inner.upgrade() else { return Ok(()) };
        let (longest, stop) = (Duration::from_secs(held.config.idle_seconds), held.lifecycle.stopping());
        drop(held);
        tokio::select! {
            () = tokio::time::sleep(longest.max(Duration::from_millis(500)) / 2) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let Some(held) = inner.upgrade() else { return Ok(()) };
        let mut running = held.running.lock().await;
        let Some(known) = browser.upgrade() else { return Ok(()) };
        let current = running.as_ref().is_some_and(|browser| Arc::ptr_eq(browser, &known));
        // Ours and the table's: nobody works with it.
        if current && Arc::strong_count(&known) == 2 && known.idle() >= longest {
            running.take();
            return Ok(());
        }
        if !current {
            return Ok(());
        }
    }
}
