//! What the gateway serves, as plain data: the upstream services, their tools' policies, the profiles.
//!
//! Whoever owns that knowledge (a database, a configuration file) makes a new [`World`] when something
//! changes and sends it through a `tokio::sync::watch` channel. The gateway compares each upstream with
//! the one it has of that name, and connects anew only those that changed. It never writes to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::Secret;

/// Everything that is served.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// The services behind the gateway. Names are unique; of two with one name, the first is served.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Chosen sets of tools, served at `/mcp/profiles/{name}`.
    pub profiles: Vec<Profile>,
    /// Policies of built-in tools, by the tool's name. Only `enabled`, `description`, `rate_per_minute`
    /// and `deadline` count for them.
    pub builtin: BTreeMap<String, ToolPolicy>,
    /// How often a service is asked for its lists although it says nothing of a change.
    pub refresh: Duration,
}

impl Default for World {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            profiles: Vec::new(),
            builtin: BTreeMap::new(),
            refresh: Duration::from_secs(60),
        }
    }
}

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name: in `/mcp/services/{name}`, in `{name}__{tool}` and in the
    /// scope `tools:execute_tool:{name}__{tool}`.
    /// One to 40 characters of `a-z`, `0-9`, `_` and `-`, without two underscores in a row.
    pub name: String,
    /// The team that it belongs to; callers of other teams do not see it.
    pub team: String,
    /// How it is reached.
    pub transport: Transport,
    /// The longest time for one request, when the tool's policy names none.
    pub deadline: Duration,
    /// The most requests at work at once (bulkhead); more wait at most the deadline, then are refused.
    pub concurrency: usize,
    /// Grows when the service was started anew: it is connected to and read anew then.
    pub generation: i64,
    /// The policies of its tools, by the name that the service itself gives them.
    pub tools: BTreeMap<String, ToolPolicy>,
    /// The policy of tools that have none of their own.
    pub default_policy: ToolPolicy,
}

impl Upstream {
    /// An upstream with the usual limits: 30 s, 64 requests at once, every tool enabled.
    pub fn new(name: impl Into<String>, team: impl Into<String>, transport: Transport) -> Self {
        Self {
            name: name.into(),
            team: team.into(),
            transport,
            deadline: Duration::from_secs(30),
            concurrency: 64,
            generation: 0,
            tools: BTreeMap::new(),
            default_policy: ToolPolicy::default(),
        }
    }

    /// The policy of a tool, by the name that the service gives it.
    pub fn policy(&self, tool: &str) -> &ToolPolicy {
        self.tools.get(tool).unwrap_or(&self.default_policy)
    }
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// Streamable HTTP. The era is found by asking; a server that has only HTTP+SSE at this URL is
    /// found too.
    Http {
        /// The endpoint, such as `https://example.com/mcp`.
        url: String,
        /// Headers of every request, such as `Authorization`; values are secret.
        headers: Vec<(String, Secret)>,
        /// How the endpoint's address is come by.
        dial: Dial,
    },
    /// HTTP+SSE of 2024-11-05: the URL of the event stream, such as `http://example.com/sse`.
    LegacySse {
        /// The URL of the event stream.
        url: String,
        /// Headers of every request; values are secret.
        headers: Vec<(String, Secret)>,
        /// How the endpoint's address is come by.
        dial: Dial,
    },
    /// A child process that speaks on its standard input and output. It is started by the gateway,
    /// restarted with growing pauses when it ends, and ended with it.
    Stdio {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Its whole environment: nothing of the server's own is handed on but `PATH`, unless named here.
        env: Vec<(String, Secret)>,
        /// Its working folder; `None` is the root of the file system.
        cwd: Option<PathBuf>,
    },
}

/// How an upstream's address is come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dial {
    /// By its name, through the rules of egress: for URLs that callers gave.
    #[default]
    Checked,
    /// By its name, wherever that leads: for URLs that the administrator of the machine wrote.
    Trusted,
    /// At this address, whatever the URL's host says: for containers that Opsroom itself started.
    At(SocketAddr),
}

/// What is allowed for one tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolPolicy {
    /// Whether it is listed and can be called.
    pub enabled: bool,
    /// Another name for it, in place of the service's own (the prefix is still put before it).
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// The longest time for one call.
    pub deadline: Option<Duration>,
    /// How often a call that could not be delivered is tried again. A call that may have been begun is
    /// tried again only when the tool says that it is idempotent or read-only.
    pub retries: u32,
    /// The most calls in a minute, of all callers together.
    pub rate_per_minute: Option<u32>,
    /// For how long the result of a read-only tool is kept by its canonical arguments, in seconds;
    /// 0 keeps none.
    pub cache_seconds: u32,
    /// The hash of the definition that was approved (see [`crate::catalogue::Tool::hash`]). A tool whose
    /// definition has another one is neither listed nor callable until the pin is changed. `None` serves
    /// whatever the service says.
    pub pin: Option<String>,
    /// Neither listed nor callable, whatever its hash.
    pub quarantined: bool,
}

impl Default for ToolPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            description: None,
            deadline: None,
            retries: 0,
            rate_per_minute: None,
            cache_seconds: 0,
            pin: None,
            quarantined: false,
        }
    }
}

/// A chosen set of tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Its name, in `/mcp/profiles/{name}`.
    pub name: String,
    /// The team that it belongs to.
    pub team: String,
    /// What it holds.
    pub tools: Vec<Choice>,
    /// What an agent is told before it sees the tools.
    pub instructions: Option<String>,
}

/// One choice of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The service; `None` is the built-in tools.
    pub service: Option<String>,
    /// The tool, by the name that the service gives it (or the built-in's own); `None` is all of them.
    pub tool: Option<String>,
}
