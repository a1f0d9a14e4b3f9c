//! The setup token and the operator key.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[tokio::test]
async fn the_setup_token_gives_one_administrator_key() {
    for room in rooms().await {
        assert!(!room.identity.has_administrator().await.unwrap());
        let token = room.identity.new_setup_token().await.unwrap();
        assert!(token.starts_with("ops_") && token.len() == 68);
        let created = room.identity.exchange_setup_token(&token, Some("::1".to_owned())).await.unwrap();
        let caller = room.identity.authenticate(&created.key, Face::Rest, None).await.unwrap();
        assert_eq!((caller.role, caller.scopes), (Role::Administrator, None));
        assert!(room.identity.has_administrator().await.unwrap());

        let error = room.identity.exchange_setup_token(&token, None).await.err().unwrap();
        assert_eq!(error.kind, Kind::Unauthenticated);
        let error = room.identity.new_setup_token().await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);

        let audit = room.call(&operator(), "list_audit", json!({})).await.unwrap();
        let record = &audit["items"][0];
        assert_eq!(record["operation"], "exchange_setup_token");
        assert_eq!((&record["subject"], &record["address"]), (&json!("setup"), &json!("::1")));
        assert_eq!(record["input"], json!({ "api_key_id": created.api_key.id }));
        assert!(!audit.to_string().contains(&token) && !audit.to_string().contains(&created.key));
    }
}

#[tokio::test]
async fn nobody_in_particular_may_exchange_the_token_and_only_an_administrator_may_make_one() {
    let room = Room::new(sqlite().await).await;
    let anyone = Caller::anonymous(Face::Rest, Some("192.0.2.1".to_owned()));
    let error = room.call(&anyone, "create_setup_token", json!({})).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Forbidden | Kind::Unauthenticated), "{error}");
    let made = room.call(&operator(), "create_setup_token", json!({})).await.unwrap();
    assert_eq!(made["expires_in_seconds"], SETUP_SECONDS);
    let input = json!({ "token": made["token"] });
    let created = room.call(&anyone, "exchange_setup_token", input.clone()).await.unwrap();
    assert_eq!(created["api_key"]["role"], "administrator");
    let error = room.call(&anyone, "exchange_setup_token", input).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unauthenticated);
}

#[tokio::test]
async fn an_expired_or_replaced_setup_token_is_void() {
    for room in rooms().await {
        let first = room.identity.new_setup_token().await.unwrap();
        let second = room.identity.new_setup_token().await.unwrap();
        let wrong = format!("ops_{}", "0".repeat(64));
        for token in [&first, &wrong, "", "ops_", "ops_\0"] {
            let error =
                room.identity.exchange_setup_token(token, Some("::1".to_owned())).await.err().unwrap();
            assert_eq!(error.kind, Kind::Unauthenticated, "{token:?}");
        }
        room.clock.advance_seconds(SETUP_SECONDS);
        let error = room.identity.exchange_setup_token(&second, None).await.err().unwrap();
        assert_eq!(error.kind, Kind::Unauthenticated);
        assert!(!room.identity.has_administrator().await.unwrap());
        let third = room.identity.new_setup_token().await.unwrap();
        room.clock.advance_seconds(SETUP_SECONDS - 1);
        room.identity.exchange_setup_token(&third, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_setup_token_does_not_make_a_second_administrator() {
    for room in rooms().await {
        let token = room.identity.new_setup_token().await.unwrap();
        let (_, id, _) = room.key(&operator(), json!({ "name": "a", "role": "administrator" })).await;
        let error = room.identity.exchange_setup_token(&token, None).await.err().unwrap();
        assert_eq!(error.kind, Kind::Conflict);
        // And the token is void, even when there is no administrator again.
        room.call(&operator(), "revoke_api_key", json!({ "id": id })).await.unwrap();
        assert!(!room.identity.has_administrator().await.unwrap());
        assert!(room.identity.exchange_setup_token(&token, None).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_exchange_the_token_at_once_one_gets_a_key() {
    for room in rooms().await {
        let replica = room.replica().await;
        let token = room.identity.new_setup_token().await.unwrap();
        let tries = (0..12).map(|n| {
            let identity = if n % 2 == 0 { room.identity.clone() } else { replica.clone() };
            let (token, address) = (token.clone(), format!("192.0.2.{n}"));
            room.life.spawn_work(async move { identity.exchange_setup_token(&token, Some(address)).await })
        });
        let results = futures_util::future::join_all(tries).await;
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|e| e.kind)).collect();
        let got = kinds.iter().filter(|kind| kind.is_none()).count();
        assert_eq!(got, 1, "{:?} {kinds:?}", room.test.db.dialect());
        let keys = room.call(&operator(), "list_api_keys", json!({})).await.unwrap();
        assert_eq!(keys["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn setup_tokens_and_keys_are_kept_as_hashes_only() {
    let room = Room::new(sqlite().await).await;
    let token = room.identity.new_setup_token().await.unwrap();
    let (key, _, _) = room.key(&operator(), json!({ "name": "k" })).await;
    let path = room.identity.ensure_operator_key().await.unwrap();
    let operator_key = std::fs::read_to_string(path).unwrap();
    let mut bytes = Vec::new();
    for file in ["opsroom.db", "opsroom.db-wal"] {
        bytes.extend(std::fs::read(room.test.folder.path().join(file)).unwrap_or_default());
    }
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found(&key[..10]), "the start of a key is kept, so the file was read");
    for secret in [&token[4..], &key[4..], operator_key.trim().strip_prefix("opo_").unwrap()] {
        assert!(!found(secret));
    }
}

#[tokio::test]
async fn the_operator_key_opens_everything_and_stays_when_the_server_starts_again() {
    for room in rooms().await {
        let path = room.identity.ensure_operator_key().await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let key = std::fs::read_to_string(&path).unwrap().trim().to_owned();
        let caller = room.identity.authenticate(&key, Face::Cli, None).await.unwrap();
        assert_eq!((caller.subject.as_str(), caller.role), ("operator", Role::Administrator));
        let again = room.replica().await;
        assert!(again.authenticate(&key, Face::Cli, None).await.is_err());
        again.ensure_operator_key().await.unwrap();
        again.authenticate(&key, Face::Cli, None).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), key);
    }
}

#[tokio::test]
async fn a_missing_or_foreign_operator_key_is_replaced() {
    for room in rooms().await {
        let path = room.identity.ensure_operator_key().await.unwrap();
        let mut before = std::fs::read_to_string(&path).unwrap();
        let foreign = format!("opo_{}", "0".repeat(64));
        for content in [None, Some(foreign.as_bytes()), Some(b""), Some(&[0xff; 1_000_000])] {
            match content {
                None => std::fs::remove_file(&path).unwrap(),
                Some(content) => std::fs::write(&path, content).unwrap(),
            }
            room.identity.ensure_operator_key().await.unwrap();
            let now = std::fs::read_to_string(&path).unwrap();
            assert_ne!(now, before);
            room.identity.authenticate(now.trim(), Face::Cli, None).await.unwrap();
            assert!(room.identity.authenticate(before.trim(), Face::Cli, None).await.is_err());
            before = now;
        }
        assert!(room.identity.authenticate(&foreign, Face::Cli, None).await.is_err());
    }
}

#[tokio::test]
async fn an_operator_key_that_others_can_reach_is_refused() {
    let room = Room::new(sqlite().await).await;
    let path = room.identity.ensure_operator_key().await.unwrap();
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o644);
    let error = room.identity.ensure_operator_key().await.unwrap_err();
    assert!(error.message.contains("644") && error.message.contains("operator.key"), "{}", error.message);
    mode(&path, 0o600);
    let folder = path.parent().unwrap();
    mode(folder, 0o755);
    let error = room.identity.ensure_operator_key().await.unwrap_err();
    assert!(error.message.contains("chmod 700"), "{}", error.message);
    mode(folder, 0o700);
    let elsewhere = room.test.folder.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(room.identity.ensure_operator_key().await.is_err(), "a link is not followed");
}
