//! What planning promises, on every database that is at hand.

use std::sync::Arc;

use opsroom_core::caller::{Caller, Face};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Error, Kind, Result, Time};
use serde_json::{Value, json};

use super::config::PlanningConfig;
use crate::room::{Room, RoomConfig};

/// 2025-11-11T10:20:00Z
pub const NOW: i64 = 1_762_856_400;

pub async fn room(test: &TestDb, planning: PlanningConfig) -> Arc<Room> {
    let config = RoomConfig {
        data_dir: test.folder.path().to_owned(),
        database: test.config.clone(),
        planning,
        ..RoomConfig::default()
    };
    Room::open(&config, Clock::manual(Time(NOW * 1_000_000)), Lifecycle::new()).await.unwrap()
}

pub async fn call(room: &Arc<Room>, operation: &str, input: Value) -> Result<Value> {
    let call = Call::new(Caller::operator(Face::Rest));
    room.call(operation, call, input).await.map(crate::room::Answer::into_value)
}

/// The hour before `NOW` is the last one; hour 0 is `hours` before it.
pub fn csv(hours: i64, value: impl Fn(i64) -> f64) -> String {
    let line = |hour: i64| {
        let at = (NOW / 3600 - hours + 1 + hour) * 3600;
        format!("{},{}\n", super::moment::show(at), value(hour))
    };
    std::iter::once("timestamp,value\n".to_owned()).chain((0..hours).map(line)).collect()
}

pub async fn ingest(room: &Arc<Room>, service: &str, metric: &str, csv: String) {
    // One value a line, without a column that names the metric: it is called `value`.
    let csv = csv.replacen("timestamp,value", &format!("timestamp,{metric}"), 1);
    call(room, "ingest_metrics", json!({ "service_id": service, "csv": csv })).await.unwrap();
}

pub fn request(service: &str, metric: &str) -> Value {
    json!({
        "service_id": service,
        "metric_name": metric,
        "context": {
            "context_id": "ctx-1",
            "timestamp": "2025-11-11T10:20:00",
            "service_type": "web",
            "runtime_env": "prod",
            "time_slot": "normal",
            "weight": 1.0
        }
    })
}

/// The day's shape of a service: quiet at night, busy at noon.
pub fn day(hour: i64) -> f64 {
    let angle = ((hour % 24) as f64 - 6.0) / 24.0 * std::f64::consts::TAU;
    1.0 + angle.sin()
}

fn fields(error: &Error) -> Vec<String> {
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    let detail = opsroom_core::fields::detail(error);
    let place = |entry: &Value| {
        let parts = entry["loc"].as_array().unwrap().iter().skip(1);
        parts
            .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(".")
    };
    detail.as_array().unwrap().iter().map(place).collect()
}

#[tokio::test]
async fn the_older_request_gets_every_field_of_its_contract_in_both_dialects() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        ingest(&room, "demo-service", "total_events", csv(400, |hour| 40.0 * day(hour) + 10.0)).await;
        let by_id = call(&room, "create_plan", request("demo-service", "total_events")).await.unwrap();
        let mut request = request("demo-service", "total_events");
        request["github_url"] = request["service_id"].take();
        request.as_object_mut().unwrap().remove("service_id");
        let by_url = call(&room, "create_plan", request).await.unwrap();
        for plan in [&by_id, &by_url] {
            let prediction = &plan["prediction"];
            assert_eq!(prediction["service_id"], "demo-service");
            assert_eq!(prediction["github_url"], "demo-service");
            assert_eq!(prediction["metric_name"], "total_events");
            assert_eq!(prediction["generated_at"], "2025-11-11T10:20:00Z");
            let hours = prediction["predictions"].as_array().unwrap();
            assert_eq!(hours.len(), 24);
            assert_eq!(hours[0]["time"], "2025-11-11T11:00:00Z");
            assert_eq!(hours[23]["time"], "2025-11-12T10:00:00Z");
            let mut values: Vec<String> = hours.iter().map(|hour| hour["value"].to_string()).collect();
            assert!(
                hours.iter().any(|hour| hour["value"].as_f64().unwrap() > 50.0),
                "in the metric's own unit"
            );
            values.sort();
            values.dedup();
            assert!(values.len() > 12, "the day has a shape: {values:?}");
            assert_eq!(plan["recommended_flavor"], "small");
            assert_eq!(plan["expected_cost_per_day"], 1.2);
            assert!(plan["backtest"]["error"].as_f64() <= plan["backtest"]["seasonal_naive_error"].as_f64());
            assert!(hours[0]["lower95"].as_f64() <= hours[0]["upper95"].as_f64());
        }
        assert_eq!(by_id["prediction"]["model_version"], "web_normal_v1_statistical");
        assert_eq!(by_url["prediction"]["model_version"], "web_normal_lstm_v1_statistical");
        assert_eq!(by_id["prediction"]["predictions"], by_url["prediction"]["predictions"]);
    }
}

#[tokio::test]
async fn the_same_request_gives_the_same_answer_twice() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "avg_cpu", csv(300, |hour| 0.2 * day(hour))).await;
    let one = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap();
    room.clock.advance_seconds(86_400);
    assert_eq!(one, call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap());
}

#[tokio::test]
async fn the_flavor_and_its_price_follow_the_forecast() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    for (service, level, flavor) in
        [("low", 50.0, "small"), ("middle", 400.0, "medium"), ("high", 1500.0, "large")]
    {
        ingest(&room, service, "total_events", csv(400, |hour| level * (0.5 + 0.1 * day(hour)))).await;
        let plan = call(&room, "create_plan", request(service, "total_events")).await.unwrap();
        assert_eq!(plan["recommended_flavor"], flavor, "{}", plan["recommendation"]);
        assert_eq!(plan["recommendation"]["given"], true);
    }
}

#[tokio::test]
async fn twice_the_users_and_other_headroom_change_the_advice() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "total_events", csv(400, |hour| 150.0 + 20.0 * day(hour))).await;
    let mut request = request("shop", "total_events");
    let flavor = |plan: Value| plan["recommended_flavor"].as_str().unwrap().to_owned();
    assert_eq!(flavor(call(&room, "create_plan", request.clone()).await.unwrap()), "small");
    request["what_if"] = json!({ "users": 2 });
    assert_eq!(flavor(call(&room, "create_plan", request.clone()).await.unwrap()), "medium");
    request["what_if"] = json!({ "headroom": 1.0 });
    assert_eq!(flavor(call(&room, "create_plan", request.clone()).await.unwrap()), "medium");
    request["what_if"] = json!({ "flavor": "large" });
    assert_eq!(flavor(call(&room, "create_plan", request.clone()).await.unwrap()), "large");
    request["what_if"] = json!({ "flavor": "huge" });
    let error = call(&room, "create_plan", request).await.unwrap_err();
    assert_eq!(fields(&error), ["what_if.flavor"]);
}

#[tokio::test]
async fn without_history_a_guess_is_named_and_no_advice_is_given() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let plan = call(&room, "create_plan", request("nobody", "total_events")).await.unwrap();
    assert_eq!(plan["engine"]["name"], "prior");
    assert_eq!(plan["prediction"]["model_version"], "web_normal_v1_fallback");
    assert_eq!(plan["prediction"]["predictions"].as_array().unwrap().len(), 24);
    assert_eq!(plan["recommendation"]["given"], false);
    assert!(plan["notes"].as_str().unwrap().contains("no advice"), "{}", plan["notes"]);
    assert_eq!(plan["recommended_flavor"], "small");
}

#[tokio::test]
async fn histories_of_every_bad_kind_get_an_answer() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let last = NOW / 3600 * 3600;
    let point = |at: i64, value: f64| json!({ "timestamp": at, "value": value });
    let histories: Vec<(&str, Vec<Value>)> = vec![
        ("one", vec![point(last, 0.5)]),
        ("constant", (0..200).map(|h| point(last - h * 3600, 0.5)).collect()),
        ("zero", (0..200).map(|h| point(last - h * 3600, 0.0)).collect()),
        ("unsorted", (0..200).map(|h| point(last - (h * 37 % 200) * 3600, 0.5)).collect()),
        ("twice", (0..200).map(|h| point(last - (h / 2) * 3600, 0.5)).collect()),
        ("future", (0..48).map(|h| point(last + h * 3600, 0.5)).collect()),
        ("old", (0..48).map(|h| point(last - (600 + h) * 3600, 0.5)).collect()),
        ("gaps", (0..40).map(|h| point(last - h * 5 * 3600, 0.1 * (h % 3) as f64)).collect()),
    ];
    for (service, points) in histories {
        let input = json!({ "service_id": service, "metric_name": "avg_cpu", "points": points });
        call(&room, "ingest_metrics", input).await.unwrap();
        let plan = call(&room, "create_plan", request(service, "avg_cpu")).await.unwrap();
        let hours = plan["prediction"]["predictions"].as_array().unwrap();
        assert_eq!(hours.len(), 24, "{service}");
        assert!(hours.iter().all(|hour| (0.0..=1.0).contains(&hour["value"].as_f64().unwrap())), "{service}");
        let shown = plan["recommended_flavor"].as_str().unwrap();
        assert!(["small", "medium", "large"].contains(&shown), "{service}: {shown}");
    }
}

#[tokio::test]
async fn every_field_that_cannot_be_used_is_named() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut input = request("shop", "avg_cpu");
        change(&mut input);
        fields(&call(&room, "create_plan", input).await.unwrap_err())
    };
    assert_eq!(refused(&|it| drop(it.as_object_mut().unwrap().remove("service_id"))).await, ["service_id"]);
    assert_eq!(refused(&|it| drop(it.as_object_mut().unwrap().remove("context"))).await, ["context"]);
    assert_eq!(refused(&|it| it["service_id"] = json!(7)).await, ["service_id"]);
    assert_eq!(refused(&|it| it["service_id"] = json!("")).await, ["service_id"]);
    assert_eq!(refused(&|it| it["service_id"] = json!("  ")).await, ["service_id"]);
    assert_eq!(refused(&|it| it["metric_name"] = Value::Null).await, ["metric_name"]);
    for (field, value) in [
        ("service_type", json!("worker")),
        ("service_type", Value::Null),
        ("runtime_env", json!("test")),
        ("time_slot", json!(3)),
        ("weight", json!(-1)),
        ("weight", json!("heavy")),
        ("weight", Value::Null),
        ("expected_users", json!(-5)),
        ("expected_users", json!("many")),
        ("curr_cpu", json!(-0.1)),
        ("curr_mem", json!([])),
        ("timestamp", json!("yesterday")),
        ("timestamp", json!(-1)),
        ("timestamp", json!({})),
    ] {
        let named = refused(&|it| it["context"][field] = value.clone()).await;
        assert_eq!(named, [format!("context.{field}")], "{value}");
    }
    let two = refused(&|it| it["context"] = json!({ "weight": -1 })).await;
    assert_eq!(two.len(), 2, "{two:?}");
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let input = json!({ "github_url": "https://github.com/a/b", "color": "red", "context": { "service_type": "api", "mood": 1, "current_users": 5 } });
    let plan = call(&room, "create_plan", input).await.unwrap();
    assert_eq!(plan["prediction"]["metric_name"], "total_events");
    assert_eq!(plan["generated_at"], "2025-11-11T10:20:00Z");
    assert_eq!(plan["context"]["expected_users"], 5);
}

#[tokio::test]
async fn several_metrics_get_a_plan_each_and_one_flavor_for_all() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "avg_cpu", csv(400, |hour| 0.1 * day(hour))).await;
    ingest(&room, "shop", "total_events", csv(400, |hour| 400.0 + day(hour))).await;
    let mut input = request("shop", "avg_cpu");
    input["metric_names"] = json!(["avg_cpu", "total_events", "unknown"]);
    let plans = call(&room, "create_plans", input).await.unwrap();
    assert_eq!(plans["results"].as_object().unwrap().len(), 3);
    assert_eq!(plans["recommended_flavor"], "medium");
    assert_eq!(plans["driver"], "total_events");
}

#[tokio::test]
async fn an_hourly_plan_has_24_hours_their_flavors_and_the_price_of_all() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "total_events", csv(400, |hour| 250.0 * day(hour))).await;
    let plan = call(&room, "create_hourly_plan", request("shop", "total_events")).await.unwrap();
    let hours = plan["hourly_recommendations"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    let flavors: std::collections::BTreeSet<&str> =
        hours.iter().map(|hour| hour["recommended_flavor"].as_str().unwrap()).collect();
    assert!(flavors.len() > 1, "{flavors:?}");
    let sum: f64 = hours.iter().map(|hour| hour["hourly_cost"].as_f64().unwrap()).sum();
    assert!((plan["total_expected_cost_24h"].as_f64().unwrap() - sum).abs() < 0.001);
    let mut without = request("nobody", "total_events");
    without["fallback_to_baseline"] = json!(false);
    assert_eq!(call(&room, "create_hourly_plan", without).await.unwrap_err().kind, Kind::Conflict);
}

#[tokio::test]
async fn what_was_ingested_survives_and_a_later_value_replaces_an_earlier_one() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        let input = |value: f64| {
            json!({ "points": [
                { "service_id": "Shop", "metric_name": "x", "timestamp": "2025-11-11T09:00:00Z", "value": value },
                { "service_id": "shop", "metric_name": "x", "timestamp": "2025-11-11T09:00:00Z", "value": 3.0 },
            ] })
        };
        let first = call(&room, "ingest_metrics", input(1.0)).await.unwrap();
        assert_eq!(
            (first["accepted"].as_u64(), first["series"].as_array().map(Vec::len)),
            (Some(2), Some(2))
        );
        call(&room, "ingest_metrics", input(2.0)).await.unwrap();
        let listed = call(&room, "list_series", json!({})).await.unwrap();
        assert_eq!(listed["items"].as_array().unwrap().len(), 2, "names keep their case: {listed}");
        let plan = call(&room, "create_plan", request("Shop", "x")).await.unwrap();
        assert_eq!(plan["prediction"]["predictions"][0]["value"], 2.0);
    }
}

#[tokio::test]
async fn one_team_does_not_see_the_metrics_of_another() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    ingest(&room, "shop", "avg_cpu", csv(100, |_| 0.7)).await;
    let stranger = Caller { teams: vec!["others".to_owned()], ..Caller::operator(Face::Rest) };
    let answer = room.call("list_series", Call::new(stranger), json!({})).await.unwrap().into_value();
    assert_eq!(answer["items"], json!([]));
}

#[tokio::test]
async fn points_that_cannot_be_stored_are_named_and_none_is_stored() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let good = json!({ "service_id": "a", "metric_name": "m", "timestamp": NOW, "value": 1 });
    for (field, value) in [
        ("timestamp", json!("soon")),
        ("value", json!("1")),
        ("value", Value::Null),
        ("value", json!(1e300)),
        ("service_id", json!("\u{0}")),
    ] {
        let mut bad = good.clone();
        bad[field] = value.clone();
        let error = call(&room, "ingest_metrics", json!({ "points": [good, bad] })).await.unwrap_err();
        assert_eq!(fields(&error), [format!("points.1.{field}")], "{value}");
    }
    assert_eq!(call(&room, "ingest_metrics", json!({})).await.unwrap_err().kind, Kind::Invalid);
    let error = call(&room, "ingest_metrics", json!({ "csv": "t,x\n1,2\n" })).await.unwrap_err();
    assert_eq!(fields(&error), ["service_id"]);
    assert_eq!(call(&room, "list_series", json!({})).await.unwrap()["items"], json!([]));
}

#[tokio::test]
async fn the_same_history_in_the_store_and_in_a_file_gives_the_same_plan() {
    let test = sqlite().await;
    let text = csv(300, |hour| 0.3 * day(hour)).replacen("value", "avg_cpu", 1);
    let path = test.folder.path().join("metrics.csv");
    std::fs::write(&path, &text).unwrap();
    let stored = room(&test, PlanningConfig::default()).await;
    ingest(&stored, "shop", "avg_cpu", text).await;
    let other = sqlite().await;
    let config = PlanningConfig {
        source: super::config::Backend::Csv,
        csv_path: Some(path),
        ..PlanningConfig::default()
    };
    let filed = room(&other, config).await;
    let mut plans = Vec::new();
    for room in [&stored, &filed] {
        let mut plan = call(room, "create_plan", request("shop", "avg_cpu")).await.unwrap();
        plan["history"]["source"] = Value::Null;
        plans.push(plan);
    }
    assert_eq!(plans[0], plans[1]);
}

#[tokio::test]
async fn a_forecast_ten_times_its_history_is_one_event_and_one_message() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        ingest(&room, "shop", "total_events", csv(400, |hour| 40.0 + 5.0 * day(hour))).await;
        let calm = call(&room, "create_plan", request("shop", "total_events")).await.unwrap();
        assert_eq!(calm["anomaly"]["abnormal"], false, "{}", calm["anomaly"]);
        let mut jump = request("shop", "total_events");
        jump["context"]["weight"] = json!(10);
        for _ in 0..3 {
            let plan = call(&room, "create_plan", jump.clone()).await.unwrap();
            assert_eq!(plan["anomaly"]["anomaly_detected"], true);
        }
        let told = |room: &Arc<Room>| {
            room.events.listen(Some(0)).0.iter().filter(|event| event.topic == "planning.anomaly").count()
        };
        assert_eq!(told(&room), 1);
        room.clock.advance_seconds(600);
        call(&room, "create_plan", jump).await.unwrap();
        assert_eq!(told(&room), 2, "ten minutes later it is told again");
    }
}

#[tokio::test]
async fn a_backtest_keeps_its_choice_for_the_plans_after_it_and_none_before() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        ingest(
            &room,
            "shop",
            "avg_cpu",
            csv(400, |hour| 0.2 * day(hour) + 0.001 * ((hour * 37) % 11) as f64),
        )
        .await;
        let mut earlier = request("shop", "avg_cpu");
        earlier["context"]["timestamp"] = json!("2025-11-10T10:20:00Z");
        let before = call(&room, "create_plan", earlier.clone()).await.unwrap();
        let input = json!({ "service_id": "shop", "metric_name": "avg_cpu", "origins": 7 });
        let tested = call(&room, "backtest_forecaster", input).await.unwrap();
        assert_eq!(tested["backtest"]["origins"], 7);
        assert!(tested["backtest"]["engines"].as_object().unwrap().contains_key("ets"), "{tested}");
        let plan = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap();
        assert_eq!(plan["backtest"], tested["backtest"]);
        assert_eq!(
            before,
            call(&room, "create_plan", earlier).await.unwrap(),
            "the past knows nothing of it"
        );
    }
}

#[tokio::test]
async fn what_all_series_teach_takes_part_in_plans_and_the_same_data_gives_the_same_model() {
    for test in each_database().await {
        let room = room(&test, PlanningConfig::default()).await;
        for service in ["a", "b", "c"] {
            let size = service.len() as f64 + f64::from(service.as_bytes()[0] % 7);
            ingest(&room, service, "avg_cpu", csv(400, |hour| 0.02 * size * day(hour + size as i64))).await;
        }
        let one = call(&room, "train_forecaster", json!({})).await.unwrap();
        let two = call(&room, "train_forecaster", json!({})).await.unwrap();
        assert_eq!(one["sha256"], two["sha256"]);
        assert_eq!(one["series"], 3);
        let list = call(&room, "list_forecasters", json!({})).await.unwrap();
        assert_eq!(list["learnt"]["sha256"], one["sha256"]);
        assert!(list["items"].as_array().unwrap().iter().any(|engine| engine["name"] == "pooled"));
        let plan = call(&room, "create_plan", request("a", "avg_cpu")).await.unwrap();
        assert!(plan["backtest"]["engines"].as_object().unwrap().contains_key("pooled"), "{plan}");
    }
}

/// The older system's table.
fn their_table(_: opsroom_core::db::Dialect) -> Vec<opsroom_core::db::Step> {
    use sea_query::{Alias, ColumnDef, Table};
    let column = |name: &str| ColumnDef::new(Alias::new(name));
    let table = Table::create()
        .table(Alias::new("metric_history"))
        .col(column("service_id").string_len(128).not_null())
        .col(column("metric_name").string_len(128).not_null())
        .col(column("ts").date_time().not_null())
        .col(column("value").double())
        .to_owned();
    vec![opsroom_core::db::Step::Create(table)]
}

#[tokio::test]
async fn the_table_of_another_database_gives_the_same_plan_as_the_store() {
    use super::config::{Backend, DatabaseConfig};
    use sea_query::{Alias, Query};
    let stored = sqlite().await;
    let ours = room(&stored, PlanningConfig::default()).await;
    ingest(&ours, "shop", "avg_cpu", csv(300, |hour| 0.3 * day(hour))).await;
    let mut expected = call(&ours, "create_plan", request("shop", "avg_cpu")).await.unwrap();
    expected["history"]["source"] = Value::Null;
    // Every database but the embedded one can hold the table.
    for test in each_database().await.into_iter().skip(1) {
        let name = |name: &str| Alias::new(name);
        let migration = [opsroom_core::db::Migration { version: 1, name: "theirs", steps: their_table }];
        test.db.migrate(&Clock::manual(Time(0)), &[("theirs", &migration)]).await.unwrap();
        for hour in 0..300 {
            let at = super::moment::show((NOW / 3600 - 299 + hour) * 3600);
            let ts = at.trim_end_matches('Z').replace('T', " ");
            let insert = Query::insert()
                .into_table(name("metric_history"))
                .columns(["service_id", "metric_name", "ts", "value"].map(Alias::new))
                .values_panic([
                    "shop".into(),
                    "avg_cpu".into(),
                    sea_query::Expr::cust(format!("'{ts}'")),
                    (0.3 * day(hour)).into(),
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
        let mut plan = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap();
        plan["history"]["source"] = Value::Null;
        assert_eq!(plan, expected);
        let none = call(&room, "create_plan", request("nobody", "avg_cpu")).await.unwrap();
        assert_eq!(none["engine"]["name"], "prior");
    }
}

#[tokio::test]
async fn a_database_of_metrics_that_is_down_or_has_another_schema_is_unavailable() {
    use super::config::{Backend, DatabaseConfig};
    let down =
        DatabaseConfig { url: "mysql://nobody@127.0.0.1:1/none".to_owned(), ..DatabaseConfig::default() };
    let own = sqlite().await;
    let room =
        room(&own, PlanningConfig { source: Backend::Mysql, database: down, ..PlanningConfig::default() })
            .await;
    let error = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("database of metrics"), "{error}");
    for test in each_database().await.into_iter().skip(1) {
        let backend =
            if test.config.url.starts_with("postgres") { Backend::Postgres } else { Backend::Mysql };
        let database = DatabaseConfig { url: test.config.url.clone(), ..DatabaseConfig::default() };
        let own = sqlite().await;
        let config = PlanningConfig { source: backend, database, ..PlanningConfig::default() };
        let room = self::room(&own, config).await;
        let error = call(&room, "create_plan", request("shop", "avg_cpu")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("metric_name, ts and value"), "{error}");
    }
}
