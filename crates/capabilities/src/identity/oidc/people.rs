//! Whose account a login elsewhere opens, and what it gives.

use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::id::{new_id, sha256_hex};
use opsroom_core::{Caller, Error, Kind, Result, Role};
use serde::{Deserialize, Serialize};

use super::claims::Person;
use super::config::OidcConfig;
use super::{LINK_PREFIX, Oidc};
use crate::identity::accounts::model::{self, UserRow};
use crate::identity::authenticate::is_token;
use crate::identity::store::identities::{self, IdentityRow};
use crate::identity::store::oauth::tokens;
use crate::identity::store::users;

/// How many names are tried for a new account.
const TRIES: u32 = 8;

/// What a ticket of `link_identity` stands for.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticket {
    pub user_id: String,
}

/// What the groups of a person give.
#[derive(Debug, PartialEq)]
pub struct Given {
    /// The role; `None` leaves it.
    pub role: Option<Role>,
    /// The teams; `None` leaves them.
    pub teams: Option<Vec<String>>,
}

/// What groups give by a configuration; `None` is nothing at all: they are not let in.
pub fn given(config: &OidcConfig, groups: &[String]) -> Option<Given> {
    if config.roles.is_empty() {
        return Some(Given { role: None, teams: None });
    }
    let theirs = || config.roles.iter().filter(|entry| groups.contains(&entry.group));
    let role = theirs().map(|entry| entry.role).max().or(config.default_role)?;
    let mut teams: Vec<String> = Vec::new();
    for team in theirs().flat_map(|entry| &entry.teams) {
        if !teams.contains(team) {
            teams.push(team.clone());
        }
    }
    Some(Given { role: Some(role), teams: Some(teams).filter(|teams| !teams.is_empty()) })
}

impl Oidc {
    /// The account of a person: the one that is linked, or a new one where that is allowed. It has what their
    /// groups give now.
    pub(super) async fn account(&self, person: &Person) -> Result<String> {
        let issuer = &self.config.issuer;
        let linked = identities::find(&self.identity.db, issuer, &person.subject).await?;
        let given = given(&self.config, &person.groups);
        let Some(linked) = linked else {
            let given = given.ok_or_else(no_group)?;
            if !self.config.sign_up {
                return Err(Error::forbidden(
                    "no account here is linked with this login; who has one logs in to it as ever and links it on the \
                     account's page",
                ));
            }
            return self.new_account(person, given).await;
        };
        let Some(given) = given else {
            // Who lost their groups there loses here what is open.
            self.accounts.end_sessions(&linked.user_id, None).await?;
            return Err(no_group());
        };
        identities::set_used(&self.identity.db, &linked.id, self.identity.clock.now()).await?;
        let user = users::get(&self.identity.db, &linked.user_id).await?;
        let user = user.ok_or_else(|| Error::unauthenticated("the account is gone"))?;
        let changes = given.role.is_some_and(|role| role != user.role)
            || given.teams.as_ref().is_some_and(|teams| *teams != user.teams);
        if changes {
            let change = |user: &mut UserRow| {
                user.role = given.role.unwrap_or(user.role);
                user.teams = given.teams.unwrap_or_else(|| user.teams.clone());
            };
            self.accounts.change(&linked.user_id, true, change).await?;
        }
        Ok(linked.user_id)
    }

    /// An account that is opened by this login alone: it has no password.
    async fn new_account(&self, person: &Person, given: Given) -> Result<String> {
        let role = given.role.unwrap_or(self.config.default_role.unwrap_or(Role::Viewer));
        let teams = given.teams.unwrap_or_else(|| vec![DEFAULT_TEAM.to_owned()]);
        let now = self.identity.clock.now();
        let email = person.email.as_deref().and_then(|email| model::email(email).ok());
        let name = wanted_name(person);
        for attempt in 0..TRIES {
            let username = match attempt {
                0 => name.clone(),
                // Which of the names is theirs does not depend on who else is here.
                n => format!("{name}-{}", &sha256_hex(&format!("{n}\0{}", person.subject))[..6]),
            };
            let fresh = self.accounts.new_user(username.clone(), String::new(), role, teams.clone());
            // An address that is not known to be theirs is not taken: it may be somebody else's.
            let address = email.clone().unwrap_or_else(|| format!("{}@sso.invalid", fresh.id));
            let full_name = person.full_name.chars().filter(|c| !c.is_control()).take(128).collect();
            let verified_at = email.as_ref().map(|_| now);
            let user = UserRow { email: address, verified_at, full_name, ..fresh };
            match self.insert(&user, person).await {
                Ok(()) => return Ok(user.id),
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
            let there = users::by_login(&self.identity.db, &user.email).await?;
            if there.is_some() {
                return Err(Error::forbidden(
                    "there is an account with your address already, and an address alone opens none: log in to it as \
                     ever, and link this login on the account's page",
                ));
            }
        }
        Err(Error::conflict("no free name was found for a new account; an administrator can make one"))
    }

    async fn insert(&self, user: &UserRow, person: &Person) -> Result<()> {
        let mut on = self.identity.db.begin().await?;
        self.accounts.insert_on(&mut on, user).await?;
        identities::insert(&mut on, &self.row(&user.id, person)).await?;
        on.commit().await?;
        self.accounts.changed().await;
        Ok(())
    }

    /// Links a login with the account of who is logged in, who asked for it with their password.
    pub(super) async fn link(&self, caller: &Caller, ticket: &str, person: &Person) -> Result<()> {
        let stale =
            || Error::forbidden("the link was used, is too old, or is somebody else's; ask for a new one");
        if !is_token(ticket, LINK_PREFIX) || caller.session.is_none() {
            return Err(stale());
        }
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let taken = tokens::take(&mut on, &sha256_hex(ticket), tokens::Kind::Link, now).await?;
        let details = taken.filter(|taken| !taken.again).and_then(|taken| taken.details).ok_or_else(stale)?;
        let Ticket { user_id } = serde_json::from_str(&details).map_err(Error::internal)?;
        // Otherwise somebody could make another person's browser link that person's login to their own account.
        if caller.subject != format!("user:{user_id}") {
            return Err(stale());
        }
        identities::insert(&mut on, &self.row(&user_id, person)).await.map_err(|error| match error.kind {
            Kind::Conflict => Error::conflict("this login is linked with an account already"),
            _ => error,
        })?;
        on.commit().await?;
        let user = self.accounts.own(caller).await?;
        let text = "From now on a login elsewhere opens your account.";
        self.accounts.tell(&user, "A login was linked", text).await
    }

    fn row(&self, user: &str, person: &Person) -> IdentityRow {
        let now = self.identity.clock.now();
        IdentityRow {
            id: new_id(),
            user_id: user.to_owned(),
            issuer: self.config.issuer.clone(),
            subject: person.subject.clone(),
            created_at: now,
            last_login_at: Some(now),
        }
    }
}

/// A name to log in with, as near to what the person is called as names here may be.
fn wanted_name(person: &Person) -> String {
    let wishes = [person.username.as_deref(), person.email.as_deref(), Some(person.full_name.as_str())];
    let plain = |wish: &str| {
        let wish = wish.split('@').next().unwrap_or_default().trim().to_ascii_lowercase();
        let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let name: String = wish.chars().map(letter).take(48).collect();
        name.trim_matches('-').to_owned()
    };
    let mut names = wishes.into_iter().flatten().map(plain);
    names
        .find(|name| name.len() >= 3)
        .unwrap_or_else(|| format!("user-{}", &sha256_hex(&person.subject)[..8]))
}

fn no_group() -> Error {
    Error::forbidden(
        "none of your groups may log in here; `oidc.roles` of the configuration names those that may",
    )
}
