//! `connect_service` and `disconnect_service`: the gateway's own login at a service elsewhere.

use opsroom_core::{Call, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Services;
use super::super::login::Given;

/// Log in at a service that wants a token (OAuth 2.1): the answer has a URL that a person opens in a browser, to
/// say yes there. Everybody who may call the service calls it with that login from then on. When the service
/// refuses a call later because it wants more scopes, connect it again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// The id of a client that was registered for us at the service's authorization server, for one that lets no
    /// client register itself.
    #[serde(default)]
    #[schemars(length(max = 400))]
    client_id: Option<String>,
    /// The secret of that client.
    #[serde(default)]
    client_secret: Option<Secret>,
    /// Scopes to ask for besides those that the service says it needs, at most 32.
    #[serde(default)]
    scopes: Vec<String>,
}

/// Forget the login at a service: calls to it go without a token from now on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisconnectService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
}

/// Where a person says yes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Connecting {
    /// The URL to open in a browser, within ten minutes. The browser comes back to this server.
    authorization_url: String,
    /// Who asks there.
    issuer: String,
    /// For which scopes.
    scopes: Vec<String>,
}

/// What was forgotten.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Disconnected {
    /// What happened.
    message: String,
}

pub async fn connect_service(services: Services, call: Call, input: ConnectService) -> Result<Connecting> {
    let it = services.find(&call.caller, &input.id).await?;
    let plain =
        |text: &String| (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if input.scopes.len() > 32 || !input.scopes.iter().all(plain) {
        return Err(Error::invalid("scopes has at most 32 words of 1 to 200 plain characters"));
    }
    let secret = input.client_secret.as_ref().map(|secret| secret.expose().to_owned());
    let given = match (input.client_id, secret) {
        (Some(client_id), client_secret) => Some(Given { client_id, client_secret }),
        (None, Some(_)) => {
            return Err(Error::invalid("client_secret is of a client: give its client_id too"));
        }
        (None, None) => None,
    };
    let begun = services.begin_login(&it, given, input.scopes).await?;
    Ok(Connecting { authorization_url: begun.url, issuer: begun.issuer, scopes: begun.scopes })
}

pub async fn disconnect_service(
    services: Services,
    call: Call,
    input: DisconnectService,
) -> Result<Disconnected> {
    let it = services.find(&call.caller, &input.id).await?;
    let had = services.end_login(&it).await?;
    let message = if had { "the login is forgotten" } else { "there was no login" };
    Ok(Disconnected { message: message.to_owned() })
}
