//! What accounts promise, through the room as every face calls it. A test is named after the item of OWASP
//! ASVS 5.0 that it holds.

use std::sync::Arc;

use opsroom_core::caller::Face;
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Kind, Time};
use serde_json::{Value, json};

use super::*;
use crate::room::{Answer, Room, RoomConfig};

const START: Time = Time(1_790_000_000_000_000);
const PASSWORD: &str = "correct horse battery";
const OTHER: &str = "another horse entirely";

struct House {
    room: Arc<Room>,
    clock: Clock,
    accounts: Accounts,
    _test: TestDb,
}

impl House {
    async fn new(test: TestDb, signup: bool) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let clock = Clock::manual(START);
        let data_dir = test.folder.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let accounts = AccountsConfig { signup, ..AccountsConfig::default() };
        let config = RoomConfig {
            data_dir: data_dir.clone(),
            database: test.config.clone(),
            secrets: Resolver::new(&data_dir, &Default::default()),
            accounts: accounts.clone(),
            public_url: "https://ops.example.com".to_owned(),
            ..RoomConfig::default()
        };
        let room = Room::open(&config, clock.clone(), Lifecycle::new()).await.unwrap();
        let egress = Egress::new(&EgressConfig::default()).unwrap();
        let sealer = Sealer::new(room.database.clone(), clock.clone(), egress, Default::default(), &data_dir);
        let notifications = room.notifications.clone();
        let accounts =
            Accounts::new(room.identity.clone(), sealer, notifications, accounts, "https://ops.example.com");
        Self { room, clock, accounts, _test: test }
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        self.room.call(operation, Call::new(caller.clone()), input).await.map(Answer::into_value)
    }

    async fn fails(&self, caller: &Caller, operation: &str, input: Value) -> Error {
        self.call(caller, operation, input).await.expect_err(operation)
    }

    /// Invites a user and sets their password; answers their id.
    async fn user(&self, name: &str, role: &str) -> String {
        let input = json!({ "username": name, "email": format!("{name}@example.com"), "role": role });
        let made = self.call(&operator(), "create_user", input).await.unwrap();
        let input = json!({ "token": made["invitation"], "password": PASSWORD });
        self.call(&stranger("192.0.2.9"), "reset_password", input).await.unwrap();
        made["user"]["id"].as_str().unwrap().to_owned()
    }

    async fn login(&self, name: &str, password: &str) -> Result<Value> {
        self.call(&stranger("192.0.2.1"), "login", json!({ "username": name, "password": password })).await
    }

    async fn session(&self, name: &str) -> (String, Caller) {
        let answer = self.login(name, PASSWORD).await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        let caller = self.open(&token).await.unwrap();
        (token, caller)
    }

    async fn open(&self, token: &str) -> Result<Caller> {
        self.room.identity.authenticate(token, Face::Rest, Some("192.0.2.1".to_owned())).await
    }

    async fn mailed(&self, id: &str, kind: &str) -> String {
        let user = store::users::get(&self.room.database, id).await.unwrap().unwrap();
        self.accounts.mail_token(&user, kind, &user.email).await.unwrap()
    }
}

async fn houses() -> Vec<House> {
    let mut houses = Vec::new();
    for test in each_database().await {
        houses.push(House::new(test, false).await);
    }
    houses
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}

fn stranger(address: &str) -> Caller {
    Caller::anonymous(Face::Rest, Some(address.to_owned()))
}

#[tokio::test]
async fn a_user_is_invited_logs_in_and_logs_out() {
    for house in houses().await {
        let id = house.user("ada", "operator").await;
        let answer = house.login("Ada@Example.com", PASSWORD).await.unwrap();
        assert_eq!(
            (answer["token_type"].as_str(), answer["expires_in"].as_i64()),
            (Some("bearer"), Some(604_800))
        );
        assert_eq!(answer["user"]["is_verified"], true, "who accepts an invitation reads the address");
        let (token, ada) = house.session("ada").await;
        assert_eq!((ada.subject.as_str(), ada.role), (format!("user:{id}").as_str(), Role::Operator));
        assert_eq!(house.call(&ada, "get_profile", json!({})).await.unwrap()["username"], "ada");
        house.call(&ada, "logout", json!({})).await.unwrap();
        assert_eq!(house.open(&token).await.unwrap_err().kind, Kind::Unauthenticated);
        let audit =
            house.call(&operator(), "list_audit", json!({ "operation": "login", "limit": 1 })).await.unwrap();
        assert_eq!(audit["items"][0]["subject"], json!(format!("user:{id}")));
        assert!(!audit.to_string().contains(PASSWORD) && !audit.to_string().contains(&token));
    }
}

#[tokio::test]
async fn signing_up_is_off_unless_it_is_configured_and_makes_a_viewer() {
    let house = House::new(sqlite().await, false).await;
    let input = json!({ "username": "eve", "email": "eve@example.com", "password": PASSWORD });
    assert_eq!(house.fails(&stranger("192.0.2.1"), "signup", input.clone()).await.kind, Kind::Forbidden);
    let house = House::new(sqlite().await, true).await;
    house.call(&stranger("192.0.2.1"), "signup", input.clone()).await.unwrap();
    assert_eq!(house.login("eve", PASSWORD).await.unwrap()["user"]["role"], "viewer");
    assert_eq!(house.fails(&stranger("192.0.2.1"), "signup", input).await.kind, Kind::Conflict);
    // The address of somebody else is answered as a free one is (ASVS 6.3.8).
    let taken = json!({ "username": "mallory", "email": "eve@example.com", "password": PASSWORD });
    house.call(&stranger("192.0.2.1"), "signup", taken).await.unwrap();
    assert!(house.login("mallory", PASSWORD).await.is_err());
}

#[tokio::test]
async fn v15_3_3_mass_assignment_gives_no_rung() {
    let house = House::new(sqlite().await, true).await;
    let input = json!({ "username": "eve", "email": "eve@example.com", "password": PASSWORD, "role": "administrator" });
    assert_eq!(house.fails(&stranger("192.0.2.1"), "signup", input).await.kind, Kind::Invalid);
    house.user("ada", "viewer").await;
    let (_, ada) = house.session("ada").await;
    let input = json!({ "full_name": "Ada", "role": "administrator" });
    assert_eq!(house.fails(&ada, "update_profile", input).await.kind, Kind::Invalid);
}

#[tokio::test]
async fn v6_3_8_a_login_does_not_say_whether_the_account_exists() {
    let house = House::new(sqlite().await, false).await;
    let id = house.user("ada", "viewer").await;
    let wrong = house.login("ada", "not the password").await.unwrap_err();
    let nobody = house.login("nobody", "not the password").await.unwrap_err();
    assert_eq!((wrong.kind, &wrong.message), (nobody.kind, &nobody.message));
    let off = json!({ "id": id, "is_active": false });
    house.call(&operator(), "update_user", off).await.unwrap();
    assert_eq!(house.login("ada", PASSWORD).await.unwrap_err().message, wrong.message);
    let ask = |email: &str| json!({ "email": email });
    let known =
        house.call(&stranger("192.0.2.1"), "request_password_reset", ask("ada@example.com")).await.unwrap();
    let unknown =
        house.call(&stranger("192.0.2.1"), "request_password_reset", ask("x@example.com")).await.unwrap();
    assert_eq!(known, unknown);
}

#[tokio::test]
async fn v6_3_1_guessing_locks_the_account_with_a_growing_delay_but_not_its_user_out() {
    for house in houses().await {
        house.user("ada", "viewer").await;
        house.session("ada").await;
        let guess = async |n: usize| {
            let caller = stranger(&format!("198.51.100.{n}"));
            house
                .call(&caller, "login", json!({ "username": "ada", "password": "guess number one" }))
                .await
                .unwrap_err()
        };
        for n in 0..6 {
            guess(n).await;
        }
        let far = stranger("203.0.113.7");
        let right = json!({ "username": "ada", "password": PASSWORD });
        let locked = house.fails(&far, "login", right.clone()).await;
        assert_eq!(locked.message, guess(7).await.message, "locked looks like wrong");
        // From where she came before she is let in, and that forgives.
        house.session("ada").await;
        house.call(&far, "login", right.clone()).await.unwrap();
        for n in 10..16 {
            guess(n).await;
        }
        house.clock.advance_seconds(61);
        house.call(&stranger("203.0.113.8"), "login", right).await.unwrap();
    }
}

#[tokio::test]
async fn v7_2_4_each_login_has_a_token_of_its_own_and_v7_4_sessions_end() {
    for house in houses().await {
        let id = house.user("ada", "viewer").await;
        let (one, ada) = house.session("ada").await;
        let (two, _) = house.session("ada").await;
        assert_ne!(one, two);
        let sessions = house.call(&ada, "list_sessions", json!({})).await.unwrap();
        assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
        assert!(!sessions.to_string().contains(&one));
        // Not used for half a day: it ends; used meanwhile: it goes on.
        house.clock.advance_seconds(40_000);
        house.open(&two).await.unwrap();
        house.clock.advance_seconds(10_000);
        assert!(house.open(&one).await.is_err());
        house.open(&two).await.unwrap();
        // Who is not active any more is out at once, and so is who was deleted.
        house.call(&operator(), "update_user", json!({ "id": id, "is_active": false })).await.unwrap();
        assert!(house.open(&two).await.is_err());
        house.call(&operator(), "update_user", json!({ "id": id, "is_active": true })).await.unwrap();
        let (three, _) = house.session("ada").await;
        house.call(&operator(), "delete_user", json!({ "id": id })).await.unwrap();
        assert!(house.open(&three).await.is_err() && house.login("ada", PASSWORD).await.is_err());
        house.user("ada", "viewer").await;
    }
}

#[tokio::test]
async fn v7_3_2_a_session_ends_after_its_time_however_busy() {
    let house = House::new(sqlite().await, false).await;
    house.user("ada", "viewer").await;
    let (token, _) = house.session("ada").await;
    for _ in 0..16 {
        house.clock.advance_seconds(37_000);
        house.open(&token).await.unwrap();
    }
    house.clock.advance_seconds(37_000);
    assert!(house.open(&token).await.is_err());
}

#[tokio::test]
async fn v7_4_3_a_new_password_ends_every_other_session() {
    for house in houses().await {
        house.user("ada", "viewer").await;
        let (one, _) = house.session("ada").await;
        let (two, ada) = house.session("ada").await;
        let wrong = json!({ "password": OTHER, "new_password": OTHER });
        assert_eq!(house.fails(&ada, "change_password", wrong).await.kind, Kind::Forbidden);
        let leaked = json!({ "password": PASSWORD, "new_password": "password1" });
        assert!(house.fails(&ada, "change_password", leaked).await.message.contains("leaked"));
        house
            .call(&ada, "change_password", json!({ "password": PASSWORD, "new_password": OTHER }))
            .await
            .unwrap();
        assert!(house.open(&one).await.is_err());
        house.open(&two).await.unwrap();
        assert!(house.login("ada", PASSWORD).await.is_err());
        house.login("ada", OTHER).await.unwrap();
    }
}

#[tokio::test]
async fn v6_6_2_a_reset_token_works_once_not_late_and_for_its_account_alone() {
    for house in houses().await {
        let (ada, bob) = (house.user("ada", "viewer").await, house.user("bob", "viewer").await);
        let (session, _) = house.session("ada").await;
        let reset = |token: String, password: &str| json!({ "token": token, "password": password });
        let token = house.mailed(&ada, "reset").await;
        house.call(&stranger("192.0.2.1"), "reset_password", reset(token.clone(), OTHER)).await.unwrap();
        assert!(house.open(&session).await.is_err(), "every session ends");
        house.login("ada", OTHER).await.unwrap();
        house.login("bob", PASSWORD).await.unwrap();
        let again = house.fails(&stranger("192.0.2.1"), "reset_password", reset(token, PASSWORD)).await;
        assert_eq!(again.kind, Kind::Unauthenticated);
        let late = house.mailed(&ada, "reset").await;
        house.clock.advance_seconds(600);
        assert!(house.call(&stranger("192.0.2.1"), "reset_password", reset(late, PASSWORD)).await.is_err());
        // A newer one voids the older one, and one to verify an address sets no password.
        let older = house.mailed(&bob, "reset").await;
        let newer = house.mailed(&bob, "reset").await;
        assert!(house.call(&stranger("192.0.2.2"), "reset_password", reset(older, OTHER)).await.is_err());
        let verify = house.mailed(&bob, "verify").await;
        assert!(
            house.call(&stranger("192.0.2.2"), "reset_password", reset(verify.clone(), OTHER)).await.is_err()
        );
        house.call(&stranger("192.0.2.2"), "verify_email", json!({ "token": verify })).await.unwrap();
        house.call(&stranger("192.0.2.2"), "reset_password", reset(newer, OTHER)).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_factor_opens_after_the_master_key_was_rotated_often() {
    for house in houses().await {
        house.user("ada", "viewer").await;
        let (_, ada) = house.session("ada").await;
        let seed = house.call(&ada, "enable_two_factor", json!({ "password": PASSWORD })).await.unwrap();
        let seed = seed["secret"].as_str().unwrap();
        let code = |at: &House| code_at(seed, at.clock.now().0 / 1_000_000 / 30).unwrap();
        house.call(&ada, "confirm_two_factor", json!({ "code": code(&house) })).await.unwrap();
        for _ in 0..3 {
            // Beyond the time for which a key is kept after it has a successor.
            house.clock.advance_seconds(4000);
            let done = house.call(&operator(), "rotate_master_key", json!({})).await.unwrap();
            assert_eq!(done["sealed"], 1);
        }
        house.clock.advance_seconds(30);
        let input = json!({ "username": "ada", "password": PASSWORD, "two_factor_code": code(&house) });
        house.call(&stranger("192.0.2.1"), "login", input).await.unwrap();
    }
}

#[tokio::test]
async fn v6_4_3_a_reset_does_not_pass_the_second_factor_and_a_code_works_once() {
    for house in houses().await {
        let id = house.user("ada", "viewer").await;
        let (_, ada) = house.session("ada").await;
        let wrong = json!({ "password": OTHER });
        assert_eq!(house.fails(&ada, "enable_two_factor", wrong).await.kind, Kind::Forbidden);
        let seed = house.call(&ada, "enable_two_factor", json!({ "password": PASSWORD })).await.unwrap();
        let seed = seed["secret"].as_str().unwrap();
        house.login("ada", PASSWORD).await.expect("not asked for before it is confirmed");
        let code = |at: &House| code_at(seed, at.clock.now().0 / 1_000_000 / 30).unwrap();
        let confirmed =
            house.call(&ada, "confirm_two_factor", json!({ "code": code(&house) })).await.unwrap();
        let token = house.mailed(&id, "reset").await;
        house
            .call(&stranger("192.0.2.3"), "reset_password", json!({ "token": token, "password": OTHER }))
            .await
            .unwrap();
        assert!(house.login("ada", OTHER).await.unwrap_err().message.contains("second factor"));
        let login = |code: String| json!({ "username": "ada", "password": OTHER, "two_factor_code": code });
        let try_code = async |code: String| house.call(&stranger("192.0.2.1"), "login", login(code)).await;
        assert!(try_code(code(&house)).await.is_err(), "the code that confirmed it is used");
        house.clock.advance_seconds(30);
        try_code(code(&house)).await.unwrap();
        assert!(try_code(code(&house)).await.is_err(), "a replayed code");
        let recovery = confirmed["recovery_codes"][3].as_str().unwrap().to_owned();
        try_code(recovery.clone()).await.unwrap();
        assert!(try_code(recovery).await.is_err(), "a recovery code works once");
        let row = store::users::get(&house.room.database, &id).await.unwrap().unwrap();
        assert!(!row.seed.unwrap().contains(seed), "the seed is sealed");
    }
}

#[tokio::test]
async fn v8_2_2_nobody_ends_or_sees_the_sessions_of_another() {
    let house = House::new(sqlite().await, false).await;
    house.user("ada", "viewer").await;
    house.user("bob", "viewer").await;
    let (token, ada) = house.session("ada").await;
    let (_, bob) = house.session("bob").await;
    let input = json!({ "id": ada.session });
    assert_eq!(house.fails(&bob, "end_session", input.clone()).await.kind, Kind::NotFound);
    house.open(&token).await.unwrap();
    assert_eq!(house.fails(&bob, "list_users", json!({})).await.kind, Kind::Forbidden);
    house.call(&ada, "end_session", input).await.unwrap();
    assert!(house.open(&token).await.is_err());
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_and_a_key_has_no_account() {
    let house = House::new(sqlite().await, false).await;
    let narrowed = Caller {
        scopes: Some(vec![opsroom_core::Scope::try_from("identity:*".to_owned()).unwrap()]),
        ..operator()
    };
    let input = json!({ "username": "eve", "email": "eve@example.com", "role": "administrator" });
    assert_eq!(house.fails(&narrowed, "create_user", input).await.kind, Kind::Forbidden);
    let error = house.fails(&operator(), "get_profile", json!({})).await;
    assert!(error.message.contains("log in"), "{error}");
    // A rung that is taken away is gone from the next call on.
    let id = house.user("ada", "administrator").await;
    let (token, _) = house.session("ada").await;
    house.call(&operator(), "update_user", json!({ "id": id, "role": "viewer" })).await.unwrap();
    assert_eq!(house.open(&token).await.unwrap().role, Role::Viewer);
}

#[tokio::test]
async fn v6_3_2_the_first_administrator_comes_by_the_printed_token_and_by_no_default() {
    for house in houses().await {
        let identity = &house.room.identity;
        assert!(!identity.has_administrator().await.unwrap());
        let token = identity.new_setup_token().await.unwrap();
        let input = |token: &str| json!({ "token": token, "username": "root", "email": "root@example.com", "password": PASSWORD });
        let wrong = format!("ops_{}", "0".repeat(64));
        let error = house.fails(&stranger("192.0.2.1"), "set_up", input(&wrong)).await;
        assert_eq!(error.kind, Kind::Unauthenticated);
        house.call(&stranger("192.0.2.1"), "set_up", input(&token)).await.unwrap();
        assert!(identity.has_administrator().await.unwrap());
        assert_eq!(house.login("root", PASSWORD).await.unwrap()["user"]["role"], "administrator");
        assert!(house.call(&stranger("192.0.2.1"), "set_up", input(&token)).await.is_err());
        assert_eq!(identity.new_setup_token().await.unwrap_err().kind, Kind::Conflict);
    }
}

#[tokio::test]
async fn v2_2_1_endless_and_hostile_input_is_refused_before_any_work() {
    let house = House::new(sqlite().await, true).await;
    let long = "x".repeat(10_000_000);
    for (operation, input) in [
        ("login", json!({ "username": "ada", "password": long })),
        ("login", json!({ "username": long, "password": PASSWORD })),
        ("signup", json!({ "username": "ada", "email": "ada@example.com", "password": long })),
        (
            "signup",
            json!({ "username": "a'; DROP TABLE users; --", "email": "ada@example.com", "password": PASSWORD }),
        ),
        (
            "signup",
            json!({ "username": "ada", "email": "ada@example.com\r\nBcc: x@y", "password": PASSWORD }),
        ),
    ] {
        let error = house.fails(&stranger("192.0.2.1"), operation, input).await;
        assert_eq!(error.kind, Kind::Invalid, "{operation}");
        assert!(error.message.len() < 1000);
    }
    let sql = house.login("' OR 1=1 --", PASSWORD).await.unwrap_err();
    assert_eq!(sql.kind, Kind::Unauthenticated);
}

/// A server for mail that takes one mail, and sends what it was told.
async fn mail_server() -> (u16, tokio::sync::oneshot::Receiver<String>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
    drop(tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(b"220 here\r\n").await.unwrap();
        let (mut told, mut in_data) = (String::new(), false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                break;
            }
            told.push_str(&line);
            let answer: &[u8] = match line.trim_end() {
                "." => {
                    in_data = false;
                    b"250 taken\r\n"
                }
                _ if in_data => continue,
                "DATA" => {
                    in_data = true;
                    b"354 go on\r\n"
                }
                "QUIT" => b"221 bye\r\n",
                _ => b"250-more\r\n250 fine\r\n",
            };
            stream.get_mut().write_all(answer).await.unwrap();
        }
        sender.send(told).unwrap();
    }));
    (port, receiver)
}

#[tokio::test]
async fn v6_4_1_a_mailed_link_leads_to_the_configured_address_and_waits_sealed() {
    use crate::notifications::{Notifications, NotificationsConfig, smtp};
    for house in houses().await {
        let (port, told) = mail_server().await;
        let smtp = smtp::SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port,
            security: smtp::Security::None,
            from: "ops@example.com".to_owned(),
            ..Default::default()
        };
        let config = NotificationsConfig { smtp, ..Default::default() };
        let allowed =
            EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
        let egress = Egress::new(&allowed).unwrap();
        let db = house.room.database.clone();
        let notifications =
            Notifications::open(db, house.clock.clone(), Lifecycle::new(), egress, config).unwrap();
        let accounts = Accounts { notifications: notifications.clone(), ..house.accounts.clone() };
        let id = house.user("ada", "viewer").await;
        let user = store::users::get(&house.room.database, &id).await.unwrap().unwrap();
        let token = accounts.mail_token(&user, "reset", &user.email).await.unwrap();
        assert_eq!(notifications.deliver_mail(&accounts.sealer).await.unwrap(), 1);
        let told = told.await.unwrap();
        assert!(told.contains("RCPT TO:<ada@example.com>") && !told.contains(&token), "the body is encoded");
        let body = told.split("base64\r\n\r\n").nth(1).unwrap().split("\r\n.").next().unwrap();
        let body = data_encoding::BASE64_MIME_PERMISSIVE.decode(body.replace("\r\n", "").as_bytes()).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(&format!("https://ops.example.com/reset?token={token}")), "{body}");
        assert_eq!(notifications.deliver_mail(&accounts.sealer).await.unwrap(), 0, "once");
    }
}
