//! Delivery: what waits in the outbox is sent, tried again with growing pauses, and given up in the end.

use std::time::Duration;

use opsroom_core::egress::{Limits, Request, Response};
use opsroom_core::{Kind, Result, Time};
use serde_json::Value;

use super::Notifications;
use super::store::Queued;

/// How long one attempt may take, in seconds; the older system's bound.
const TIMEOUT_SECONDS: u64 = 5;
/// How long a claim holds: beyond every attempt.
const LEASE_SECONDS: i64 = 30;
/// How often the outbox is looked at when nothing was queued here.
const LOOK_SECONDS: u64 = 5;
/// After so many attempts, about two days, a message is given up.
const MOST_ATTEMPTS: i64 = 60;
/// The longest pause between two attempts, in seconds.
const LONGEST_PAUSE: i64 = 3600;
/// How long what ended is kept, in seconds.
const KEPT_SECONDS: i64 = 30 * 86_400;

/// What became of an attempt.
enum Outcome {
    Sent,
    Later(Option<i64>, String),
    Never(String),
}

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
        let mut sent = 0;
        if inner.config.discord_webhook_url.is_empty() {
            return Ok(sent);
        }
        inner.store.remove_old(inner.clock.now().plus_seconds(-KEPT_SECONDS)).await?;
        for it in inner.store.due(inner.clock.now(), 100).await? {
            let now = inner.clock.now();
            if inner.lifecycle.stopping().is_cancelled() {
                break;
            }
            if !inner.store.claim(&it.id, now, now.plus_seconds(LEASE_SECONDS)).await? {
                continue;
            }
            let outcome = self.attempt(&it).await;
            sent += usize::from(matches!(outcome, Outcome::Sent));
            self.note(&it, outcome).await?;
        }
        Ok(sent)
    }

    async fn attempt(&self, it: &Queued) -> Outcome {
        let payload: Value = match serde_json::from_str(&it.payload) {
            Ok(payload) => payload,
            Err(_) => return Outcome::Never("the stored message is not JSON".to_owned()),
        };
        let request = Request::post_json(self.inner.config.discord_webhook_url.expose(), &payload);
        let limits =
            Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(TIMEOUT_SECONDS), redirects: 0 };
        match self.inner.egress.send(request, limits).await {
            Ok(response) => judge(&response),
            Err(error) if matches!(error.kind, Kind::Forbidden) => Outcome::Never(error.message),
            Err(error) => Outcome::Later(None, error.message),
        }
    }

    async fn note(&self, it: &Queued, outcome: Outcome) -> Result<()> {
        let now = self.inner.clock.now();
        let (state, reason, due) = match outcome {
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
        self.inner.store.note(it, state, reason.as_deref(), now, due).await
    }
}

/// 2, 4, 8, ... seconds.
fn backoff(attempts: i64) -> i64 {
    2_i64 << attempts.clamp(0, 12)
}

fn judge(response: &Response) -> Outcome {
    let status = response.status.as_u16();
    let reason = format!("the webhook answered {status}");
    match status {
        200..=299 => Outcome::Sent,
        429 => Outcome::Later(Some(pause(response)), reason),
        408 | 500..=599 => {
            Outcome::Later(response.headers.contains_key("retry-after").then(|| pause(response)), reason)
        }
        _ => Outcome::Never(reason),
    }
}

/// How many seconds a busy webhook asks for: its JSON says it more exactly than its header.
fn pause(response: &Response) -> i64 {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let exact = body.as_ref().and_then(|body| body.get("retry_after")?.as_f64());
    let header =
        response.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let seconds = exact.or(header).filter(|seconds: &f64| seconds.is_finite()).unwrap_or(10.0);
    seconds.clamp(1.0, LONGEST_PAUSE as f64).ceil() as i64
}

/// The clock's time as answers show it.
pub(super) fn shown(time: Time) -> String {
    time.to_rfc3339()
}
