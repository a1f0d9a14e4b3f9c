//! What alerts promise, on every database that is at hand.

use std::collections::HashMap;

use opsroom_core::caller::{Caller, Face};
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::seal::{self, Sealer};
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Kind, Result, Secret, Time};
use serde_json::{Value, json};

use super::{Alerts, AlertsConfig, MIGRATIONS, Parts};
use crate::notifications::{self, Notifications, NotificationsConfig};

const START: Time = Time(1_767_607_200_000_000);

pub struct House {
    pub alerts: Alerts,
    pub clock: Clock,
    pub notifications: Notifications,
    _test: TestDb,
}

impl House {
    pub async fn new(test: TestDb, config: Value) -> Self {
        // Nothing is delivered here: what counts is that it is in the outbox.
        Self::with(test, config, "http://127.0.0.1:9/").await
    }

    /// One that has no channel `default`.
    pub async fn without_default(test: TestDb, config: Value) -> Self {
        Self::with(test, config, "").await
    }

    async fn with(test: TestDb, config: Value, default: &str) -> Self {
        let clock = Clock::manual(START);
        let migrations: [(&str, &[_]); 3] = [
            ("seal", &seal::MIGRATIONS),
            ("notifications", &notifications::MIGRATIONS),
            ("alerts", &MIGRATIONS),
        ];
        test.db.migrate(&clock, &migrations).await.unwrap();
        let egress = Egress::new(&EgressConfig::default()).unwrap();
        let data_dir = test.folder.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        let sealer =
            Sealer::new(test.db.clone(), clock.clone(), egress.clone(), Default::default(), &data_dir);
        let discord_webhook_url = Secret::new(default);
        let config_of_notifications = NotificationsConfig { discord_webhook_url, ..Default::default() };
        let lifecycle = Lifecycle::new();
        let notifications = Notifications::open(
            test.db.clone(),
            clock.clone(),
            lifecycle.clone(),
            egress,
            config_of_notifications,
        )
        .unwrap();
        notifications.set_sealer(sealer.clone());
        let config: AlertsConfig = serde_json::from_value(config).unwrap();
        let alerts = Alerts::open(Parts {
            db: test.db.clone(),
            clock: clock.clone(),
            events: Events::new(clock.clone()),
            lifecycle,
            notifications: notifications.clone(),
            sealer,
            config,
            public_url: "https://ops.example.com".to_owned(),
        })
        .unwrap();
        Self { alerts, clock, notifications, _test: test }
    }

    pub async fn call(&self, name: &str, input: Value) -> Result<Value> {
        let operations = [self.alerts.capability(), self.notifications.capability()]
            .into_iter()
            .flat_map(|it| it.operations);
        let operation = operations.into_iter().find(|it| it.name == name).expect(name);
        operation.run(Call::new(Caller::operator(Face::Rest)), input).await
    }

    /// Makes a receiver; answers its secret.
    pub async fn receiver(&self, input: Value) -> String {
        let made = self.call("create_receiver", input).await.unwrap();
        made["secret"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn deliver(&self, name: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Value> {
        let headers: HashMap<&str, &str> = headers.iter().copied().collect();
        let header = |name: &str| headers.get(name).copied();
        let admitted = self.alerts.admit(name, None, header).await?;
        self.alerts.receive(admitted, header, body).await
    }

    /// A round after so many seconds; answers the titles that were queued.
    pub async fn round(&self, seconds: i64) -> Vec<String> {
        self.clock.advance_seconds(seconds);
        self.alerts.read_inbox().await.unwrap();
        let before = self.titles().await;
        self.alerts.tell_due().await.unwrap();
        let after = self.titles().await;
        after[..after.len() - before.len()].iter().rev().cloned().collect()
    }

    async fn titles(&self) -> Vec<String> {
        let listed = self.call("list_notifications", json!({ "limit": 200 })).await.unwrap();
        let items = listed["items"].as_array().unwrap();
        items.iter().map(|it| it["title"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn listed(&self) -> Vec<Value> {
        let listed = self.call("list_alerts", json!({})).await.unwrap();
        listed["items"].as_array().unwrap().clone()
    }
}

/// A delivery of Alertmanager.
pub fn delivery(alerts: &[(&str, &str, &str)]) -> Vec<u8> {
    let alert = |&(name, status, starts_at): &(&str, &str, &str)| {
        json!({
            "status": status, "labels": { "alertname": name, "severity": "critical" },
            "annotations": { "summary": name }, "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z"
        })
    };
    let alerts: Vec<Value> = alerts.iter().map(alert).collect();
    json!({ "version": "4", "status": "firing", "alerts": alerts }).to_string().into_bytes()
}

pub const TEN: &str = "2026-01-05T10:00:00Z";

pub async fn houses(config: Value) -> Vec<(House, String)> {
    let mut houses = Vec::new();
    for test in each_database().await {
        let house = House::new(test, config.clone()).await;
        let secret = house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await;
        houses.push((house, format!("Bearer {secret}")));
    }
    houses
}

#[tokio::test]
async fn an_alert_is_received_told_once_taken_and_over() {
    for (house, bearer) in houses(json!({})).await {
        let auth = [("authorization", bearer.as_str())];
        let body = delivery(&[("Down", "firing", TEN)]);
        assert_eq!(house.deliver("am", &auth, &body).await.unwrap()["status"], "accepted");
        assert_eq!(house.round(0).await, [""; 0], "the group waits for others");
        assert_eq!(house.round(10).await, ["critical (1): Down"]);
        house.deliver("am", &auth, &body).await.unwrap();
        assert_eq!(house.round(400).await, [""; 0], "told again, it is the same");
        let alert = &house.listed().await[0];
        assert_eq!((&alert["status"], &alert["count"]), (&json!("firing"), &json!(1)));
        let id = json!({ "id": alert["id"] });
        let taken = house.call("acknowledge_alert", id.clone()).await.unwrap();
        assert_eq!((&taken["status"], &taken["handler"]), (&json!("acknowledged"), &json!("operator")));
        assert_eq!(house.round(20_000).await, [""; 0], "nobody is told again of what somebody took");
        house.deliver("am", &auth, &delivery(&[("Down", "resolved", TEN)])).await.unwrap();
        assert_eq!(house.round(0).await, ["resolved (1): Down"]);
        let told = house.call("explain_alert", id).await.unwrap();
        let whats: Vec<&str> =
            told["history"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect();
        assert_eq!(whats, ["received", "told", "acknowledged", "quiet", "resolved", "told"]);
        assert!(told["history"][1]["notification_id"].is_string());
        assert!(
            told["summary"].as_str().unwrap().contains("people were told 2 times"),
            "{}",
            told["summary"]
        );
    }
}

#[tokio::test]
async fn a_delivery_is_read_once_whatever_repeats_it() {
    for (house, bearer) in houses(json!({})).await {
        let auth = [("authorization", bearer.as_str())];
        let body = delivery(&[("Down", "firing", TEN), ("Down", "firing", TEN), ("Up", "firing", TEN)]);
        for _ in 0..3 {
            house.deliver("am", &auth, &body).await.unwrap();
        }
        assert_eq!(house.alerts.read_inbox().await.unwrap(), 1);
        assert_eq!(house.alerts.read_inbox().await.unwrap(), 0);
        assert_eq!(house.listed().await.len(), 2);
        let listed = house.call("list_webhook_deliveries", json!({ "name": "am" })).await.unwrap();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        let id = listed["items"][0]["id"].clone();
        let replayed = house.call("replay_webhook", json!({ "id": id })).await.unwrap();
        assert_eq!(replayed["alerts"], json!(["Down", "Down", "Up"]));
        assert_eq!(house.listed().await.len(), 2);
    }
}

#[tokio::test]
async fn what_comes_out_of_order_ends_right() {
    for (house, bearer) in houses(json!({})).await {
        let auth = [("authorization", bearer.as_str())];
        let send = async |status: &str, at: &str| {
            house.deliver("am", &auth, &delivery(&[("Down", status, at)])).await.unwrap();
            house.alerts.read_inbox().await.unwrap();
            house.listed().await[0]["status"].as_str().unwrap().to_owned()
        };
        assert_eq!(send("resolved", TEN).await, "resolved", "resolved before firing");
        assert_eq!(send("firing", TEN).await, "resolved", "the late news of what is over");
        assert_eq!(send("firing", "2026-01-05T11:00:00Z").await, "firing", "a new one");
        house.clock.advance_seconds(600);
        assert_eq!(send("resolved", TEN).await, "firing", "the end of the earlier one");
        let id = house.listed().await[0]["id"].clone();
        house.call("resolve_alert", json!({ "id": id })).await.unwrap();
        assert_eq!(send("firing", "2026-01-05T11:00:00Z").await, "firing", "ended by hand, it is told again");
    }
}

#[tokio::test]
async fn a_silence_keeps_quiet_and_its_end_is_heard() {
    for (house, bearer) in houses(json!({ "routing": { "group_wait_seconds": 0 } })).await {
        let auth = [("authorization", bearer.as_str())];
        let silence = json!({ "matchers": ["alertname=~\"Do.*\""], "seconds": 3600, "comment": "works" });
        let silence = house.call("silence_alerts", silence).await.unwrap();
        house
            .deliver("am", &auth, &delivery(&[("Down", "firing", TEN), ("Up", "firing", TEN)]))
            .await
            .unwrap();
        assert_eq!(house.round(0).await, ["critical (1): Up"]);
        let status = |alerts: Vec<Value>, title: &str| {
            alerts.into_iter().find(|it| it["title"] == title).unwrap()["status"].clone()
        };
        assert_eq!(status(house.listed().await, "Down"), "silenced");
        let id = house.listed().await.into_iter().find(|it| it["title"] == "Down").unwrap()["id"].clone();
        let told = house.call("explain_alert", json!({ "id": id })).await.unwrap();
        assert!(told["quiet"][0].as_str().unwrap().contains("(works)"), "{told}");
        house.call("end_silence", json!({ "id": silence["id"] })).await.unwrap();
        assert_eq!(house.round(1).await, ["critical (1): Down"]);
        assert_eq!(status(house.listed().await, "Down"), "firing");
        house.call("mute_alert", json!({ "id": id })).await.unwrap();
        house.round(0).await;
        assert_eq!(status(house.listed().await, "Down"), "silenced");
        assert_eq!(house.round(20_000).await, ["critical (1): Up"], "muted until it is over");
    }
}

#[tokio::test]
async fn forged_deliveries_leave_only_a_counter() {
    let house = House::new(sqlite().await, json!({})).await;
    let secret = "It's a Secret to Everybody";
    house.receiver(json!({ "name": "gh", "sender": "github", "secret": secret })).await;
    house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await;
    let body = br#"{"zen":"x"}"#;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = format!("sha256={}", opsroom_core::id::hex(ring::hmac::sign(&key, body).as_ref()));
    let signed = [("x-hub-signature-256", signature.as_str()), ("x-github-event", "ping")];
    house.deliver("gh", &signed, body).await.unwrap();
    for (name, headers, body) in [
        ("gh", &signed[..], &b"{\"zen\":\"y\"}"[..]),
        ("gh", &[], body),
        ("am", &[("authorization", "Bearer whk_wrong")], body),
        ("am", &[("authorization", "Basic d2hrOg==")], body),
        ("am", &[], body),
        ("nobody", &signed[..], body),
    ] {
        let error = house.deliver(name, headers, body).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthenticated, "{name}");
        assert!(!error.message.contains("Secret to"));
    }
    house.alerts.write_counts().await.unwrap();
    let listed = house.call("list_receivers", json!({})).await.unwrap();
    let counts =
        |at: usize| (listed["items"][at]["accepted"].clone(), listed["items"][at]["refused"].clone());
    assert_eq!((counts(0), counts(1)), ((json!(0), json!(3)), (json!(1), json!(2))));
    assert!(!listed.to_string().contains("Secret to"));
    let inbox = house.call("list_webhook_deliveries", json!({ "name": "am" })).await.unwrap();
    assert_eq!(inbox["items"], json!([]));
}

#[tokio::test]
async fn a_replayed_delivery_of_github_is_the_same_whatever_id_it_names() {
    let house = House::new(sqlite().await, json!({})).await;
    let secret = "a secret of sixteen";
    house.receiver(json!({ "name": "gh", "sender": "github", "secret": secret })).await;
    let body = br#"{"workflow_run":{"conclusion":"failure","name":"CI"},"repository":{"full_name":"a/b"}}"#;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = format!("sha256={}", opsroom_core::id::hex(ring::hmac::sign(&key, body).as_ref()));
    for id in ["1", "2", "3"] {
        let headers = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-github-event", "workflow_run"),
            ("x-github-delivery", id),
        ];
        house.deliver("gh", &headers, body).await.unwrap();
        house.clock.advance_seconds(4000);
    }
    assert_eq!(house.alerts.read_inbox().await.unwrap(), 1);
    assert_eq!(house.listed().await[0]["title"], "workflow CI of a/b: failure");
}

#[tokio::test]
async fn an_unknown_payload_is_kept_mapped_and_replayed() {
    let house = House::new(sqlite().await, json!({})).await;
    let secret = house.receiver(json!({ "name": "x", "sender": "generic" })).await;
    let bearer = format!("Bearer {secret}");
    let auth = [("authorization", bearer.as_str())];
    house.deliver("x", &auth, br#"{"rule":"cpu","urgency":"high"}"#).await.unwrap();
    house.alerts.read_inbox().await.unwrap();
    let inbox = house.call("list_webhook_deliveries", json!({ "name": "x" })).await.unwrap();
    let it = &inbox["items"][0];
    assert_eq!(it["state"], "unreadable");
    assert_eq!(it["proposed_mapping"]["title"], "/rule");
    let replay = json!({ "id": it["id"], "mapping": it["proposed_mapping"], "dry_run": true });
    assert_eq!(house.call("replay_webhook", replay.clone()).await.unwrap()["alerts"], json!(["cpu"]));
    assert_eq!(house.listed().await.len(), 0, "only tried");
    let replay = json!({ "id": it["id"], "mapping": it["proposed_mapping"], "save": true });
    house.call("replay_webhook", replay).await.unwrap();
    house.deliver("x", &auth, br#"{"rule":"disk","urgency":"low"}"#).await.unwrap();
    house.alerts.read_inbox().await.unwrap();
    let titles: Vec<String> = house.listed().await.iter().map(|it| it["title"].to_string()).collect();
    assert_eq!(titles, ["\"disk\"", "\"cpu\""], "the mapping was kept");
    assert_eq!(house.deliver("x", &auth, b"no json").await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_receivers_key_survives_a_new_master_key() {
    let house = House::new(sqlite().await, json!({})).await;
    let secret = "a secret of sixteen";
    house.receiver(json!({ "name": "gh", "sender": "github", "secret": secret })).await;
    house.alerts.sealer.rotate().await.unwrap();
    assert_eq!(house.alerts.resealing()().await.unwrap(), 1);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = format!("sha256={}", opsroom_core::id::hex(ring::hmac::sign(&key, b"{}").as_ref()));
    house.deliver("gh", &[("x-hub-signature-256", &signature)], b"{}").await.unwrap();
}

#[tokio::test]
async fn who_takes_nothing_lets_the_next_be_told_and_a_link_takes_it_once() {
    let routing = json!({
        "group_wait_seconds": 0,
        "escalate": [{ "after_seconds": 60, "channel": "oncall:first" }, { "after_seconds": 120, "channel": "none-such" }]
    });
    let rotations = json!({ "first": { "starts": "2026-01-01T00:00", "days": 7, "channels": ["default"] } });
    for (house, bearer) in houses(json!({ "routing": routing, "rotations": rotations })).await {
        let auth = [("authorization", bearer.as_str())];
        house.deliver("am", &auth, &delivery(&[("Down", "firing", TEN)])).await.unwrap();
        assert_eq!(house.round(0).await, ["critical (1): Down"]);
        assert_eq!(house.round(59).await, [""; 0]);
        assert_eq!(house.round(1).await, ["critical (1): Down"], "who is on call");
        let id = house.listed().await[0]["id"].clone();
        let told = house.call("explain_alert", json!({ "id": id })).await.unwrap();
        assert!(
            told["history"][2]["words"].as_str().unwrap().contains("on call for `oncall:first`"),
            "{told}"
        );
        assert_eq!(told["deliveries"].as_array().unwrap().len(), 2);
        let mut on = house.alerts.store.db.begin().await.unwrap();
        let ids = [id.as_str().unwrap().to_owned()];
        let links = house.alerts.links(&mut on, "default", &ids, house.clock.now()).await.unwrap();
        on.commit().await.unwrap();
        let token = links[0].1.rsplit_once('/').unwrap().1;
        for _ in 0..3 {
            assert_eq!(house.alerts.link(token).await.unwrap().titles, ["Down"], "looking changes nothing");
        }
        assert_eq!(house.listed().await[0]["status"], "firing");
        let link = house.alerts.link(token).await.unwrap();
        let (caller, calls) = house.alerts.use_link(&link, None).await.unwrap();
        assert!(caller.subject.starts_with("link:") && !caller.subject.contains(token));
        assert_eq!(calls[0].0, "acknowledge_alert");
        assert!(house.alerts.link(token).await.is_err(), "once");
        assert!(house.alerts.use_link(&link, None).await.is_err(), "once");
        let operations = house.alerts.capability().operations;
        let may = |name: &str| caller.may(operations.iter().find(|it| it.name == name).unwrap());
        assert!(may("acknowledge_alert") && !may("list_alerts") && !may("silence_alerts"));
        house.call("acknowledge_alert", json!({ "id": id })).await.unwrap();
        assert_eq!(house.round(3600).await, [""; 0], "somebody took it: the second step is not told");
        house.clock.advance_seconds(90_000);
        let other = links[1].1.rsplit_once('/').unwrap().1;
        assert!(house.alerts.link(other).await.is_err(), "its time is over");
    }
}

#[tokio::test]
async fn what_the_house_finds_is_an_alert_and_one_message() {
    for (house, _) in houses(json!({ "routing": { "group_wait_seconds": 0 } })).await {
        house.alerts.take_in_what_is_raised();
        let message = notifications::Message {
            team: "default".to_owned(),
            key: "shop|cpu".to_owned(),
            title: "Abnormal cpu of shop".to_owned(),
            text: "look".to_owned(),
            url: "shop".to_owned(),
            fields: vec![("Score".to_owned(), "9".to_owned())],
        };
        assert!(house.notifications.raise(&message).await.unwrap());
        assert!(!house.notifications.raise(&message).await.unwrap());
        assert_eq!(house.round(0).await, ["warning (1): Abnormal cpu of shop"]);
        house.clock.advance_seconds(301);
        house.alerts.end_expired().await.unwrap();
        assert_eq!(house.round(0).await, [""; 0], "that it is over is no news");
        assert_eq!(house.listed().await[0]["status"], "resolved");
        assert!(!house.notifications.raise(&message).await.unwrap(), "ten minutes are not over");
        house.clock.advance_seconds(300);
        assert!(house.notifications.raise(&message).await.unwrap());
        assert_eq!(house.round(0).await, ["warning (1): Abnormal cpu of shop"]);
    }
}

#[tokio::test]
async fn a_route_is_quiet_at_its_times_and_then_tells_what_goes_on() {
    // The clock begins at 10:00.
    let times = json!({ "morning": { "from": "09:00", "until": "11:00" } });
    let routing = json!({ "group_wait_seconds": 0, "mute_times": ["morning"] });
    let house = House::new(sqlite().await, json!({ "times": times, "routing": routing })).await;
    let bearer =
        format!("Bearer {}", house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await);
    let auth = [("authorization", bearer.as_str())];
    house.deliver("am", &auth, &delivery(&[("Down", "firing", TEN)])).await.unwrap();
    assert_eq!(house.round(0).await, [""; 0]);
    let id = house.listed().await[0]["id"].clone();
    let told = house.call("explain_alert", json!({ "id": id })).await.unwrap();
    assert!(told["quiet"][0].as_str().unwrap().contains("`morning`"), "{told}");
    assert_eq!(house.round(3599).await, [""; 0]);
    assert_eq!(house.round(60).await, ["critical (1): Down"]);
}

#[test]
fn a_routing_that_names_what_there_is_not_is_refused() {
    for (config, words) in [
        (json!({ "routing": { "channel": "oncall:x" } }), "rotation \"x\""),
        (
            json!({ "routing": { "routes": [{ "mute_times": ["night"] }] } }),
            "alerts.routing.routes.0.mute_times",
        ),
        (json!({ "inhibit": [{ "source": ["a=b"] }] }), "alerts.inhibit.0"),
    ] {
        let config: AlertsConfig = serde_json::from_value(config).unwrap();
        let message = config.validate().unwrap_err().message;
        assert!(message.contains(words), "{message}");
    }
}
