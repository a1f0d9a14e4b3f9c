//! `login`: from a name, a password and maybe a code to a session.

use opsroom_core::id::{new_id, new_token, sha256_hex};
use opsroom_core::{Call, Caller, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{User, UserRow, lockout_seconds};
use super::people::caller_of_user;
use super::{Accounts, SESSION_PREFIX, store, totp};
use crate::identity::model::short_text;

/// Log in. The answer has a token to send as `Authorization: Bearer TOKEN`.
///
/// A wrong name, a wrong password and a wrong code are answered alike. After five failures in a row logins of
/// the account are refused for half a minute, and longer after each further one; an address from which the
/// user came before is let in all the same.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name, or their address for mail.
    #[schemars(length(min = 1, max = 254))]
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The code of the second factor, six digits, or a recovery code; only for who has set one up.
    #[serde(default)]
    pub two_factor_code: Option<Secret>,
    /// What to call this login in the list of sessions, such as the name of the browser.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub device: Option<String>,
}

/// A session that has just begun. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct LoggedIn {
    /// The session's token: `oss_` and 64 hexadecimal digits.
    pub access_token: String,
    /// Always `bearer`.
    pub token_type: String,
    /// After how many seconds the session ends in any case.
    pub expires_in: i64,
    /// Who logged in.
    pub user: User,
}

/// Why a login failed, in our words and not in those of the answer.
enum Refused {
    Wrong(&'static str),
    CodeNeeded,
}

pub(super) async fn login(accounts: Accounts, call: Call, input: Login) -> Result<LoggedIn> {
    let caller = call.caller;
    let login = short_text("username", &input.username, 254)?.trim().to_lowercase();
    if input.password.expose().chars().count() > 256 {
        return Err(Error::invalid("password has more than the 256 characters that a password may have"));
    }
    let found = store::users::by_login(&accounts.identity.db, &login).await?;
    let outcome = accounts.judge(&caller, found.as_ref(), &input).await?;
    let result = match outcome {
        Ok(step) => accounts.begin(&caller, found, step, &input).await,
        Err(refused) => Err(accounts.refuse(&caller, found, refused).await?),
    };
    let who = match &result {
        Ok(logged_in) => caller_of_user_id(&caller, &logged_in.user),
        Err(_) => caller.clone(),
    };
    // The name of nobody may be a password that was typed into the wrong field.
    let details = if result.is_ok() { json!({ "username": login }) } else { json!({}) };
    accounts.identity.record(&who, "login", &details, result.as_ref().map(|_| ())).await?;
    result
}

pub(in crate::identity) fn caller_of_user_id(caller: &Caller, user: &User) -> Caller {
    Caller { subject: format!("user:{}", user.id), name: user.username.clone(), ..caller.clone() }
}

/// What a right second factor uses up.
enum Used {
    Nothing,
    Step(i64),
    Recovery(String),
}

impl Accounts {
    async fn judge(
        &self,
        caller: &Caller,
        user: Option<&UserRow>,
        input: &Login,
    ) -> Result<Result<Used, Refused>> {
        let now = self.identity.clock.now();
        let known =
            user.is_some_and(|user| user.last_address.is_some() && user.last_address == caller.address);
        let kept = user.and_then(|user| user.password.clone());
        // Always, so that it takes as long for nobody and for who is locked out.
        let right = self.hasher.verify(&input.password, kept, known).await?;
        let Some(user) = user else { return Ok(Err(Refused::Wrong("no such user"))) };
        if !user.active {
            return Ok(Err(Refused::Wrong("not active")));
        }
        if user.locked_until.is_some_and(|until| now < until) && !known {
            return Ok(Err(Refused::Wrong("locked")));
        }
        if !right {
            return Ok(Err(Refused::Wrong("password")));
        }
        if !user.two_factor {
            return Ok(Ok(Used::Nothing));
        }
        let Some(code) = &input.two_factor_code else { return Ok(Err(Refused::CodeNeeded)) };
        let seed = user.seed.as_deref().ok_or_else(|| Error::internal("a second factor without its seed"))?;
        let seed = self.sealer.open_text(&user.context(), seed).await?;
        if let Some(step) = totp::accept(&seed, code.expose(), now, user.last_step) {
            return Ok(Ok(Used::Step(step)));
        }
        let hash = totp::recovery_hash(&user.id, code.expose());
        Ok(if user.recovery.contains(&hash) { Ok(Used::Recovery(hash)) } else { Err(Refused::Wrong("code")) })
    }

    /// A failure is counted; the answer is the same for each but the missing code.
    async fn refuse(&self, caller: &Caller, user: Option<UserRow>, refused: Refused) -> Result<Error> {
        let now = self.identity.clock.now();
        let reason = match refused {
            Refused::CodeNeeded => {
                return Ok(Error::unauthenticated(
                    "a code of the second factor is needed too; send it as `two_factor_code`",
                ));
            }
            Refused::Wrong(reason) => reason,
        };
        tracing::warn!(address = caller.address, reason, "a login failed");
        if let Some(user) = user.filter(|_| reason != "locked") {
            let mut on = self.identity.db.begin().await?;
            if let Some(mut user) = store::users::get_locked(&mut on, &user.id).await? {
                user.failures += 1;
                let seconds = lockout_seconds(user.failures);
                user.locked_until = (seconds > 0).then(|| now.plus_seconds(seconds));
                store::users::update(&mut on, &user, false).await?;
                on.commit().await?;
            }
        }
        self.identity.throttle.failed(caller.address.as_deref(), now)?;
        Ok(Error::unauthenticated(
            "the name, the password or the code is wrong, or too many logins failed and it has to wait for a while",
        ))
    }

    async fn begin(
        &self,
        caller: &Caller,
        user: Option<UserRow>,
        used: Used,
        input: &Login,
    ) -> Result<LoggedIn> {
        let user = user.ok_or_else(|| Error::internal("a login of nobody"))?;
        let device = input.device.as_deref().unwrap_or_default();
        self.open_session(caller, &user.id, device, |user| use_up(user, used)).await
    }

    /// A new session of a user with a token that nobody has seen (ASVS 7.2.4). `admit` looks at their row once
    /// more, which nobody else changes meanwhile, and may change it.
    pub(in crate::identity) async fn open_session(
        &self,
        caller: &Caller,
        user: &str,
        device: &str,
        admit: impl FnOnce(&mut UserRow) -> Result<()>,
    ) -> Result<LoggedIn> {
        let now = self.identity.clock.now();
        let device: String = device.chars().filter(|c| !c.is_control()).take(60).collect();
        let token = new_token(SESSION_PREFIX);
        let seconds = i64::from(self.config.session_hours) * 3600;
        let mut on = self.identity.db.begin().await?;
        let user = store::users::get_locked(&mut on, user).await?;
        let mut user = user.ok_or_else(|| Error::unauthenticated("the account is gone"))?;
        admit(&mut user)?;
        (user.failures, user.locked_until) = (0, None);
        (user.last_login_at, user.last_address) = (Some(now), caller.address.clone());
        store::users::update(&mut on, &user, false).await?;
        let session = store::sessions::SessionRow {
            id: new_id(),
            hash: sha256_hex(&token),
            user_id: user.id.clone(),
            device,
            address: caller.address.clone(),
            created_at: now,
            seen_at: now,
            expires_at: now.plus_seconds(seconds),
        };
        store::sessions::insert(&mut on, &session).await?;
        on.commit().await?;
        Ok(LoggedIn {
            access_token: token,
            token_type: "bearer".to_owned(),
            expires_in: seconds,
            user: user.shown(now),
        })
    }

    /// The caller of a session's token; `None` when it opens nothing.
    pub async fn of_session(&self, token: &str, call: &Caller) -> Result<Option<(Caller, String)>> {
        let present = self.identity.people.find(token).await?;
        Ok(present
            .map(|present| (caller_of_user(&present.user, call.face, call.address.clone()), present.session)))
    }
}

/// Uses the second factor up, so that it opens no second session.
fn use_up(user: &mut UserRow, used: Used) -> Result<()> {
    match used {
        Used::Nothing => {}
        // Two logins with one code at the same moment: the second finds it used.
        Used::Step(step) if step <= user.last_step => {
            return Err(Error::unauthenticated("the code was used already; wait for the next one"));
        }
        Used::Step(step) => user.last_step = step,
        Used::Recovery(hash) => {
            let before = user.recovery.len();
            user.recovery.retain(|kept| *kept != hash);
            if user.recovery.len() == before {
                return Err(Error::unauthenticated("the recovery code was used already"));
            }
        }
    }
    Ok(())
}
