//! What the operator allows.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{Range, may_reach};
use crate::error::{Error, Result};

/// Which places outbound requests may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// Addresses and ranges that may be reached although they are not public, such as `10.0.0.0/8` or
    /// `192.168.1.7`. The metadata address of a cloud is opened only by itself, not by a range around it.
    pub allow_addresses: Vec<String>,
    /// Names whose private addresses may be reached, such as `grafana.internal`, or `*.corp.example` for
    /// every name below it.
    pub allow_hosts: Vec<String>,
    /// The ports that requests may go to. Empty: all but those of other protocols that browsers refuse too.
    pub ports: Vec<u16>,
    /// How long to wait for a connection, in seconds, from 1 to 300.
    pub connect_timeout_seconds: u64,
    /// A file of certificates (PEM) that are trusted besides the public ones, such as a company's own.
    pub ca_file: Option<PathBuf>,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            allow_addresses: Vec::new(),
            allow_hosts: Vec::new(),
            ports: Vec::new(),
            connect_timeout_seconds: 10,
            ca_file: None,
        }
    }
}

impl EgressConfig {
    /// # Errors
    /// `Invalid`, with the key first.
    pub fn validate(&self) -> Result<()> {
        self.rules()?;
        if !(1..=300).contains(&self.connect_timeout_seconds) {
            let given = self.connect_timeout_seconds;
            let text = format!("egress.connect_timeout_seconds: {given} is not from 1 to 300");
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> Result<Rules> {
        let range = |text: &String| {
            text.trim().parse::<Range>().map_err(|()| {
                Error::invalid(format!(
                    "egress.allow_addresses: `{}` is neither an address nor a range such as `10.0.0.0/8`",
                    text.escape_debug()
                ))
            })
        };
        let host = |text: &String| {
            let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
            let plain = name.strip_prefix("*.").unwrap_or(&name);
            if plain.is_empty() || plain.contains(['*', '/', ':', '@', ' ']) {
                return Err(Error::invalid(format!(
                    "egress.allow_hosts: `{}` is not a name such as `grafana.internal` or `*.corp.example`",
                    text.escape_debug()
                )));
            }
            Ok(name)
        };
        Ok(Rules {
            addresses: self.allow_addresses.iter().map(range).collect::<Result<_>>()?,
            hosts: self.allow_hosts.iter().map(host).collect::<Result<_>>()?,
            ports: self.ports.clone(),
        })
    }
}

/// The configuration, ready to be asked.
#[derive(Debug)]
pub(super) struct Rules {
    addresses: Vec<Range>,
    hosts: Vec<String>,
    ports: Vec<u16>,
}

impl Rules {
    /// Whether this address may be dialled for this host.
    pub fn may_dial(&self, host: &str, address: IpAddr) -> bool {
        may_reach(address, &self.addresses, self.allows_host(host))
    }

    fn allows_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.hosts.iter().any(|known| match known.strip_prefix("*.") {
            Some(above) => host.strip_suffix(above).is_some_and(|left| left.len() > 1 && left.ends_with('.')),
            None => *known == host,
        })
    }

    /// Whether a request may go to this URL, as far as can be said before its name is looked up.
    pub fn check(&self, url: &Url) -> Result<()> {
        let scheme = url.scheme();
        if !matches!(scheme, "http" | "https") {
            return Err(Error::invalid(format!("the URL begins with `{scheme}:`; use `https:` or `http:`")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid("the URL holds a user name or a password; send them in a header"));
        }
        let host = url.host_str().ok_or_else(|| Error::invalid("the URL names no host"))?;
        let port = url.port_or_known_default().unwrap_or(0);
        let good =
            if self.ports.is_empty() { !BAD_PORTS.contains(&port) } else { self.ports.contains(&port) };
        if !good {
            return Err(Error::forbidden(format!(
                "port {port} is not open to requests; `egress.ports` of the configuration lists those that are"
            )));
        }
        match literal(host) {
            Some(address) if !self.may_dial(host, address) => Err(refused(host)),
            _ => Ok(()),
        }
    }
}

/// The address that a URL's host is, when it is one and not a name. The URL's parser has already made
/// one address of every way to write it (decimal, octal, hexadecimal, shortened).
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

/// A place that is refused, for the caller.
pub(super) fn refused(host: &str) -> Error {
    Error::forbidden(format!(
        "`{host}` is at an address that requests may not reach (private, local or a cloud's metadata); an \
         operator can allow it with `egress.allow_addresses` or `egress.allow_hosts`"
    ))
}

/// The ports of other protocols, as the Fetch standard lists them ("bad port"): a request to one of them
/// could be taken for that protocol.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];
