//! Deliveries: believed, kept in the inbox, answered; then read.

use std::collections::HashMap;

use opsroom_core::id::{hex, new_id, sha256_hex};
use opsroom_core::{Error, Kind, Result, Time};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Alerts;
use super::evidence::{EvidenceRule, MOST_OF_ONE_DELIVERY};
use super::model::{Incoming, Status};
use super::payload::{self, Sender};
use super::raised;
use super::receivers::Auth;
use super::signature::Refusal;
use super::store::{AlertRow, Delivery, DeliveryState, Entry, Placed, ReceiverRow, Taken, Wanted};

/// Deliveries with the same bytes within this time are one, in seconds.
const SAME_SECONDS: i64 = 300;
/// Deliveries that one round reads.
const ROUND: u64 = 100;

/// A delivery whose sender may be believed; signatures are held against its body when that is there.
pub struct Admitted {
    row: ReceiverRow,
}

impl Alerts {
    /// Looks at what comes before a body at `/webhooks/{name}`, or at `/webhooks/{name}/{token}`, so that no
    /// stranger's body is read in vain.
    ///
    /// # Errors
    /// `Unauthenticated` for whatever is not believed, alike for a name that nobody has.
    pub async fn admit<'a>(
        &self,
        name: &str,
        token: Option<&str>,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Admitted> {
        let Some(row) = self.store.receiver_by_name(name).await? else { return Err(not_believed()) };
        match row.believes(token, &header) {
            Ok(()) => Ok(Admitted { row }),
            Err(why) => Err(self.refuse(&row, why)),
        }
    }

    fn refuse(&self, row: &ReceiverRow, why: Refusal) -> Error {
        tracing::info!(receiver = row.name, why = ?why, "a delivery was refused");
        self.count(&row.id, 0, 1);
        not_believed()
    }

    /// Receives a delivery; answers what its sender wants to read. What it answers is in the inbox.
    ///
    /// # Errors
    /// `Unauthenticated` for a wrong signature, `Invalid` for what is not JSON.
    pub async fn receive<'a>(
        &self,
        admitted: Admitted,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
    ) -> Result<Value> {
        let now = self.clock.now();
        let row = admitted.row;
        if row.settings.auth == Auth::Signature {
            let sealed = row.sealed.as_deref().unwrap_or_default();
            let key = self.sealer.open(&["alerts", "receiver", &row.id], sealed).await?;
            if let Err(why) = row.settings.scheme().verify(&key, &header, body, now) {
                return Err(self.refuse(&row, why));
            }
        }
        let (text, parsed) = parsed(header("content-type").unwrap_or_default(), body)?;
        let event = header("x-github-event").unwrap_or_default();
        let delivery = Delivery {
            id: new_id(),
            team: row.team.clone(),
            receiver: row.id.clone(),
            key: delivery_key(&row, body, now),
            event: event.chars().take(64).collect(),
            body: text,
            state: DeliveryState::Waiting,
            error: None,
            alerts: 0,
            received_at: now,
        };
        if self.store.keep(&delivery).await? {
            self.arrived.notify_one();
        }
        self.count(&row.id, 1, 0);
        Ok(row.settings.sender.reply(&parsed))
    }

    /// Reads what waits in the inbox; answers how many deliveries were looked at.
    pub async fn read_inbox(&self) -> Result<usize> {
        let waiting = self.store.waiting(ROUND).await?;
        if waiting.is_empty() {
            return Ok(0);
        }
        let receivers = self.store.every_receiver().await?;
        for delivery in &waiting {
            let row = receivers.iter().find(|row| row.id == delivery.receiver);
            let told = match delivery.receiver.as_str() {
                raised::RECEIVER => self.raised(delivery).map(|told| (told, None)),
                _ => read(row, delivery),
            };
            match told {
                Ok((told, left)) => {
                    self.take_in(delivery, &told, false).await?;
                    if let Some(left) = left {
                        self.left_unread(delivery, row, &left).await?;
                    }
                }
                Err(error) => {
                    self.store.unreadable(&delivery.id, &error.message).await?;
                    self.left_unread(delivery, row, &error.message).await?;
                }
            }
        }
        Ok(waiting.len())
    }

    /// Tells people that a delivery, or a part of it, could not be read: it may have held what they must know.
    async fn left_unread(&self, delivery: &Delivery, row: Option<&ReceiverRow>, why: &str) -> Result<()> {
        if delivery.receiver == raised::RECEIVER {
            return Ok(());
        }
        self.store.note_left(&delivery.id, why).await?;
        let receiver = row.map_or("(gone)", |row| row.name.as_str());
        let message = crate::notifications::Message {
            team: delivery.team.clone(),
            key: format!("unreadable|{}", delivery.receiver),
            title: format!("A delivery to the receiver {receiver} could not be read"),
            text: format!("{why}. `list_webhook_deliveries` shows it; `replay_webhook` reads it again."),
            url: String::new(),
            fields: vec![("delivery".to_owned(), delivery.id.clone())],
        };
        self.notifications.raise(&message).await.map(drop)
    }

    /// Makes alerts of what a delivery tells.
    pub(super) async fn take_in(&self, delivery: &Delivery, told: &[Incoming], again: bool) -> Result<()> {
        let prints: Vec<&str> = told.iter().map(|alert| alert.fingerprint.as_str()).collect();
        // An alert that somebody changes at the same moment is read anew.
        for last in [false, false, true] {
            let merge = |known| self.merged(known, told, delivery);
            match self.store.take_in(delivery, &prints, again, merge).await {
                Err(error) if error.kind == Kind::Conflict && !last => continue,
                Err(error) => return Err(error),
                Ok(taken) => {
                    self.publish(&taken.unwrap_or_default());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn publish(&self, taken: &Taken) {
        for row in taken.new.iter().chain(&taken.known) {
            let topic = if row.status == Status::Resolved { "alert.resolved" } else { "alert.firing" };
            let data = serde_json::json!({
                "title": row.told.title, "severity": row.told.severity, "count": row.count,
            });
            self.events.publish(topic, &row.team, &row.id, data);
        }
    }

    /// What a delivery changes, given the alerts that are known of those it tells of.
    fn merged(&self, mut known: HashMap<String, AlertRow>, told: &[Incoming], delivery: &Delivery) -> Taken {
        let mut taken = Taken::default();
        let mut new: HashMap<&str, usize> = HashMap::new();
        for told in told {
            // The same alert twice in one delivery: what is said last holds.
            if let Some(at) = new.get(told.fingerprint.as_str()) {
                let before = taken.new[*at].clone();
                let (row, words) = again(before, told, delivery.received_at);
                self.note(&mut taken, &row, words, delivery);
                taken.new[*at] = row;
                continue;
            }
            let Some(before) = known.remove(&told.fingerprint) else {
                let row = begun(told, delivery);
                let words = if told.firing { "it fires" } else { "it is over; it was not known before" };
                self.note(&mut taken, &row, Some(words.to_owned()), delivery);
                new.insert(&told.fingerprint, taken.new.len());
                taken.new.push(row);
                continue;
            };
            let (row, words) = again(before, told, delivery.received_at);
            self.note(&mut taken, &row, words, delivery);
            taken.known.retain(|other| other.id != row.id);
            known.insert(told.fingerprint.clone(), row.clone());
            taken.known.push(row);
        }
        taken
    }

    /// The line of history of a change, and where the alert belongs then; what only goes on has neither.
    fn note(&self, taken: &mut Taken, row: &AlertRow, words: Option<String>, delivery: &Delivery) {
        let Some(words) = words else { return };
        let what = if row.status == Status::Resolved { "resolved" } else { "received" };
        let words = format!("{words} (delivery {})", delivery.id);
        let entry =
            Entry { at: delivery.received_at, what, by: "receiver".to_owned(), words, notification: None };
        taken.history.push((row.id.clone(), entry));
        if row.status == Status::Firing && taken.wanted.len() < MOST_OF_ONE_DELIVERY {
            let wanted = |(rule, it): (usize, &EvidenceRule)| Wanted {
                alert: row.id.clone(),
                rule,
                operation: it.operation.clone(),
            };
            taken.wanted.extend(self.evidence_rules(&row.told.labels).map(wanted));
        }
        for decision in self.config.routing.decide(&row.told.labels) {
            let placed = Placed {
                wait: decision.group_wait_seconds.into(),
                interval: decision.group_interval_seconds.into(),
                route: decision.route,
                name: decision.group,
            };
            taken.placed.push((row.id.clone(), placed));
        }
    }
}

fn not_believed() -> Error {
    Error::unauthenticated("the delivery is not believed: see the receiver's secret and how it signs")
}

fn begun(told: &Incoming, delivery: &Delivery) -> AlertRow {
    let now = delivery.received_at;
    AlertRow {
        id: new_id(),
        team: delivery.team.clone(),
        receiver: delivery.receiver.clone(),
        status: if told.firing { Status::Firing } else { Status::Resolved },
        told: told.clone(),
        handler: None,
        muted_by: None,
        count: 1,
        starts_at: told.starts_at.unwrap_or(now),
        ends_at: (!told.firing).then(|| told.ends_at.unwrap_or(now)),
        first_seen: now,
        last_seen: now,
        expires_at: told.ends_at.filter(|_| told.firing),
        version: 0,
    }
}

/// An alert that was known and is told again: what it is now, and the line of its history when that is more
/// than that it goes on.
fn again(before: AlertRow, told: &Incoming, now: Time) -> (AlertRow, Option<String>) {
    let was_over = before.status == Status::Resolved;
    match (was_over, told.firing) {
        (true, true) if is_older(told, &before) => {
            let words = "told late that it fires: it was over by then, and stays so".to_owned();
            (AlertRow { last_seen: now, ..before }, Some(words))
        }
        (true, true) => {
            let row = AlertRow {
                status: Status::Firing,
                told: told.clone(),
                handler: None,
                muted_by: None,
                count: 1,
                starts_at: told.starts_at.unwrap_or(now),
                ends_at: None,
                expires_at: told.ends_at,
                last_seen: now,
                ..before
            };
            (row, Some("it fires again".to_owned()))
        }
        (true, false) => (AlertRow { last_seen: now, ..before }, None),
        (false, true) => {
            let count = before.count + 1;
            let expires_at = told.ends_at;
            (AlertRow { told: told.clone(), count, last_seen: now, expires_at, ..before }, None)
        }
        (false, false) if ended_before(told, &before) => {
            let words = "told late that an earlier one is over; this one goes on".to_owned();
            (AlertRow { last_seen: now, ..before }, Some(words))
        }
        (false, false) => {
            let ends_at = Some(told.ends_at.unwrap_or(now));
            let row =
                AlertRow { status: Status::Resolved, told: told.clone(), ends_at, last_seen: now, ..before };
            (row, Some("it is over".to_owned()))
        }
    }
}

/// Whether what is told is the alert that is known to be over: deliveries can overtake each other. One that was
/// ended by hand fires again.
fn is_older(told: &Incoming, before: &AlertRow) -> bool {
    let by_hand = before.handler.is_some();
    !by_hand
        && before.told.starts_at.is_some()
        && told.starts_at.is_some_and(|began| began <= before.starts_at)
}

/// Whether what is told to be over began before the alert that goes on.
fn ended_before(told: &Incoming, before: &AlertRow) -> bool {
    before.told.starts_at.is_some() && told.starts_at.is_some_and(|began| began < before.starts_at)
}

/// The alerts of a delivery, and what of it could not be read.
fn read(row: Option<&ReceiverRow>, delivery: &Delivery) -> Result<(Vec<Incoming>, Option<String>)> {
    let row = row.ok_or_else(|| Error::not_found("its receiver is gone"))?;
    let body: Value = serde_json::from_str(&delivery.body).map_err(Error::internal)?;
    let settings = &row.settings;
    let (mut told, left) =
        payload::alerts(settings.sender, &delivery.event, &body, &settings.mapping, delivery.received_at)?;
    for alert in &mut told {
        // That label says what the house itself found.
        if alert.labels.get("source").is_some_and(|source| source == raised::RECEIVER) {
            alert.labels.insert("source".to_owned(), format!("receiver:{}", row.name));
        }
    }
    Ok((told, left))
}

/// The JSON of a delivery, as text and read; of a form, its field `payload`, as GitHub posts it.
fn parsed(content_type: &str, body: &[u8]) -> Result<(String, Value)> {
    let wrong = |error: serde_json::Error| Error::invalid(format!("the delivery is not JSON: {error}"));
    let is_form = content_type
        .trim_start()
        .get(..33)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let text = if is_form {
        let form = form_urlencoded::parse(body).find(|(name, _)| name == "payload");
        form.ok_or_else(|| Error::invalid("the form has no field `payload`"))?.1.into_owned()
    } else {
        let text = std::str::from_utf8(body)
            .map_err(|_| Error::invalid("the delivery is not JSON: it is not UTF-8"))?;
        text.to_owned()
    };
    let value = serde_json::from_str(&text).map_err(wrong)?;
    // PostgreSQL keeps no NUL in a text, and no sender means one.
    Ok((if text.contains('\0') { text.replace('\0', "") } else { text }, value))
}

/// What makes it the same delivery: its bytes and roughly when they came. Of GitHub, which signs no time and
/// whose deliveries all differ, its bytes alone: the header with its id is not signed, and one who repeats a
/// delivery can change it.
fn delivery_key(row: &ReceiverRow, body: &[u8], now: Time) -> String {
    let bytes = hex(&Sha256::digest(body));
    let turn = match row.settings.sender {
        Sender::Github => 0,
        _ => now.0.div_euclid(SAME_SECONDS * 1_000_000),
    };
    sha256_hex(&format!("{}\0{turn}\0{bytes}", row.id))
}
