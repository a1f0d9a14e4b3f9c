//! Rotation of values and of the master key.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn a_generated_value_replaces_the_old_one_and_leaves_the_other_fields() {
    for house in houses().await {
        house
            .ok("put_secret", json!({ "path": "a", "fields": { "user": "ada", "value": "old-value-1" } }))
            .await;
        let plan = json!({ "kind": "generate", "length": 24 });
        house.ok("plan_secret_rotation", json!({ "path": "a", "plan": plan })).await;
        assert_eq!(house.ok("rotate_secret", json!({ "path": "a" })).await["version"], 2);
        let given = house.ok("get_secret", json!({ "path": "a" })).await;
        assert_eq!(given["fields"]["user"], "ada");
        let value = given["fields"]["value"].as_str().unwrap();
        assert!(value.len() == 24 && value.bytes().all(|b| b.is_ascii_alphanumeric()), "{value}");
    }
}

#[tokio::test]
async fn a_planned_rotation_comes_when_it_is_due_and_on_record() {
    for house in houses().await {
        house.put("a", "old-value-1").await;
        let plan = json!({ "path": "a", "every_days": 7, "plan": { "kind": "generate" } });
        house.ok("plan_secret_rotation", plan).await;
        house.room.kept_secrets.round().await.unwrap();
        assert_eq!(house.value("a").await, "old-value-1");
        house.clock.advance_seconds(7 * 86_400);
        house.room.kept_secrets.round().await.unwrap();
        assert_ne!(house.value("a").await, "old-value-1");
        let record = house.last_audit("rotate_secret").await;
        assert_eq!((record["face"].as_str(), record["outcome"].as_str()), (Some("schedule"), Some("ok")));
        house.room.kept_secrets.round().await.unwrap();
        let versions = house.ok("list_secret_versions", json!({ "path": "a" })).await;
        assert_eq!(versions["items"].as_array().unwrap().len(), 2, "once");
    }
}

#[tokio::test]
async fn an_api_key_of_ours_is_rotated_and_the_old_one_ends_with_the_overlap() {
    let house = House::new(sqlite().await).await;
    house.put("key", "none yet").await;
    let plan = json!({ "kind": "api_key", "name": "ci", "role": "viewer", "scopes": ["logs:read"] });
    house.ok("plan_secret_rotation", json!({ "path": "key", "plan": plan })).await;
    house.ok("rotate_secret", json!({ "path": "key" })).await;
    let first = house.value("key").await;
    house.ok("rotate_secret", json!({ "path": "key" })).await;
    let second = house.value("key").await;
    let opens = async |key: &str| house.room.identity.authenticate(key, Face::Rest, None).await.is_ok();
    assert!(opens(&first).await && opens(&second).await, "both, while they overlap");
    house.clock.advance_seconds(86_400);
    assert!(!opens(&first).await && opens(&second).await);
}

/// A web address that answers each request with the next of these statuses; sends what it was told.
async fn webhook(statuses: &'static [u16]) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
    drop(tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send(text[text.find("\r\n\r\n").unwrap() + 4..].to_owned()).unwrap();
        }
    }));
    (port, receiver)
}

#[tokio::test]
async fn a_rotation_that_fails_half_way_keeps_the_old_value_and_goes_on_with_the_same_new_one() {
    let house = House::new(sqlite().await).await;
    let (port, mut told) = webhook(&[500, 204]).await;
    let mut config = house.config.clone();
    config.egress.allow_addresses = vec!["127.0.0.1".to_owned()];
    let room = Room::open(&config, house.clock.clone(), Lifecycle::new()).await.unwrap();
    let house = House { room, ..house };
    house.put("a", "old-value-1").await;
    let plan = json!({ "kind": "webhook", "url": format!("http://127.0.0.1:{port}/rotate") });
    house.ok("plan_secret_rotation", json!({ "path": "a", "plan": plan })).await;
    let (kind, message) = house.fails(&operator(), "rotate_secret", json!({ "path": "a" })).await;
    assert_eq!(kind, Kind::Unavailable);
    assert!(message.contains("version 1 stays in force"), "{message}");
    assert_eq!(house.value("a").await, "old-value-1");
    let first: Value = serde_json::from_str(&told.recv().await.unwrap()).unwrap();
    house.ok("rotate_secret", json!({ "path": "a" })).await;
    let second: Value = serde_json::from_str(&told.recv().await.unwrap()).unwrap();
    assert_eq!(first, second);
    assert_eq!(json!(house.value("a").await), first["fields"]["value"]);
    assert!(!message.contains(first["fields"]["value"].as_str().unwrap()));
}

#[tokio::test]
async fn the_master_key_is_rotated_while_secrets_are_read() {
    for house in houses().await {
        for n in 0..20 {
            house.put(&format!("s{n}"), &format!("value number {n}")).await;
        }
        let reads = async {
            for n in 0..200 {
                assert_eq!(house.value(&format!("s{}", n % 20)).await, format!("value number {}", n % 20));
            }
        };
        let rotate = async {
            for _ in 0..3 {
                let done = house.ok("rotate_master_key", json!({})).await;
                assert_eq!(done["sealed"], 20);
            }
        };
        tokio::join!(reads, rotate);
        let fresh = Room::open(&house.config, house.clock.clone(), Lifecycle::new()).await.unwrap();
        let given = fresh.call("get_secret", Call::new(operator()), json!({ "path": "s7" })).await.unwrap();
        assert_eq!(given.into_value()["fields"]["value"], "value number 7");
    }
}

/// Rotates the password of a real user of each database server at hand, while others log in all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_password_is_rotated_under_load_without_a_failed_login() {
    for (variable, make) in [
        ("OPSROOM_TEST_POSTGRES_URL", ["CREATE ROLE {} LOGIN PASSWORD 'x'"]),
        ("OPSROOM_TEST_MYSQL_URL", ["CREATE USER {} IDENTIFIED BY 'x'"]),
    ] {
        #[expect(clippy::disallowed_methods, reason = "a test learns from its environment which servers run")]
        let Ok(admin) = std::env::var(variable) else { continue };
        let name = opsroom_core::id::random_text(8).to_ascii_lowercase();
        let users = [format!("app_{name}_a"), format!("app_{name}_b")];
        let db = DbConfig { url: admin.clone(), ..DbConfig::default() }
            .open(std::path::Path::new("/"))
            .await
            .unwrap();
        for user in &users {
            opsroom_core::testing::run_sql(&db, &make[0].replace("{}", user)).await;
        }
        rotate_under_load(&admin, &users).await;
    }
}

async fn rotate_under_load(admin: &str, users: &[String]) {
    let house = House::new(sqlite().await).await;
    let mut config = house.config.clone();
    config.egress.allow_addresses = vec!["127.0.0.1".to_owned()];
    let room = Room::open(&config, house.clock.clone(), Lifecycle::new()).await.unwrap();
    let house = House { room, config, ..house };
    house.put("admin", admin).await;
    house
        .ok("put_secret", json!({ "path": "app", "fields": { "username": users[1], "password": "x" } }))
        .await;
    let plan = json!({ "kind": "database", "admin_url": "secret://opsroom/admin", "users": users });
    house.ok("plan_secret_rotation", json!({ "path": "app", "plan": plan })).await;
    let user_url = |fields: &Value| {
        let url = reqwest::Url::parse(admin).unwrap();
        let (host, port) = (url.host_str().unwrap(), url.port().unwrap());
        let user =
            format!("{}:{}", fields["username"].as_str().unwrap(), fields["password"].as_str().unwrap());
        let base = if url.scheme() == "mysql" { "" } else { "postgres" };
        format!("{}://{user}@{host}:{port}/{base}", url.scheme())
    };
    house.ok("rotate_secret", json!({ "path": "app" })).await;
    let login = async {
        for _ in 0..40 {
            let given = house.ok("get_secret", json!({ "path": "app" })).await;
            tokio::task::yield_now().await;
            let config =
                DbConfig { url: user_url(&given["fields"]), max_connections: 1, ..DbConfig::default() };
            let db = config.open(std::path::Path::new("/")).await.unwrap();
            db.ping().await.unwrap();
            db.close().await;
        }
    };
    let rotate = async {
        for _ in 0..3 {
            house.ok("rotate_secret", json!({ "path": "app" })).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::join!(login, rotate);
}
