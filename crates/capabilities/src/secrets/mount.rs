//! Our own place in references: `secret://opsroom/PATH#FIELD`.

use std::sync::Weak;

use futures_util::future::BoxFuture;
use opsroom_core::resolver::{Mount, Purpose};
use opsroom_core::{Error, Result, Secret};

use super::{Inner, Secrets};

/// Weak, because the service holds the resolver that holds this.
pub struct Place(pub Weak<Inner>);

impl Mount for Place {
    fn read<'a>(&'a self, path: &'a str, purpose: Purpose<'a>) -> BoxFuture<'a, Result<Secret>> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            let inner = inner.ok_or_else(|| Error::unavailable("the server is stopping"))?;
            let secrets = Secrets { inner };
            secrets.use_reference(path, purpose.team, purpose.owner, purpose.user).await
        })
    }
}
