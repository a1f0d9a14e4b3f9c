//! Bad input and bad intentions.

use opsroom_core::lifecycle::Lifecycle;

use super::*;

#[tokio::test]
async fn idor_between_teams_finds_nothing() {
    for house in houses().await {
        house.put("a", VALUE).await;
        let stranger = Caller { teams: vec!["other".to_owned()], subject: "key:x".to_owned(), ..operator() };
        for (operation, input) in [
            ("get_secret", json!({ "path": "a" })),
            ("list_secret_versions", json!({ "path": "a" })),
            ("delete_secret", json!({ "path": "a" })),
            ("rotate_secret", json!({ "path": "a" })),
            ("list_secret_leases", json!({ "path": "a" })),
        ] {
            assert_eq!(house.fails(&stranger, operation, input).await.0, Kind::NotFound, "{operation}");
        }
        let listed = house.call(&stranger, "list_secrets", json!({})).await.unwrap();
        assert_eq!(listed["items"], json!([]));
        // The same path in another team is another secret.
        let put = json!({ "path": "a", "value": "something else" });
        house.call(&stranger, "put_secret", put).await.unwrap();
        assert_eq!(house.value("a").await, VALUE);
    }
}

#[tokio::test]
async fn secrets_nested_in_the_input_of_a_schedule_reach_no_record() {
    let house = House::new(sqlite().await).await;
    for input in [
        json!({ "name": "a", "cron": "@daily", "operation": "put_secret", "input": { "path": "a", "value": VALUE } }),
        json!({ "name": "a", "cron": "@daily", "operation": "no_such", "input": { "value": VALUE } }),
        json!({ "name": "a", "cron": "@daily", "input": { "value": VALUE } }),
    ] {
        assert_eq!(house.fails(&operator(), "create_schedule", input).await.0, Kind::Invalid);
    }
    let audit = house.ok("list_audit", json!({})).await;
    assert!(audit.to_string().contains("create_schedule") && !audit.to_string().contains(VALUE), "{audit}");
}

#[tokio::test]
async fn a_scope_on_a_path_reaches_no_other_path_and_a_denial_wins() {
    let house = House::new(sqlite().await).await;
    for path in ["db/app", "db/root", "mail"] {
        house.put(path, VALUE).await;
    }
    let scopes = json!(["secrets:*:db/*", "!secrets:*:db/root"]);
    let key = house.key("administrator", scopes, Face::Rest).await;
    assert!(house.call(&key, "get_secret", json!({ "path": "db/app" })).await.is_ok());
    for path in ["db/root", "mail"] {
        let (kind, message) = house.fails(&key, "get_secret", json!({ "path": path })).await;
        assert_eq!(kind, Kind::Forbidden, "{path}");
        assert!(message.contains(&format!("secrets:get_secret:{path}")), "{message}");
    }
    let listed = house.call(&key, "list_secrets", json!({})).await.unwrap();
    let paths: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["db/app"]);
    // What works on no path is not covered by a part.
    assert_eq!(house.fails(&key, "rotate_master_key", json!({})).await.0, Kind::Forbidden);
}

#[tokio::test]
async fn sql_control_characters_and_endless_texts_are_refused_by_name() {
    let house = House::new(sqlite().await).await;
    let long = "x".repeat(10_000_000);
    for input in [
        json!({ "path": "a'; DROP TABLE secrets; --", "value": VALUE }),
        json!({ "path": "../../etc/passwd", "value": VALUE }),
        json!({ "path": "a", "value": long }),
        json!({ "path": long, "value": VALUE }),
        json!({ "path": "a", "fields": { "a\u{0}": VALUE } }),
        json!({ "path": "a", "value": VALUE, "description": "a\u{1b}[31m" }),
        json!({ "path": "a", "value": VALUE, "team_id": "other" }),
        json!({ "path": "a" }),
    ] {
        let (kind, message) = house.fails(&operator(), "put_secret", input).await;
        assert_eq!(kind, Kind::Invalid, "{message}");
        assert!(message.len() < 1000 && !message.contains(VALUE), "{message}");
    }
    assert_eq!(house.ok("list_secrets", json!({})).await["items"], json!([]));
}

#[tokio::test]
async fn a_moved_row_and_a_changed_text_do_not_open() {
    for house in houses().await {
        house.put("mine", "value of mine").await;
        house.put("theirs", "value of theirs").await;
        let db = &house.room.database;
        let rows = store::every(db, "", 10).await.unwrap();
        let version = async |at: usize| store::versions::get(db, &rows[at].id, 1).await.unwrap().unwrap();
        let (mine, theirs) = (version(0).await, version(1).await);
        store::versions::rewrap(db, &mine, &theirs.sealed).await.unwrap();
        let (kind, message) = house.fails(&operator(), "get_secret", json!({ "path": "mine" })).await;
        assert_eq!(kind, Kind::Unavailable);
        assert!(message.contains("moved") && !message.contains("value of"), "{message}");
        let mut changed = theirs.sealed.clone();
        let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
        changed.push(last);
        store::versions::rewrap(db, &theirs, &changed).await.unwrap();
        assert_eq!(
            house.fails(&operator(), "get_secret", json!({ "path": "theirs" })).await.0,
            Kind::Unavailable
        );
    }
}

#[tokio::test]
async fn a_lost_master_key_fails_closed_and_says_so() {
    for house in houses().await {
        house.put("a", VALUE).await;
        let file = house.config.data_dir.join("master.key");
        std::fs::rename(&file, house.config.data_dir.join("kept")).unwrap();
        let again = Room::open(&house.config, house.clock.clone(), Lifecycle::new()).await.unwrap();
        let get = |room: Arc<Room>| async move {
            room.call("get_secret", Call::new(operator()), json!({ "path": "a" })).await
        };
        let error = get(again.clone()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("master.key is missing"), "{error}");
        let health =
            again.call("get_detailed_health", Call::new(operator()), json!({})).await.unwrap().into_value();
        assert!(health.to_string().contains("master.key is missing"), "{health}");
        std::fs::rename(house.config.data_dir.join("kept"), &file).unwrap();
        assert!(get(again).await.is_ok(), "it is found as soon as it is back");
    }
}

#[tokio::test]
async fn a_transit_engine_that_is_down_fails_closed_without_its_token() {
    let house = House::new(sqlite().await).await;
    let mut config = house.config.clone();
    config.kept_secrets.master_key.transit_address = "http://127.0.0.1:1".to_owned();
    config.kept_secrets.master_key.transit_token = "hvs.never-shown-anywhere".into();
    config.egress.allow_addresses = vec!["127.0.0.1".to_owned()];
    config.egress.ports = vec![1];
    let room = Room::open(&config, house.clock.clone(), Lifecycle::new()).await.unwrap();
    let put = json!({ "path": "a", "value": VALUE });
    let error = room.call("put_secret", Call::new(operator()), put).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!error.message.contains("hvs.") && !error.causes().contains("hvs."), "{error:?}");
}
