//! What replicas would share, for a server that is alone: kept answers and rate limits, in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::seam::Shared;

/// The most answers that are kept.
const MOST_KEPT: usize = 1_000;
/// The most bytes that all kept answers have.
const MOST_BYTES: usize = 32 << 20;

/// Kept answers and rate limits in memory.
#[derive(Default)]
pub struct InProcess {
    kept: Mutex<Kept>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<String, (Bytes, Instant)>,
    bytes: usize,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Shared for InProcess {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.answers.get(key).filter(|(_, end)| Instant::now() < *end);
        Box::pin(std::future::ready(found.map(|(bytes, _)| bytes.clone())))
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, keep: Duration) -> BoxFuture<'a, ()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.answers.len() >= MOST_KEPT || kept.bytes + value.len() > MOST_BYTES {
            kept.answers.retain(|_, (_, end)| now < *end);
            if kept.answers.len() >= MOST_KEPT || kept.bytes + value.len() > MOST_BYTES {
                kept.answers.clear();
            }
            kept.bytes = kept.answers.values().map(|(bytes, _)| bytes.len()).sum();
        }
        if value.len() <= MOST_BYTES / 8 {
            kept.bytes += value.len();
            if let Some((old, _)) = kept.answers.insert(key.to_owned(), (value, now + keep)) {
                kept.bytes = kept.bytes.saturating_sub(old.len());
            }
        }
        Box::pin(std::future::ready(()))
    }

    fn take<'a>(&'a self, key: &'a str, per_minute: u32) -> BoxFuture<'a, bool> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, most) = (Instant::now(), f64::from(per_minute));
        if !buckets.contains_key(key) {
            buckets.insert(key.to_owned(), Bucket { left: most, at: now });
        }
        let Some(bucket) = buckets.get_mut(key) else { return Box::pin(std::future::ready(true)) };
        bucket.left = (bucket.left + (now - bucket.at).as_secs_f64() * most / 60.0).min(most);
        bucket.at = now;
        let granted = bucket.left >= 1.0;
        if granted {
            bucket.left -= 1.0;
        }
        Box::pin(std::future::ready(granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_in_a_minute_and_no_more() {
        let shared = InProcess::default();
        for _ in 0..3 {
            assert!(shared.take("a", 3).await);
        }
        assert!(!shared.take("a", 3).await);
        assert!(shared.take("b", 3).await, "another key has its own");
    }

    #[tokio::test]
    async fn kept_answers_are_bounded() {
        let shared = InProcess::default();
        for at in 0..MOST_KEPT * 2 {
            shared.put(&format!("{at}"), Bytes::from_static(b"answer"), Duration::from_secs(60)).await;
        }
        assert!(shared.kept.lock().unwrap().answers.len() <= MOST_KEPT);
        shared.put("gone", Bytes::from_static(b"answer"), Duration::ZERO).await;
        assert_eq!(shared.get("gone").await, None);
    }
}
