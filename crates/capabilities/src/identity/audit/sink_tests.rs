//! What the sinks of the audit trail promise, with local receivers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use opsroom_core::caller::Face;
use opsroom_core::db::Db;
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::testing::{TestDb, each_database};
use opsroom_core::{Caller, Clock, Effect, Secret, Time};
use serde_json::{Value, json};

use super::{AuditEntry, Sink, SinkConfig, append};
use crate::identity::MIGRATIONS;

/// Takes requests, answers each with the next status (the last one stays), and shows their bodies.
fn web(statuses: &'static [u16]) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/audit", listener.local_addr().unwrap());
    let (seen, bodies) = channel();
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let _nobody_listens = seen.send((head, String::from_utf8(body).unwrap()));
            let status = statuses[turn.min(statuses.len() - 1)];
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    (url, bodies)
}

/// Takes connections, and shows all that came over each.
fn syslog() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("syslog+tcp://{}", listener.local_addr().unwrap());
    let (seen, texts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut text = String::new();
            stream.unwrap().read_to_string(&mut text).unwrap();
            let _nobody_listens = seen.send(text);
        }
    });
    (url, texts)
}

async fn sink(test: &TestDb, clock: &Clock, url: &str) -> Sink {
    test.db.migrate(clock, &[("identity", &MIGRATIONS)]).await.unwrap();
    let allowed = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    let config = SinkConfig { name: "siem".to_owned(), url: Secret::new(url), token: Secret::new("t0ken") };
    config.validate().unwrap();
    let egress = Egress::new(&allowed).unwrap();
    Sink { db: test.db.clone(), clock: clock.clone(), egress, config }
}

async fn record(db: &Db, clock: &Clock, operation: &str, name: &str) {
    let caller = Caller::operator(Face::Rest);
    let entry = AuditEntry::action(&caller, operation, Effect::Write, &json!({ "name": name }));
    let mut on = db.begin().await.unwrap();
    append(&mut on, &[entry.ok().at(clock.now())]).await.unwrap();
    on.commit().await.unwrap();
}

fn clock() -> Clock {
    Clock::manual(Time(1_762_856_400_000_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_in_order_also_after_a_place_that_was_away() {
    for test in each_database().await {
        let (url, bodies) = web(&[500, 200]);
        let clock = clock();
        let sink = sink(&test, &clock, &url).await;
        for name in ["a", "b\nc"] {
            record(&test.db, &clock, "put_secret", name).await;
        }
        sink.send_new().await.unwrap_err();
        bodies.recv().unwrap();
        assert_eq!(sink.send_new().await.unwrap(), 2);
        let (head, body) = bodies.recv().unwrap();
        assert!(head.to_ascii_lowercase().contains("authorization: bearer t0ken"), "{head}");
        let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown: Vec<_> =
            lines.iter().map(|line| (line["seq"].as_i64(), line["input"]["name"].as_str())).collect();
        assert_eq!(shown, [(Some(1), Some("a")), (Some(2), Some("b\nc"))]);
        assert_eq!(lines[0]["hash"], lines[1]["prev_hash"]);
        // What was sent is not sent again, by a server that was started again either.
        assert_eq!(sink.clone().send_new().await.unwrap(), 0);
        record(&test.db, &clock, "put_secret", "d").await;
        assert_eq!(sink.send_new().await.unwrap(), 1);
        assert!(bodies.recv().unwrap().1.contains("\"seq\":3"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_gets_counted_messages_that_no_input_can_end() {
    for test in each_database().await {
        let (url, texts) = syslog();
        let clock = clock();
        let sink = sink(&test, &clock, &url).await;
        record(&test.db, &clock, "put_secret", "x\n99 <0>1 - - forged - - -").await;
        assert_eq!(sink.send_new().await.unwrap(), 1);
        let text = texts.recv().unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len(), "{text}");
        assert!(message.starts_with("<109>1 2025-11-11T10:20:00") && !message.contains('\n'), "{message}");
        assert!(message.contains(" - opsroom - put_secret - {"), "{message}");
    }
}

#[test]
fn a_sink_that_cannot_be_is_named() {
    let wrong = |name: &str, url: &str| {
        let sink = SinkConfig { name: name.to_owned(), url: Secret::new(url), token: Secret::default() };
        sink.validate().unwrap_err().message
    };
    assert!(wrong("", "https://a/b").starts_with("name: "));
    for url in ["", "a", "ftp://a/b", "syslog+tls://a", "syslog+udp://a:514", "https://user:hunter2@a/b"] {
        let told = wrong("siem", url);
        assert!(told.starts_with("url: ") && !told.contains("hunter2"), "{told}");
    }
}
