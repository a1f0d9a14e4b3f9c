//! One's own account: profile, password, address, second factor, sessions.

use opsroom_core::{Call, Error, Result, Secret, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{User, email};
use super::tokens::Accepted;
use super::{Accounts, password, store, totp};
use crate::identity::model::short_text;

/// Show your own account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetProfile {}

/// Change what your own account says about you.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProfile {
    /// Your name. Left out: as before.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub full_name: Option<String>,
    /// Where you work. Left out: as before.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub organization: Option<String>,
}

/// Delete your own account. Every session of it ends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteProfile {
    /// Your password, again.
    pub password: Secret,
}

/// Change your password. Every other session of yours ends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password so far.
    pub password: Secret,
    /// The new one: 8 to 256 characters of any kind.
    pub new_password: Secret,
}

/// Change your address for mail. A link goes to the new one; until it is followed the old one stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEmail {
    /// Your password, again.
    pub password: Secret,
    /// The new address; the present one asks for another mail to verify it.
    #[schemars(length(min = 1, max = 254))]
    pub email: String,
}

/// Set up a second factor: the answer has the seed for an authenticator app. It is asked for only after
/// `confirm_two_factor`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnableTwoFactor {
    /// Your password, again.
    pub password: Secret,
}

/// The seed of a second factor. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct TwoFactorSeed {
    /// The seed in base32, to be typed into an authenticator app.
    pub secret: String,
    /// The same as the address that apps read from a picture.
    pub otpauth_url: String,
}

/// Show that your authenticator app has the seed. From now on a login needs a code. The answer has recovery
/// codes, each of which stands for a code once; it shows them this once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmTwoFactor {
    /// The code that the app shows now.
    pub code: Secret,
}

/// Recovery codes. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct RecoveryCodes {
    /// Ten codes; each works once.
    pub recovery_codes: Vec<String>,
}

/// Give the second factor up.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableTwoFactor {
    /// Your password, again.
    pub password: Secret,
}

/// End this session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// The session's token, when it is not the one this call came with.
    #[serde(default)]
    pub token: Option<Secret>,
    /// End every session of yours, and what clients were let in to do for you.
    #[serde(default)]
    pub everywhere: bool,
}

/// List your sessions, newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSessions {}

/// Sessions, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionList {
    /// The sessions.
    pub items: Vec<SessionInfo>,
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionInfo {
    /// Its id.
    pub id: String,
    /// What the login called itself.
    pub device: String,
    /// From which address.
    pub address: Option<String>,
    /// Since when, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339, some seconds late.
    pub last_activity_at: String,
    /// When it ends in any case, RFC 3339.
    pub expires_at: String,
}

/// End one of your sessions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndSession {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
}

pub async fn profile(accounts: Accounts, call: Call, _: GetProfile) -> Result<User> {
    Ok(accounts.own(&call.caller).await?.shown(accounts.identity.clock.now()))
}

pub async fn update(accounts: Accounts, call: Call, input: UpdateProfile) -> Result<User> {
    let user = accounts.own(&call.caller).await?;
    let text = |field, text: Option<String>| {
        text.map(|text| short_text(field, &text, 128).map(str::to_owned)).transpose()
    };
    let (name, place) = (text("full_name", input.full_name)?, text("organization", input.organization)?);
    accounts
        .change(&user.id, false, |user| {
            user.full_name = name.unwrap_or_else(|| user.full_name.clone());
            user.organization = place.unwrap_or_else(|| user.organization.clone());
        })
        .await
}

pub async fn delete(accounts: Accounts, call: Call, input: DeleteProfile) -> Result<Accepted> {
    let user = accounts.own_with_password(&call.caller, &input.password).await?;
    accounts.remove(&user.id).await?;
    Ok(Accepted { message: "the account is deleted".to_owned() })
}

pub async fn change_password(accounts: Accounts, call: Call, input: ChangePassword) -> Result<Accepted> {
    let user = accounts.own_with_password(&call.caller, &input.password).await?;
    password::acceptable(&input.new_password, &[&user.username, &user.email])?;
    let hash = accounts.hasher.hash(&input.new_password).await?;
    let mut on = accounts.identity.db.begin().await?;
    let mut locked = accounts.locked(&mut on, &user.id).await?;
    locked.password = Some(hash);
    store::users::update(&mut on, &locked, true).await?;
    store::users::void_tokens(&mut on, &user.id, None).await?;
    store::sessions::end(&mut on, &user.id, None, call.caller.session.as_deref()).await?;
    store::oauth::grants::revoke_of_user(&mut on, &user.id, accounts.identity.clock.now()).await?;
    on.commit().await?;
    accounts.changed().await;
    accounts.tell(&user, "Your password was changed", "The password of your account was changed.").await?;
    Ok(Accepted {
        message: "the password is changed; every other session and every client's access has ended"
            .to_owned(),
    })
}

pub async fn change_email(accounts: Accounts, call: Call, input: ChangeEmail) -> Result<Accepted> {
    let user = accounts.own_with_password(&call.caller, &input.password).await?;
    let address = email(short_text("email", input.email.trim(), 254)?)?;
    let taken = store::users::by_login(&accounts.identity.db, &address).await?;
    // The same answer, also when the address is somebody else's.
    if taken.is_none_or(|other| other.id == user.id) {
        accounts.mail_token(&user, "verify", &address).await?;
        if address != user.email {
            let text = format!(
                "Somebody who knows your password asked to change the address of your account to {address}."
            );
            accounts.tell(&user, "Your address is about to change", &text).await?;
        }
    }
    Ok(Accepted { message: "a mail is on its way to the address; follow its link".to_owned() })
}

pub async fn enable_two_factor(
    accounts: Accounts,
    call: Call,
    input: EnableTwoFactor,
) -> Result<TwoFactorSeed> {
    let user = accounts.own_with_password(&call.caller, &input.password).await?;
    if user.two_factor {
        return Err(Error::conflict("a second factor is set up already; `disable_two_factor` first"));
    }
    let seed = totp::new_seed();
    let sealed = accounts.sealer.seal(&user.context(), seed.as_bytes()).await?;
    accounts.change(&user.id, false, |user| user.seed = Some(sealed)).await?;
    Ok(TwoFactorSeed { otpauth_url: totp::address(&seed, &user.username), secret: seed })
}

pub async fn confirm_two_factor(
    accounts: Accounts,
    call: Call,
    input: ConfirmTwoFactor,
) -> Result<RecoveryCodes> {
    let user = accounts.own(&call.caller).await?;
    let Some(sealed) = user.seed.as_deref().filter(|_| !user.two_factor) else {
        return Err(Error::conflict("there is no second factor to confirm; `enable_two_factor` begins it"));
    };
    let seed = accounts.sealer.open_text(&user.context(), sealed).await?;
    let now = accounts.identity.clock.now();
    let Some(step) = totp::accept(&seed, input.code.expose(), now, user.last_step) else {
        accounts.identity.throttle.failed(call.caller.address.as_deref(), now)?;
        return Err(Error::invalid("the code is wrong or old; give the six digits that the app shows now"));
    };
    let codes = totp::new_recovery_codes();
    let hashes = codes.iter().map(|code| totp::recovery_hash(&user.id, code)).collect();
    accounts
        .change(&user.id, true, |user| {
            (user.two_factor, user.last_step, user.recovery) = (true, step, hashes);
        })
        .await?;
    accounts.tell(&user, "A second factor was set up", "From now on a login needs a code.").await?;
    Ok(RecoveryCodes { recovery_codes: codes })
}

pub async fn disable_two_factor(accounts: Accounts, call: Call, input: DisableTwoFactor) -> Result<User> {
    let user = accounts.own_with_password(&call.caller, &input.password).await?;
    accounts.tell(&user, "The second factor was given up", "From now on a login needs no code.").await?;
    accounts
        .change(&user.id, true, |user| {
            (user.two_factor, user.seed, user.recovery) = (false, None, Vec::new());
        })
        .await
}

pub async fn logout(accounts: Accounts, call: Call, input: Logout) -> Result<Accepted> {
    let user = accounts.own(&call.caller).await?;
    let named = match &input.token {
        Some(token) => accounts.identity.people.find(token.expose()).await?.map(|present| present.session),
        None => call.caller.session.clone(),
    };
    if named.is_none() && !input.everywhere {
        return Err(Error::invalid("which session? call with its token, or give `everywhere: true`"));
    }
    let one = if input.everywhere { None } else { named };
    let ended = accounts.end_sessions(&user.id, one.as_deref()).await?;
    Ok(Accepted { message: format!("{ended} sessions have ended") })
}

pub async fn sessions(accounts: Accounts, call: Call, _: ListSessions) -> Result<SessionList> {
    let user = accounts.own(&call.caller).await?;
    let rows =
        store::sessions::of_user(&accounts.identity.db, &user.id, accounts.identity.clock.now()).await?;
    let info = |row: store::sessions::SessionRow| SessionInfo {
        id: row.id,
        device: row.device,
        address: row.address,
        created_at: row.created_at.to_rfc3339(),
        last_activity_at: row.seen_at.to_rfc3339(),
        expires_at: Time::to_rfc3339(row.expires_at),
    };
    Ok(SessionList { items: rows.into_iter().map(info).collect() })
}

pub async fn end_session(accounts: Accounts, call: Call, input: EndSession) -> Result<Accepted> {
    let user = accounts.own(&call.caller).await?;
    let id = short_text("id", &input.id, 64)?;
    // Of another user's session nothing is said.
    match accounts.end_sessions(&user.id, Some(id)).await? {
        0 => Err(Error::not_found(format!("you have no session {id:?}; `list_sessions` lists them"))),
        _ => Ok(Accepted { message: "the session has ended".to_owned() }),
    }
}
