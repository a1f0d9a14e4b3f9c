//! Keys: who may make which, who sees them, and what revoking does.

use super::*;

#[tokio::test]
async fn a_key_is_shown_once_and_never_again() {
    for room in rooms().await {
        let created = room.call(&operator(), "create_api_key", json!({ "name": "ci" })).await.unwrap();
        let key = created["key"].as_str().unwrap();
        assert!(key.starts_with("opk_") && key.len() == 68, "{key}");
        assert_eq!(created["api_key"]["role"], "viewer");
        assert_eq!(created["api_key"]["created_by"], "operator");
        let id = &created["api_key"]["id"];
        let listed = room.call(&operator(), "list_api_keys", json!({})).await.unwrap();
        let got = room.call(&operator(), "get_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(listed["items"][0], got);
        let hash = opsroom_core::id::sha256_hex(key);
        for text in [listed.to_string(), got.to_string()] {
            assert!(!text.contains(&key[12..]) && !text.contains(&hash), "{text}");
        }
    }
}

#[tokio::test]
async fn a_key_authenticates_with_its_role_scopes_and_team() {
    for room in rooms().await {
        let input = json!({ "name": "reader", "role": "operator", "scopes": ["logs:*", "*:read"] });
        let (key, id, _) = room.key(&operator(), input).await;
        let address = Some("192.0.2.1".to_owned());
        let caller = room.identity.authenticate(&key, Face::Mcp, address.clone()).await.unwrap();
        assert_eq!(caller.subject, format!("key:{id}"));
        assert_eq!(caller.name, "reader");
        assert_eq!((caller.role, caller.face, caller.address), (Role::Operator, Face::Mcp, address));
        assert_eq!(caller.scopes, scopes(&["logs:*", "*:read"]));
        assert_eq!(caller.teams, ["default"]);
    }
}

#[tokio::test]
async fn a_key_cannot_give_more_than_it_has() {
    let room = Room::new(sqlite().await).await;
    let input = json!({ "name": "keeper", "role": "administrator", "scopes": ["identity:*", "logs:read"] });
    let (_, _, keeper) = room.key(&operator(), input).await;
    for (input, reason) in [
        (json!({ "name": "x" }), "without scopes"),
        (json!({ "name": "x", "scopes": ["*"] }), "more than keeper has"),
        (json!({ "name": "x", "scopes": ["logs:*"] }), "more than keeper has"),
        (json!({ "name": "x", "scopes": ["identity:read", "jobs:read"] }), "`jobs:read`"),
        (json!({ "name": "x", "scopes": ["logs:read"], "team_id": "other" }), "not in the team"),
    ] {
        let error = room.call(&keeper, "create_api_key", input.clone()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{input}");
        assert!(error.message.contains(reason), "{}", error.message);
    }
    room.call(&keeper, "create_api_key", json!({ "name": "x", "scopes": ["logs:read"] })).await.unwrap();

    let weaker = Caller { role: Role::Operator, ..operator() };
    let input = serde_json::from_value(json!({ "name": "x", "role": "administrator" })).unwrap();
    let error = keys::create(room.identity.clone(), Call::new(weaker.clone()), input).await.err().unwrap();
    assert_eq!(error.kind, Kind::Forbidden);
    // And not even that far: it takes an administrator to make keys.
    let error = room.call(&weaker, "create_api_key", json!({ "name": "x" })).await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
}

#[tokio::test]
async fn a_key_does_not_outlive_the_key_that_made_it() {
    let room = Room::new(sqlite().await).await;
    let input = json!({ "name": "short", "role": "administrator", "expires_in_days": 2 });
    let (_, _, short) = room.key(&operator(), input).await;
    let longer = json!({ "name": "x", "expires_in_days": 3 });
    let error = room.call(&short, "create_api_key", longer).await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    let unsaid = room.call(&short, "create_api_key", json!({ "name": "x" })).await.unwrap();
    let end = START.plus_seconds(2 * 86_400).to_rfc3339();
    assert_eq!(unsaid["api_key"]["expires_at"], json!(end));
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    for room in rooms().await {
        let (key, _, _) = room.key(&operator(), json!({ "name": "short", "expires_in_days": 1 })).await;
        room.clock.advance_seconds(86_399);
        room.identity.authenticate(&key, Face::Rest, None).await.unwrap();
        room.clock.advance_seconds(1);
        let error = room.identity.authenticate(&key, Face::Rest, None).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthenticated);
    }
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_and_revoking_again_keeps_the_first_time() {
    for room in rooms().await {
        let (key, id, _) = room.key(&operator(), json!({ "name": "gone" })).await;
        let revoked = room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(revoked["revoked_at"], json!(START.to_rfc3339()));
        let error = room.identity.authenticate(&key, Face::Rest, None).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthenticated);
        room.clock.advance_seconds(60);
        let again = room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(again, revoked);
        let listed = room.call(&operator(), "list_api_keys", json!({})).await.unwrap();
        assert_eq!(listed["items"], json!([]));
        let all = room.call(&operator(), "list_api_keys", json!({ "revoked": true })).await.unwrap();
        assert_eq!(all["items"], json!([revoked]));
    }
}

#[tokio::test]
async fn work_that_goes_on_without_its_owner_has_the_rights_that_the_owner_has_now() {
    let room = Room::new(sqlite().await).await;
    let (_, id, owner) = room.key(&operator(), json!({ "name": "k", "scopes": ["logs:read"] })).await;
    let found = room.identity.caller_of(&owner.subject, Face::Schedule).unwrap();
    assert_eq!((found.subject, found.role, found.scopes), (owner.subject.clone(), owner.role, owner.scopes));
    room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
    assert!(room.identity.caller_of(&owner.subject, Face::Schedule).is_none());
    for stranger in ["key:", "key:x", "anonymous", "setup", ""] {
        assert!(room.identity.caller_of(stranger, Face::Schedule).is_none(), "{stranger:?}");
    }
    let (_, _, short) = room.key(&operator(), json!({ "name": "short", "expires_in_days": 1 })).await;
    room.clock.advance_seconds(86_400);
    assert!(room.identity.caller_of(&short.subject, Face::Schedule).is_none());
}

#[tokio::test]
async fn another_server_learns_of_new_and_revoked_keys() {
    for room in rooms().await {
        let replica = room.replica().await;
        let (key, id, _) = room.key(&operator(), json!({ "name": "shared" })).await;
        assert!(replica.authenticate(&key, Face::Rest, None).await.is_err());
        // What it does every few seconds.
        replica.cache.refresh().await.unwrap();
        replica.authenticate(&key, Face::Rest, None).await.unwrap();
        room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
        replica.cache.refresh().await.unwrap();
        assert!(replica.authenticate(&key, Face::Rest, None).await.is_err());
    }
}

#[tokio::test]
async fn nobody_is_let_in_from_memory_when_the_database_is_silent_for_long() {
    for room in rooms().await {
        let db = room.other_connection().await;
        let (key, _, _) = room.key(&operator(), json!({ "name": "k" })).await;
        room.clock.advance_seconds(61);
        room.identity.authenticate(&key, Face::Rest, None).await.unwrap();
        room.test.db.close().await;
        room.clock.advance_seconds(59);
        room.identity.authenticate(&key, Face::Rest, None).await.unwrap();
        room.clock.advance_seconds(2);
        let error = room.identity.authenticate(&key, Face::Rest, None).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{:?}", db.dialect());
    }
}

#[tokio::test]
async fn an_administrator_of_one_team_sees_nothing_of_another() {
    for room in rooms().await {
        let (_, id, _) = room.key(&operator(), json!({ "name": "ours" })).await;
        let stranger = Caller { teams: vec!["other".to_owned()], subject: "key:x".to_owned(), ..operator() };
        let listed = room.call(&stranger, "list_api_keys", json!({ "revoked": true })).await.unwrap();
        assert_eq!(listed["items"], json!([]));
        for operation in ["get_api_key", "revoke_api_key"] {
            let error = room.call(&stranger, operation, json!({ "id": id })).await.unwrap_err();
            assert_eq!(error.kind, Kind::NotFound, "{operation}");
        }
        let (_, theirs, _) = room.key(&stranger, json!({ "name": "theirs" })).await;
        let error = room.call(&operator(), "get_api_key", json!({ "id": theirs })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        let nobody = Caller { teams: Vec::new(), ..operator() };
        let listed = room.call(&nobody, "list_api_keys", json!({})).await.unwrap();
        assert_eq!(listed["items"], json!([]));
    }
}

#[tokio::test]
async fn pages_show_every_key_once() {
    for room in rooms().await {
        for n in 0..5 {
            room.call(&operator(), "create_api_key", json!({ "name": format!("k{n}") })).await.unwrap();
        }
        let mut names = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let input = json!({ "limit": 2, "cursor": cursor });
            let page = room.call(&operator(), "list_api_keys", input).await.unwrap();
            names.extend(page["items"].as_array().unwrap().iter().map(|key| key["name"].clone()));
            cursor = page["next"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(names, ["k4", "k3", "k2", "k1", "k0"]);
    }
}

#[tokio::test]
async fn the_last_use_is_shown_at_once_and_written_later() {
    for room in rooms().await {
        let (key, id, _) = room.key(&operator(), json!({ "name": "used" })).await;
        room.clock.advance_seconds(10);
        room.identity.authenticate(&key, Face::Rest, None).await.unwrap();
        let used = json!(room.clock.now().to_rfc3339());
        let shown = room.call(&operator(), "get_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(shown["last_used_at"], used);
        let replica = room.replica().await;
        let elsewhere = call(&replica, &operator(), "get_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(elsewhere["last_used_at"], Value::Null);
        room.identity.cache.write_last_used().await.unwrap();
        let elsewhere = call(&replica, &operator(), "get_api_key", json!({ "id": id })).await.unwrap();
        assert_eq!(elsewhere["last_used_at"], used);
    }
}

#[tokio::test]
async fn hostile_input_is_refused_by_name_or_kept_as_text() {
    for room in rooms().await {
        for (input, place) in [
            (json!({ "name": "a\u{0}b" }), "name"),
            (json!({ "name": "x".repeat(101) }), "name"),
            (json!({ "name": "x", "scopes": ["logs:read'; --"] }), "scopes"),
            (json!({ "name": "x", "scopes": [] }), "scopes"),
            (json!({ "name": "x", "team_id": "\u{0}" }), "team_id"),
            (json!({ "name": "x", "expires_in_days": 0 }), "expires_in_days"),
            (json!({ "name": "x", "role": "root" }), "role"),
            (json!({ "name": "x", "created_by": "operator" }), "created_by"),
        ] {
            let error = room.call(&operator(), "create_api_key", input).await.unwrap_err();
            assert_eq!(error.kind, Kind::Invalid, "{}", error.message);
            assert!(error.message.contains(place), "{place}: {}", error.message);
        }
        let name = "'); DROP TABLE api_keys; -- 🙂";
        let created = room.call(&operator(), "create_api_key", json!({ "name": name })).await.unwrap();
        assert_eq!(created["api_key"]["name"], name);
        for id in ["\u{0}", "' OR '1'='1", "%"] {
            let error = room.call(&operator(), "get_api_key", json!({ "id": id })).await.unwrap_err();
            assert!(matches!(error.kind, Kind::NotFound | Kind::Invalid), "{id:?}");
        }
        let error = room.call(&operator(), "list_api_keys", json!({ "cursor": "zzz" })).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
    }
}
