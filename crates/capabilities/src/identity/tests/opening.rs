//! Authentication against those who have no key.

use super::*;

async fn refusal(identity: &Identity, token: &str, address: &str) -> Error {
    identity.authenticate(token, Face::Rest, Some(address.to_owned())).await.unwrap_err()
}

#[tokio::test]
async fn wrong_revoked_expired_and_malformed_keys_are_refused_alike() {
    let room = Room::new(sqlite().await).await;
    let (revoked, id, _) = room.key(&operator(), json!({ "name": "revoked" })).await;
    let (expired, _, _) = room.key(&operator(), json!({ "name": "expired", "expires_in_days": 1 })).await;
    let (right, _, _) = room.key(&operator(), json!({ "name": "right" })).await;
    room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
    room.clock.advance_seconds(86_400);
    let unknown = format!("opk_{}", "0".repeat(64));
    let upper = right.to_uppercase();
    let spaced = format!(" {right}");
    let tokens =
        [&revoked, &expired, &unknown, "", "opk_", "Bearer", &upper, &spaced, "opk_\0", "' OR 1=1 --"];
    let mut messages = std::collections::HashSet::new();
    for (n, token) in tokens.into_iter().enumerate() {
        let error = refusal(&room.identity, token, &format!("192.0.2.{n}")).await;
        assert_eq!(error.kind, Kind::Unauthenticated, "{token:?}");
        messages.insert(error.message);
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages.iter().all(|message| message.contains("Authorization: Bearer")));
}

#[tokio::test]
async fn a_token_of_ten_megabytes_is_refused_by_its_length() {
    let room = Room::new(sqlite().await).await;
    // A refusal that read the database would be `Unavailable` here.
    room.test.db.close().await;
    room.clock.advance_seconds(3600);
    for token in ["x".repeat(10_000_000), format!("opk_{}", "a".repeat(10_000_000))] {
        let error = refusal(&room.identity, &token, "192.0.2.1").await;
        assert_eq!(error.kind, Kind::Unauthenticated);
        assert!(error.message.len() < 300);
    }
}

#[tokio::test]
async fn a_flood_of_wrong_keys_does_not_lock_out_a_right_one() {
    let room = Room::new(sqlite().await).await;
    let (right, _, _) = room.key(&operator(), json!({ "name": "right" })).await;
    for n in 0..50 {
        let wrong = refusal(&room.identity, &format!("opk_{n:064x}"), "192.0.2.1").await;
        assert_eq!(wrong.kind, Kind::Unauthenticated);
    }
    room.identity.authenticate(&right, Face::Rest, Some("192.0.2.1".to_owned())).await.unwrap();
    assert_eq!(refusal(&room.identity, "x", "192.0.2.2").await.kind, Kind::Unauthenticated);
}

#[tokio::test]
async fn a_stolen_table_opens_nothing() {
    let room = Room::new(sqlite().await).await;
    let (key, _, _) = room.key(&operator(), json!({ "name": "k", "role": "administrator" })).await;
    let hash = opsroom_core::id::sha256_hex(&key);
    for token in [hash.clone(), format!("opk_{hash}")] {
        assert_eq!(refusal(&room.identity, &token, "192.0.2.1").await.kind, Kind::Unauthenticated);
    }
}
