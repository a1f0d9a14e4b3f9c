//! What an advice is: the cheapest that really holds what is needed, in the unit that the metric's name says.

use opsroom_core::testing::sqlite;
use serde_json::{Value, json};

use super::config::{FlavorConfig, PlanningConfig};
use super::tests::{call, csv, day, ingest, request, room};

fn flavor(name: &str, cpus: f64, gib: f64, hourly_usd: f64) -> FlavorConfig {
    serde_json::from_value(json!({
        "name": name, "cpus": cpus, "memory_mib": gib * 1024.0, "hourly_usd": hourly_usd,
    }))
    .unwrap()
}

fn list(flavors: Vec<FlavorConfig>) -> PlanningConfig {
    PlanningConfig { flavors, ..PlanningConfig::default() }
}

/// The advice on a metric that does this.
async fn advice(config: PlanningConfig, metric: &str, value: impl Fn(i64) -> f64) -> Value {
    let test = sqlite().await;
    let room = room(&test, config).await;
    ingest(&room, "shop", metric, csv(300, value)).await;
    call(&room, "create_plan", request("shop", metric)).await.unwrap()
}

#[tokio::test]
async fn the_cheapest_is_taken_and_one_piece_only_when_it_costs_little_more() {
    let prices = || {
        vec![
            flavor("c.large", 2.0, 4.0, 0.07),
            flavor("r.large", 2.0, 16.0, 0.10),
            flavor("c.huge", 16.0, 32.0, 0.58),
        ]
    };
    let plan = advice(list(prices()), "cpu_cores", |_| 2.5).await;
    let it = &plan["recommendation"];
    assert_eq!((it["flavor"].as_str(), it["replicas"].as_u64()), (Some("c.large"), Some(2)), "{it}");
    assert_eq!(plan["expected_cost_per_day"], 3.36);
    assert!(it["reason"].as_str().unwrap().contains("is the cheapest"), "{it}");
    // Two small ones cost 2.40, one medium 2.80: not split for so little, and said.
    let plan = advice(PlanningConfig::default(), "cpu_cores", |_| 1.5).await;
    let it = &plan["recommendation"];
    assert_eq!((it["flavor"].as_str(), it["replicas"].as_u64()), (Some("medium"), Some(1)), "{it}");
    assert!(it["reason"].as_str().unwrap().contains("more than 2 x small"), "{it}");
}

#[tokio::test]
async fn what_is_advised_for_several_metrics_holds_them_all_at_once() {
    let test = sqlite().await;
    let prices = vec![
        flavor("cpuopt", 16.0, 4.0, 0.30),
        flavor("memopt", 2.0, 64.0, 0.20),
        flavor("both", 4.0, 16.0, 0.25),
    ];
    let room = room(&test, list(prices)).await;
    ingest(&room, "shop", "cpu_cores", csv(300, |hour| 2.0 + 0.3 * day(hour))).await;
    ingest(&room, "shop", "memory_mib", csv(300, |hour| 8000.0 + 100.0 * day(hour))).await;
    let mut input = request("shop", "x");
    input.as_object_mut().unwrap().remove("metric_name");
    input["metric_names"] = json!(["cpu_cores", "memory_mib"]);
    let plans = call(&room, "create_plans", input).await.unwrap();
    assert_eq!(
        (plans["recommended_flavor"].as_str(), plans["replicas"].as_u64()),
        (Some("both"), Some(1)),
        "{plans}"
    );
    assert_eq!((&plans["expected_cost_per_day"], &plans["driver"]), (&json!(6.0), &json!("cpu_cores")));
}

#[tokio::test]
async fn a_unit_is_read_from_the_name_or_no_advice_is_given() {
    let of = async |metric: &str, value: f64| {
        let plan = advice(PlanningConfig::default(), metric, move |_| value).await;
        let it = plan["recommendation"].clone();
        let given = it["given"].as_bool().unwrap();
        (
            given.then(|| (it["flavor"].as_str().unwrap().to_owned(), it["replicas"].as_u64().unwrap())),
            it["reason"].to_string(),
        )
    };
    let small = Some(("small".to_owned(), 1));
    let medium = Some(("medium".to_owned(), 1));
    assert_eq!(of("cpu_percent", 65.0).await.0, small);
    assert_eq!(of("cpu_millicores", 1500.0).await.0, medium);
    assert_eq!(of("memory_bytes", 3e9).await.0, medium, "2861 MiB and room");
    assert_eq!(of("avg_cpu{zone=eu}", 0.65).await.0, small);
    let (none, reason) = of("cpu_seconds", 3.0).await;
    assert!(none.is_none() && reason.contains("does not say its unit"), "{reason}");
}

#[tokio::test]
async fn a_share_in_per_cent_is_not_cut_to_a_full_machine() {
    let plan = advice(PlanningConfig::default(), "avg_cpu", |hour| 5.0 + 5.0 * day(hour)).await;
    assert_eq!(plan["recommendation"]["given"], false);
    assert!(plan["notes"].as_str().unwrap().contains("_percent"), "{}", plan["notes"]);
    let highest = plan["prediction"]["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hour| hour["value"].as_f64().unwrap());
    assert!(highest.fold(0.0, f64::max) > 10.0, "{plan}");
}

#[tokio::test]
async fn two_readings_carry_no_advice() {
    let plan = advice(PlanningConfig::default(), "total_events", |hour| {
        if hour == 0 || hour == 299 { 100.0 } else { f64::NAN }
    });
    let plan = plan.await;
    assert_eq!(plan["recommendation"]["given"], false);
    assert!(plan["notes"].as_str().unwrap().contains("2 hours"), "{}", plan["notes"]);
}

#[tokio::test]
async fn a_peak_of_every_night_is_no_alarm() {
    let night = |hour: i64| if hour % 24 == 3 { 500.0 } else { 5.0 + (hour % 5) as f64 };
    let plan = advice(PlanningConfig::default(), "total_events", night).await;
    assert!(plan["anomaly"]["score"].as_f64().unwrap() > 3.0, "{}", plan["anomaly"]);
    assert_eq!(plan["anomaly"]["abnormal"], false, "{}", plan["anomaly"]);
}

#[tokio::test]
async fn an_hourly_plan_has_the_names_and_prices_of_the_list() {
    let test = sqlite().await;
    let room = room(&test, list(vec![flavor("a", 1.0, 1.0, 0.01), flavor("b", 2.0, 2.0, 0.02)])).await;
    ingest(&room, "shop", "avg_cpu", csv(300, |_| 0.95)).await;
    let plan = call(&room, "create_hourly_plan", request("shop", "avg_cpu")).await.unwrap();
    let first = &plan["hourly_recommendations"][0];
    assert_eq!(
        (first["recommended_flavor"].as_str(), first["hourly_cost"].as_f64()),
        (Some("b"), Some(0.02)),
        "{first}"
    );
}

#[tokio::test]
async fn a_name_that_no_database_could_keep_is_refused_by_field() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let refused = async |operation: &str, input: Value| {
        let error = call(&room, operation, input).await.unwrap_err();
        assert_eq!(error.kind, opsroom_core::Kind::Invalid, "{operation}: {error:?}");
        error.message.clone()
    };
    assert!(refused("create_plan", request("s\0x", "avg_cpu")).await.contains("service_id"));
    assert!(refused("create_plan", request("shop", "m\0")).await.contains("metric_name"));
    let outlook = json!({ "service_id": "s", "metric_names": ["m\0"] });
    assert!(refused("get_plan_metrics", outlook).await.contains("metric_name"));
    assert!(refused("list_series", json!({ "service_id": "a\0" })).await.contains("service_id"));
    let backtest = json!({ "service_id": "a\0", "metric_name": "m" });
    assert!(refused("backtest_forecaster", backtest).await.contains("service_id"));
}

#[tokio::test]
async fn a_word_that_is_none_of_the_list_is_told_the_list() {
    let test = sqlite().await;
    let room = room(&test, PlanningConfig::default()).await;
    let mut input = request("shop", "avg_cpu");
    input["context"]["service_type"] = json!("worker");
    let message = call(&room, "create_plan", input).await.unwrap_err().message.clone();
    assert!(message.contains("`web`, `api`, `db`"), "{message}");
}
