//! The types of linked cloud accounts, and the rules that need no database.

use std::collections::BTreeMap;

use opsroom_core::{Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose cloud it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Amazon Web Services.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Cloud.
    Gcp,
    /// Alibaba Cloud.
    Alibaba,
    /// Oracle Cloud.
    Oracle,
    /// IBM Cloud.
    Ibm,
    /// Tencent Cloud.
    Tencent,
}

impl Provider {
    const ALL: [(Self, &str); 7] = [
        (Self::Aws, "aws"),
        (Self::Azure, "azure"),
        (Self::Gcp, "gcp"),
        (Self::Alibaba, "alibaba"),
        (Self::Oracle, "oracle"),
        (Self::Ibm, "ibm"),
        (Self::Tencent, "tencent"),
    ];

    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(provider, _)| *provider == self).map_or("", |(_, word)| word)
    }

    /// The provider that the word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == word).map(|(provider, _)| provider)
    }
}

/// A linked account as the database has it.
#[derive(Clone, Debug)]
pub struct CloudRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub team_id: String,
    /// Its name in its team.
    pub name: String,
    /// Whose cloud it is.
    pub provider: Provider,
    /// What the provider calls it; empty when that was not said.
    pub account_id: String,
    /// Its usual region; empty when that was not said.
    pub region: String,
    /// What belongs to it and is no secret.
    pub settings: BTreeMap<String, String>,
    /// Which credentials there are.
    pub fields: Vec<String>,
    /// The sealed credentials.
    pub sealed: String,
    /// Who linked it.
    pub created_by: String,
    /// Since when.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// When its credentials were last seen to open it.
    pub verified_at: Option<Time>,
    /// As whom.
    pub verified_as: Option<String>,
    /// Why they were last seen not to.
    pub failure: Option<String>,
}

/// A linked account, as everybody of its team may know it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CloudAccount {
    /// Its name in its team.
    pub name: String,
    /// Whose cloud it is.
    pub provider: Provider,
    /// What the provider calls it.
    pub account_id: String,
    /// Its usual region.
    pub region: String,
    /// What belongs to it and is no secret.
    pub settings: BTreeMap<String, String>,
    /// Which credentials there are; each is used as `secret://cloud/NAME#FIELD`.
    pub fields: Vec<String>,
    /// `verified`, `failed`, or `not verified`: that nobody has asked the provider, or that it cannot be asked yet.
    pub state: String,
    /// As whom the provider knows the credentials, or why it does not.
    pub message: Option<String>,
    /// When they were last seen to open it, RFC 3339.
    pub verified_at: Option<String>,
    /// The team that owns it.
    pub team_id: String,
    /// Who linked it.
    pub created_by: String,
    /// Since when, RFC 3339.
    pub created_at: String,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
}

impl CloudRow {
    /// What the credentials are sealed for.
    pub fn context(&self) -> [&str; 3] {
        ["cloud account", &self.team_id, &self.id]
    }

    /// What may be shown.
    pub fn shown(&self) -> CloudAccount {
        let state = match (&self.verified_at, &self.failure) {
            (_, Some(_)) => "failed",
            (Some(_), None) => "verified",
            (None, None) => "not verified",
        };
        CloudAccount {
            name: self.name.clone(),
            provider: self.provider,
            account_id: self.account_id.clone(),
            region: self.region.clone(),
            settings: self.settings.clone(),
            fields: self.fields.clone(),
            state: state.to_owned(),
            message: self.failure.clone().or_else(|| self.verified_as.clone()),
            verified_at: self.verified_at.map(Time::to_rfc3339),
            team_id: self.team_id.clone(),
            created_by: self.created_by.clone(),
            created_at: self.created_at.to_rfc3339(),
            updated_at: self.updated_at.to_rfc3339(),
        }
    }
}

/// A name of an account: 1 to 64 letters, digits, `-`, `_` and `.`, as references can hold it.
pub fn name(text: &str) -> Result<&str> {
    let good = (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good {
        return Ok(text);
    }
    let shown: String = text.chars().take(64).collect();
    Err(Error::invalid(format!(
        "name {shown:?} is not 1 to 64 letters, digits, `-`, `_` and `.`, such as `prod`"
    )))
}

/// The text between two tags of a small XML answer, when it is plain.
pub fn tagged<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    let plain = text.len() <= 200 && text.chars().all(|c| c.is_ascii_graphic() && c != '<' && c != '&');
    plain.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_references() {
        for good in ["prod", "team-a.eu_1"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "a/b", "a b", "a#b", "..", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_provider_says_is_taken_only_where_it_is_plain() {
        let xml = "<A><Arn>arn:aws:iam::123456789012:user/ada</Arn><Account>123456789012</Account><X>a&lt;b</X></A>";
        assert_eq!(tagged(xml, "Account"), Some("123456789012"));
        assert_eq!(tagged(xml, "Arn"), Some("arn:aws:iam::123456789012:user/ada"));
        assert_eq!(tagged(xml, "X"), None);
        assert_eq!(tagged("<Account>1", "Account"), None);
    }
}
