//! What is proven by reading a mail: a forgotten password, an address, an invitation.

use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Call, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{UserRow, email};
use super::{Accounts, password, store};
use crate::identity::authenticate::is_token;
use crate::identity::model::short_text;
use crate::notifications::mail::Mail;
use store::users::TokenRow;

/// How mailed tokens begin.
const PREFIX: &str = "omt_";

/// For how many seconds a forgotten password can be set (ASVS 6.4.1, 6.6.2).
const RESET_SECONDS: i64 = 10 * 60;

/// For how many seconds an address can be verified, and an invitation accepted.
pub const INVITE_SECONDS: i64 = 72 * 3600;

/// Ask for a mail with a link to set a forgotten password. The answer is the same whether there is such an
/// account or not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestPasswordReset {
    /// The address for mail of the account.
    #[schemars(length(min = 1, max = 254))]
    pub email: String,
}

/// Set the password with the token of a mail: a forgotten one, or the first one of who was invited. Every
/// session of the account ends. The second factor, when there is one, is asked for at the next login as ever.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// The token of the mail: `omt_` and 64 hexadecimal digits. It works once.
    pub token: Secret,
    /// The new password: 8 to 256 characters of any kind.
    pub password: Secret,
}

/// Verify an address with the token of a mail.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyEmail {
    /// The token of the mail: `omt_` and 64 hexadecimal digits. It works once.
    pub token: Secret,
}

/// That it was done, or would be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Accepted {
    /// What happens now.
    pub message: String,
}

pub async fn request_reset(accounts: Accounts, call: Call, input: RequestPasswordReset) -> Result<Accepted> {
    let address = email(short_text("email", input.email.trim(), 254)?)?;
    let user = store::users::by_login(&accounts.identity.db, &address).await?;
    if let Some(user) = user.filter(|user| user.active && user.email == address) {
        // After the answer: making the mail takes longer than making none.
        let (accounts, caller) = (accounts.clone(), call.caller.clone());
        drop(accounts.identity.lifecycle.clone().spawn_work(async move {
            let kind = match user.password {
                Some(_) => "reset",
                // Who logs in elsewhere has no password here, and a mailbox is no way around that login.
                None if store::identities::has_any(&accounts.identity.db, &user.id).await? => return Ok(()),
                None => "invite",
            };
            accounts.mail_token(&user, kind, &user.email).await?;
            let details = json!({ "user_id": user.id });
            accounts.identity.record(&caller, "request_password_reset", &details, Ok(())).await
        }));
    }
    let message =
        "if there is an account with this address, a mail is on its way; its link works for 10 minutes";
    Ok(Accepted { message: message.to_owned() })
}

pub async fn reset(accounts: Accounts, call: Call, input: ResetPassword) -> Result<Accepted> {
    let result = accounts.try_reset(&input).await;
    let details = result.as_ref().map_or_else(|_| json!({}), |user| json!({ "user_id": user.id }));
    accounts.identity.record(&call.caller, "reset_password", &details, result.as_ref().map(|_| ())).await?;
    if let Err(error) = &result
        && error.kind == opsroom_core::Kind::Unauthenticated
    {
        accounts.identity.throttle.failed(call.caller.address.as_deref(), accounts.identity.clock.now())?;
    }
    result?;
    accounts.changed().await;
    Ok(Accepted { message: "the password is set; log in with it".to_owned() })
}

pub async fn verify(accounts: Accounts, call: Call, input: VerifyEmail) -> Result<Accepted> {
    let result = accounts.try_verify(&input).await;
    let details = result.as_ref().map_or_else(|_| json!({}), |user| json!({ "user_id": user.id }));
    accounts.identity.record(&call.caller, "verify_email", &details, result.as_ref().map(|_| ())).await?;
    if result.is_err() {
        accounts.identity.throttle.failed(call.caller.address.as_deref(), accounts.identity.clock.now())?;
    }
    result?;
    Ok(Accepted { message: "the address is verified".to_owned() })
}

fn wrong_token() -> Error {
    Error::unauthenticated("this link is wrong, was used, or is too old; ask for a new one")
}

impl Accounts {
    async fn try_reset(&self, input: &ResetPassword) -> Result<UserRow> {
        let token = input.token.expose().trim();
        if !is_token(token, PREFIX) {
            return Err(wrong_token());
        }
        password::acceptable(&input.password, &[])?;
        let hash = self.hasher.hash(&input.password).await?;
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let taken = store::users::take_token(&mut on, &sha256_hex(token), &["reset", "invite"], now).await?;
        let taken = taken.ok_or_else(wrong_token)?;
        let user = store::users::get_locked(&mut on, &taken.user_id).await?.filter(|user| user.active);
        let mut user = user.ok_or_else(wrong_token)?;
        password::acceptable(&input.password, &[&user.username, &user.email])?;
        user.password = Some(hash);
        (user.failures, user.locked_until) = (0, None);
        // Who reads the mail owns the address it went to.
        if taken.email.as_deref() == Some(user.email.as_str()) {
            user.verified_at = user.verified_at.or(Some(now));
        }
        store::users::update(&mut on, &user, true).await?;
        store::users::void_tokens(&mut on, &user.id, None).await?;
        store::sessions::end(&mut on, &user.id, None, None).await?;
        store::oauth::grants::revoke_of_user(&mut on, &user.id, now).await?;
        on.commit().await?;
        self.tell(
            &user,
            "Your password was changed",
            "The password of your account was set with a link that was mailed.",
        )
        .await?;
        Ok(user)
    }

    async fn try_verify(&self, input: &VerifyEmail) -> Result<UserRow> {
        let token = input.token.expose().trim();
        if !is_token(token, PREFIX) {
            return Err(wrong_token());
        }
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let taken = store::users::take_token(&mut on, &sha256_hex(token), &["verify"], now).await?;
        let taken = taken.ok_or_else(wrong_token)?;
        let user = store::users::get_locked(&mut on, &taken.user_id).await?;
        let mut user = user.ok_or_else(wrong_token)?;
        if let Some(address) = taken.email {
            user.email = address;
        }
        user.verified_at = Some(now);
        store::users::update(&mut on, &user, true).await?;
        on.commit().await?;
        self.changed().await;
        Ok(user)
    }

    /// Makes a token of a kind and mails it to an address; answers the token.
    pub(super) async fn mail_token(&self, user: &UserRow, kind: &str, address: &str) -> Result<String> {
        let now = self.identity.clock.now();
        let token = new_token(PREFIX);
        let seconds = if kind == "reset" { RESET_SECONDS } else { INVITE_SECONDS };
        let row =
            TokenRow { kind: kind.to_owned(), user_id: user.id.clone(), email: Some(address.to_owned()) };
        let mut on = self.identity.db.begin().await?;
        store::users::put_token(&mut on, &sha256_hex(&token), &row, now, now.plus_seconds(seconds)).await?;
        on.commit().await?;
        let base = &self.public_url;
        let (subject, page, text) = match kind {
            "reset" => ("Set a new password", "reset", "Somebody asked for a new password for your account."),
            "invite" => ("You are invited", "reset", "An account was made for you. Choose its password."),
            _ => ("Verify your address", "verify", "Confirm that this address is yours."),
        };
        let minutes = seconds / 60;
        let link = format!("{base}/{page}?token={token}");
        let text = format!(
            "{text}\n\n{link}\n\nThe link works once, for {minutes} minutes. If you did not expect this mail, ignore it."
        );
        self.notifications
            .mail(&self.sealer, Mail { to: address.to_owned(), subject: format!("Opsroom: {subject}"), text })
            .await?;
        Ok(token)
    }

    /// Tells a user what happened to their account (ASVS 6.3.7).
    pub(in crate::identity) async fn tell(&self, user: &UserRow, subject: &str, text: &str) -> Result<()> {
        let text = format!("{text}\n\nIf this was not you, tell your administrator at once.");
        let mail = Mail { to: user.email.clone(), subject: format!("Opsroom: {subject}"), text };
        self.notifications.mail(&self.sealer, mail).await
    }
}
