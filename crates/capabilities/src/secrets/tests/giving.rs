//! Putting, getting, versions, leases, grants and references.

use super::*;

#[tokio::test]
async fn a_secret_is_given_out_with_its_use_on_record_and_its_value_nowhere_else() {
    for house in houses().await {
        let put = house
            .ok("put_secret", json!({ "path": "db/app", "value": VALUE, "labels": { "env": "prod" } }))
            .await;
        assert_eq!((put["version"].as_i64(), put["state"].as_str()), (Some(1), Some("active")));
        assert_eq!(house.value("db/app").await, VALUE);
        let record = house.last_audit("get_secret").await;
        assert_eq!((record["outcome"].as_str(), record["effect"].as_str()), (Some("ok"), Some("reveal")));
        assert_eq!(record["input"]["path"], "db/app");
        let audit = house.ok("list_audit", json!({ "limit": 200 })).await.to_string();
        let lists = house.ok("list_secrets", json!({})).await.to_string();
        let versions = house.ok("list_secret_versions", json!({ "path": "db/app" })).await.to_string();
        for text in [audit, lists, versions] {
            assert!(!text.contains(VALUE), "{text}");
        }
    }
}

#[tokio::test]
async fn a_new_version_leaves_the_one_before_in_force_until_the_overlap_ends() {
    for house in houses().await {
        house.put("a", "first-value").await;
        house.put("a", "second-value").await;
        assert_eq!(house.value("a").await, "second-value");
        let old = house.ok("get_secret", json!({ "path": "a", "version": 1 })).await;
        assert_eq!(old["fields"]["value"], "first-value");
        house.clock.advance_seconds(86_400);
        let (kind, message) =
            house.fails(&operator(), "get_secret", json!({ "path": "a", "version": 1 })).await;
        assert_eq!(kind, Kind::Conflict);
        assert!(message.contains("no longer in force"), "{message}");
        let versions = house.ok("list_secret_versions", json!({ "path": "a" })).await;
        let states: Vec<&str> =
            versions["items"].as_array().unwrap().iter().map(|v| v["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["current", "previous"]);
    }
}

#[tokio::test]
async fn of_many_versions_the_oldest_lose_their_values() {
    let house = House::new(sqlite().await).await;
    for n in 0..14 {
        house.put("a", &format!("value number {n}")).await;
    }
    let versions = house.ok("list_secret_versions", json!({ "path": "a" })).await;
    let destroyed =
        versions["items"].as_array().unwrap().iter().filter(|v| v["state"] == "destroyed").count();
    assert_eq!(destroyed, 4);
}

#[tokio::test]
async fn two_who_change_at_once_do_not_overwrite_each_other() {
    let house = House::new(sqlite().await).await;
    house.ok("put_secret", json!({ "path": "a", "value": VALUE, "if_version": 0 })).await;
    let again = json!({ "path": "a", "value": VALUE, "if_version": 0 });
    assert_eq!(house.fails(&operator(), "put_secret", again).await.0, Kind::Conflict);
    house.ok("put_secret", json!({ "path": "a", "value": VALUE, "if_version": 1 })).await;
}

#[tokio::test]
async fn disabled_expired_and_deleted_secrets_are_given_to_nobody() {
    for house in houses().await {
        house.put("a", VALUE).await;
        house.ok("disable_secret", json!({ "path": "a" })).await;
        assert!(house.fails(&operator(), "get_secret", json!({ "path": "a" })).await.1.contains("disabled"));
        house.ok("restore_secret", json!({ "path": "a" })).await;
        house.ok("delete_secret", json!({ "path": "a" })).await;
        assert!(house.fails(&operator(), "get_secret", json!({ "path": "a" })).await.1.contains("deleted"));
        assert_eq!(house.ok("list_secrets", json!({})).await["items"], json!([]));
        house.ok("restore_secret", json!({ "path": "a" })).await;
        assert_eq!(house.value("a").await, VALUE);
        house.ok("put_secret", json!({ "path": "b", "value": VALUE, "expires_in_days": 1 })).await;
        house.clock.advance_seconds(86_400);
        assert!(house.fails(&operator(), "get_secret", json!({ "path": "b" })).await.1.contains("expired"));
        house.ok("delete_secret", json!({ "path": "a" })).await;
        house.clock.advance_seconds(30 * 86_400);
        house.room.kept_secrets.round().await.unwrap();
        assert_eq!(
            house.fails(&operator(), "restore_secret", json!({ "path": "a" })).await.0,
            Kind::NotFound
        );
    }
}

#[tokio::test]
async fn a_lease_says_who_has_a_secret_until_it_ends() {
    for house in houses().await {
        house.put("a", VALUE).await;
        let given = house.ok("get_secret", json!({ "path": "a", "lease_seconds": 60 })).await;
        let id = given["lease"]["id"].as_str().unwrap();
        let leases = house.ok("list_secret_leases", json!({ "path": "a" })).await;
        assert_eq!(leases["items"][0]["holder"], "operator");
        assert_eq!(house.ok("end_secret_lease", json!({ "path": "a", "id": id })).await["ended"], true);
        assert_eq!(house.ok("end_secret_lease", json!({ "path": "a", "id": id })).await["ended"], false);
        house.ok("get_secret", json!({ "path": "a", "lease_seconds": 60 })).await;
        house.clock.advance_seconds(60);
        assert_eq!(house.ok("list_secret_leases", json!({ "path": "a" })).await["items"], json!([]));
    }
}

#[tokio::test]
async fn a_value_is_withheld_over_mcp_until_a_person_grants_exactly_that_and_from_schedules_always() {
    for house in houses().await {
        house.put("a", VALUE).await;
        house.put("b", VALUE).await;
        let model = house.key("administrator", json!(["secrets:*"]), Face::Mcp).await;
        let get = |path: &str| json!({ "path": path });
        assert!(house.fails(&model, "get_secret", get("a")).await.1.contains("withheld over MCP"));
        let grant = json!({ "path": "a", "subject": model.subject, "minutes": 5 });
        assert_eq!(house.fails(&model, "grant_secret", grant.clone()).await.0, Kind::Forbidden);
        house.ok("grant_secret", grant).await;
        assert!(house.call(&model, "get_secret", get("a")).await.is_ok());
        assert!(house.call(&model, "get_secret", get("b")).await.is_err(), "exactly that");
        let other = house.key("administrator", json!(["secrets:*"]), Face::Mcp).await;
        assert!(house.call(&other, "get_secret", get("a")).await.is_err(), "exactly that one");
        house.clock.advance_seconds(300);
        assert!(house.call(&model, "get_secret", get("a")).await.is_err(), "for a time");
        let schedule = Caller { face: Face::Schedule, ..operator() };
        assert!(house.fails(&schedule, "get_secret", get("a")).await.1.contains("no schedule"));
    }
}

#[tokio::test]
async fn a_reference_is_looked_up_with_the_rights_its_owner_has_now() {
    for house in houses().await {
        house
            .ok("put_secret", json!({ "path": "db/app", "fields": { "user": "ada", "password": VALUE } }))
            .await;
        let owner = house.key("operator", json!(["secrets:use_secret:db/*"]), Face::Rest).await;
        let resolver = &house.config.secrets;
        let purpose = Purpose { team: "default", owner: &owner.subject, user: "service:12" };
        let value = resolver.value("secret://opsroom/db/app#password", purpose).await.unwrap();
        assert_eq!(value.expose(), VALUE);
        let record = house.last_audit("use_secret").await;
        assert_eq!(record["input"]["user"], "service:12");
        assert_eq!(record["subject"], json!(owner.subject));
        let other = Purpose { team: "other", ..purpose };
        assert_eq!(
            resolver.value("secret://opsroom/db/app#password", other).await.unwrap_err().kind,
            Kind::Forbidden
        );
        house.put("mail", VALUE).await;
        assert_eq!(resolver.value("secret://opsroom/mail", purpose).await.unwrap_err().kind, Kind::Forbidden);
        let missing = resolver.value("secret://opsroom/db/app#nothing", purpose).await.unwrap_err();
        assert!(missing.message.contains("password, user"), "{missing}");
        let id = owner.subject.strip_prefix("key:").unwrap();
        house.ok("revoke_api_key", json!({ "id": id })).await;
        let error = resolver.value("secret://opsroom/db/app#password", purpose).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden);
        assert_eq!(
            house.last_audit("use_secret").await["outcome"],
            "not_found",
            "nobody is no caller to record"
        );
    }
}

#[tokio::test]
async fn a_canary_sings() {
    let house = House::new(sqlite().await).await;
    house.ok("put_secret", json!({ "path": "bait", "value": VALUE, "canary": true })).await;
    house.value("bait").await;
    let (events, _) = house.room.events.listen(Some(0));
    let song = events.iter().find(|event| event.topic == "secret.canary").unwrap();
    assert_eq!(song.data["by"], "operator");
    assert!(!serde_json::to_string(&**song).unwrap().contains(VALUE));
}

#[tokio::test]
async fn a_known_value_is_hidden_in_what_is_told_about_logs() {
    let house = House::new(sqlite().await).await;
    house.put("a", VALUE).await;
    let lines: String = (0..50).map(|n| format!("INFO request {n} with key {VALUE}\n")).collect();
    let answer = house.ok("list_log_templates", json!({ "text": lines })).await.to_string();
    assert!(!answer.contains(VALUE) && answer.contains("[hidden]"), "{answer}");
}
