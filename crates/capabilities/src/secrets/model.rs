//! The types of this folder's answers, and the rules that need no database.

use std::collections::BTreeMap;

use opsroom_core::{Error, Result, Secret, Time};
use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

/// The most bytes that the fields of a secret have together.
pub const MOST_BYTES: usize = 64 << 10;

/// The most fields of a secret, and the most labels.
pub const MOST_FIELDS: usize = 32;

/// The field of a secret that is one value.
pub const VALUE: &str = "value";

/// What is known about a secret, without its value.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SecretInfo {
    /// Its path, such as `db/password`.
    pub path: String,
    /// What it is for.
    pub description: String,
    /// Names and values to find it by; never secret.
    pub labels: BTreeMap<String, String>,
    /// The number of the version in force.
    pub version: i64,
    /// `active`, `disabled`, `expired` or `deleted`.
    pub state: String,
    /// Whether it is bait: its use raises an event.
    pub canary: bool,
    /// The team that owns it.
    pub team_id: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
    /// When it stops to be given out, RFC 3339; null is never.
    pub expires_at: Option<String>,
    /// Until when a deleted secret can be restored, RFC 3339; null when it is not deleted.
    pub restorable_until: Option<String>,
}

/// A version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct VersionInfo {
    /// Its number, from 1.
    pub version: i64,
    /// `current`, `previous`, `old`, `disabled`, `pending` (its rotation is not finished), `failed` or
    /// `destroyed`.
    pub state: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Until when a previous version is still given out, RFC 3339; null when it is not one.
    pub usable_until: Option<String>,
}

/// A secret as the database has it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The team that owns it.
    pub team_id: String,
    /// Its path.
    pub path: String,
    /// What it is for.
    pub description: String,
    /// Names and values to find it by.
    pub labels: BTreeMap<String, String>,
    /// The version in force.
    pub version: i64,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Whether it is bait.
    pub canary: bool,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed.
    pub updated_at: Time,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// When what is deleted goes for good.
    pub purge_at: Option<Time>,
}

/// A version as the database has it.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// The secret's id.
    pub secret_id: String,
    /// Its number.
    pub version: i64,
    /// The sealed fields; empty when destroyed.
    pub sealed: String,
    /// How it is.
    pub state: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Time,
    /// Until when it is given out, when it is a previous one.
    pub usable_until: Option<Time>,
}

/// The fields of a secret.
pub type Fields = BTreeMap<String, Secret>;

impl Row {
    /// What its texts are sealed for: the secret by its id and path, and the version.
    pub fn context(&self, version: i64) -> [String; 5] {
        let number = version.to_string();
        ["secret".to_owned(), self.team_id.clone(), self.id.clone(), self.path.clone(), number]
    }

    /// How it is at this moment.
    pub fn state(&self, now: Time) -> &'static str {
        match self {
            Row { purge_at: Some(_), .. } => "deleted",
            Row { disabled: true, .. } => "disabled",
            Row { expires_at: Some(end), .. } if *end <= now => "expired",
            _ => "active",
        }
    }

    /// Refuses to give out what is not active.
    pub fn usable(&self, now: Time) -> Result<()> {
        let path = &self.path;
        Err(match self.state(now) {
            "active" => return Ok(()),
            "deleted" => {
                Error::conflict(format!("the secret {path:?} is deleted; `restore_secret` brings it back"))
            }
            "disabled" => {
                Error::conflict(format!("the secret {path:?} is disabled; `restore_secret` enables it"))
            }
            _ => Error::conflict(format!(
                "the secret {path:?} has expired; put a new version with `put_secret`"
            )),
        })
    }

    /// What may be shown.
    pub fn info(&self, now: Time) -> SecretInfo {
        SecretInfo {
            path: self.path.clone(),
            description: self.description.clone(),
            labels: self.labels.clone(),
            version: self.version,
            state: self.state(now).to_owned(),
            canary: self.canary,
            team_id: self.team_id.clone(),
            created_by: self.created_by.clone(),
            created_at: self.created_at.to_rfc3339(),
            updated_at: self.updated_at.to_rfc3339(),
            expires_at: self.expires_at.map(Time::to_rfc3339),
            restorable_until: self.purge_at.map(Time::to_rfc3339),
        }
    }
}

impl VersionRow {
    /// What may be shown.
    pub fn info(&self) -> VersionInfo {
        VersionInfo {
            version: self.version,
            state: self.state.clone(),
            created_by: self.created_by.clone(),
            created_at: self.created_at.to_rfc3339(),
            usable_until: self.usable_until.map(Time::to_rfc3339),
        }
    }

    /// Refuses to give out what is not in force any more.
    pub fn usable(&self, now: Time) -> Result<()> {
        let ended = self.state == "previous" && self.usable_until.is_none_or(|until| until <= now);
        match self.state.as_str() {
            "current" | "previous" if !ended => Ok(()),
            state => {
                let state = if ended { "no longer in force" } else { state };
                Err(Error::conflict(format!(
                    "version {} is {state}; leave `version` out for the current one",
                    self.version
                )))
            }
        }
    }
}

/// A path: words of letters, digits and `-_.@`, between slashes, at most 200 bytes.
pub fn path(text: &str) -> Result<&str> {
    let word = |word: &str| {
        !word.is_empty()
            && word != "."
            && word != ".."
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
    };
    if text.len() > 200 || !text.split('/').all(word) {
        let shown: String = text.chars().take(60).collect();
        return Err(Error::invalid(format!(
            "path {shown:?} is not such as `db/password`: words of letters, digits and -_.@ between slashes, at most 200 \
             bytes"
        )));
    }
    Ok(text)
}

/// The fields of an input: one value, or several by their names.
pub fn fields(value: Option<Secret>, fields: Option<Fields>) -> Result<Fields> {
    let all = match (value, fields) {
        (Some(value), None) => Fields::from([(VALUE.to_owned(), value)]),
        (None, Some(fields)) if !fields.is_empty() => fields,
        _ => return Err(Error::invalid("give either `value` or `fields`, which has at least one")),
    };
    let name = |name: &str| {
        !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if all.len() > MOST_FIELDS || !all.keys().all(|key| name(key)) {
        return Err(Error::invalid(format!(
            "fields has more than {MOST_FIELDS} entries, or a name that is not of letters, digits and -_. in 64 bytes"
        )));
    }
    let bytes: usize = all.iter().map(|(name, value)| name.len() + value.expose().len()).sum();
    if bytes > MOST_BYTES {
        return Err(Error::invalid(format!(
            "the secret has {bytes} bytes, more than the {MOST_BYTES} it may have"
        )));
    }
    if all.values().any(|value| value.expose().contains('\0')) {
        return Err(Error::invalid("a value has a zero byte; encode binary values, for example in base64"));
    }
    Ok(all)
}

/// The labels of an input.
pub fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let plain = |text: &str, most| text.len() <= most && !text.chars().any(char::is_control);
    if labels.len() > MOST_FIELDS
        || !labels.iter().all(|(name, value)| !name.is_empty() && plain(name, 64) && plain(value, 200))
    {
        return Err(Error::invalid(format!(
            "labels has more than {MOST_FIELDS} entries, a name beyond 64 bytes, or a value beyond 200; use plain text"
        )));
    }
    Ok(labels)
}

/// The fields as they are sealed.
pub fn to_bytes(fields: &Fields) -> Result<Zeroizing<Vec<u8>>> {
    let stored: BTreeMap<&str, &str> =
        fields.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    serde_json::to_vec(&stored).map(Zeroizing::new).map_err(Error::internal)
}

/// The fields of what was opened.
pub fn from_bytes(bytes: &[u8]) -> Result<Fields> {
    serde_json::from_slice(bytes).map_err(|_| Error::internal("a secret is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_between_slashes() {
        for good in ["a", "db/password", "team-1/x_y.z", "users/ada@example.com"] {
            assert!(path(good).is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in
            ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a\0", "ü", "a'; DROP TABLE secrets", &long]
        {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_one_value_or_several_fields_within_bounds() {
        let one = |text: &str| Some(Secret::new(text));
        assert!(fields(one("x"), None).unwrap().contains_key(VALUE));
        assert!(fields(None, None).is_err());
        assert!(fields(one("x"), Some(Fields::from([("a".to_owned(), "b".into())]))).is_err());
        assert!(fields(None, Some(Fields::new())).is_err());
        assert!(fields(one(&"x".repeat(MOST_BYTES)), None).is_err());
        assert!(fields(None, Some(Fields::from([("a b".to_owned(), "c".into())]))).is_err());
    }
}
