//! References that lead to Vault or OpenBao, which the test plays: its key-value engine, version 2.

use opsroom_core::egress::EgressConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::secrets::vault::VaultMount;

const TOKEN: &str = "hvs.a-token-of-the-server";

/// An engine with one secret, for who has the token.
async fn engine() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            while !text.ends_with("\r\n\r\n") {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let known =
                text.to_ascii_lowercase().contains(&format!("x-vault-token: {}", TOKEN.to_ascii_lowercase()));
            let (status, body) = match text.split(' ').nth(1).unwrap() {
                _ if !known => (403, json!({ "errors": ["permission denied"] })),
                "/v1/kv/data/db/app" => (
                    200,
                    json!({ "data": { "data": { "value": VALUE, "user": "ada" }, "metadata": { "version": 3 } } }),
                ),
                _ => (404, json!({ "errors": [] })),
            };
            let body = body.to_string();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }));
    url
}

fn mount(address: &str, token: &str) -> VaultMount {
    VaultMount {
        name: "vault".to_owned(),
        address: address.to_owned(),
        engine: "kv".to_owned(),
        token: token.into(),
        namespace: String::new(),
        teams: vec!["default".to_owned()],
    }
}

async fn house(vault: VaultMount) -> House {
    let test = sqlite().await;
    let data_dir = test.folder.path().join("data");
    private(&data_dir);
    let mut config = RoomConfig {
        data_dir: data_dir.clone(),
        database: test.config.clone(),
        secrets: Resolver::new(&data_dir, &Default::default()),
        egress: EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() },
        ..RoomConfig::default()
    };
    config.kept_secrets.vaults = vec![vault];
    config.kept_secrets.validate().unwrap();
    let clock = Clock::manual(START);
    let room = Room::open(&config, clock.clone(), Lifecycle::new()).await.unwrap();
    House { room, clock, config, _test: test }
}

async fn read(house: &House, reference: &str, owner: &str, team: &str) -> Result<String> {
    let purpose = Purpose { team, owner, user: "test" };
    house.config.secrets.value(reference, purpose).await.map(|value| value.expose().to_owned())
}

#[tokio::test]
async fn a_reference_leads_to_a_field_in_vault_and_its_use_is_on_record() {
    let house = house(mount(&engine().await, TOKEN)).await;
    assert_eq!(read(&house, "secret://vault/db/app", "operator", "default").await.unwrap(), VALUE);
    assert_eq!(read(&house, "secret://vault/db/app#user", "operator", "default").await.unwrap(), "ada");
    let record = house.last_audit("use_secret").await;
    assert_eq!(record["input"], json!({ "path": "vault/db/app", "field": "user", "user": "test" }));
    assert_eq!(opsroom_core::telemetry::known::redact(VALUE), "[hidden]", "it is hidden from now on");
}

#[tokio::test]
async fn a_reference_into_vault_needs_a_scope_and_the_team() {
    let house = house(mount(&engine().await, TOKEN)).await;
    let reference = "secret://vault/db/app";
    let may = house.key("operator", json!(["secrets:use_secret:vault/db/*"]), Face::Rest).await;
    assert_eq!(read(&house, reference, &may.subject, "default").await.unwrap(), VALUE);
    let may_not = house.key("operator", json!(["secrets:use_secret:db/*"]), Face::Rest).await;
    for (owner, team) in
        [(may_not.subject.as_str(), "default"), ("operator", "payments"), ("key:gone", "default")]
    {
        assert_eq!(
            read(&house, reference, owner, team).await.unwrap_err().kind,
            Kind::Forbidden,
            "{owner} {team}"
        );
    }
    for reference in ["secret://vault/db/app#password", "secret://vault/db/other"] {
        assert_eq!(read(&house, reference, "operator", "default").await.unwrap_err().kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn a_vault_that_refuses_or_is_down_gives_nothing_and_keeps_its_token() {
    for vault in [mount(&engine().await, "hvs.another-token"), mount("http://127.0.0.1:18009", TOKEN)] {
        let token = vault.token.expose().to_owned();
        let house = house(vault).await;
        let error = read(&house, "secret://vault/db/app", "operator", "default").await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        let record = house.last_audit("use_secret").await.to_string();
        assert!(!error.message.contains(&token) && !record.contains(&token), "{error} {record}");
    }
}

#[test]
fn a_place_that_cannot_be_one_is_refused() {
    let right = mount("https://vault.internal:8200", TOKEN);
    VaultMount::validate(std::slice::from_ref(&right)).unwrap();
    for wrong in [
        VaultMount { name: "opsroom".to_owned(), ..right.clone() },
        VaultMount { name: "cloud".to_owned(), ..right.clone() },
        VaultMount { name: "a/b".to_owned(), ..right.clone() },
        VaultMount { address: "vault.internal".to_owned(), ..right.clone() },
        VaultMount { token: "".into(), ..right.clone() },
        VaultMount { engine: "../sys".to_owned(), ..right.clone() },
    ] {
        assert!(VaultMount::validate(&[wrong]).is_err());
    }
    assert!(VaultMount::validate(&[right.clone(), right]).is_err());
}
