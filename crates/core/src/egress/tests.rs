//! Attacks on the egress client, each named after what it tries.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE, HeaderValue};

use super::*;

/// A server that answers each request with what `answer` writes, and tells each request's head and body.
pub(crate) fn server(
    address: &str,
    answer: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + 'static,
) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let place = listener.local_addr().unwrap();
    let (seen, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let lower = head.to_ascii_lowercase();
            let length =
                lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            let _short = reader.read_exact(&mut body);
            let request = head + &String::from_utf8_lossy(&body);
            let _told = seen.send(request.clone());
            let _gone = answer(&request, &mut stream);
        }
    });
    (place, requests)
}

fn ok(_: &str, out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

fn redirect(status: u16, location: String) -> impl Fn(&str, &mut dyn Write) -> std::io::Result<()> {
    move |_, out| {
        write!(
            out,
            "HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }
}

/// A resolver with fixed names, each answering with the next of its lists; the last one stays.
#[derive(Default)]
struct Names {
    names: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(name: &str, answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        Arc::new(Self { names: HashMap::from([(name.to_owned(), answers)]), asked: AtomicUsize::new(0) })
    }
}

impl Lookup for Names {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answers = self.names.get(&name);
        let answer = answers.map(|answers| answers[turn.min(answers.len() - 1)].clone());
        Box::pin(async move { answer.ok_or_else(|| std::io::Error::other("no such name")) })
    }
}

/// The default rules: nothing that is not public.
fn closed() -> Egress {
    Egress::with_lookup(&EgressConfig::default(), Names::new("inside.example", &[&["127.0.0.1"]])).unwrap()
}

/// Where the loopback of IPv4 is allowed.
fn open() -> Egress {
    let config = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    Egress::with_lookup(&config, Names::new("inside.example", &[&["127.0.0.1"]])).unwrap()
}

fn brief() -> Limits {
    Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(20), redirects: 3 }
}

async fn refusal(egress: &Egress, url: &str) -> Error {
    egress.send(Request::get(url), brief()).await.expect_err(url)
}

#[tokio::test]
async fn an_allowed_place_answers_and_its_status_is_no_error() {
    let (place, requests) = server("127.0.0.1", |_, out| {
        out.write_all(
            b"HTTP/1.1 404 Not Found\r\nX-A: b\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnone",
        )
    });
    let request = Request::post_json(format!("http://{place}/x?q=1"), &serde_json::json!({ "a": 1 }));
    let answer = open().send(request, brief()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (404, b"none".as_slice()));
    assert_eq!(answer.headers["x-a"], "b");
    let seen = requests.recv().unwrap();
    assert!(seen.starts_with("POST /x?q=1 HTTP/1.1") && seen.ends_with("{\"a\":1}"), "{seen}");
}

#[tokio::test]
async fn loopback_is_refused_however_the_address_is_written() {
    let (place, requests) = server("127.0.0.1", ok);
    let port = place.port();
    let egress = closed();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "0",
        "[::]",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "inside.example",
        "INSIDE.example",
    ];
    for host in hosts {
        let error = refusal(&egress, &format!("http://{host}:{port}/")).await;
        assert_eq!(error.kind, Kind::Forbidden, "{host}: {error}");
    }
    assert!(requests.try_recv().is_err(), "nothing reached the server");
}

#[tokio::test]
async fn metadata_addresses_are_refused_even_in_an_allowed_range() {
    let config = EgressConfig {
        allow_addresses: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
        allow_hosts: vec!["metadata.example".to_owned()],
        ..EgressConfig::default()
    };
    let names = Names::new("metadata.example", &[&["169.254.169.254"]]);
    let egress = Egress::with_lookup(&config, names).unwrap();
    for host in ["169.254.169.254", "2852039166", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "metadata.example"]
    {
        let error = refusal(&egress, &format!("http://{host}/latest/meta-data/")).await;
        assert_eq!(error.kind, Kind::Forbidden, "{host}: {error}");
        assert!(!error.message.contains("latest"), "{error}");
    }
}

#[tokio::test]
async fn a_name_is_reached_at_its_allowed_addresses_only() {
    let (place, _requests) = server("127.0.0.1", ok);
    let url = format!("http://inside.example:{}/", place.port());
    assert!(open().send(Request::get(&url), brief()).await.is_ok());
    // 127.0.0.2 is not allowed and not tried, though it comes first.
    let config = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    let mixed = Names::new("inside.example", &[&["127.0.0.2", "127.0.0.1"]]);
    let egress = Egress::with_lookup(&config, mixed).unwrap();
    assert!(egress.send(Request::get(&url), brief()).await.is_ok());
    let by_name = EgressConfig { allow_hosts: vec!["*.example".to_owned()], ..EgressConfig::default() };
    let egress = Egress::with_lookup(&by_name, Names::new("inside.example", &[&["127.0.0.1"]])).unwrap();
    assert!(egress.send(Request::get(&url), brief()).await.is_ok());
    assert_eq!(
        refusal(&egress, &format!("http://{place}/")).await.kind,
        Kind::Forbidden,
        "not by its address"
    );
}

#[tokio::test]
async fn a_name_that_is_rebound_after_the_first_answer_is_not_dialled() {
    let (good, _requests) = server("127.0.0.1", ok);
    // The other address has the same port, so that only the rule can keep the request from it.
    let Ok(bad) = TcpListener::bind(("127.0.0.2", good.port())) else { return };
    bad.set_nonblocking(true).unwrap();
    let config = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    let names = Names::new("rebind.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = Egress::with_lookup(&config, names).unwrap();
    let url = format!("http://rebind.example:{}/", good.port());
    egress.check(&url).unwrap();
    assert!(egress.send(Request::get(&url), brief()).await.is_ok());
    let error = refusal(&egress, &url).await;
    assert_eq!(error.kind, Kind::Forbidden, "{error}");
    assert!(error.message.contains("rebind.example"), "{error}");
    assert_eq!(bad.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody was there");
}

#[tokio::test]
async fn a_redirect_is_checked_like_the_first_request() {
    let targets = [
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "//169.254.169.254/",
        "http://[::1]/",
        "http://127.0.0.1:22/",
        "http://0x7f000002/",
    ];
    for target in targets {
        let (place, _requests) = server("127.0.0.1", redirect(302, target.to_owned()));
        let error = refusal(&open(), &format!("http://{place}/")).await;
        assert_eq!(error.kind, Kind::Forbidden, "{target}: {error}");
    }
    for target in ["file:///etc/passwd", "gopher://x/", "data:text/plain,x", "http://u:p@x/", "http://"] {
        let (place, _requests) = server("127.0.0.1", redirect(301, target.to_owned()));
        let error = refusal(&open(), &format!("http://{place}/")).await;
        assert!(matches!(error.kind, Kind::Invalid | Kind::Unavailable), "{target}: {error}");
    }
}

#[tokio::test]
async fn credentials_stay_with_the_place_they_were_meant_for() {
    let (other, at_other) = server("127.0.0.1", ok);
    let (first, at_first) = server("127.0.0.1", move |request, out| {
        let to = if request.starts_with("GET /start") {
            "/same".to_owned()
        } else {
            format!("http://{other}/other")
        };
        redirect(307, to)(request, out)
    });
    let mut request = Request::get(format!("http://{first}/start"));
    let secret = HeaderValue::from_static("hunter2");
    for name in [AUTHORIZATION, COOKIE, "x-api-key".parse().unwrap(), "private-token".parse().unwrap()] {
        request.headers.insert(name, secret.clone());
    }
    request.headers.insert("accept", HeaderValue::from_static("text/x-log"));
    let answer = open().send(request, brief()).await.unwrap();
    assert_eq!(answer.url.path(), "/other");
    assert_eq!(at_first.recv().unwrap().matches("hunter2").count(), 4);
    assert_eq!(at_first.recv().unwrap().matches("hunter2").count(), 4, "the same origin may see them");
    let seen = at_other.recv().unwrap();
    assert!(!seen.contains("hunter2") && seen.contains("text/x-log"), "{seen}");
}

#[tokio::test]
async fn a_post_becomes_a_get_after_302_and_303_and_stays_one_after_307() {
    for (status, method, body) in
        [(302, "GET", false), (303, "GET", false), (307, "POST", true), (308, "POST", true)]
    {
        let (last, at_last) = server("127.0.0.1", ok);
        let (first, _requests) = server("127.0.0.1", redirect(status, format!("http://{last}/")));
        let request = Request::post_json(format!("http://{first}/"), &serde_json::json!({ "a": 1 }));
        open().send(request, brief()).await.unwrap();
        let seen = at_last.recv().unwrap();
        assert!(seen.starts_with(method), "{status}: {seen}");
        assert_eq!(seen.contains("{\"a\":1}"), body, "{status}: {seen}");
    }
}

#[tokio::test]
async fn redirects_without_an_end_are_given_up_and_none_are_followed_when_told_so() {
    let (place, requests) = server("127.0.0.1", redirect(302, "/again".to_owned()));
    let url = format!("http://{place}/");
    let error = refusal(&open(), &url).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert_eq!(requests.try_iter().count(), 4, "the first and three more");
    let none = Limits { redirects: 0, ..brief() };
    let answer = open().send(Request::get(&url), none).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.headers["location"].as_bytes()), (302, b"/again".as_slice()));
}

#[tokio::test]
async fn an_endless_body_and_one_that_says_it_is_huge_are_cut_off() {
    let (endless, _requests) = server("127.0.0.1", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            out.write_all(b"400\r\n")?;
            out.write_all(&[b'x'; 0x400])?;
            out.write_all(b"\r\n")?;
        }
    });
    let (huge, _requests) = server("127.0.0.1", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx")
    });
    for place in [endless, huge] {
        let error = refusal(&open(), &format!("http://{place}/")).await;
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.message.contains("65536 bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_body_and_a_head_that_do_not_come_are_given_up_in_time() {
    let (slow_body, _requests) = server("127.0.0.1", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")?;
        for _ in 0..100 {
            out.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let (no_head, _requests) = server("127.0.0.1", |_, _| {
        std::thread::sleep(Duration::from_secs(10));
        Ok(())
    });
    for place in [slow_body, no_head] {
        let limits = Limits { timeout: Duration::from_millis(300), ..brief() };
        let error =
            open().send(Request::get(format!("http://{place}/?token=hunter2")), limits).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.message.contains("0.3 s") && !error.message.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_request_for_us_is_refused_before_it_is_sent() {
    let egress = open();
    for url in [
        "",
        "x",
        "ftp://h/",
        "file:///etc/passwd",
        "http://",
        "http://u@h/",
        "https://u:p@h/",
        "javascript:1",
    ] {
        assert_eq!(refusal(&egress, url).await.kind, Kind::Invalid, "{url}");
    }
    assert_eq!(refusal(&egress, &format!("http://h/{}", "x".repeat(9000))).await.kind, Kind::Invalid);
    for port in [22, 25, 6667] {
        assert_eq!(
            refusal(&egress, &format!("http://127.0.0.1:{port}/")).await.kind,
            Kind::Forbidden,
            "{port}"
        );
    }
    let only = EgressConfig { ports: vec![443], ..EgressConfig::default() };
    let only = Egress::new(&only).unwrap();
    assert!(only.check("https://example.com/").is_ok());
    assert_eq!(only.check("https://example.com:8443/").unwrap_err().kind, Kind::Forbidden);
    let mut request = Request::get("http://127.0.0.1/");
    request.headers.insert("host", HeaderValue::from_static("other"));
    assert_eq!(egress.send(request, brief()).await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn nobody_there_and_an_unknown_name_are_unavailable_and_the_path_is_not_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{free}/hook/hunter2"), "http://unknown.example/hook/hunter2".to_owned()] {
        let error = refusal(&open(), &url).await;
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(!error.message.contains("hunter2") && !error.causes().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn other_protocols_dial_by_the_same_rules() {
    let (place, _requests) = server("127.0.0.1", ok);
    for host in
        ["127.0.0.1", "0x7f.1", "::1", "[::1]", "::ffff:127.0.0.1", "inside.example", "169.254.169.254"]
    {
        let error = closed().dial(host, place.port()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{host}: {error}");
    }
    assert!(open().dial("inside.example", place.port()).await.is_ok());
    assert!(open().dial("127.1", place.port()).await.is_ok());
    for host in ["", "a b", "h:1", "u@h", "h/x", "h#x", "[::1]:5"] {
        assert_eq!(open().dial(host, 80).await.unwrap_err().kind, Kind::Invalid, "{host}");
    }
    assert_eq!(open().dial("unknown.example", 80).await.unwrap_err().kind, Kind::Unavailable);
}

#[test]
fn a_wrong_configuration_names_its_key() {
    let wrong = [
        EgressConfig { allow_addresses: vec!["10.0.0.0/40".to_owned()], ..EgressConfig::default() },
        EgressConfig { allow_hosts: vec!["http://x".to_owned()], ..EgressConfig::default() },
        EgressConfig { connect_timeout_seconds: 0, ..EgressConfig::default() },
        EgressConfig { ca_file: Some("/nonexistent.pem".into()), ..EgressConfig::default() },
        EgressConfig { ca_file: Some("/etc/hostname".into()), ..EgressConfig::default() },
    ];
    for config in wrong {
        let error = Egress::new(&config).err().expect("it is refused");
        assert!(error.message.starts_with("egress."), "{error}");
    }
}
