//! The store as a whole: what is acknowledged is found, before and after sealing, restarts and damage.

use std::path::Path;
use std::time::Duration;

use opsroom_analytics::segments::{Labels, Test};
use opsroom_core::Clock;
use opsroom_core::clock::Time;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::testing::{TestDb, sqlite};

use super::*;
use crate::logs::query::parse;

const NOW: i64 = 1_763_719_200_000_000;

struct Place {
    test: TestDb,
    clock: Clock,
}

impl Place {
    async fn new() -> Self {
        let (test, clock) = (sqlite().await, Clock::manual(Time(NOW)));
        test.db.migrate(&clock, &[("logs", &MIGRATIONS)]).await.unwrap();
        Self { test, clock }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.test.folder.path().join("logs")
    }

    async fn open(&self, life: &Lifecycle) -> Embedded {
        let config = StoreConfig { segment_bytes: 1 << 20, ..StoreConfig::default() };
        Embedded::open(&self.folder(), self.test.db.clone(), self.clock.clone(), life, config).await.unwrap()
    }
}

fn batch(from: usize, lines: usize) -> Batch {
    let mut batch = Batch::default();
    for n in from..from + lines {
        let service = if n % 2 == 0 { "api" } else { "web" };
        let stream = batch.stream(&Labels::from([("service".to_owned(), service.to_owned())]));
        let text = format!("request {n} of user u{} took {} ms on 10.0.{}.1", n % 50, n * 7 % 900, n % 200);
        let level = if n % 100 == 7 { 5 } else { 3 };
        batch.rows.push(NOW - 1_000_000_000 + n as i64 * 1_000, level, stream, text.as_bytes());
    }
    batch
}

fn wanted(query: &str) -> Wanted {
    let query = parse(query, NOW).unwrap();
    let range = query.from.unwrap_or(i64::MIN)..query.until.unwrap_or(i64::MAX);
    Wanted { teams: vec!["default".to_owned()], test: query.test, range }
}

fn count(store: &Embedded, query: &str) -> u64 {
    let counting = Counting { by: By::Nothing, limit: 10, buckets: 0 };
    store.aggregate(&wanted(query), &counting, &Watch::silent()).unwrap().count
}

fn texts(page: &Page) -> Vec<String> {
    page.lines.iter().map(|line| String::from_utf8(line.text.clone()).unwrap()).collect()
}

async fn end(life: Lifecycle) {
    life.finish(Duration::from_secs(10)).await.unwrap();
}

fn files(folder: &Path, kind: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == kind)).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_found_before_and_after_sealing_and_a_restart() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    for n in 0..12 {
        assert_eq!(store.append("default", batch(n * 4_000, 4_000)).await.unwrap(), 4_000);
        assert_eq!(count(&store, ""), (n as u64 + 1) * 4_000);
    }
    store.settled().await;
    let check = |store: &Embedded| {
        assert_eq!(count(store, ""), 48_000);
        assert_eq!(count(store, "level:error"), 480);
        assert_eq!(count(store, "service:api"), 24_000);
        assert_eq!(count(store, "u17 took"), 960);
        assert_eq!(count(store, "/request 1000[0-9] /"), 10);
        assert_eq!(count(store, "service:api NOT 10.0.4.1 since:1h"), 23_760);
        let page = store.search(&wanted("level:error"), 3, 1, &Watch::silent()).unwrap();
        assert!(page.more && page.warnings.is_empty());
        assert!(texts(&page)[0].starts_with("request 47907 "), "{:?}", texts(&page));
        let around = (&page.lines[1].before[0], &page.lines[1].after[0]);
        let starts = |line: &[u8], with: &str| line.starts_with(with.as_bytes());
        assert!(starts(around.0, "request 47805 ") && starts(around.1, "request 47809 "), "{around:?}");
        let by = |by| Counting { by, limit: 5, buckets: 4 };
        let counted =
            store.aggregate(&wanted("level:error"), &by(By::Label("service".to_owned())), &Watch::silent());
        let counted = counted.unwrap();
        assert_eq!((counted.groups[0].value.as_str(), counted.groups[0].count), ("web", 480));
        assert_eq!(counted.groups[0].buckets.iter().sum::<u64>(), 480);
        let counted =
            store.aggregate(&wanted(""), &by(By::Matched("user (u4[0-9])".to_owned())), &Watch::silent());
        assert_eq!(counted.unwrap().count, 9_600);
        let mut seen = Vec::new();
        store
            .scan(&wanted("u7"), &Watch::silent(), &mut |line| {
                seen.push(line.time);
                Ok(true)
            })
            .unwrap();
        assert!(seen.is_sorted() && seen.len() == 960);
        let other = Wanted { teams: vec!["other".to_owned()], ..wanted("") };
        assert!(store.search(&other, 10, 0, &Watch::silent()).unwrap().lines.is_empty());
    };
    check(&store);
    assert!(!files(&place.folder(), "seg").is_empty());
    let before = store.state();
    end(life).await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    check(&store);
    assert_eq!((store.state().0, store.state().3), (before.0, before.3));
    end(life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_name_lines_of_a_kind_in_memory_and_in_segments() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    store.append("default", batch(0, 24_000)).await.unwrap();
    store.append("default", batch(24_000, 100)).await.unwrap();
    store.settled().await;
    let counting = Counting { by: By::Template, limit: 5, buckets: 0 };
    let counted = store.aggregate(&wanted(""), &counting, &Watch::silent()).unwrap();
    assert_eq!(counted.count, 24_100);
    assert!(
        counted.groups[0].value.starts_with("request <*> of user <*> took <*> ms"),
        "{:?}",
        counted.groups
    );
    let template = counted.groups[0].value.clone();
    let by_template = Wanted { test: Test::Template(template), ..wanted("") };
    assert!(!store.search(&by_template, 10, 0, &Watch::silent()).unwrap().lines.is_empty());
    end(life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_of_sealing_loses_nothing_and_doubles_nothing() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    store.append("default", batch(0, 24_000)).await.unwrap();
    let wal = files(&place.folder(), "wal")[0].clone();
    let kept = std::fs::read(&wal).ok();
    store.settled().await;
    store.append("default", batch(24_000, 10)).await.unwrap();
    end(life).await;
    let reopened = async |place: &Place| {
        let life = Lifecycle::new();
        let store = place.open(&life).await;
        store.settled().await;
        let counted = count(&store, "");
        end(life).await;
        counted
    };
    // The segment is there and its write-ahead file too: the lines count once.
    if let Some(kept) = &kept {
        std::fs::write(&wal, kept).unwrap();
        assert_eq!(reopened(&place).await, 24_010);
        assert!(!wal.exists());
        // The segment was cut short while it was written: it is made anew.
        let segment = files(&place.folder(), "seg")[0].clone();
        let bytes = std::fs::read(&segment).unwrap();
        std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
        std::fs::write(&wal, kept).unwrap();
        assert_eq!(reopened(&place).await, 24_010);
    }
    // A frame that was being written when the power went was never acknowledged.
    let last = files(&place.folder(), "wal").pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3, 4, 5]);
    std::fs::write(&last, bytes).unwrap();
    assert_eq!(reopened(&place).await, 24_010);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_told_and_the_rest_is_found() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    store.append("default", batch(0, 24_000)).await.unwrap();
    store.settled().await;
    store.append("default", batch(24_000, 5)).await.unwrap();
    let segment = files(&place.folder(), "seg")[0].clone();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 0xff;
    std::fs::write(&segment, &bytes).unwrap();
    let page = store.search(&wanted(""), 100, 0, &Watch::silent()).unwrap();
    assert_eq!((page.lines.len(), page.warnings.len()), (5, 1));
    assert!(page.warnings[0].contains("24000 lines"), "{:?}", page.warnings);
    end(life).await;
    // Without its footer it cannot even be opened.
    std::fs::write(&segment, &bytes[..bytes.len() - 5]).unwrap();
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    assert!(store.state().4.is_some());
    assert_eq!(count(&store, ""), 5);
    end(life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_or_too_much_goes() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    for n in 0..3 {
        store.append("default", batch(n * 24_000, 24_000)).await.unwrap();
        store.settled().await;
    }
    assert_eq!(store.state().3, 3);
    assert_eq!(store.retain(Retention { before: i64::MIN, bytes: u64::MAX }).await.unwrap(), 0);
    let before = NOW - 1_000_000_000 + 24_000 * 1_000;
    assert_eq!(store.retain(Retention { before, bytes: u64::MAX }).await.unwrap(), 1);
    assert_eq!(count(&store, ""), 48_000);
    let bytes = store.state().2 - 1;
    assert_eq!(store.retain(Retention { before, bytes }).await.unwrap(), 1);
    assert_eq!((count(&store, ""), files(&place.folder(), "seg").len()), (24_000, 1));
    end(life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_send_at_once_are_all_kept() {
    let place = Place::new().await;
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    let mut heard = store.listen();
    let sends = (0..64).map(|n| store.append("default", batch(n * 10, 10)));
    for kept in futures_util::future::join_all(sends).await {
        assert_eq!(kept.unwrap(), 10);
    }
    assert_eq!(count(&store, ""), 640);
    assert_eq!(heard.recv().await.unwrap().rows.rows.len(), 10);
    assert_eq!(store.append("default", Batch::default()).await.unwrap(), 0);
    end(life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_loses_nothing_and_takes_no_name_twice() {
    let place = Place::new().await;
    let mut kept = 0;
    // Each time the clock is a day earlier, before and after a restart.
    for turn in 0..3 {
        let life = Lifecycle::new();
        let store = place.open(&life).await;
        assert_eq!(count(&store, ""), kept, "turn {turn}");
        for lines in [24_000, 10] {
            store.append("default", batch(turn * 24_010, lines)).await.unwrap();
            kept += lines as u64;
            place.clock.advance_seconds(-43_200);
            assert_eq!(count(&store, ""), kept);
        }
        store.settled().await;
        assert_eq!(count(&store, ""), kept);
        assert_eq!(files(&place.folder(), "seg").len(), store.state().3);
        end(life).await;
    }
    // Lines themselves go back, too: what is newest is told by their times and not by when they came.
    let life = Lifecycle::new();
    let store = place.open(&life).await;
    store.append("default", batch(900_000, 1)).await.unwrap();
    store.append("default", batch(500, 1)).await.unwrap();
    let page = store.search(&wanted(""), 1, 0, &Watch::silent()).unwrap();
    assert!(texts(&page)[0].starts_with("request 900000 "), "{:?}", texts(&page));
    end(life).await;
}
