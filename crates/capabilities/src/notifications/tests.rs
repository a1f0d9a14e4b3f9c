//! What notifications promise, on every database that is at hand, with a local receiver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use opsroom_core::caller::{Caller, Face};
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::seal::{self, Sealer};
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Kind, Result, Secret, Time};
use serde_json::{Value, json};

use super::{MIGRATIONS, Message, Notifications, NotificationsConfig};

/// A receiver that answers each request with the next of these answers; the last one stays.
pub fn receiver(answers: Vec<String>) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/webhooks/1/secret-token", listener.local_addr().unwrap());
    let (seen, bodies) = channel();
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _nobody_listens = seen.send(serde_json::from_slice(&body).unwrap());
            stream.write_all(answers[turn.min(answers.len() - 1)].as_bytes()).unwrap();
        }
    });
    (url, bodies)
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
}

async fn open(test: &TestDb, clock: &Clock, url: &str) -> Notifications {
    let migrations: [(&str, &[_]); 2] = [("seal", &seal::MIGRATIONS), ("notifications", &MIGRATIONS)];
    test.db.migrate(clock, &migrations).await.unwrap();
    let allowed = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    let config =
        NotificationsConfig { discord_webhook_url: Secret::new(url), ..NotificationsConfig::default() };
    let egress = Egress::new(&allowed).unwrap();
    let sealer =
        Sealer::new(test.db.clone(), clock.clone(), egress.clone(), Default::default(), test.folder.path());
    let notifications =
        Notifications::open(test.db.clone(), clock.clone(), Lifecycle::new(), egress, config).unwrap();
    notifications.set_sealer(sealer);
    notifications
}

async fn call(notifications: &Notifications, name: &str, input: Value) -> Result<Value> {
    let operations = notifications.capability().operations;
    let operation = operations.into_iter().find(|it| it.name == name).unwrap();
    operation.run(Call::new(Caller::operator(Face::Rest)), input).await
}

async fn send(notifications: &Notifications, channel: &str, title: &str, text: &str) -> String {
    let input = json!({ "channel": channel, "title": title, "text": text });
    let sent = call(notifications, "send_notification", input).await.unwrap();
    sent["id"].as_str().unwrap().to_owned()
}

fn clock() -> Clock {
    Clock::manual(Time(1_762_856_400_000_000))
}

fn message(key: &str) -> Message {
    Message {
        team: "default".to_owned(),
        key: key.to_owned(),
        title: "Abnormal cpu of shop".to_owned(),
        text: "look".to_owned(),
        url: "https://github.com/a/shop".to_owned(),
        fields: vec![("Score".to_owned(), "9".to_owned())],
    }
}

async fn listed(notifications: &Notifications) -> Value {
    let operation = notifications.capability().operations.remove(0);
    operation.run(Call::new(Caller::operator(Face::Rest)), json!({})).await.unwrap()
}

#[tokio::test]
async fn a_message_is_sent_once_in_ten_minutes() {
    for test in each_database().await {
        let clock = clock();
        let (url, bodies) = receiver(vec![answer("204 No Content", "", "")]);
        let notifications = open(&test, &clock, &url).await;
        assert!(notifications.raise(&message("shop|cpu")).await.unwrap());
        assert!(!notifications.raise(&message("shop|cpu")).await.unwrap());
        assert!(notifications.raise(&message("shop|memory")).await.unwrap());
        assert_eq!(notifications.deliver_due().await.unwrap(), 2);
        assert_eq!(notifications.deliver_due().await.unwrap(), 0);
        let body = bodies.recv().unwrap();
        assert_eq!(body["username"], "MCP-dangerous");
        assert_eq!(body["embeds"][0]["color"], 0xE5_3935);
        assert_eq!(body["embeds"][0]["url"], "https://github.com/a/shop");
        clock.advance_seconds(599);
        assert!(!notifications.raise(&message("shop|cpu")).await.unwrap());
        clock.advance_seconds(1);
        assert!(notifications.raise(&message("shop|cpu")).await.unwrap());
    }
}

#[tokio::test]
async fn what_was_queued_by_a_server_that_died_is_sent_by_the_next() {
    for test in each_database().await {
        let clock = clock();
        let (url, bodies) = receiver(vec![answer("204 No Content", "", "")]);
        let first = open(&test, &clock, &url).await;
        first.raise(&message("shop|cpu")).await.unwrap();
        // It had claimed the delivery when it died.
        let id = listed(&first).await["items"][0]["id"].as_str().unwrap().to_owned();
        let now = clock.now();
        assert!(first.inner.store.claim(&id, now, now.plus_seconds(30)).await.unwrap());
        drop(first);
        let second = open(&test, &clock, &url).await;
        assert_eq!(second.deliver_due().await.unwrap(), 0, "the claim still holds");
        clock.advance_seconds(31);
        assert_eq!(second.deliver_due().await.unwrap(), 1);
        assert!(bodies.recv().is_ok());
        assert!(!second.raise(&message("shop|cpu")).await.unwrap(), "the key is remembered, too");
    }
}

#[tokio::test]
async fn a_busy_webhook_is_tried_again_when_it_says_so() {
    let test = sqlite().await;
    let clock = clock();
    let busy = answer("429 Too Many Requests", "Retry-After: 99\r\n", "{\"retry_after\": 40.5}");
    let (url, _bodies) = receiver(vec![busy, answer("204 No Content", "", "")]);
    let notifications = open(&test, &clock, &url).await;
    notifications.raise(&message("shop|cpu")).await.unwrap();
    assert_eq!(notifications.deliver_due().await.unwrap(), 0);
    clock.advance_seconds(40);
    assert_eq!(notifications.deliver_due().await.unwrap(), 0, "41 seconds were asked for");
    clock.advance_seconds(1);
    assert_eq!(notifications.deliver_due().await.unwrap(), 1);
    let items = listed(&notifications).await;
    assert_eq!((&items["items"][0]["state"], &items["items"][0]["attempts"]), (&json!("sent"), &json!(2)));
}

#[tokio::test]
async fn a_webhook_that_fails_is_tried_with_growing_pauses_and_its_address_is_not_shown() {
    let test = sqlite().await;
    let clock = clock();
    let (url, bodies) = receiver(vec![answer("500 Oh", "", "")]);
    let notifications = open(&test, &clock, &url).await;
    notifications.raise(&message("shop|cpu")).await.unwrap();
    for pause in [2, 4, 8, 16] {
        notifications.deliver_due().await.unwrap();
        clock.advance_seconds(pause - 1);
        notifications.deliver_due().await.unwrap();
        clock.advance_seconds(1);
    }
    assert_eq!(bodies.try_iter().count(), 4, "not before the pause is over");
    let items = listed(&notifications).await;
    assert_eq!(items["items"][0]["reason"], "the webhook answered 500");
    assert!(!items.to_string().contains("secret-token"));
    let rows = notifications.inner.store.list(&["default".to_owned()], None, 10).await.unwrap();
    assert!(!format!("{rows:?}").contains("secret-token"));
}

#[tokio::test]
async fn a_webhook_that_is_gone_ends_the_message_with_the_reason() {
    let test = sqlite().await;
    let clock = clock();
    let (url, _bodies) = receiver(vec![answer("404 Not Found", "", "")]);
    let notifications = open(&test, &clock, &url).await;
    notifications.raise(&message("shop|cpu")).await.unwrap();
    notifications.deliver_due().await.unwrap();
    let items = listed(&notifications).await;
    assert_eq!(items["items"][0]["state"], "failed");
    assert_eq!(items["items"][0]["reason"], "the webhook answered 404");
}

#[tokio::test]
async fn without_a_webhook_nothing_is_queued_and_the_key_is_remembered() {
    let test = sqlite().await;
    let notifications = open(&test, &clock(), "").await;
    assert!(notifications.raise(&message("shop|cpu")).await.unwrap());
    assert!(!notifications.raise(&message("shop|cpu")).await.unwrap());
    assert_eq!(listed(&notifications).await["items"], json!([]));
}

#[tokio::test]
async fn a_channel_that_takes_no_more_gets_the_rest_as_one_message() {
    for test in each_database().await {
        let clock = clock();
        let (url, bodies) = receiver(vec![answer("200 OK", "", "{\"errcode\":0}")]);
        let notifications = open(&test, &clock, "").await;
        let input = json!({ "name": "robot", "kind": "dingtalk", "url": url, "per_minute": 3 });
        let made = call(&notifications, "add_channel", input).await.unwrap();
        assert!(!made.to_string().contains("secret-token"), "{made}");
        for n in 0..10 {
            send(&notifications, "robot", &format!("m{n}"), "").await;
        }
        assert_eq!(notifications.deliver_due().await.unwrap(), 3);
        let texts: Vec<String> =
            bodies.try_iter().map(|body| body["markdown"]["text"].as_str().unwrap().to_owned()).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].contains("m0") && texts[1].contains("m1"), "{texts:?}");
        assert!((2..10).all(|n| texts[2].contains(&format!("m{n}"))), "{}", texts[2]);
        send(&notifications, "robot", "later", "").await;
        assert_eq!(notifications.deliver_due().await.unwrap(), 0, "its minute is full");
        clock.advance_seconds(61);
        assert_eq!(notifications.deliver_due().await.unwrap(), 1);
        let listed = call(&notifications, "list_notifications", json!({})).await.unwrap();
        let merged = |it: &&Value| it["state"] == "merged" && it["merged_into"].is_string();
        assert_eq!(listed["items"].as_array().unwrap().iter().filter(merged).count(), 8);
    }
}

#[tokio::test]
async fn what_one_channel_refuses_another_is_told_once() {
    for test in each_database().await {
        let clock = clock();
        let (broken, _refused) = receiver(vec![answer("404 Not Found", "", "")]);
        let (good, told) = receiver(vec![answer("200 OK", "", "{}")]);
        let notifications = open(&test, &clock, "").await;
        let add = async |name: &str, url: &str, fallback: &str| {
            let input = json!({ "name": name, "url": url, "fallback": fallback });
            call(&notifications, "add_channel", input).await.unwrap();
        };
        add("good", &good, "broken").await;
        add("broken", &broken, "good").await;
        let id = send(&notifications, "broken", "lost?", "").await;
        assert_eq!(notifications.deliver_due().await.unwrap(), 0);
        assert_eq!(notifications.deliver_due().await.unwrap(), 1);
        assert_eq!(told.recv().unwrap()["title"], "lost?");
        let story = call(&notifications, "get_notification", json!({ "id": id })).await.unwrap();
        assert_eq!(story["attempts"][0]["outcome"], "failed");
        assert_eq!(story["attempts"][0]["words"], "the webhook answered 404");
        call(&notifications, "delete_channel", json!({ "name": "good" })).await.unwrap();
        let error = call(&notifications, "test_channel", json!({ "name": "good" })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn an_attempt_that_a_crash_cut_short_is_on_record_and_sent_again_or_held() {
    for test in each_database().await {
        let clock = clock();
        let (url, bodies) = receiver(vec![answer("200 OK", "", "{}")]);
        let notifications = open(&test, &clock, "").await;
        for (name, hold) in [("again", false), ("held", true)] {
            let input = json!({ "name": name, "url": url, "hold_after_crash": hold });
            call(&notifications, "add_channel", input).await.unwrap();
        }
        let ids = [send(&notifications, "again", "a", "").await, send(&notifications, "held", "b", "").await];
        for id in &ids {
            let now = clock.now();
            assert!(notifications.inner.store.claim(id, now, now.plus_seconds(30)).await.unwrap());
        }
        clock.advance_seconds(31);
        assert_eq!(notifications.deliver_due().await.unwrap(), 1);
        assert_eq!(bodies.try_iter().map(|body| body["id"].clone()).collect::<Vec<_>>(), [ids[0].as_str()]);
        let mut outcomes = Vec::new();
        for id in &ids {
            let story = call(&notifications, "get_notification", json!({ "id": id })).await.unwrap();
            let attempts = story["attempts"].as_array().unwrap();
            let words: Vec<&str> = attempts.iter().map(|it| it["outcome"].as_str().unwrap()).collect();
            outcomes.push(format!("{} {words:?}", story["notification"]["state"]));
        }
        assert_eq!(outcomes, ["\"sent\" [\"unknown\", \"sent\"]", "\"held\" [\"unknown\"]"]);
    }
}

#[tokio::test]
async fn a_part_that_was_taken_is_not_sent_again() {
    let test = sqlite().await;
    let clock = clock();
    let taken = answer("200 OK", "", "{\"errcode\":0}");
    let answers = vec![taken.clone(), answer("500 Oh", "", ""), taken];
    let (url, bodies) = receiver(answers);
    let notifications = open(&test, &clock, "").await;
    let input = json!({ "name": "group", "kind": "wecom", "url": url });
    call(&notifications, "add_channel", input).await.unwrap();
    send(&notifications, "group", "long", &"a line of text\n".repeat(600)).await;
    assert_eq!(notifications.deliver_due().await.unwrap(), 0);
    clock.advance_seconds(2);
    assert_eq!(notifications.deliver_due().await.unwrap(), 1);
    let first_lines: Vec<String> = bodies
        .try_iter()
        .map(|body| body["markdown"]["content"].as_str().unwrap().lines().next().unwrap().to_owned())
        .collect();
    let part = |line: &String| line.split('(').next_back().unwrap()[..3].to_owned();
    assert_eq!(first_lines.iter().map(part).collect::<Vec<_>>(), ["1/3", "2/3", "2/3", "3/3"]);
}

#[tokio::test]
async fn a_channel_cannot_lead_to_what_must_not_be_reached() {
    let test = sqlite().await;
    let notifications = open(&test, &clock(), "").await;
    for (url, key) in
        [("http://169.254.169.254/x", "url: "), ("ftp://a.example/s3cret", "url: "), ("", "url: ")]
    {
        let input = json!({ "name": "x", "kind": "webhook", "url": url });
        let error = call(&notifications, "add_channel", input).await.unwrap_err();
        assert!(error.message.starts_with(key) && !error.message.contains("s3cret"), "{}", error.message);
    }
    let error =
        call(&notifications, "add_channel", json!({ "name": "m", "kind": "email" })).await.unwrap_err();
    assert!(error.message.starts_with("to: "), "{}", error.message);
}

#[tokio::test]
async fn apprises_configuration_becomes_channels_and_shows_no_secret() {
    let test = sqlite().await;
    let notifications = open(&test, &clock(), "").await;
    let config = "ops=slack://T1/B2/s3cret\nops=discord://1/s3cret\nfoo://x\n";
    let input = |dry_run: bool| json!({ "text": config, "dry_run": dry_run });
    for dry_run in [true, false] {
        let answer = call(&notifications, "import_apprise", input(dry_run)).await.unwrap();
        let names: Vec<&str> =
            answer["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["ops", "ops-2"], "{answer}");
        assert_eq!(answer["left_out"].as_array().unwrap().len(), 1, "{answer}");
        assert!(!answer.to_string().contains("s3cret"));
        let listed = call(&notifications, "list_channels", json!({})).await.unwrap();
        assert_eq!(listed["items"].as_array().unwrap().len(), if dry_run { 0 } else { 2 });
    }
    let again = call(&notifications, "import_apprise", input(false)).await.unwrap();
    assert_eq!(again["items"], json!([]), "{again}");
}

#[tokio::test]
async fn a_channel_speaks_in_its_own_words_and_shows_them_before() {
    let test = sqlite().await;
    let (url, bodies) = receiver(vec![answer("200 OK", "", "{}")]);
    let notifications = open(&test, &clock(), "").await;
    let wrong = json!({ "name": "a", "url": url, "title_template": "{{cycler.__init__}}" });
    let error = call(&notifications, "add_channel", wrong).await.unwrap_err();
    assert!(error.message.starts_with("title_template: "), "{}", error.message);
    let input = json!({
        "name": "a", "kind": "feishu", "url": url, "secret": "demo",
        "title_template": "[{{level}}] {{title}}", "text_template": "<{{text}}>"
    });
    call(&notifications, "add_channel", input).await.unwrap();
    let input = json!({ "name": "a", "title": "disk", "text": "full", "level": "critical" });
    let shown = call(&notifications, "preview_channel", input).await.unwrap();
    assert_eq!((&shown["title"], &shown["text"]), (&json!("[critical] disk"), &json!("<full>")));
    assert_eq!(shown["bodies"][0]["sign"], Value::Null);
    assert!(!shown.to_string().contains("secret-token"));
    assert!(bodies.try_iter().next().is_none(), "nothing is sent");
    send(&notifications, "a", "disk", "full").await;
    notifications.deliver_due().await.unwrap();
    let body = bodies.recv().unwrap();
    assert_eq!(body["card"]["header"]["title"]["content"], "[info] disk");
    assert!(body["sign"].is_string());
}
