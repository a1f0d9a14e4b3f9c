//! Other people's accounts, and signing up.

use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::db::Transaction;
use opsroom_core::id::new_id;
use opsroom_core::{Call, Error, Result, Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{self, User, UserRow};
use super::people::MOST_USERS;
use super::tokens::Accepted;
use super::{Accounts, grantable, password, store};
use crate::identity::model::{Page, id_cursor, page_limit, short_text};

/// Sign up for an account, as a viewer of the team `default`; only where `accounts.signup` allows it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signup {
    /// The name to log in with: 3 to 64 letters, digits, `_` and `-`.
    #[schemars(length(min = 3, max = 64))]
    pub username: String,
    /// The address for mail; a link to verify it is sent there.
    #[schemars(length(min = 1, max = 254))]
    pub email: String,
    /// The password: 8 to 256 characters of any kind.
    pub password: Secret,
    /// Your name.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub full_name: String,
    /// Where you work.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub organization: String,
}

/// Make the first administrator's account with the setup token that the first start of the server prints.
/// The token works once, for 15 minutes, and only while there is no administrator.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The token: `ops_` and 64 hexadecimal digits.
    pub token: Secret,
    /// The name to log in with: 3 to 64 letters, digits, `_` and `-`.
    #[schemars(length(min = 3, max = 64))]
    pub username: String,
    /// The address for mail.
    #[schemars(length(min = 1, max = 254))]
    pub email: String,
    /// The password: 8 to 256 characters of any kind.
    pub password: Secret,
}

/// Invite somebody: make an account and mail a link to choose its password. The link works for three days.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The name to log in with: 3 to 64 letters, digits, `_` and `-`.
    #[schemars(length(min = 3, max = 64))]
    pub username: String,
    /// The address for mail.
    #[schemars(length(min = 1, max = 254))]
    pub email: String,
    /// The rung they stand on; not above your own.
    #[serde(default = "viewer")]
    pub role: Role,
    /// Their teams; the first owns what they make. Left out: your own.
    #[serde(default)]
    pub teams: Option<Vec<String>>,
    /// Their name.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub full_name: String,
}

/// Somebody who was invited. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct Invited {
    /// The account.
    pub user: User,
    /// The token of the link, for when no mail can be sent: `reset_password` takes it. It works once.
    pub invitation: String,
}

/// List the accounts, newest first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListUsers {
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// Show an account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetUser {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// Change what somebody may do. What they do no longer may is refused from their next call on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// The account's id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The rung they stand on; not above your own. Left out: as before.
    #[serde(default)]
    pub role: Option<Role>,
    /// Their teams. Left out: as before.
    #[serde(default)]
    pub teams: Option<Vec<String>>,
    /// Whether they may log in; `false` ends their sessions. Left out: as before.
    #[serde(default)]
    pub is_active: Option<bool>,
    /// Let them log in at once although too many logins failed.
    #[serde(default)]
    pub unlock: bool,
    /// Take their second factor away, because they lost it; they are told.
    #[serde(default)]
    pub reset_two_factor: bool,
}

/// Delete an account. Its sessions end; its name and address are free again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteUser {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
}

fn viewer() -> Role {
    Role::Viewer
}

pub async fn signup(accounts: Accounts, call: Call, input: Signup) -> Result<Accepted> {
    if !accounts.config.signup {
        return Err(Error::forbidden("signing up is switched off here; an administrator can invite you"));
    }
    let username = model::username(&input.username)?;
    let email = model::email(input.email.trim())?;
    password::acceptable(&input.password, &[&username, &email])?;
    // Before it is known whether the name is free, so that it takes as long.
    let hash = accounts.hasher.hash(&input.password).await?;
    let user = UserRow {
        password: Some(hash),
        full_name: short_text("full_name", &input.full_name, 128)?.to_owned(),
        organization: short_text("organization", &input.organization, 128)?.to_owned(),
        ..accounts.new_user(username.clone(), email, Role::Viewer, vec![DEFAULT_TEAM.to_owned()])
    };
    let made = accounts.insert(&user).await;
    accounts
        .identity
        .record(&call.caller, "signup", &json!({ "username": username }), made.as_ref().map(|_| ()))
        .await?;
    match made {
        Ok(()) => drop(accounts.mail_token(&user, "verify", &user.email).await?),
        // The name is public; who has the address is not.
        Err(error) if error.kind == opsroom_core::Kind::Conflict => {
            let there = store::users::by_login(&accounts.identity.db, &user.username).await?;
            if there.is_some_and(|there| there.username == user.username) {
                return Err(Error::conflict(format!(
                    "the name {:?} is taken; choose another",
                    user.username
                )));
            }
        }
        Err(error) => return Err(error),
    }
    Ok(Accepted {
        message: "the account is made; follow the link in the mail to verify the address".to_owned(),
    })
}

pub async fn set_up(accounts: Accounts, call: Call, input: SetUp) -> Result<User> {
    let username = model::username(&input.username)?;
    let email = model::email(input.email.trim())?;
    password::acceptable(&input.password, &[&username, &email])?;
    let now = accounts.identity.clock.now();
    let address = call.caller.address.clone();
    // The token is looked at before the work of hashing is done for a stranger.
    accounts.identity.setup_token_is(input.token.expose(), &address).await?;
    let hash = accounts.hasher.hash(&input.password).await?;
    let user = UserRow {
        password: Some(hash),
        ..accounts.new_user(username, email, Role::Administrator, vec![DEFAULT_TEAM.to_owned()])
    };
    let mut on = accounts.identity.db.begin().await?;
    accounts.identity.take_setup_token(&mut on, input.token.expose(), &address).await?;
    store::users::insert(&mut on, &user).await?;
    on.commit().await?;
    accounts.identity.record(&call.caller, "set_up", &json!({ "user_id": user.id }), Ok(())).await?;
    accounts.changed().await;
    Ok(user.shown(now))
}

pub async fn create(accounts: Accounts, call: Call, input: CreateUser) -> Result<Invited> {
    grantable(&call.caller, input.role)?;
    let teams = input.teams.map(model::teams).transpose()?.unwrap_or_else(|| call.caller.teams.clone());
    let user = UserRow {
        full_name: short_text("full_name", &input.full_name, 128)?.to_owned(),
        ..accounts.new_user(
            model::username(&input.username)?,
            model::email(input.email.trim())?,
            input.role,
            teams,
        )
    };
    accounts.insert(&user).await.map_err(|error| match error.kind {
        opsroom_core::Kind::Conflict => {
            Error::conflict("the name or the address is taken; `list_users` lists the accounts")
        }
        _ => error,
    })?;
    let invitation = accounts.mail_token(&user, "invite", &user.email).await?;
    Ok(Invited { user: user.shown(accounts.identity.clock.now()), invitation })
}

pub async fn list(accounts: Accounts, _: Call, input: ListUsers) -> Result<Page<User>> {
    let limit = page_limit(input.limit)?;
    let before = id_cursor(&input.cursor)?;
    let rows = store::users::list(&accounts.identity.db, before, limit as u64 + 1).await?;
    let now = accounts.identity.clock.now();
    let users = rows.iter().map(|row| row.shown(now)).collect();
    Ok(Page::cut(users, limit, |user: &User| user.id.clone()))
}

pub async fn get(accounts: Accounts, _: Call, input: GetUser) -> Result<User> {
    let user = accounts.user(&input.id).await?;
    Ok(user.shown(accounts.identity.clock.now()))
}

pub async fn update(accounts: Accounts, call: Call, input: UpdateUser) -> Result<User> {
    let user = accounts.user(&input.id).await?;
    // Who may not give a rung may not take it away either.
    grantable(&call.caller, user.role.max(input.role.unwrap_or(user.role)))?;
    let teams = input.teams.map(model::teams).transpose()?;
    if input.is_active == Some(false) && call.caller.subject == format!("user:{}", user.id) {
        return Err(Error::conflict(
            "this is your own account; another administrator can take it away from you",
        ));
    }
    if input.reset_two_factor && user.two_factor {
        accounts
            .tell(
                &user,
                "The second factor was taken away",
                "An administrator took it away because it was lost.",
            )
            .await?;
    }
    let shown = accounts
        .change(&user.id, true, |user| {
            user.role = input.role.unwrap_or(user.role);
            user.teams = teams.unwrap_or_else(|| user.teams.clone());
            user.active = input.is_active.unwrap_or(user.active);
            if input.unlock {
                (user.failures, user.locked_until) = (0, None);
            }
            if input.reset_two_factor {
                (user.two_factor, user.seed, user.recovery) = (false, None, Vec::new());
            }
        })
        .await?;
    if input.is_active == Some(false) {
        accounts.end_sessions(&user.id, None).await?;
    }
    Ok(shown)
}

pub async fn delete(accounts: Accounts, call: Call, input: DeleteUser) -> Result<Accepted> {
    let user = accounts.user(&input.id).await?;
    grantable(&call.caller, user.role)?;
    accounts.remove(&user.id).await?;
    Ok(Accepted { message: format!("the account {} is deleted", user.username) })
}

impl Accounts {
    /// The row of a new account, which nothing opens yet.
    pub(in crate::identity) fn new_user(
        &self,
        username: String,
        email: String,
        role: Role,
        teams: Vec<String>,
    ) -> UserRow {
        UserRow {
            id: new_id(),
            username,
            email,
            verified_at: None,
            full_name: String::new(),
            organization: String::new(),
            role,
            teams,
            active: true,
            password: None,
            seed: None,
            two_factor: false,
            last_step: 0,
            recovery: Vec::new(),
            failures: 0,
            locked_until: None,
            last_login_at: None,
            last_address: None,
            created_at: self.identity.clock.now(),
            deleted_at: None,
        }
    }

    async fn insert(&self, user: &UserRow) -> Result<()> {
        let mut on = self.identity.db.begin().await?;
        self.insert_on(&mut on, user).await?;
        on.commit().await?;
        self.changed().await;
        Ok(())
    }

    /// The same in a transaction of the caller's.
    pub(in crate::identity) async fn insert_on(&self, on: &mut Transaction, user: &UserRow) -> Result<()> {
        if store::users::count(on).await? >= MOST_USERS.cast_signed() {
            return Err(Error::busy(format!(
                "there are {MOST_USERS} accounts, which is the most there may be"
            )));
        }
        store::users::insert(on, user).await
    }

    async fn user(&self, id: &str) -> Result<UserRow> {
        let id = short_text("id", id, 64)?;
        let user = store::users::get(&self.identity.db, id).await?;
        user.ok_or_else(|| Error::not_found(format!("there is no account {id:?}; `list_users` lists them")))
    }

    pub(super) async fn locked(&self, on: &mut Transaction, id: &str) -> Result<UserRow> {
        let user = store::users::get_locked(on, id).await?;
        user.ok_or_else(|| Error::not_found("the account is gone"))
    }

    /// Changes a user's row; `visible` says that authentication must hear of it.
    pub(in crate::identity) async fn change(
        &self,
        id: &str,
        visible: bool,
        change: impl FnOnce(&mut UserRow),
    ) -> Result<User> {
        let mut on = self.identity.db.begin().await?;
        let mut user = self.locked(&mut on, id).await?;
        change(&mut user);
        store::users::update(&mut on, &user, visible).await?;
        on.commit().await?;
        if visible {
            self.changed().await;
        }
        Ok(user.shown(self.identity.clock.now()))
    }

    /// Ends one session of a user, or all; answers how many.
    pub(in crate::identity) async fn end_sessions(&self, user: &str, one: Option<&str>) -> Result<u64> {
        let mut on = self.identity.db.begin().await?;
        let ended = store::sessions::end(&mut on, user, one, None).await?;
        if one.is_none() {
            store::oauth::grants::revoke_of_user(&mut on, user, self.identity.clock.now()).await?;
        }
        on.commit().await?;
        self.changed().await;
        Ok(ended)
    }

    /// Deletes a user softly: the row stays for the record, its name and address are free, and nothing opens it.
    pub(super) async fn remove(&self, id: &str) -> Result<()> {
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let mut user = self.locked(&mut on, id).await?;
        user.username = format!("deleted-{id}");
        user.email = format!("deleted-{id}@invalid");
        (user.active, user.password, user.seed) = (false, None, None);
        (user.two_factor, user.recovery, user.deleted_at) = (false, Vec::new(), Some(now));
        store::users::update(&mut on, &user, true).await?;
        store::users::void_tokens(&mut on, id, None).await?;
        store::identities::remove_of_user(&mut on, id).await?;
        store::sessions::end(&mut on, id, None, None).await?;
        store::oauth::grants::revoke_of_user(&mut on, id, now).await?;
        on.commit().await?;
        self.changed().await;
        Ok(())
    }
}
