//! What alerts promise of who is on call instead, of what is taken over from others, and of what the house looks at.

use opsroom_core::Kind;
use opsroom_core::testing::sqlite;
use serde_json::json;

use super::tests::{House, TEN, delivery, houses};

#[tokio::test]
async fn a_shift_that_was_swapped_is_told_instead() {
    let rotations = json!({ "db": { "starts": "2026-01-05T00:00", "days": 7, "channels": ["default"] } });
    let routing = json!({ "group_wait_seconds": 0, "channel": "oncall:db", "group_by": ["alertname"] });
    for (house, bearer) in houses(json!({ "rotations": rotations, "routing": routing })).await {
        house.call("add_channel", json!({ "name": "eve", "url": "slack://A/B/C" })).await.unwrap();
        let swap = |rotation: &str, channel: &str, ends_at: &str| json!({ "rotation": rotation, "channel": channel, "ends_at": ends_at });
        for (wrong, key) in [
            (swap("web", "eve", "2026-01-05T12:00:00Z"), "rotation: "),
            (swap("db", "bob", "2026-01-05T12:00:00Z"), "channel: "),
            (swap("db", "oncall:db", "2026-01-05T12:00:00Z"), "channel: "),
            (swap("db", "eve", "2026-01-05T09:00:00Z"), "ends_at: "),
            (swap("db", "eve", "noon"), "ends_at: "),
        ] {
            let error = house.call("override_on_call", wrong).await.unwrap_err();
            assert!(error.message.starts_with(key), "{}", error.message);
        }
        let made = house.call("override_on_call", swap("db", "eve", "2026-01-05T12:00:00Z")).await.unwrap();
        let on_call = house.call("list_on_call", json!({})).await.unwrap();
        let now = &on_call["items"][0];
        assert_eq!((&now["channel"], &now["next"]), (&json!("eve"), &json!("default")), "{on_call}");
        assert_eq!(now["until"], "2026-01-05T12:00:00Z");
        let told = async || {
            let listed = house.call("list_notifications", json!({ "limit": 1 })).await.unwrap();
            listed["items"][0]["channel"].as_str().unwrap_or_default().to_owned()
        };
        let auth = [("authorization", bearer.as_str())];
        house.deliver("am", &auth, &delivery(&[("A", "firing", TEN)])).await.unwrap();
        house.round(0).await;
        assert_eq!(told().await, "eve");
        house.call("end_on_call_override", json!({ "id": made["id"] })).await.unwrap();
        let error = house.call("end_on_call_override", json!({ "id": made["id"] })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        house.deliver("am", &auth, &delivery(&[("B", "firing", TEN)])).await.unwrap();
        house.round(1).await;
        assert_eq!(told().await, "default");
    }
}

#[tokio::test]
async fn alertmanagers_silences_are_taken_over_once() {
    let house = House::new(sqlite().await, json!({ "routing": { "group_wait_seconds": 0 } })).await;
    let silence = |ends_at: &str, value: &str| {
        let matcher = json!({ "name": "alertname", "value": value, "isRegex": true, "isEqual": true });
        json!({
            "id": "1", "matchers": [matcher], "startsAt": "2026-01-05T09:00:00.000Z", "endsAt": ends_at,
            "createdBy": "ada", "comment": "works", "status": { "state": "active" }
        })
    };
    let theirs = [
        silence("2026-01-05T11:00:00Z", "Down|\"x\""),
        silence("2026-01-05T09:30:00Z", "x"),
        silence("2026-01-05T11:00:00Z", "("),
        silence("later", "x"),
    ];
    let input = |dry_run: bool| json!({ "json": json!(theirs).to_string(), "dry_run": dry_run });
    let tried = house.call("import_silences", input(true)).await.unwrap();
    assert_eq!(house.call("list_silences", json!({})).await.unwrap()["items"], json!([]));
    let made = house.call("import_silences", input(false)).await.unwrap();
    for answer in [&tried, &made] {
        assert_eq!(answer["items"][0]["matchers"], json!(["alertname=~\"Down|\\\"x\\\"\""]), "{answer}");
        let left_out = answer["left_out"].to_string();
        assert!(
            ["it is over", "cannot be used", "is no time"].iter().all(|why| left_out.contains(why)),
            "{answer}"
        );
    }
    let again = house.call("import_silences", input(false)).await.unwrap();
    assert_eq!(again["items"], json!([]));
    let bearer =
        format!("Bearer {}", house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await);
    house.deliver("am", &[("authorization", &bearer)], &delivery(&[("Down", "firing", TEN)])).await.unwrap();
    assert_eq!(house.round(0).await, [""; 0]);
    for wrong in ["{}", "[{}]", "no"] {
        let error = house.call("import_silences", json!({ "json": wrong })).await.unwrap_err();
        assert!(error.message.starts_with("json: "), "{}", error.message);
    }
}

#[tokio::test]
async fn a_bait_that_is_used_is_an_alert_and_what_happened_beside_it_is_told() {
    let house = House::new(sqlite().await, json!({ "routing": { "group_wait_seconds": 0 } })).await;
    house.alerts.take_in_what_is_raised();
    let events = &house.alerts.events;
    events.publish("service.status", "default", "db", json!({ "name": "db", "status": "stopped" }));
    events.publish("service.status", "others", "x", json!({ "name": "x", "status": "stopped" }));
    let (_, mut heard) = events.listen(None);
    events.publish("secret.canary", "default", "db/root", json!({ "by": "key:1", "how": "get_secret" }));
    house.alerts.overhear(&heard.recv().await.unwrap()).await.unwrap();
    assert_eq!(house.round(0).await, ["critical (1): A canary secret was used"]);
    let alert = &house.listed().await[0];
    assert_eq!((&alert["severity"], &alert["annotations"]["by"]), (&json!("critical"), &json!("key:1")));
    let told = house.call("explain_alert", json!({ "id": alert["id"] })).await.unwrap();
    let related = told["related"].as_array().unwrap();
    assert_eq!(related.len(), 1, "{told}");
    assert_eq!((&related[0]["what"], &related[0]["subject"]), (&json!("service.status"), &json!("db")));
}

#[tokio::test]
async fn what_is_to_be_looked_at_is_kept_beside_the_alert() {
    let input =
        json!({ "url": "https://grafana.example.com/d/{{labels.severity}}", "vars": ["{{labels.none}}x"] });
    let rule = |severity: &str, operation: &str| json!({ "matchers": [format!("severity={severity:?}")], "operation": operation, "input": input });
    let rules =
        [rule("critical", "capture_dashboard"), rule("info", "explain_logs"), rule("critical", "broken")];
    for (house, bearer) in houses(json!({ "evidence": rules })).await {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = seen.clone();
        house.alerts.set_call(std::sync::Arc::new(move |caller, name, input| {
            kept.lock().unwrap().push((name.clone(), caller.role, input));
            Box::pin(async move {
                if name == "broken" {
                    Err(opsroom_core::Error::invalid("no such thing"))
                } else {
                    Ok(json!({ "id": "c1" }))
                }
            })
        }));
        let auth = [("authorization", bearer.as_str())];
        house.deliver("am", &auth, &delivery(&[("Down", "firing", TEN)])).await.unwrap();
        house.round(0).await;
        assert_eq!(house.alerts.look_at_wanted().await.unwrap(), 2);
        assert_eq!(house.alerts.look_at_wanted().await.unwrap(), 0);
        let mut called = seen.lock().unwrap().clone();
        called.sort_by(|a, b| b.0.cmp(&a.0));
        let expected = json!({ "url": "https://grafana.example.com/d/critical", "vars": ["x"] });
        assert_eq!(called[0], ("capture_dashboard".to_owned(), opsroom_core::Role::Operator, expected));
        let id = house.listed().await[0]["id"].clone();
        for operation in ["get_alert", "explain_alert"] {
            let answer = house.call(operation, json!({ "id": id })).await.unwrap();
            let evidence = answer["evidence"].as_array().unwrap();
            let of = |name: &str| evidence.iter().find(|it| it["operation"] == name).unwrap();
            assert_eq!(of("capture_dashboard")["answer"], json!({ "id": "c1" }), "{answer}");
            assert_eq!(of("broken")["state"], "failed");
            assert_eq!(of("broken")["reason"], "no such thing");
        }
        // That it goes on is no reason to look again.
        house
            .deliver("am", &auth, &delivery(&[("Down", "firing", TEN), ("Up", "resolved", TEN)]))
            .await
            .unwrap();
        house.round(1).await;
        assert_eq!(house.alerts.look_at_wanted().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn who_is_on_call_by_a_channel_that_is_missing_lets_another_one_be_told() {
    let rotations = json!({ "db": { "starts": "2026-01-05T00:00", "days": 7, "channels": ["bob", "eve"] } });
    let routing = json!({ "group_wait_seconds": 0, "channel": "oncall:db", "group_by": ["alertname"] });
    let config = json!({ "rotations": rotations, "routing": routing });
    let house = House::without_default(sqlite().await, config).await;
    let bearer =
        format!("Bearer {}", house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await);
    let auth = [("authorization", bearer.as_str())];
    house.deliver("am", &auth, &delivery(&[("Down", "firing", TEN)])).await.unwrap();
    assert_eq!(house.round(0).await, [""; 0]);
    let id = house.listed().await[0]["id"].clone();
    let told = house.call("explain_alert", json!({ "id": id })).await.unwrap();
    assert!(told["history"].to_string().contains("there is no channel `bob`"), "{told}");
    let on_call = house.call("list_on_call", json!({})).await.unwrap();
    assert_eq!(on_call["items"][0]["missing"], json!(["bob", "eve"]));
    // As soon as there is somebody, they are told.
    house.call("add_channel", json!({ "name": "eve", "url": "slack://A/B/C" })).await.unwrap();
    assert_eq!(house.round(61).await, ["critical (1): Down"]);
    let listed = house.call("list_notifications", json!({ "limit": 1 })).await.unwrap();
    assert_eq!(listed["items"][0]["channel"], "eve");
}

#[tokio::test]
async fn what_can_be_read_of_a_delivery_is_told_and_so_is_that_a_part_could_not() {
    let house = House::new(sqlite().await, json!({ "routing": { "group_wait_seconds": 0 } })).await;
    house.alerts.take_in_what_is_raised();
    let bearer =
        format!("Bearer {}", house.receiver(json!({ "name": "am", "sender": "alertmanager" })).await);
    let auth = [("authorization", bearer.as_str())];
    let alert = |labels: serde_json::Value| json!({ "status": "firing", "labels": labels, "startsAt": TEN });
    let mixed = [alert(json!({ "alertname": "Good", "source": "opsroom" })), alert(json!({}))];
    let body = json!({ "version": "4", "alerts": mixed }).to_string();
    house.deliver("am", &auth, body.as_bytes()).await.unwrap();
    let mut told = house.round(0).await;
    told.extend(house.round(1).await);
    told.sort();
    assert_eq!(told, ["warning (1): A delivery to the receiver am could not be read", "warning (1): Good"]);
    let alerts = house.listed().await;
    let good = alerts.iter().find(|alert| alert["title"] == "Good").unwrap();
    assert_eq!(good["labels"]["source"], "receiver:am", "what a stranger says is not the house's word");
    let many: Vec<_> = (0..1500).map(|n| alert(json!({ "alertname": format!("A{n}") }))).collect();
    let body = json!({ "version": "4", "alerts": many }).to_string();
    house.deliver("am", &auth, body.as_bytes()).await.unwrap();
    house.alerts.read_inbox().await.unwrap();
    let listed = house.call("list_webhook_deliveries", json!({ "name": "am" })).await.unwrap();
    assert_eq!(listed["items"][0]["alerts"], 1000, "{}", listed["items"][0]["error"]);
}

#[tokio::test]
async fn a_services_error_is_an_alert_for_as_long_as_it_has_it() {
    let house = House::new(sqlite().await, json!({ "routing": { "group_wait_seconds": 0 } })).await;
    house.alerts.take_in_what_is_raised();
    let (_, mut heard) = house.alerts.events.listen(None);
    let mut change = async |status: &str, was: &str| {
        let data = json!({ "name": "db", "status": status, "was": was, "reason": "it does not answer" });
        house.alerts.events.publish("service.status", "default", "7", data);
        let mut event = heard.recv().await.unwrap();
        while event.topic != "service.status" {
            event = heard.recv().await.unwrap();
        }
        house.alerts.overhear(&event).await.unwrap();
        house.round(1).await;
        house.clock.advance_seconds(4000);
        house.alerts.end_expired().await.unwrap();
        house.listed().await.iter().map(|alert| alert["status"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(change("error", "running").await, ["firing"]);
    assert_eq!(change("running", "error").await, ["resolved"]);
    assert_eq!(change("error", "running").await, ["firing"]);
    assert_eq!(change("stopped", "running").await, ["firing"]);
}

#[tokio::test]
async fn a_silence_that_would_match_nearly_everything_is_refused() {
    let house = House::new(sqlite().await, json!({})).await;
    let input = json!({ "matchers": ["x!=\"nope\""], "comment": "all" });
    let error = house.call("silence_alerts", input).await.unwrap_err();
    assert!(error.message.starts_with("matchers: "), "{}", error.message);
}
