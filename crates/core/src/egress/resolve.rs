//! Names to addresses, of which only those that may be reached are dialled.
//!
//! The check is made on the addresses that the connection is opened to, so a name that answers
//! differently the second time (DNS rebinding) gains nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;

/// Where names are looked up; a test brings its own.
pub trait Lookup: Send + Sync {
    /// The addresses of a name.
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name leads nowhere.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// It has no address that may be reached.
    Refused(String),
    /// It cannot be looked up.
    Failed(String, std::io::Error),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Refused(name) => write!(f, "every address of `{name}` is refused"),
            Unresolved::Failed(name, error) => write!(f, "`{name}` cannot be looked up: {error}"),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Looks names up and leaves out what may not be reached.
#[derive(Clone)]
pub(super) struct Filter {
    pub rules: Arc<Rules>,
    pub lookup: Arc<dyn Lookup>,
}

impl Filter {
    /// The addresses of a name that may be dialled.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let found = self.lookup.lookup(name.to_owned()).await;
        let found = found.map_err(|error| Unresolved::Failed(name.to_owned(), error))?;
        if found.is_empty() {
            let nothing = std::io::Error::other("it has no address");
            return Err(Unresolved::Failed(name.to_owned(), nothing));
        }
        let kept: Vec<IpAddr> = found.into_iter().filter(|ip| self.rules.may_dial(name, *ip)).collect();
        if kept.is_empty() { Err(Unresolved::Refused(name.to_owned())) } else { Ok(kept) }
    }
}

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let filter = self.clone();
        Box::pin(async move {
            let addresses = filter.addresses(name.as_str()).await?;
            // The port 0 stands for the URL's.
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
