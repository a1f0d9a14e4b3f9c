//! `create_setup_token` and `exchange_setup_token`: how a server gets its first administrator.

use opsroom_core::{Call, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CreatedKey, ExchangeSetupToken, Identity, SETUP_SECONDS};

/// Make a new setup token, while there is no administrator. The one before stops to work.
///
/// `opsroom setup-link` prints it as a link; the page behind the link exchanges it for the first
/// administrator's key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSetupToken {}

/// A setup token that was just made. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct CreatedSetupToken {
    /// The token: `ops_` and 64 hexadecimal digits. It works once.
    pub token: String,
    /// How long it works, in seconds.
    pub expires_in_seconds: i64,
}

pub(super) async fn create(identity: Identity, _: Call, _: CreateSetupToken) -> Result<CreatedSetupToken> {
    let token = identity.new_setup_token().await?;
    Ok(CreatedSetupToken { token, expires_in_seconds: SETUP_SECONDS })
}

pub(super) async fn exchange(
    identity: Identity,
    call: Call,
    input: ExchangeSetupToken,
) -> Result<CreatedKey> {
    identity.exchange_setup_token(&input.token, call.caller.address).await
}
