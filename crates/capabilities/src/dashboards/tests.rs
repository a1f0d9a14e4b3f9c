//! What needs no browser: sources, what is kept and for how long, and how captures are refused.

use opsroom_core::caller::Face;
use opsroom_core::egress::EgressConfig;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Caller, Kind, Time};
use serde_json::json;

use super::operations::{CaptureDashboard, Seen, Via};
use super::store::CaptureRow;
use super::*;

async fn open(test: &TestDb, config: DashboardsConfig) -> Dashboards {
    let clock = Clock::manual(Time(1_767_225_600_000_000));
    test.db.migrate(&clock, &[("dashboards", &MIGRATIONS)]).await.unwrap();
    let allowed = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    Dashboards::open(Parts {
        db: test.db.clone(),
        clock: clock.clone(),
        events: Events::new(clock),
        lifecycle: Lifecycle::new(),
        egress: Egress::new(&allowed).unwrap(),
        secrets: Resolver::new(
            test.folder.path(),
            &[("OPSROOM_SECRET_T".to_owned(), "hunter2".to_owned())].into(),
        ),
        data_dir: test.folder.path().to_owned(),
        config,
    })
    .unwrap()
}

fn nowhere() -> DashboardsConfig {
    DashboardsConfig { chromium: "/nonexistent/browser".into(), ..DashboardsConfig::default() }
}

fn call() -> opsroom_core::Call {
    opsroom_core::Call::new(Caller::operator(Face::Rest))
}

fn input(value: serde_json::Value) -> CaptureDashboard {
    serde_json::from_value(value).unwrap()
}

async fn add(dashboards: &Dashboards, name: &str, place: serde_json::Value) -> Result<()> {
    let input = serde_json::from_value(json!({ "name": name, "place": place })).unwrap();
    sources::add_dashboard_source(dashboards.clone(), call(), input).await.map(drop)
}

fn row(dashboards: &Dashboards, bytes: i64, target: &str) -> CaptureRow {
    let seen = json!({
        "url": "http://a/", "title": "", "format": "png", "width": 1, "height": 1, "sha256": "", "took_ms": 1,
        "via": "browser", "sandbox": true, "complete": true, "signals": [], "waiting": [], "panels": [],
        "refused": [], "failures": [], "dialogs": [], "downloads": [], "change": null, "alert": null,
    });
    CaptureRow {
        id: opsroom_core::id::new_id(),
        team: "default".to_owned(),
        created_by: "operator".to_owned(),
        created_at: dashboards.inner.clock.now(),
        source: "prod".to_owned(),
        target: target.to_owned(),
        bytes,
        seen: serde_json::from_value::<Seen>(seen).unwrap(),
    }
}

async fn keep(dashboards: &Dashboards, bytes: i64, target: &str) -> String {
    let row = row(dashboards, bytes, target);
    dashboards.inner.files.write(kept::name(&row), vec![1; 3].into()).await.unwrap();
    dashboards.inner.store.add_capture(&row).await.unwrap();
    row.id
}

#[tokio::test]
async fn sources_and_captures_are_a_teams_own_on_each_database() {
    for test in each_database().await {
        let dashboards = open(&test, nowhere()).await;
        let grafana = json!({ "kind": "grafana", "url": "https://g.example", "login": { "kind": "bearer", "secret": "secret://env/T" } });
        add(&dashboards, "prod", grafana.clone()).await.unwrap();
        assert_eq!(add(&dashboards, "prod", grafana).await.unwrap_err().kind, Kind::Conflict);
        let mine = call();
        let mut other = call();
        other.caller.teams = vec!["other".to_owned()];
        assert!(dashboards.source(&mine, "prod").await.is_ok());
        assert_eq!(dashboards.source(&other, "prod").await.unwrap_err().kind, Kind::NotFound);
        let (first, second) = (keep(&dashboards, 3, "x").await, keep(&dashboards, 3, "x").await);
        let teams = &mine.caller.teams;
        let ids = |rows: Vec<CaptureRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        let store = &dashboards.inner.store;
        assert_eq!(
            ids(store.captures(teams, Some("prod"), None, 9).await.unwrap()),
            [second.clone(), first.clone()]
        );
        assert_eq!(
            ids(store.captures(teams, None, Some(&second), 9).await.unwrap()),
            std::slice::from_ref(&first)
        );
        assert_eq!(store.newest("default", "x").await.unwrap().unwrap().id, second);
        assert!(store.captures(&other.caller.teams, None, None, 9).await.unwrap().is_empty());
        assert_eq!(
            dashboards.picture(&other.caller.teams, &first, false).await.unwrap_err().kind,
            Kind::NotFound
        );
        assert_eq!(dashboards.picture(teams, &first, false).await.unwrap().bytes.len(), 3);
    }
}

#[tokio::test]
async fn captures_go_by_age_and_by_bytes_with_their_files() {
    for test in each_database().await {
        let dashboards = open(&test, DashboardsConfig { keep_days: 7, keep_mib: 1, ..nowhere() }).await;
        let old = keep(&dashboards, 10, "a").await;
        dashboards.inner.clock.advance_seconds(8 * 86_400);
        let large = keep(&dashboards, 900 << 10, "b").await;
        let newest = keep(&dashboards, 500 << 10, "c").await;
        dashboards.remove_old().await.unwrap();
        let left = dashboards.inner.store.captures(&call().caller.teams, None, None, 9).await.unwrap();
        assert_eq!(left.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [newest.as_str()]);
        let mut files: Vec<String> = std::fs::read_dir(test.folder.path().join("captures"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, [format!("{newest}.png")], "{old} and {large} are gone");
    }
}

#[tokio::test]
async fn a_secret_in_the_place_of_a_reference_is_refused_and_not_repeated() {
    let test = sqlite().await;
    let dashboards = open(&test, nowhere()).await;
    for (place, word) in [
        (json!({ "url": "https://a.example", "login": { "kind": "bearer", "secret": "hunter2" } }), "secret"),
        (
            json!({ "url": "https://a.example", "login": { "kind": "basic", "secret": "secret://env/T" } }),
            "username",
        ),
        (json!({ "url": "https://a.example/?x" }), "url"),
        (json!({ "url": "ftp://a.example" }), "url"),
        (json!({ "url": "http://10.0.0.1" }), "10.0.0.1"),
    ] {
        let error = add(&dashboards, "x", place).await.unwrap_err();
        assert!(error.message.contains(word) && !error.message.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_captured_is_said_before_anything_is_started() {
    let test = sqlite().await;
    let dashboards = open(&test, nowhere()).await;
    add(&dashboards, "pages", json!({ "url": "http://127.0.0.1:3000/ops" })).await.unwrap();
    add(&dashboards, "g", json!({ "kind": "grafana", "url": "http://127.0.0.1:3000" })).await.unwrap();
    for (given, kind, word) in [
        (json!({}), Kind::Invalid, "url"),
        (json!({ "url": "https://example.com", "panel_id": "1" }), Kind::Invalid, "panel_id"),
        (json!({ "url": "https://example.com", "from": "now-1h" }), Kind::Invalid, "dashboard_uid"),
        (json!({ "url": "file:///etc/passwd" }), Kind::Invalid, "https"),
        (json!({ "url": "http://10.1.2.3/" }), Kind::Forbidden, "10.1.2.3"),
        (json!({ "url": "http://user:pass@example.com/" }), Kind::Invalid, "password"),
        (json!({ "source": "none", "dashboard_uid": "a" }), Kind::NotFound, "none"),
        (json!({ "source": "pages", "dashboard_uid": "a" }), Kind::Invalid, "no Grafana"),
        (json!({ "source": "pages", "url": "https://evil.example/" }), Kind::Invalid, "pages"),
        (json!({ "source": "pages", "url": "//evil.example/" }), Kind::Unavailable, "browser"),
        (json!({ "source": "pages", "via": "grafana" }), Kind::Invalid, "via"),
        (
            json!({ "url": "https://example.com", "width": 4096, "height": 4096, "scale": 2 }),
            Kind::Invalid,
            "24 million",
        ),
        (json!({ "source": "pages", "full_page": true, "element": "h1" }), Kind::Invalid, "full_page"),
        (json!({ "url": "https://example.com" }), Kind::Unavailable, "dashboards.chromium"),
    ] {
        let error = dashboards.capture(&call(), input(given.clone())).await.unwrap_err();
        assert!(error.kind == kind && error.message.contains(word), "{given}: {error:?}");
    }
    assert_eq!(input(json!({})).via, Via::Auto);
    assert!(!dashboards.inner.chromium.runs().await);
}
