//! The services that an administrator lists in the configuration file: for who has no engine and no
//! database of services, or wants some that are always there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::{Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::upstream::wire::Target;
use crate::world::{Dial, Transport, Upstream};

/// MCP servers behind the gateway that the configuration names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// The servers. Their tools are served at `/mcp` as `{name}__{tool}`, and with their own names at
    /// `/mcp/services/{name}`.
    pub upstreams: Vec<UpstreamConfig>,
    /// How often a server is asked for its lists although it says nothing of a change, in seconds, from 1 to
    /// 3600: so long may a tool that changed its definition go unseen.
    pub refresh_seconds: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { upstreams: Vec::new(), refresh_seconds: 60 }
    }
}

/// One MCP server: a `url`, or a `command` that is started and spoken to on its standard input and output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Its name: 1 to 40 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// Its endpoint, such as `https://example.com/mcp`. Its revision of the protocol is found out.
    pub url: String,
    /// Headers of every request to it, such as `Authorization`.
    pub headers: BTreeMap<String, Secret>,
    /// The program to start and its arguments, such as `[uvx, mcp-server-time]`.
    pub command: Vec<String>,
    /// The program's environment. It gets nothing else but a plain `PATH`.
    pub environment: BTreeMap<String, Secret>,
    /// The program's working folder.
    pub folder: Option<PathBuf>,
    /// How long it may be silent while it works on a request, in seconds, from 1 to 3600.
    pub deadline_seconds: u64,
    /// How many requests it gets at once, from 1 to 10000.
    pub concurrency: usize,
    /// The team whose callers see it.
    pub team: String,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            headers: BTreeMap::new(),
            command: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            deadline_seconds: 30,
            concurrency: 64,
            team: DEFAULT_TEAM.to_owned(),
        }
    }
}

impl GatewayConfig {
    /// # Errors
    /// `Invalid`, with the key first.
    pub fn validate(&self) -> Result<()> {
        if !(1..=3600).contains(&self.refresh_seconds) {
            return Err(Error::invalid("gateway.refresh_seconds: is from 1 to 3600"));
        }
        let invalid = |what: String| Err(Error::invalid(format!("gateway.upstreams: {what}")));
        for (at, upstream) in self.upstreams.iter().enumerate() {
            let name = upstream.name.escape_debug();
            if !is_name(&upstream.name) {
                return invalid(format!(
                    "`{name}` is no name; use 1 to 40 of a-z, 0-9, _ and -, without `__`"
                ));
            }
            if self.upstreams[..at].iter().any(|other| other.name == upstream.name) {
                return invalid(format!("two are named `{name}`"));
            }
            match (upstream.url.as_str(), upstream.command.as_slice()) {
                ("", []) => return invalid(format!("`{name}` has neither a url nor a command")),
                ("", _) => {}
                (url, []) if Target::parse(url).is_some() => {}
                (_, []) => {
                    return invalid(format!("the url of `{name}` is not such as https://example.com/mcp"));
                }
                _ => return invalid(format!("`{name}` has a url and a command; give one of them")),
            }
            if !(1..=3600).contains(&upstream.deadline_seconds)
                || !(1..=10_000).contains(&upstream.concurrency)
            {
                return invalid(format!(
                    "`{name}`: deadline_seconds is from 1 to 3600, and concurrency from 1 to 10000"
                ));
            }
        }
        Ok(())
    }

    /// The services, for the gateway. The administrator of the machine wrote them: they may be anywhere,
    /// this machine included.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.iter().map(|config| Arc::new(config.upstream())).collect()
    }
}

impl UpstreamConfig {
    fn upstream(&self) -> Upstream {
        let pairs = |map: &BTreeMap<String, Secret>| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let transport = if self.url.is_empty() {
            Transport::Stdio {
                argv: self.command.clone(),
                env: pairs(&self.environment),
                cwd: self.folder.clone(),
            }
        } else {
            Transport::Http { url: self.url.clone(), headers: pairs(&self.headers), dial: Dial::Trusted }
        };
        let mut upstream = Upstream::new(&self.name, &self.team, transport);
        upstream.deadline = Duration::from_secs(self.deadline_seconds);
        upstream.concurrency = self.concurrency;
        upstream
    }
}

/// Whether a text can be a service's name.
pub fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && !text.contains("__")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_cannot_be_served_is_named() {
        let good = || UpstreamConfig {
            name: "a".to_owned(),
            url: "http://127.0.0.1:1/mcp".to_owned(),
            ..UpstreamConfig::default()
        };
        let check = |upstreams: Vec<UpstreamConfig>| {
            GatewayConfig { upstreams, ..GatewayConfig::default() }.validate()
        };
        assert!(check(vec![good()]).is_ok());
        let wrong = [
            vec![good(), good()],
            vec![UpstreamConfig { name: "A".to_owned(), ..good() }],
            vec![UpstreamConfig { name: "a__b".to_owned(), ..good() }],
            vec![UpstreamConfig { url: "ftp://a".to_owned(), ..good() }],
            vec![UpstreamConfig { url: String::new(), ..good() }],
            vec![UpstreamConfig { command: vec!["x".to_owned()], ..good() }],
            vec![UpstreamConfig { deadline_seconds: 0, ..good() }],
        ];
        for upstreams in wrong {
            assert!(check(upstreams).unwrap_err().message.starts_with("gateway.upstreams: "));
        }
    }
}
