//! What happens to series besides plans: what arrives is looked at, what is old goes, machines read the
//! outlook, counters are read as such.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use opsroom_core::egress::EgressConfig;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Clock, Kind, Time};
use serde_json::{Value, json};

use super::config::{Backend, DatabaseConfig, GithubConfig, PlanningConfig};
use super::tests::{NOW, call, csv, day, ingest, request, room};
use crate::room::{Room, RoomConfig};

/// The arrivals that were told: service and findings.
async fn told(room: &Arc<Room>) -> Vec<(String, String)> {
    room.planning.look_at_arrivals().await.unwrap();
    let (events, _) = room.events.listen(Some(0));
    let of_arrival = events.iter().filter(|event| event.topic == "planning.anomaly");
    let shown = |event: &Arc<opsroom_core::events::Event>| {
        assert_eq!(event.data["seen_in"], "arrival");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&event.data["service_id"]), text(&event.data["details"]["findings"]))
    };
    of_arrival.map(shown).collect()
}

#[tokio::test]
async fn a_level_that_jumps_is_told_when_it_arrives() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        ingest(&room, "calm", "avg_cpu", csv(400, |hour| 0.1 * day(hour) + 0.01 * (hour % 7) as f64)).await;
        let jump = |hour: i64| if hour > 370 { 0.9 } else { 0.05 * day(hour) };
        ingest(&room, "shop", "avg_cpu", csv(400, jump)).await;
        let all = told(&room).await;
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].0 == "shop" && all[0].1.contains("level went from"), "{all:?}");
    }
}

#[tokio::test]
async fn what_lasts_is_told_when_it_begins_and_not_with_every_hour() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let level = |hour: i64| 10.0 + day(hour) + if hour >= 380 { 500.0 } else { 0.0 };
    let lines: Vec<String> = csv(400, level).lines().map(str::to_owned).collect();
    let send = async |from: usize, to: usize| {
        let text = format!("timestamp,value\n{}\n", lines[from..to].join("\n"));
        ingest(&room, "shop", "events", text).await;
        // Ten minutes later, so that nothing is kept back as told already.
        room.clock.advance_seconds(601);
        told(&room).await.len()
    };
    // The clock runs on while hours of the past arrive: none is from the future.
    assert_eq!(send(1, 381).await, 0);
    assert_eq!(send(381, 382).await, 1, "the first hour of another level is a spike");
    let mut counts = Vec::new();
    for hour in 382..390 {
        counts.push(send(hour, hour + 1).await);
    }
    // After some hours it is no spike but a level: that is told as well, once.
    assert!(counts.is_sorted() && counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn drift_is_told_and_a_weekend_is_not_drift() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let noise = |hour: i64| ((hour * 37) % 11) as f64 / 20.0;
    // Two quiet days of seven, the last day of the history one of them.
    let weekend = |hour: i64| if (399 - hour) / 24 % 7 < 2 { 20.0 } else { 100.0 } + day(hour) + noise(hour);
    ingest(&room, "weekly", "events", csv(400, weekend)).await;
    let drifting =
        |hour: i64| if hour >= 376 { 1.25 } else { 1.0 } * (100.0 + 20.0 * day(hour)) + noise(hour);
    ingest(&room, "drifting", "events", csv(400, drifting)).await;
    let all = told(&room).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].0 == "drifting" && all[0].1.contains("the last day lies at"), "{all:?}");
}

#[tokio::test]
async fn what_arrived_before_a_crash_is_looked_at_after_it() {
    let test = sqlite().await;
    let config = PlanningConfig::default();
    let jump = |hour: i64| if hour > 370 { 0.9 } else { 0.05 * day(hour) };
    // The first room may or may not come to it before it ends.
    let before = {
        let room = room(&test, config.clone()).await;
        ingest(&room, "shop", "avg_cpu", csv(400, jump)).await;
        room.lifecycle.finish(std::time::Duration::from_secs(10)).await.unwrap();
        room.events.listen(Some(0)).0.iter().filter(|event| event.topic == "planning.anomaly").count()
    };
    let room = room(&test, config).await;
    let after = told(&room).await.len();
    assert_eq!(before + after, 1);
    assert_eq!(told(&room).await.len(), after, "once is enough");
}

#[tokio::test]
async fn values_beyond_keep_days_go_and_newer_ones_stay() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig { keep_days: 14, ..PlanningConfig::default() }).await;
        ingest(&room, "shop", "avg_cpu", csv(500, |hour| 0.2 * day(hour))).await;
        let old = format!("timestamp,value\n{},1\n", super::moment::show(NOW - 20 * 86_400));
        ingest(&room, "gone", "avg_cpu", old).await;
        room.planning.look_at_arrivals().await.unwrap();
        // The server removes by itself as well: how many are left for this call depends on who was first.
        room.planning.remove_old().await.unwrap();
        assert_eq!(room.planning.remove_old().await.unwrap(), 0);
        let after = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap();
        assert_eq!(after["history"]["hours"], 14 * 24);
        let left = call(&room, "list_series", json!({})).await.unwrap();
        assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");
    }
}

#[tokio::test]
async fn machines_read_one_number_a_metric_and_nothing_is_guessed_for_them() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "avg_cpu", csv(400, |hour| 0.2 + 0.1 * day(hour))).await;
    ingest(&room, "shop", "total_events", csv(400, |hour| 100.0 + 20.0 * day(hour))).await;
    let all = call(&room, "get_plan_metrics", json!({ "service_id": "shop" })).await.unwrap();
    assert_eq!(all["apiVersion"], "external.metrics.k8s.io/v1beta1");
    let names: Vec<&str> =
        all["items"].as_array().unwrap().iter().map(|item| item["metricName"].as_str().unwrap()).collect();
    assert_eq!(names, ["avg_cpu", "total_events"]);
    assert_eq!(all["items"][0]["metricLabels"], json!({ "service_id": "shop", "what": "peak" }));
    assert!(all["items"][0]["value"].as_str().unwrap().ends_with('m'));
    let numbers = async |what: &str, hours: u64| {
        let input =
            json!({ "service_id": "shop", "metric_names": ["avg_cpu"], "what": what, "hours": hours });
        let answer = call(&room, "get_plan_metrics", input).await.unwrap();
        answer["items"][0]["value"].as_str().unwrap().trim_end_matches('m').parse::<f64>().unwrap()
    };
    assert!(numbers("mean", 24).await < numbers("peak", 24).await);
    assert!(numbers("peak", 24).await <= numbers("upper95", 24).await);
    assert!(numbers("peak", 24).await <= numbers("limit", 24).await);
    assert_eq!(numbers("replicas", 24).await, 1.0);
    for (service, metric) in [("nobody", "avg_cpu"), ("shop", "unknown")] {
        let input = json!({ "service_id": service, "metric_names": [metric] });
        assert_eq!(call(&room, "get_plan_metrics", input).await.unwrap_err().kind, Kind::NotFound);
    }
    let (events, _) = room.events.listen(Some(0));
    assert!(events.iter().all(|event| event.topic != "planning.anomaly"), "looking raises no alarm");
}

#[tokio::test]
async fn a_counter_is_planned_by_its_growth_and_the_answer_says_so() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let per_hour = |hour: i64| 100.0 + 20.0 * day(hour);
    let total = |hour: i64| {
        (0..=hour).map(per_hour).sum::<f64>() - if hour > 200 { (0..=200).map(per_hour).sum() } else { 0.0 }
    };
    ingest(&room, "shop", "requests_total", csv(400, total)).await;
    let plan = call(&room, "create_plan", request("shop", "requests_total")).await.unwrap();
    assert_eq!(plan["history"]["cleaning"]["counter_resets"], 1);
    assert!(plan["notes"].as_str().unwrap().contains("counter"), "{}", plan["notes"]);
    for hour in plan["prediction"]["predictions"].as_array().unwrap() {
        assert!((80.0..160.0).contains(&hour["value"].as_f64().unwrap()), "{hour}");
    }
}

#[tokio::test]
async fn a_price_list_in_a_file_of_its_own_is_taken_and_a_wrong_one_refused_by_its_line() {
    let test = sqlite().await;
    let path = test.folder.path().join("flavors.yaml");
    let list = "flavors:\n  - {name: m7g.medium, cpus: 1, memory_mib: 4096, hourly_usd: 0.0408, events_per_hour: 500}\n";
    std::fs::write(&path, list).unwrap();
    let config = PlanningConfig { flavors_file: Some(path.clone()), ..PlanningConfig::default() };
    let room = room(&test, config.clone()).await;
    ingest(&room, "shop", "total_events", csv(400, |hour| 600.0 + 20.0 * day(hour))).await;
    let plan = call(&room, "create_plan", request("shop", "total_events")).await.unwrap();
    assert_eq!(plan["recommended_flavor"], "m7g.medium");
    assert_eq!(plan["recommendation"]["replicas"], 2, "{}", plan["recommendation"]);
    std::fs::write(&path, "flavors:\n  - {name: big, cpus: many}\n").unwrap();
    let error = config.with_price_list().unwrap_err();
    assert!(error.message.contains("flavors.yaml"), "{error}");
}

/// The plan of a server that has kept nothing, for the same request.
async fn anew(test: &opsroom_core::testing::TestDb, input: &Value) -> Value {
    let fresh = room(test, PlanningConfig::default()).await;
    call(&fresh, "create_plan", input.clone()).await.unwrap()
}

#[tokio::test]
async fn a_kept_forecast_is_the_one_that_would_be_made_anew() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        let mut at = request("shop", "avg_cpu");
        ingest(&room, "shop", "avg_cpu", csv(300, |hour| 0.2 * day(hour))).await;
        // Ten minutes after the request's time: not known then, and known twenty minutes later.
        let later = "timestamp,value\n2025-11-11T10:30:00Z,7.5\n".to_owned();
        ingest(&room, "shop", "avg_cpu", later).await;
        let hours = |plan: &Value| plan["history"]["cleaning"]["read"].as_u64().unwrap();
        let first = call(&room, "create_plan", at.clone()).await.unwrap();
        assert_eq!(first, anew(&test, &at).await);
        at["context"]["timestamp"] = json!("2025-11-11T10:40:00");
        let known = call(&room, "create_plan", at.clone()).await.unwrap();
        assert_eq!((hours(&known), &known), (hours(&first) + 1, &anew(&test, &at).await));
        // Another weight is another plan of the same forecast.
        at["context"]["weight"] = json!(2.0);
        assert_eq!(call(&room, "create_plan", at.clone()).await.unwrap(), anew(&test, &at).await);
        // Values that replace others, from any server.
        let other = self::room(&test, PlanningConfig::default()).await;
        ingest(&other, "shop", "avg_cpu", csv(300, |hour| 0.3 * day(hour))).await;
        let replaced = call(&room, "create_plan", at.clone()).await.unwrap();
        assert_eq!(replaced, anew(&test, &at).await);
        assert_ne!(replaced["prediction"], known["prediction"]);
        // A choice that a backtest made.
        let backtest =
            json!({ "service_id": "shop", "metric_name": "avg_cpu", "timestamp": "2025-11-11T10:20:00" });
        call(&other, "backtest_forecaster", backtest).await.unwrap();
        let chosen = call(&room, "create_plan", at.clone()).await.unwrap();
        assert_eq!(chosen, anew(&test, &at).await);
        assert_ne!(chosen["engine"], replaced["engine"]);
    }
}

#[tokio::test]
async fn a_csv_file_that_cannot_be_used_is_unavailable_and_its_path_is_not_shown() {
    let test = sqlite().await;
    let at = |name: &str| test.folder.path().join(name);
    std::fs::write(at("semicolons.csv"), "timestamp;avg_cpu\n2025-11-11T09:00:00Z;1\n").unwrap();
    std::fs::write(at("latin.csv"), b"timestamp,avg_cpu\n\xff,1\n").unwrap();
    for name in ["nosuch.csv", "", "semicolons.csv", "latin.csv"] {
        let config =
            PlanningConfig { source: Backend::Csv, csv_path: Some(at(name)), ..PlanningConfig::default() };
        let room = room(&test, config).await;
        let error = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{name}: {error}");
        assert!(error.message.contains("planning.csv_path"), "{name}: {error}");
        assert!(!error.message.contains(test.folder.path().to_str().unwrap()), "{name}: {error}");
        room.lifecycle.finish(std::time::Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_name_no_metric_belong_to_that_of_the_request() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let input = json!({ "service_id": "shop", "metric_name": "qq", "csv": "timestamp,value\n2025-11-11T09:00:00Z,1\n" });
    let stored = call(&room, "ingest_metrics", input).await.unwrap();
    assert_eq!(stored["series"][0]["metric_name"], "qq");
    let named = json!({ "service_id": "shop", "metric_name": "qq", "csv": "timestamp,cpu\n2025-11-11T09:00:00Z,1\n" });
    let stored = call(&room, "ingest_metrics", named).await.unwrap();
    assert_eq!(stored["series"][0]["metric_name"], "cpu");
}

#[tokio::test]
async fn hours_beyond_the_years_that_are_taken_are_refused_by_what_was_given() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let input = |csv: &str, start: Value| json!({ "service_id": "shop", "csv": csv, "start": start });
    let far = input("t,cpu\n99999999,1\n", json!("2025-11-11T00:00:00Z"));
    let error = call(&room, "ingest_metrics", far).await.unwrap_err();
    assert!(error.kind == Kind::Invalid && error.message.contains("they count from `start`"), "{error}");
    let early = input("t,cpu\n0,1\n9999999,1\n", Value::Null);
    let error = call(&room, "ingest_metrics", early).await.unwrap_err();
    assert!(error.message.contains("give `start`"), "{error}");
}

#[tokio::test]
async fn a_name_that_cannot_be_is_told_at_its_own_field() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let point = json!({ "timestamp": 1_762_855_200, "value": 1, "metric_name": " " });
    let error =
        call(&room, "ingest_metrics", json!({ "service_id": "shop", "points": [point] })).await.unwrap_err();
    let detail = opsroom_core::fields::detail(&error);
    assert_eq!(detail.as_array().unwrap().len(), 1, "{detail}");
    assert_eq!(detail[0]["loc"], json!(["body", "points", 0, "metric_name"]));
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

/// A server that stands for GitHub's API, and a room that looks at it. A path that has no answer is a 500.
async fn with_github(test: &TestDb, answers: Vec<(&'static str, String)>) -> Arc<Room> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let api_url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
            let first = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let known = answers.iter().find(|(at, _)| *at == path).map(|(_, answer)| answer.clone());
            let answer = known.unwrap_or_else(|| answer("500 Oh", "", ""));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let config = RoomConfig {
        data_dir: test.folder.path().to_owned(),
        database: test.config.clone(),
        egress: EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() },
        planning: PlanningConfig {
            github: GithubConfig { api_url, ..GithubConfig::default() },
            ..PlanningConfig::default()
        },
        ..RoomConfig::default()
    };
    Room::open(&config, Clock::manual(Time(NOW * 1_000_000)), Lifecycle::new()).await.unwrap()
}

#[tokio::test]
async fn an_answer_that_is_no_repository_is_unavailable_and_a_limit_says_how_long_it_lasts() {
    let test = sqlite().await;
    let room = with_github(
        &test,
        vec![
            ("/repos/acme/null", answer("200 OK", "", "null")),
            ("/repos/acme/list", answer("200 OK", "", "[1,2]")),
            ("/repos/acme/limit", answer("403 Forbidden", "Retry-After: 60\r\n", "{}")),
            ("/repos/acme/shop", answer("200 OK", "", "{\"name\":\"shop\",\"stargazers_count\":3}")),
        ],
    )
    .await;
    let ask = async |name: &str| {
        call(&room, "analyze_repository", json!({ "github_url": format!("acme/{name}") })).await
    };
    for name in ["null", "list"] {
        assert_eq!(ask(name).await.unwrap_err().kind, Kind::Unavailable, "{name}");
    }
    let limit = ask("limit").await.unwrap_err();
    assert_eq!((limit.kind, limit.retry_after()), (Kind::Busy, Some(60)));
    let found = ask("shop").await.unwrap();
    for what in ["languages", "files"] {
        let missed = format!("its {what} could not be read: GitHub answered 500");
        assert!(found["reasons"].as_array().unwrap().contains(&json!(missed)), "{found}");
    }
}

/// A table of the older system's shape whose values are texts.
fn table_of_texts(_: opsroom_core::db::Dialect) -> Vec<opsroom_core::db::Step> {
    use sea_query::{Alias, ColumnDef, Table};
    let column = |name: &str| ColumnDef::new(Alias::new(name));
    let table = Table::create()
        .table(Alias::new("metric_history"))
        .col(column("service_id").string_len(128).not_null())
        .col(column("metric_name").string_len(128).not_null())
        .col(column("ts").date_time().not_null())
        .col(column("value").string_len(40))
        .to_owned();
    vec![opsroom_core::db::Step::Create(table)]
}

#[tokio::test]
async fn a_text_that_is_no_number_in_another_database_is_not_read_as_zero() {
    use sea_query::{Alias, Expr, Query};
    for test in each_database().await.into_iter().skip(1) {
        let migration = [opsroom_core::db::Migration { version: 1, name: "theirs", steps: table_of_texts }];
        test.db.migrate(&Clock::manual(Time(0)), &[("theirs", &migration)]).await.unwrap();
        for (metric, value) in [("numbers", "-2.5e1"), ("numbers", "3"), ("texts", "abc")] {
            let insert = Query::insert()
                .into_table(Alias::new("metric_history"))
                .columns(["service_id", "metric_name", "ts", "value"].map(Alias::new))
                .values_panic([
                    "shop".into(),
                    metric.into(),
                    Expr::cust("'2025-11-11 09:00:00'"),
                    value.into(),
                ])
                .to_owned();
            test.db.run(&insert).await.unwrap();
        }
        let backend =
            if test.config.url.starts_with("postgres") { Backend::Postgres } else { Backend::Mysql };
        let database = DatabaseConfig { url: test.config.url.clone(), ..DatabaseConfig::default() };
        let own = sqlite().await;
        let room =
            room(&own, PlanningConfig { source: backend, database, ..PlanningConfig::default() }).await;
        let plan = call(&room, "create_plan", request("shop", "numbers")).await.unwrap();
        assert_eq!(plan["history"]["cleaning"]["read"], 2, "{}", plan["history"]);
        let error = call(&room, "create_plan", request("shop", "texts")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
    }
}
