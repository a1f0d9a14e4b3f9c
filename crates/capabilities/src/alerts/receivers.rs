//! Receivers: who may deliver, how it is believed, and how it is read.

use std::sync::{Arc, PoisonError};

use opsroom_core::id::{new_id, new_token, sha256_hex};
use opsroom_core::seal::Reseal;
use opsroom_core::{Call, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload::{Mapping, Sender};
use super::signature::{Hash, Refusal, Scheme, same};
use super::store::ReceiverRow;
use super::{Alerts, shown};

/// How a sender is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// An HMAC of the raw body. The best, where the sender offers it.
    Signature,
    /// `Authorization: Bearer` with the secret.
    Bearer,
    /// `Authorization: Basic`, any name, the secret as the password.
    Basic,
    /// The secret is the last part of the address: for senders that can nothing else.
    Path,
}

/// What is kept of a receiver besides its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub sender: Sender,
    pub auth: Auth,
    #[serde(default)]
    pub signature: SignatureSettings,
    #[serde(default)]
    pub mapping: Mapping,
}

/// How a sender signs. GitHub's way and Grafana's are known; a generic sender's is described.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignatureSettings {
    /// The header of the signature; `X-Signature` without.
    #[schemars(length(max = 128))]
    pub header: String,
    /// What stands before the signature in it, such as `sha256=`.
    #[schemars(length(max = 32))]
    pub prefix: String,
    /// Whether SHA-512 is used instead of SHA-256.
    pub sha512: bool,
    /// Whether the signature is base64 instead of hexadecimal.
    pub base64: bool,
    /// The header of the time of signing in seconds since 1970, when the sender signs one. Deliveries that were
    /// signed more than 300 s ago are then refused: set it where it can be had.
    #[schemars(length(max = 128))]
    pub timestamp_header: String,
    /// What stands between time and body in what is signed; `.` without.
    #[schemars(length(max = 8))]
    pub separator: String,
}

impl Settings {
    /// How a delivery's signature is checked.
    pub(super) fn scheme(&self) -> Scheme {
        let it = &self.signature;
        let stamped = (!it.timestamp_header.is_empty()).then(|| it.timestamp_header.to_ascii_lowercase());
        let or = |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
        match self.sender {
            Sender::Github => Scheme::github(),
            Sender::Grafana => {
                let scheme = Scheme::grafana(stamped);
                let header = or(&it.header, &scheme.header).to_ascii_lowercase();
                Scheme { header, ..scheme }
            }
            _ => Scheme {
                header: or(&it.header, "x-signature").to_ascii_lowercase(),
                prefix: it.prefix.clone(),
                hash: if it.sha512 { Hash::Sha512 } else { Hash::Sha256 },
                base64: it.base64,
                timestamp_header: stamped,
                separator: or(&it.separator, "."),
            },
        }
    }
}

/// Makes a receiver: an address at which a monitoring system delivers its alerts, with a secret of its own.
///
/// The secret is shown once. Paste it, and the address, into the sender: for Alertmanager as the bearer token of
/// a webhook, for GitHub and Grafana as the key of the signature.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReceiver {
    /// Its name, the last part of its address: lower case letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
    pub name: String,
    /// Who sends.
    pub sender: Sender,
    /// How the sender is believed; without it, the best that this sender can.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// The secret, when it was chosen elsewhere; without it, a new random one.
    #[serde(default)]
    #[schemars(with = "Option<String>", length(min = 16, max = 256))]
    pub secret: Option<Secret>,
    /// How a generic sender signs, or which of Grafana's headers carry signature and time.
    #[serde(default)]
    pub signature: SignatureSettings,
    /// Where a generic sender's delivery has what.
    #[serde(default)]
    pub mapping: Mapping,
}

/// A receiver, and its secret, which is not shown again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CreatedReceiver {
    /// The receiver.
    #[serde(flatten)]
    pub receiver: Receiver,
    /// The secret that was made; null when it was given.
    pub secret: Option<String>,
}

/// A receiver.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// Who sends.
    pub sender: Sender,
    /// How the sender is believed.
    pub auth: Auth,
    /// The path of its address; with `auth: path`, the secret follows after another `/`.
    pub path: String,
    /// Deliveries that were believed.
    pub accepted: i64,
    /// Deliveries that were refused; of those only this number is kept.
    pub refused: i64,
    /// When something came last; null before.
    pub last_at: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: String,
}

/// Lists the receivers of alerts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListReceivers {}

/// The receivers, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Receivers {
    /// The receivers.
    pub items: Vec<Receiver>,
}

/// Deletes a receiver: its address answers no more. Its alerts and deliveries stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteReceiver {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
}

/// The receiver that is gone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedReceiver {
    /// Its name.
    pub deleted: String,
}

pub(super) fn receiver(row: ReceiverRow) -> Receiver {
    Receiver {
        path: format!("/webhooks/{}", row.name),
        name: row.name,
        sender: row.settings.sender,
        auth: row.settings.auth,
        accepted: row.accepted,
        refused: row.refused,
        last_at: row.last_at.map(shown),
        created_by: row.created_by,
        created_at: shown(row.created_at),
    }
}

pub(super) async fn create_receiver(
    service: Alerts,
    call: Call,
    input: CreateReceiver,
) -> Result<CreatedReceiver> {
    let auth = input.auth.unwrap_or(match input.sender {
        Sender::Github | Sender::Grafana => Auth::Signature,
        Sender::Alertmanager | Sender::Generic => Auth::Bearer,
        Sender::TencentMonitor | Sender::TencentCls => Auth::Path,
    });
    let can_sign = matches!(input.sender, Sender::Github | Sender::Grafana | Sender::Generic);
    if auth == Auth::Signature && !can_sign {
        let sender = input.sender.as_str();
        return Err(Error::invalid(format!(
            "auth: {sender} signs nothing; take `bearer`, `basic` or `path`"
        )));
    }
    let made = input.secret.is_none().then(|| new_token("whk_"));
    let secret = input.secret.unwrap_or_else(|| Secret::new(made.clone().unwrap_or_default()));
    let id = new_id();
    let (sealed, hash) = match auth {
        Auth::Signature => {
            let bytes = secret.expose().as_bytes();
            (Some(service.sealer.seal(&["alerts", "receiver", &id], bytes).await?), None)
        }
        Auth::Bearer | Auth::Basic | Auth::Path => (None, Some(sha256_hex(secret.expose()))),
    };
    let settings =
        Settings { sender: input.sender, auth, signature: input.signature, mapping: input.mapping };
    let row = ReceiverRow {
        id,
        team: call.caller.team().to_owned(),
        created_by: call.caller.subject.clone(),
        created_at: service.clock.now(),
        name: input.name,
        settings,
        sealed,
        hash,
        accepted: 0,
        refused: 0,
        last_at: None,
    };
    service.store.add_receiver(&row).await.map_err(|error| match error.kind {
        opsroom_core::Kind::Conflict => {
            Error::conflict(format!("name: there is a receiver {:?} already", row.name))
        }
        _ => error,
    })?;
    Ok(CreatedReceiver { receiver: receiver(row), secret: made })
}

pub(super) async fn list_receivers(service: Alerts, call: Call, _: ListReceivers) -> Result<Receivers> {
    let rows = service.store.receivers(&call.caller.teams).await?;
    Ok(Receivers { items: rows.into_iter().map(receiver).collect() })
}

pub(super) async fn delete_receiver(
    service: Alerts,
    call: Call,
    input: DeleteReceiver,
) -> Result<DeletedReceiver> {
    let row = service.receiver(&call, &input.name).await?;
    service.store.remove_receiver(&row.id).await?;
    Ok(DeletedReceiver { deleted: row.name })
}

impl Alerts {
    /// The caller's receiver of that name.
    pub(super) async fn receiver(&self, call: &Call, name: &str) -> Result<ReceiverRow> {
        let found = self.store.receiver(&call.caller.teams, name).await?;
        found.ok_or_else(|| {
            Error::not_found(format!("there is no receiver {name:?}; list_receivers has their names"))
        })
    }

    /// Seals the keys of signatures again by the newest key.
    pub fn resealing(&self) -> Reseal {
        let service = self.clone();
        Arc::new(move || {
            let service = service.clone();
            Box::pin(async move { service.reseal().await })
        })
    }

    async fn reseal(&self) -> Result<u64> {
        let mut count = 0;
        for row in self.store.every_receiver().await? {
            let Some(sealed) = &row.sealed else { continue };
            let context = ["alerts", "receiver", row.id.as_str()];
            if let Some(again) = self.sealer.rewrap(&context, sealed).await? {
                self.store.set_receiver_sealed(&row.id, &again).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Counts a delivery. The counts are written by the rounds, so that a stranger cannot make us write.
    pub(super) fn count(&self, receiver: &str, accepted: i64, refused: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(receiver.to_owned()).or_default();
        count.0 += accepted;
        count.1 += refused;
    }

    /// Writes what was counted since the last time.
    pub(super) async fn write_counts(&self) -> Result<()> {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        for (receiver, (accepted, refused)) in counts {
            self.store.count_receiver(&receiver, accepted, refused, self.clock.now()).await?;
        }
        Ok(())
    }
}

impl ReceiverRow {
    /// Whether a sender is believed by what comes before the body. A signature is held against the body later.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn believes<'a>(
        &self,
        token: Option<&str>,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), Refusal> {
        let known = self.hash.as_deref().unwrap_or_default();
        let holds = |given: Option<&str>| match given {
            None => Err(Refusal::Missing),
            Some(given) if !known.is_empty() && same(&sha256_hex(given), known) => Ok(()),
            Some(_) => Err(Refusal::Wrong),
        };
        let of_kind = |wanted: &str| {
            let (kind, rest) = header("authorization")?.split_once(' ')?;
            kind.eq_ignore_ascii_case(wanted).then(|| rest.trim())
        };
        match self.settings.auth {
            Auth::Path => holds(token),
            Auth::Bearer => holds(of_kind("bearer")),
            Auth::Basic => holds(of_kind("basic").and_then(password).as_deref()),
            Auth::Signature => Ok(()),
        }
    }
}

/// The password of `Authorization: Basic`.
fn password(text: &str) -> Option<String> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}
