//! Delivery: what waits in the outbox is sent, tried again with growing pauses, and given up in the end.
//!
//! Channels are served beside each other, the messages of one in order. Where more wait than a provider takes,
//! they go together as one message.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use opsroom_core::egress::Limits;
use opsroom_core::{Kind, Result, Time};
use serde_json::Value;

use super::channels::{ChannelKind, Content, Outcome, judge, requests};
use super::open::Channel;
use super::store::attempts::Attempt;
use super::store::{Noted, Queued};
use super::{DEFAULT_CHANNEL, Notifications, smtp};

/// How long one request may take, in seconds; the older system's bound.
const TIMEOUT_SECONDS: u64 = 5;
/// How long a claim holds besides what its requests may take, in seconds.
const LEASE_SECONDS: i64 = 30;
/// How long a conversation with a server for mail may take, in seconds.
const MAIL_SECONDS: i64 = 60;
/// How often the outbox is looked at when nothing was queued here.
const LOOK_SECONDS: u64 = 1;
/// After so many attempts, about two days, a message is given up.
const MOST_ATTEMPTS: i64 = 60;
/// The longest pause between two attempts, in seconds.
const LONGEST_PAUSE: i64 = 3600;
/// How long what ended is kept, in seconds.
const KEPT_SECONDS: i64 = 30 * 86_400;
/// How often what ended is removed, in seconds.
const TIDY_SECONDS: i64 = 3600;
/// Messages that one round takes.
const ROUND: u64 = 500;
/// Messages that a digest names; the others are counted.
const DIGEST_NAMES: usize = 50;

impl Notifications {
    /// Delivers until the server stops.
    pub fn start(&self) {
        let notifications = self.clone();
        let stopping = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("notifications", async move {
            loop {
                // A database that is away for a while must not end the server.
                if let Err(error) = notifications.deliver_due().await {
                    tracing::warn!(error = %error, "the outbox cannot be read; trying again");
                }
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = notifications.inner.queued.notified() => {}
                    () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => {}
                }
            }
        });
    }

    /// One round: everything that is due is tried once. Answers how many were sent.
    pub async fn deliver_due(&self) -> Result<usize> {
        let inner = &self.inner;
        let now = inner.clock.now();
        if now.0 - inner.tidied.load(Ordering::Relaxed) > TIDY_SECONDS * 1_000_000 {
            inner.tidied.store(now.0, Ordering::Relaxed);
            inner.store.remove_old(now.plus_seconds(-KEPT_SECONDS)).await?;
            inner.store.remove_attempts(now.plus_seconds(-KEPT_SECONDS)).await?;
        }
        let mut by_channel: BTreeMap<(String, String), Vec<Queued>> = BTreeMap::new();
        for it in inner.store.due(now, ROUND).await? {
            by_channel.entry((it.team.clone(), it.channel.clone())).or_default().push(it);
        }
        let work = by_channel.into_iter().map(|((team, name), items)| self.serve(team, name, items));
        let sent: Result<Vec<usize>> = futures_util::future::join_all(work).await.into_iter().collect();
        Ok(sent?.into_iter().sum())
    }

    /// Sends what waits for one channel.
    async fn serve(&self, team: String, name: String, items: Vec<Queued>) -> Result<usize> {
        let inner = &self.inner;
        if name == DEFAULT_CHANNEL && inner.config.discord_webhook_url.is_empty() {
            return Ok(0);
        }
        let Some(channel) = self.channel(&team, &name).await? else {
            for it in items {
                self.note(&it, None, Outcome::Never(format!("there is no channel `{name}`")), None).await?;
            }
            return Ok(0);
        };
        let mut sent = 0;
        for it in self.within_limit(&channel, &team, &name, items).await? {
            if inner.lifecycle.stopping().is_cancelled() {
                break;
            }
            sent += usize::from(self.send_one(&channel, it).await?);
        }
        Ok(sent)
    }

    /// What may be sent now: when more waits than the provider takes, the last of it is everything else together.
    async fn within_limit(
        &self,
        channel: &Channel,
        team: &str,
        name: &str,
        mut items: Vec<Queued>,
    ) -> Result<Vec<Queued>> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let used = inner.store.requests_since(team, name, now.plus_seconds(-60)).await?;
        let left = usize::try_from(i64::from(channel.per_minute) - used).unwrap_or(0);
        if items.len() <= left {
            return Ok(items);
        }
        let rest = items.split_off(left.saturating_sub(1));
        // What was begun, or has its provider's form already, goes as it is when there is room.
        let (loose, fixed): (Vec<Queued>, Vec<Queued>) =
            rest.into_iter().partition(|it| it.part == 0 && it.flying_at.is_none() && it.content().is_some());
        if left == 0 {
            return Ok(Vec::new());
        }
        if loose.len() < 2 {
            items.extend(fixed.into_iter().chain(loose).take(1));
            return Ok(items);
        }
        let digest = digest(&loose);
        let ids: Vec<&str> = loose.iter().map(|it| it.id.as_str()).collect();
        if let Some(digest) = inner.store.merge(team, name, &ids, &digest, now).await? {
            items.push(digest);
        }
        Ok(items)
    }

    /// One attempt for one message; answers whether it was sent.
    async fn send_one(&self, channel: &Channel, it: Queued) -> Result<bool> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let form = match self.form(channel, &it, now) {
            Ok(form) => form,
            Err(error) => {
                self.note(&it, Some(channel), Outcome::Never(error.message), None).await?;
                return Ok(false);
            }
        };
        let longest = form.longest();
        if !inner.store.claim(&it.id, now, now.plus_seconds(longest + LEASE_SECONDS)).await? {
            return Ok(false);
        }
        if let Some(began_at) = it.flying_at {
            let words = "the server died while it was on its way; the provider may have it".to_owned();
            let attempt = Attempt { began_at, took_ms: 0, requests: 1, outcome: "unknown".to_owned(), words };
            let hold = channel.hold_after_crash;
            inner.store.note_unknown(&it, &attempt, hold, now).await?;
            if hold {
                tracing::warn!(notification.id = it.id, "a message is held: nobody knows whether it arrived");
                return Ok(false);
            }
        }
        let begun = Instant::now();
        let (outcome, requests) = self.attempt(channel, &it, form).await?;
        let sent = outcome == Outcome::Sent;
        let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.note(&it, Some(channel), outcome, Some((now, took_ms, requests))).await?;
        Ok(sent)
    }

    fn form(&self, channel: &Channel, it: &Queued, now: Time) -> Result<Form> {
        let Some(content) = it.content() else {
            let body: Value = serde_json::from_str(&it.payload).map_err(opsroom_core::Error::internal)?;
            let request = opsroom_core::egress::Request::post_json(channel.target.url.expose(), &body);
            return Ok(Form::Requests(vec![request]));
        };
        let content = channel.shaped(content);
        if channel.kind == ChannelKind::Email {
            return Ok(Form::Mail(content));
        }
        requests(channel.kind, &channel.target, &content, &it.id, now).map(Form::Requests)
    }

    /// Sends what is left of a message; answers how that went and how many requests it took.
    async fn attempt(&self, channel: &Channel, it: &Queued, form: Form) -> Result<(Outcome, i64)> {
        let requests = match form {
            Form::Mail(content) => return Ok((self.mail_out(channel, it, &content).await, 1)),
            Form::Requests(requests) => requests,
        };
        let limits =
            Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(TIMEOUT_SECONDS), redirects: 0 };
        let count = requests.len();
        let mut made = 0;
        for (at, request) in requests.into_iter().enumerate().skip(usize::try_from(it.part).unwrap_or(0)) {
            made += 1;
            let outcome = match self.inner.egress.send(request, limits).await {
                Ok(response) => judge(channel.kind, &response),
                Err(error) if matches!(error.kind, Kind::Forbidden) => Outcome::Never(error.message),
                Err(error) => Outcome::Later(None, error.message),
            };
            if outcome != Outcome::Sent {
                return Ok((outcome, made));
            }
            if at + 1 < count {
                // A part that was taken is not sent again.
                self.inner.store.part_sent(&it.id, at as i64 + 1).await?;
            }
        }
        Ok((Outcome::Sent, made))
    }

    async fn mail_out(&self, channel: &Channel, it: &Queued, content: &Content) -> Outcome {
        let inner = &self.inner;
        let server = channel.target.smtp.as_ref().unwrap_or(&inner.config.smtp);
        if server.host.is_empty() {
            return Outcome::Never("no server for mail: set `notifications.smtp.host`".to_owned());
        }
        let letter = smtp::Letter::of(content, &channel.target.to);
        match smtp::send(&inner.egress, server, &letter, &it.id, inner.clock.now()).await {
            Ok(()) => Outcome::Sent,
            Err(trouble) if trouble.lasting => Outcome::Never(trouble.reason),
            Err(trouble) => Outcome::Later(None, trouble.reason),
        }
    }

    async fn note(
        &self,
        it: &Queued,
        channel: Option<&Channel>,
        outcome: Outcome,
        attempt: Option<(Time, i64, i64)>,
    ) -> Result<()> {
        let now = self.inner.clock.now();
        let word = match &outcome {
            Outcome::Sent => "sent",
            Outcome::Later(..) => "later",
            Outcome::Never(_) => "failed",
        };
        let (state, reason, due_at) = match outcome {
            Outcome::Sent => ("sent", None, now),
            Outcome::Later(_, reason) if it.attempts + 1 >= MOST_ATTEMPTS => ("failed", Some(reason), now),
            Outcome::Later(pause, reason) => {
                let pause = pause.unwrap_or_else(|| backoff(it.attempts)).clamp(1, LONGEST_PAUSE);
                ("waiting", Some(reason), now.plus_seconds(pause))
            }
            Outcome::Never(reason) => ("failed", Some(reason), now),
        };
        if state == "failed" {
            tracing::warn!(notification.id = it.id, reason, "a message could not be delivered");
        }
        let attempt = attempt.map(|(began_at, took_ms, requests)| Attempt {
            began_at,
            took_ms,
            requests,
            outcome: word.to_owned(),
            words: reason.clone().unwrap_or_default(),
        });
        // What came from another channel's failure ends here, so that no two channels throw it at each other.
        let fallback = channel
            .and_then(|channel| channel.fallback.as_deref())
            .filter(|_| state == "failed" && !it.is_fallback && it.content().is_some());
        let noted = Noted { state, reason: reason.as_deref(), now, due_at, attempt, fallback };
        self.inner.store.note(it, &noted).await
    }
}

/// A message in its channel's form.
enum Form {
    Requests(Vec<opsroom_core::egress::Request>),
    Mail(Content),
}

impl Form {
    /// How long an attempt may take, in seconds.
    fn longest(&self) -> i64 {
        match self {
            Form::Mail(_) => MAIL_SECONDS,
            Form::Requests(requests) => requests.len() as i64 * TIMEOUT_SECONDS as i64,
        }
    }
}

/// 2, 4, 8, ... seconds.
fn backoff(attempts: i64) -> i64 {
    2_i64 << attempts.clamp(0, 12)
}

/// Several messages as one.
fn digest(items: &[Queued]) -> Content {
    let mut lines: Vec<String> =
        items.iter().take(DIGEST_NAMES).map(|it| format!("- {}", it.title)).collect();
    if items.len() > DIGEST_NAMES {
        lines.push(format!("and {} more", items.len() - DIGEST_NAMES));
    }
    let worst = items.iter().filter_map(Queued::content).map(|it| it.level);
    let level = worst.min_by_key(|level| *level as u8).unwrap_or_default();
    let title = format!("{} messages, together because the channel takes no more", items.len());
    Content { title, text: lines.join("\n"), level, ..Content::default() }
}

/// The clock's time as answers show it.
pub(super) fn shown(time: Time) -> String {
    time.to_rfc3339()
}
