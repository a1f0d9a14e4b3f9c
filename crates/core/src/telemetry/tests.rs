//! What reaches the log, and what must not.

use serde_json::Value;

use super::*;
use crate::clock::{Clock, Time};

/// What is written while `events` runs, at this level and in this style.
fn logged(level: &str, style: Style, events: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let memory = Memory::default();
    let clock = Clock::manual(Time(1_700_000_000_123_456));
    let layer = LogLayer::new(style, Output::new(memory.clone())).at(clock);
    let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(layer);
    let subscriber = subscriber.with(TraceLayer::new(0.0, None));
    tracing::subscriber::with_default(subscriber, events);
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn an_event_is_one_object_with_its_fields_and_its_spans() {
    let text = logged("info", Style::Json, || {
        let span = tracing::info_span!("call", operation = "list_jobs", rows = tracing::field::Empty);
        let _in = span.enter();
        span.record("rows", 3);
        tracing::info!(took_ms = 12u64, ok = true, share = 0.5, time = "noon", "answered {}", "well");
        tracing::debug!("too quiet");
    });
    let lines = json_lines(&text);
    assert_eq!(lines.len(), 1, "{text}");
    assert!(
        text.starts_with("{\"time\":\"2023-11-14T22:13:20.123456Z\",\"level\":\"info\",\"target\":"),
        "{text}"
    );
    let line = &lines[0];
    assert_eq!(line["message"], "answered well");
    assert_eq!((&line["took_ms"], &line["ok"], &line["share"]), (&12.into(), &true.into(), &0.5.into()));
    assert_eq!(line["time_"], "noon");
    assert_eq!(line["spans"], serde_json::json!([{ "name": "call", "operation": "list_jobs", "rows": 3 }]));
}

#[test]
fn a_level_can_be_set_for_a_part_of_the_program() {
    let events = || {
        tracing::info!(target: "loud::part", "one");
        tracing::info!(target: "other", "two");
        tracing::error!(target: "other", "three");
    };
    let messages = |level| -> Vec<String> {
        let lines = json_lines(&logged(level, Style::Json, events));
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages("warn,loud=info"), ["one", "three"]);
    assert_eq!(messages("INFO"), ["one", "two", "three"]);
    assert!(messages("off").is_empty());
}

#[test]
fn text_for_people_is_one_line() {
    let text = logged("info", Style::Text { colour: false }, || {
        let _in = tracing::info_span!("job", job.id = "j1").entered();
        tracing::warn!(target: "jobs", file = "a b.log", count = 2, "slow");
    });
    assert_eq!(text, "2023-11-14T22:13:20Z  WARN jobs: slow file=\"a b.log\" count=2  in job job.id=j1\n");
}

#[test]
fn what_is_logged_forges_no_line_and_steers_no_terminal() {
    let evil = "x\n2023-11-14T22:13:20Z ERROR fake: yes\r\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\u{2028}\0";
    for style in [Style::Json, Style::Text { colour: false }] {
        let text = logged("info", style, || {
            let _in = tracing::info_span!("span", field = evil).entered();
            tracing::info!(field = evil, debug = ?evil, "{evil}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let inner = text.trim_end_matches('\n');
        assert!(!inner.contains(|c: char| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{inner:?}");
    }
    let text = logged("info", Style::Json, || tracing::info!(field = evil, "hello"));
    assert_eq!(json_lines(&text)[0]["field"], evil, "a program that reads it gets what it was");
}

#[test]
fn secrets_are_hidden_by_the_name_of_their_field_and_by_their_looks() {
    for style in [Style::Json, Style::Text { colour: false }] {
        let text = logged("info", style, || {
            let _in = tracing::info_span!("span", setup_token = "hunter2").entered();
            tracing::info!(db.password = "hunter2", url = "postgres://u:hunter2@h/d", "key=1 token=hunter2");
            let secret = crate::secret::Secret::new("hunter2");
            tracing::info!(?secret, shown = %secret, "bearer hunter2hunter2");
        });
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}

#[test]
fn a_huge_value_is_cut() {
    let huge = "ä".repeat(1 << 20);
    let text = logged("info", Style::Json, || tracing::info!(huge, "hello"));
    assert!(text.len() < 20_000);
    assert!(json_lines(&text)[0]["huge"].as_str().unwrap().ends_with("(2097152 bytes)"));
}

#[test]
fn a_wrong_configuration_names_its_key() {
    let config = |level: &str| TelemetryConfig { level: level.to_owned(), ..TelemetryConfig::default() };
    for level in ["inof", "info,", "info,gateway", "info,x=loud", "", &"x".repeat(2000)] {
        let error = config(level).validate().expect_err(level);
        assert!(error.message.starts_with("log.level: "), "{error}");
        assert!(error.message.len() < 400);
    }
    for level in ["info", "WARN", "info,opsroom_core::db=trace", "off,a=debug"] {
        config(level).validate().expect(level);
    }
    let small = TelemetryConfig { max_file_bytes: 10, ..TelemetryConfig::default() };
    assert!(small.validate().unwrap_err().message.starts_with("log.max_file_bytes: "));
    let many = TelemetryConfig { keep_files: 5000, ..TelemetryConfig::default() };
    assert!(many.validate().unwrap_err().message.starts_with("log.keep_files: "));
    let nowhere = TelemetryConfig { file: Some("/proc/opsroom/x.log".into()), ..TelemetryConfig::default() };
    for url in ["x", "ftp://h/", "http://u:p@h/", "http://"] {
        let wrong = TelemetryConfig { traces_url: url.to_owned(), ..TelemetryConfig::default() };
        assert!(wrong.validate().expect_err(url).message.starts_with("log.traces_url: "));
    }
    let share = TelemetryConfig { traces_share: f64::NAN, ..TelemetryConfig::default() };
    assert!(share.validate().unwrap_err().message.starts_with("log.traces_share: "));
    assert!(init(&nowhere).err().unwrap().message.starts_with("log.file: "));
}

#[test]
fn a_server_logs_to_its_file_and_a_panic_is_a_line_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/server.log");
    let config = TelemetryConfig { file: Some(path.clone()), ..TelemetryConfig::default() };
    let guard = init(&config).unwrap();
    tracing::info!(port = 8008, "listening");
    let panicked = std::thread::spawn(|| panic!("boom")).join();
    drop(std::panic::take_hook());
    assert!(panicked.is_err());
    assert!(init(&config).is_err(), "there is one log");
    drop(guard);
    let lines = json_lines(&std::fs::read_to_string(&path).unwrap());
    assert_eq!((&lines[0]["message"], &lines[0]["port"]), (&"listening".into(), &8008.into()));
    assert_eq!((&lines[1]["level"], &lines[1]["message"]), (&"error".into(), &"panicked: boom".into()));
    assert!(lines[1]["panic.place"].as_str().unwrap().contains("telemetry"));
}

const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_lines_of_a_trace_share_its_id_and_a_caller_s_trace_is_gone_on_with() {
    let text = logged("info", Style::Json, || {
        tracing::info!("outside");
        let _request = tracing::info_span!("request", traceparent = HEADER).entered();
        let _call = tracing::info_span!("call").entered();
        tracing::info!("inside");
        let next = TraceContext::parse(&traceparent().unwrap()).unwrap();
        assert_eq!(format!("{:032x}", next.trace), &HEADER[3..35]);
        assert_ne!(format!("{:016x}", next.span), &HEADER[36..52]);
    });
    let lines = json_lines(&text);
    assert_eq!(lines[0].get("trace_id"), None);
    assert_eq!(lines[1]["trace_id"], &HEADER[3..35]);
    assert_eq!(lines[1]["spans"], serde_json::json!([{ "name": "request" }, { "name": "call" }]));
    assert_eq!(traceparent(), None, "there is no span");
}

#[test]
fn a_wrong_traceparent_begins_a_new_trace() {
    let text = logged("info", Style::Json, || {
        let _request = tracing::info_span!("request", traceparent = "00-zz").entered();
        tracing::info!("inside");
    });
    assert_eq!(json_lines(&text)[0]["trace_id"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn ended_spans_reach_the_collector_without_secrets() {
    let (place, requests) = crate::egress::tests::server("127.0.0.1", |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    });
    let config = TelemetryConfig {
        traces_url: format!("http://{place}/v1/traces"),
        traces_authorization: "Bearer for-the-collector".into(),
        ..TelemetryConfig::default()
    };
    let (ended, receiver) = mpsc::channel(8);
    let log = LogLayer::new(Style::Json, Output::new(std::io::sink()));
    let subscriber = tracing_subscriber::registry().with(log).with(TraceLayer::new(1.0, Some(ended)));
    tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(
            "request",
            traceparent = HEADER,
            otel.kind = "server",
            otel.name = "GET /jobs"
        );
        let _in = request.enter();
        let _call = tracing::info_span!("call", rows = 3, share = 0.5, token = "hunter2").entered();
        tracing::error!("it failed with password=hunter2");
    });
    let life = Lifecycle::new();
    export::spawn(&life, Arc::new(Collector::new(&config).unwrap().unwrap()), receiver);
    life.finish(std::time::Duration::from_secs(20)).await.unwrap();

    let request = requests.try_recv().expect("the spans were sent before the end");
    assert!(request.starts_with("POST /v1/traces "), "{request}");
    assert!(request.to_ascii_lowercase().contains("authorization: bearer for-the-collector"), "{request}");
    assert!(!request.contains("hunter2"), "{request}");
    let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let resource = &body["resourceSpans"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "opsroom");
    let [call, outer] = resource["scopeSpans"][0]["spans"].as_array().unwrap().as_slice() else {
        panic!("{body}")
    };
    assert_eq!(
        (&call["name"], &outer["name"], &outer["kind"]),
        (&"call".into(), &"GET /jobs".into(), &2.into())
    );
    assert_eq!((&outer["traceId"], &outer["parentSpanId"]), (&HEADER[3..35].into(), &HEADER[36..52].into()));
    assert_eq!((&call["traceId"], &call["parentSpanId"]), (&outer["traceId"], &outer["spanId"]));
    assert_eq!(call["attributes"][0], serde_json::json!({ "key": "rows", "value": { "intValue": "3" } }));
    assert_eq!(call["attributes"][1]["value"]["doubleValue"], 0.5);
    assert_eq!((&call["status"]["code"], outer["status"].get("code")), (&2.into(), None));
    let nanoseconds = |name: &str| call[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanoseconds("startTimeUnixNano") <= nanoseconds("endTimeUnixNano"));
}

#[tokio::test]
async fn a_collector_that_is_away_stops_nothing_and_unsampled_traces_are_not_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/v1/traces");
    let config = TelemetryConfig { traces_url: url, ..TelemetryConfig::default() };
    let (ended, mut receiver) = mpsc::channel(8);
    let log = LogLayer::new(Style::Json, Output::new(std::io::sink()));
    let subscriber = tracing_subscriber::registry().with(log).with(TraceLayer::new(1.0, Some(ended)));
    tracing::subscriber::with_default(subscriber, || {
        drop(tracing::info_span!("unsampled", traceparent = HEADER.replace("-01", "-00")));
        // More than can wait: the rest is left out.
        (0..20).for_each(|_| drop(tracing::info_span!("sampled")));
    });
    assert_eq!(receiver.len(), 8);
    assert_eq!(receiver.try_recv().unwrap().name, "sampled");
    let life = Lifecycle::new();
    export::spawn(&life, Arc::new(Collector::new(&config).unwrap().unwrap()), receiver);
    assert!(life.finish(std::time::Duration::from_secs(20)).await.is_ok());
}

#[test]
fn what_is_shown_on_a_terminal_cannot_steer_it() {
    let evil = "a\u{1b}[2J\u{9b}31m\u{202e}\nb";
    assert_eq!(printable(evil), "a\\u{1b}[2J\\u{9b}31m\\u{202e}\\nb");
    assert_eq!(printable("é ok"), "é ok");
    let value = serde_json::json!({ "text": evil });
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    let shown = printable_json(&pretty);
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
}
