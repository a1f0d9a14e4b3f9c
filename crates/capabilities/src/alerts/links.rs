//! Links in messages: one who was told takes an alert, or keeps it quiet for an hour, without logging in.
//!
//! A link is a random token of which only the hash is kept: it is for certain alerts and one action, works once,
//! and ends with its time. To look at it changes nothing, because chats fetch what they are shown.

use opsroom_core::caller::{Caller, Face, Role, Scope};
use opsroom_core::db::Transaction;
use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Error, Result, Time};
use serde_json::{Value, json};

use super::Alerts;
use super::store::{LinkRow, Store};

/// For how many seconds a link works.
const WORKS_SECONDS: i64 = 86_400;
/// For how many seconds a link keeps quiet.
const QUIET_SECONDS: u64 = 3600;
/// The most alerts that one link is for.
const MOST_ALERTS: usize = 50;

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// Takes the alerts.
    Acknowledge,
    /// Keeps them quiet for an hour.
    Silence,
}

impl LinkAction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Silence => "silence",
        }
    }

    pub(super) fn parse(word: &str) -> Self {
        if word == "silence" { Self::Silence } else { Self::Acknowledge }
    }

    /// What its button says.
    pub fn words(self) -> &'static str {
        match self {
            Self::Acknowledge => "Acknowledge",
            Self::Silence => "Silence for an hour",
        }
    }
}

/// What a link is for.
pub struct Link {
    /// What it does.
    pub action: LinkAction,
    /// The titles of its alerts.
    pub titles: Vec<String>,
    row: LinkRow,
}

fn gone() -> Error {
    Error::not_found("this link is not known, was used, or its time is over; look at the alert in Opsroom")
}

impl Alerts {
    /// Links for alerts of a team, made within the transaction that queues the message they stand in: names and
    /// addresses. Without a known address of this server there are none.
    pub(super) async fn links(
        &self,
        on: &mut Transaction,
        team: &str,
        alerts: &[String],
        now: Time,
    ) -> Result<Vec<(String, String)>> {
        let mut links = Vec::new();
        if self.public_url.is_empty() || alerts.is_empty() || alerts.len() > MOST_ALERTS {
            return Ok(links);
        }
        for action in [LinkAction::Acknowledge, LinkAction::Silence] {
            let token = new_token("lnk_");
            let row = LinkRow {
                id: sha256_hex(&token),
                team: team.to_owned(),
                alerts: alerts.to_vec(),
                action,
                expires_at: now.plus_seconds(WORKS_SECONDS),
            };
            Store::add_link(on, &row).await?;
            let url = format!("{}/alert-links/{token}", self.public_url.trim_end_matches('/'));
            links.push((action.words().to_owned(), url));
        }
        Ok(links)
    }

    /// What a link is for. Nothing changes.
    ///
    /// # Errors
    /// `NotFound` for one that does not work, whatever the reason.
    pub async fn link(&self, token: &str) -> Result<Link> {
        let now = self.clock.now();
        let row = self.store.link(&sha256_hex(token), now).await?.ok_or_else(gone)?;
        let mut titles = Vec::new();
        for id in &row.alerts {
            let alert = self.store.alert(std::slice::from_ref(&row.team), id).await?;
            titles.extend(alert.map(|alert| alert.told.title));
        }
        Ok(Link { action: row.action, titles, row })
    }

    /// Uses a link up: answers who then calls which operations with which input. Whoever comes second finds it
    /// gone.
    ///
    /// # Errors
    /// `NotFound` for one that does not work.
    pub async fn use_link(
        &self,
        link: &Link,
        address: Option<String>,
    ) -> Result<(Caller, Vec<(&'static str, Value)>)> {
        let now = self.clock.now();
        if !self.store.use_link(&link.row.id, now).await? {
            return Err(gone());
        }
        let mut calls = Vec::new();
        for id in &link.row.alerts {
            let note = "by a link in a message";
            match link.action {
                LinkAction::Acknowledge => {
                    calls.push(("acknowledge_alert", json!({ "id": id, "note": note })));
                }
                LinkAction::Silence => {
                    let Some(alert) = self.store.alert(std::slice::from_ref(&link.row.team), id).await?
                    else {
                        continue;
                    };
                    let matcher = |(name, value): (&String, &String)| {
                        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                        format!("{name}=\"{value}\"")
                    };
                    let matchers: Vec<String> = alert.told.labels.iter().map(matcher).collect();
                    let input = json!({ "matchers": matchers, "seconds": QUIET_SECONDS, "comment": note });
                    calls.push(("silence_alerts", input));
                }
            }
        }
        Ok((self.caller_of(link, address), calls))
    }

    /// Who a link calls as: one who may do that and nothing else.
    fn caller_of(&self, link: &Link, address: Option<String>) -> Caller {
        let operation = match link.action {
            LinkAction::Acknowledge => "acknowledge_alert",
            LinkAction::Silence => "silence_alerts",
        };
        let scope = Scope::try_from(format!("alerts:{operation}")).ok();
        Caller {
            subject: format!("link:{}", &link.row.id[..16]),
            name: "a link in a message".to_owned(),
            role: Role::Operator,
            scopes: Some(scope.into_iter().collect()),
            teams: vec![link.row.team.clone()],
            session: None,
            face: Face::Rest,
            address,
            request_id: None,
        }
    }
}
