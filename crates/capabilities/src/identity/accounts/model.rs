//! The types of accounts, and the rules that need no database.

use opsroom_core::{Error, Result, Role, Time};
use schemars::JsonSchema;
use serde::Serialize;

/// A person with an account, as everybody may know them who may see them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct User {
    /// Their id.
    pub id: String,
    /// The name they log in with.
    pub username: String,
    /// Their address for mail.
    pub email: String,
    /// Whether the address was verified.
    pub is_verified: bool,
    /// Their name.
    pub full_name: String,
    /// Where they work.
    pub organization: String,
    /// The rung they stand on.
    pub role: Role,
    /// Their teams; the first owns what they make.
    pub teams: Vec<String>,
    /// Whether they may log in.
    pub is_active: bool,
    /// Whether a second factor is asked for.
    pub two_factor_enabled: bool,
    /// When the account was made, RFC 3339.
    pub created_at: String,
    /// When they last logged in, RFC 3339; null is never.
    pub last_login_at: Option<String>,
    /// Until when logins are refused because too many failed, RFC 3339; null when they are not.
    pub locked_until: Option<String>,
}

/// A user as the database has them.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Their id.
    pub id: String,
    /// Their name, in lower case.
    pub username: String,
    /// Their address, in lower case.
    pub email: String,
    /// When the address was verified.
    pub verified_at: Option<Time>,
    /// Their name.
    pub full_name: String,
    /// Where they work.
    pub organization: String,
    /// Their rung.
    pub role: Role,
    /// Their teams.
    pub teams: Vec<String>,
    /// Whether they may log in.
    pub active: bool,
    /// The hash of their password; `None` before an invitation is accepted.
    pub password: Option<String>,
    /// The sealed seed of the second factor.
    pub seed: Option<String>,
    /// Whether it is asked for.
    pub two_factor: bool,
    /// The last step of a code that was used.
    pub last_step: i64,
    /// The hashes of the recovery codes that are left.
    pub recovery: Vec<String>,
    /// Failed logins in a row.
    pub failures: i64,
    /// Until when logins are refused.
    pub locked_until: Option<Time>,
    /// When they last logged in.
    pub last_login_at: Option<Time>,
    /// From where.
    pub last_address: Option<String>,
    /// When the account was made.
    pub created_at: Time,
    /// When it was deleted.
    pub deleted_at: Option<Time>,
}

impl UserRow {
    /// What may be shown.
    pub fn shown(&self, now: Time) -> User {
        User {
            id: self.id.clone(),
            username: self.username.clone(),
            email: self.email.clone(),
            is_verified: self.verified_at.is_some(),
            full_name: self.full_name.clone(),
            organization: self.organization.clone(),
            role: self.role,
            teams: self.teams.clone(),
            is_active: self.active,
            two_factor_enabled: self.two_factor,
            created_at: self.created_at.to_rfc3339(),
            last_login_at: self.last_login_at.map(Time::to_rfc3339),
            locked_until: self.locked_until.filter(|until| *until > now).map(Time::to_rfc3339),
        }
    }

    /// What their second factor is sealed for.
    pub fn context(&self) -> [&str; 2] {
        ["second factor", &self.id]
    }
}

/// For how many seconds logins are refused after so many failures in a row: 30 after five, doubled by each
/// more, an hour at most.
pub fn lockout_seconds(failures: i64) -> i64 {
    match failures - 5 {
        beyond if beyond < 0 => 0,
        beyond => (30_i64 << beyond.min(7)).min(3600),
    }
}

/// A name to log in with: 3 to 64 letters, digits, `_` and `-`, in lower case.
pub fn username(text: &str) -> Result<String> {
    let good = (3..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !good {
        let shown: String = text.chars().take(64).collect();
        return Err(Error::invalid(format!(
            "username {shown:?} is not 3 to 64 letters, digits, `_` and `-`"
        )));
    }
    Ok(text.to_ascii_lowercase())
}

/// An address for mail, in lower case: one `@`, no spaces, quotes or line breaks.
pub fn email(text: &str) -> Result<String> {
    let good = text.len() <= 254
        && text.split_once('@').is_some_and(|(local, domain)| {
            let plain = |c: char| c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
            !local.is_empty()
                && local.len() <= 64
                && local.chars().all(plain)
                && !domain.is_empty()
                && domain.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '-')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
        });
    if !good {
        let shown: String = text.chars().take(60).collect();
        return Err(Error::invalid(format!("email {shown:?} is not an address such as ada@example.com")));
    }
    Ok(text.to_lowercase())
}

/// Names of teams: 1 to 16 words of lower-case letters, digits, `_` and `-`.
pub fn teams(teams: Vec<String>) -> Result<Vec<String>> {
    let good = |team: &String| {
        (1..=64).contains(&team.len())
            && team.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    if teams.is_empty() || teams.len() > 16 || !teams.iter().all(good) {
        return Err(Error::invalid(
            "teams is one to 16 names of lower-case letters, digits, `_` and `-`, such as `payments`",
        ));
    }
    Ok(teams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockout_grows_and_ends() {
        let seconds: Vec<i64> = (0..16).map(lockout_seconds).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn names_and_addresses_are_plain() {
        assert_eq!(username("Ada-L_1").unwrap(), "ada-l_1");
        for bad in ["", "ab", "a b c", "ada@x", "ädä", &"x".repeat(65), "a'; DROP TABLE users"] {
            assert!(username(bad).is_err(), "{bad}");
        }
        assert_eq!(email("Ada+x@Example.com").unwrap(), "ada+x@example.com");
        for bad in ["", "ada", "@x", "ada@", "a@b\r\nBcc: c@d", "\"a b\"@c", "a@b@c", "<a@b>", "a@.b"] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(teams(vec!["a".to_owned()]).is_ok());
        assert!(teams(vec![]).is_err() && teams(vec!["A b".to_owned()]).is_err());
    }
}
