//! What linked cloud accounts promise, on every database, and against a token service of the test's own.

use opsroom_core::caller::Face;
use opsroom_core::egress::EgressConfig;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Kind, Time};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::room::{Answer, Room, RoomConfig};

const START: Time = Time(1_790_000_000_000_000);
const KEY: &str = "a-secret-access-key-of-a-cloud";

struct House {
    room: Arc<Room>,
    config: RoomConfig,
    _test: TestDb,
}

impl House {
    async fn new(test: TestDb) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let data_dir = test.folder.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let config = RoomConfig {
            data_dir: data_dir.clone(),
            database: test.config.clone(),
            secrets: Resolver::new(&data_dir, &Default::default()),
            egress: EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() },
            ..RoomConfig::default()
        };
        let room = Room::open(&config, Clock::manual(START), Lifecycle::new()).await.unwrap();
        Self { room, config, _test: test }
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        self.room.call(operation, Call::new(caller.clone()), input).await.map(Answer::into_value)
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(&operator(), operation, input).await.unwrap()
    }

    async fn link(&self, endpoint: &str, account: &str) {
        let settings = if endpoint.is_empty() { json!({}) } else { json!({ "endpoint": endpoint }) };
        self.ok(
            "link_cloud_account",
            json!({ "name": "prod", "provider": "aws", "access_key_id": "AKIDTEST", "secret_access_key": KEY,
                "account_id": account, "region": "eu-central-1", "settings": settings }),
        )
        .await;
    }

    async fn value(&self, reference: &str, team: &str, owner: &str) -> Result<Secret> {
        self.config.secrets.value(reference, Purpose { team, owner, user: "log source:x" }).await
    }

    async fn key(&self, scopes: Value) -> Caller {
        let made =
            self.ok("create_api_key", json!({ "name": "x", "role": "operator", "scopes": scopes })).await;
        self.room.identity.authenticate(made["key"].as_str().unwrap(), Face::Rest, None).await.unwrap()
    }
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}

/// A token service that gives these answers, one a connection; tells what it was sent.
async fn service(
    answers: Vec<(u16, &'static str)>,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
    drop(tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.contains("2011-06-15") {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send(text).unwrap();
        }
    }));
    (url, receiver)
}

const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/ada</Arn>\
    <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

#[tokio::test]
async fn an_account_is_linked_listed_and_unlinked_and_shows_no_credential() {
    for test in each_database().await {
        let house = House::new(test).await;
        house.link("", "").await;
        let listed = house.ok("list_cloud_accounts", json!({})).await;
        let account = &listed["items"][0];
        assert_eq!(
            (account["name"].as_str(), account["state"].as_str()),
            (Some("prod"), Some("not verified"))
        );
        assert_eq!(account["fields"], json!(["access_key_id", "secret_access_key"]));
        let again =
            json!({ "name": "prod", "provider": "aws", "access_key_id": "A", "secret_access_key": "B" });
        let error = house.call(&operator(), "link_cloud_account", again.clone()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        let mut replaced = again;
        replaced["replace"] = json!(true);
        house.ok("link_cloud_account", replaced).await;
        assert_eq!(
            house.value("secret://cloud/prod#access_key_id", "default", "operator").await.unwrap().expose(),
            "A"
        );
        let told = house.ok("list_audit", json!({ "limit": 50 })).await.to_string() + &listed.to_string();
        assert!(!told.contains(KEY), "{told}");
        house.ok("unlink_cloud_account", json!({ "name": "prod" })).await;
        let gone =
            house.call(&operator(), "verify_cloud_account", json!({ "name": "prod" })).await.unwrap_err();
        assert_eq!(gone.kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn aws_is_asked_by_a_signed_call_and_the_others_are_not_verified() {
    let house = House::new(sqlite().await).await;
    let refusal = "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
    let (url, mut sent) = service(vec![(200, IDENTITY), (403, refusal), (200, IDENTITY)]).await;
    house.link(&url, "").await;
    let verdict = house.ok("verify_cloud_account", json!({ "name": "prod" })).await;
    assert_eq!(
        (&verdict["state"], &verdict["message"]),
        (&json!("verified"), &json!("arn:aws:iam::123456789012:user/ada"))
    );
    assert_eq!(verdict["account"]["account_id"], "123456789012");
    let sent = sent.recv().await.unwrap();
    assert!(sent.contains("Credential=AKIDTEST/20260921/eu-central-1/sts/aws4_request"), "{sent}");
    assert!(sent.contains("Action=GetCallerIdentity") && !sent.contains(KEY), "{sent}");
    let verdict = house.ok("verify_cloud_account", json!({ "name": "prod" })).await;
    assert_eq!(verdict["state"], "failed");
    assert!(verdict["message"].as_str().unwrap().contains("InvalidClientTokenId"), "{verdict}");
    // Credentials of another account than was said.
    house.ok("unlink_cloud_account", json!({ "name": "prod" })).await;
    house.link(&url, "999999999999").await;
    assert_eq!(house.ok("verify_cloud_account", json!({ "name": "prod" })).await["state"], "failed");
    for (provider, credential) in [
        ("azure", json!({ "client_secret": "s3cr3t-enough" })),
        ("gcp", json!({ "credentials_json": "{}" })),
        ("alibaba", json!({ "access_key_id": "a", "secret_access_key": "b" })),
        ("oracle", json!({ "private_key": "a key" })),
        ("ibm", json!({ "access_key_id": "a", "secret_access_key": "b" })),
        ("tencent", json!({ "access_key_id": "a", "secret_access_key": "b" })),
    ] {
        let mut input = credential;
        input["name"] = json!(provider);
        input["provider"] = json!(provider);
        house.ok("link_cloud_account", input).await;
        let verdict = house.ok("verify_cloud_account", json!({ "name": provider })).await;
        assert_eq!(verdict["state"], "not verified", "{provider}");
    }
}

#[tokio::test]
async fn what_is_no_account_is_refused() {
    let house = House::new(sqlite().await).await;
    for (input, kind) in [
        (
            json!({ "name": "a/b", "provider": "aws", "access_key_id": "a", "secret_access_key": "b" }),
            Kind::Invalid,
        ),
        (json!({ "name": "a", "provider": "aws", "access_key_id": "a" }), Kind::Invalid),
        (json!({ "name": "a", "provider": "azure" }), Kind::Invalid),
        (
            json!({ "name": "a", "provider": "other", "access_key_id": "a", "secret_access_key": "b" }),
            Kind::Invalid,
        ),
        (
            json!({ "name": "a", "provider": "aws", "access_key_id": "a", "secret_access_key": "b", "region": "x.evil/" }),
            Kind::Invalid,
        ),
        (
            json!({ "name": "a", "provider": "aws", "access_key_id": "a", "secret_access_key": "b",
                "settings": { "endpoint": "http://169.254.169.254/" } }),
            Kind::Forbidden,
        ),
    ] {
        let error = house.call(&operator(), "link_cloud_account", input.clone()).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{input}");
    }
}

#[tokio::test]
async fn idor_a_credential_is_used_by_its_team_with_a_scope_on_it_and_on_record() {
    for test in each_database().await {
        let house = House::new(test).await;
        house.link("", "").await;
        let reference = "secret://cloud/prod#secret_access_key";
        assert_eq!(house.value(reference, "default", "operator").await.unwrap().expose(), KEY);
        let may = house.key(json!(["identity:use_cloud_account:prod"])).await;
        assert_eq!(house.value(reference, "default", &may.subject).await.unwrap().expose(), KEY);
        for scopes in
            [json!(["identity:use_cloud_account:other"]), json!(["*:*", "!identity:use_cloud_account"])]
        {
            let may_not = house.key(scopes).await;
            let error = house.value(reference, "default", &may_not.subject).await.unwrap_err();
            assert_eq!(error.kind, Kind::Forbidden);
        }
        assert_eq!(house.value(reference, "payments", "operator").await.unwrap_err().kind, Kind::Forbidden);
        assert_eq!(house.value(reference, "default", "key:gone").await.unwrap_err().kind, Kind::Forbidden);
        let missing = house.value("secret://cloud/prod#password", "default", "operator").await.unwrap_err();
        assert_eq!(missing.kind, Kind::NotFound);
        let audit = house.ok("list_audit", json!({ "operation": "use_cloud_account", "limit": 20 })).await;
        assert!(audit["items"].as_array().unwrap().len() >= 5, "{audit}");
        assert!(!audit.to_string().contains(KEY));
        // Another team neither sees nor verifies it.
        let stranger = Caller { teams: vec!["payments".to_owned()], ..operator() };
        let seen = house.call(&stranger, "list_cloud_accounts", json!({})).await.unwrap();
        assert_eq!(seen["items"], json!([]));
        for operation in ["verify_cloud_account", "unlink_cloud_account"] {
            let error = house.call(&stranger, operation, json!({ "name": "prod" })).await.unwrap_err();
            assert_eq!(error.kind, Kind::NotFound, "{operation}");
        }
    }
}

#[tokio::test]
async fn credentials_open_after_the_master_key_was_rotated() {
    let house = House::new(sqlite().await).await;
    house.link("", "").await;
    house.ok("rotate_master_key", json!({})).await;
    assert_eq!(
        house.value("secret://cloud/prod", "default", "operator").await.unwrap().expose(),
        KEY,
        "the secret key is what is meant without a field"
    );
}
