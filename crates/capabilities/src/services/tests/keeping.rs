//! What is wished for becomes so, and stays so, whatever happens in between.

use opsroom_core::Kind;
use opsroom_core::testing::{each_database, sqlite};
use opsroom_gateway::world::{Dial, Transport};
use serde_json::json;

use super::Here;
use super::engine::Trouble;

#[tokio::test]
async fn a_service_that_is_created_runs_and_is_told_to_the_gateway() {
    for test in each_database().await {
        let here = Here::open(&test).await;
        let made = here.docker("Weather Map").await.unwrap();
        assert_eq!((&made["id"], &made["status"]), (&json!(1), &json!("pending")));
        assert!(here.services.upstreams().borrow().is_empty());
        here.keep().await;
        here.keep().await;
        let it = here.get("Weather Map").await;
        assert_eq!(it["status"], "running");
        assert_eq!(it["pinned_image"], "sha256:abc");
        assert_eq!(it["deployment_history"][0]["status"], "success");
        let upstreams = here.services.upstreams();
        let upstreams = upstreams.borrow();
        assert_eq!(upstreams[0].name, it["mcp_name"]);
        let Transport::Http { dial: Dial::At(address), .. } = &upstreams[0].transport else { panic!() };
        assert_eq!(address.to_string(), "172.30.0.2:8080");
        let listed =
            here.call("list_services", json!({ "search": "MAP", "status_filter": "running" })).await.unwrap();
        assert_eq!(listed["pagination"], json!({ "total": 1, "page": 1, "size": 20, "pages": 1 }));
        let none = here.call("list_services", json!({ "search": "_", "page": 3 })).await.unwrap();
        assert_eq!(none["items"], json!([]));
    }
}

#[tokio::test]
async fn a_service_that_is_stopped_started_restarted_and_deleted_leaves_nothing() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.docker("weather").await.unwrap();
    here.keep().await;
    here.keep().await;
    let stop = json!({ "id": "weather", "wait_seconds": 0 });
    here.call("stop_service", stop.clone()).await.unwrap();
    here.keep().await;
    assert_eq!(here.get("1").await["status"], "stopped");
    assert!(here.services.upstreams().borrow().is_empty());
    here.call("stop_service", stop).await.unwrap();
    let started = here.call("start_service", json!({ "id": "1", "wait_seconds": 0 })).await.unwrap();
    assert!(started["deployment_id"].is_string());
    here.keep().await;
    here.keep().await;
    assert_eq!(here.get("1").await["status"], "running");
    let again = here.call("start_service", json!({ "id": "1", "wait_seconds": 0 })).await.unwrap();
    assert_eq!(again["deployment_id"], json!(null), "it runs already");
    let starts = here.engine.with(|state| state.starts);
    here.call("restart_service", json!({ "id": "1", "wait_seconds": 0 })).await.unwrap();
    here.keep().await;
    here.keep().await;
    assert_eq!(here.engine.with(|state| state.starts), starts + 1);
    assert_eq!(here.get("1").await["status"], "running");
    let refused = here.call("delete_service", json!({ "id": "1" })).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict);
    here.call("delete_service", json!({ "id": "1", "force": true, "wait_seconds": 0 })).await.unwrap();
    here.keep().await;
    assert_eq!(here.call("get_service", json!({ "id": "1" })).await.unwrap_err().kind, Kind::NotFound);
    assert!(here.engine.with(|state| state.containers.is_empty() && state.networks.is_empty()));
    assert_eq!(here.call("list_networks", json!({})).await.unwrap()["items"], json!([]));
    // The name is free again.
    here.docker("weather").await.unwrap();
}

#[tokio::test]
async fn a_container_that_exits_at_once_is_started_again_with_pauses_and_then_given_up() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.engine.with(|state| state.start = Some(Trouble::EndsAtOnce));
    here.docker("weather").await.unwrap();
    for _ in 0..50 {
        here.keep().await;
        here.clock.advance_seconds(1);
    }
    let it = here.get("weather").await;
    assert_eq!(it["status"], "error");
    assert!(it["reason"].as_str().unwrap().contains("exit code 137, 5 times in a row"), "{it}");
    assert_eq!(it["deployment_history"][0]["status"], "failed");
    assert_eq!(here.engine.with(|state| state.starts), 5);
    here.engine.with(|state| state.start = None);
    here.call("start_service", json!({ "id": "weather", "wait_seconds": 0 })).await.unwrap();
    for _ in 0..3 {
        here.keep().await;
        here.clock.advance_seconds(1);
    }
    assert_eq!(here.get("weather").await["status"], "running");
}

#[tokio::test]
async fn a_service_that_is_killed_runs_again() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.docker("weather").await.unwrap();
    here.keep().await;
    here.keep().await;
    here.engine.with(|state| state.containers.values_mut().for_each(|it| it.2 = false));
    here.keep().await;
    assert_eq!(here.get("1").await["status"], "restarting");
    here.clock.advance_seconds(1);
    here.keep().await;
    here.keep().await;
    let it = here.get("1").await;
    assert_eq!((&it["status"], &it["restarts"]), (&json!("running"), &json!(1)));
}

#[tokio::test]
async fn an_engine_that_goes_away_in_mid_deploy_is_waited_for() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.engine.with(|state| state.start = Some(Trouble::AwayAfterCreate));
    here.docker("weather").await.unwrap();
    here.keep().await;
    let it = here.get("weather").await;
    assert_eq!(it["status"], "error");
    assert!(it["reason"].as_str().unwrap().contains("away"), "{it}");
    assert_eq!(it["deployment_history"][0]["status"], "pending");
    here.engine.with(|state| (state.away, state.start) = (false, None));
    for _ in 0..4 {
        here.clock.advance_seconds(1);
        here.keep().await;
    }
    let it = here.get("weather").await;
    assert_eq!(it["status"], "running");
    assert_eq!(it["deployment_history"][0]["status"], "success");
    assert_eq!(here.engine.with(|state| state.containers.len()), 1);
}

#[tokio::test]
async fn a_kill_in_mid_deploy_is_repaired_at_the_next_start() {
    for test in each_database().await {
        let here = Here::open(&test).await;
        here.docker("weather").await.unwrap();
        // Made, not started, and nobody has noted it.
        here.engine.with(|state| {
            state.containers.insert("half".to_owned(), (1, 1, false));
        });
        let next = Here::again(&test, here.clock.clone(), here.engine.clone());
        for _ in 0..4 {
            next.keep().await;
            next.clock.advance_seconds(1);
        }
        assert_eq!(next.get("weather").await["status"], "running");
        assert!(
            next.engine.with(|state| state.containers.len() == 1 && !state.containers.contains_key("half"))
        );
    }
}

#[tokio::test]
async fn what_carries_our_label_and_belongs_to_nobody_is_removed() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.docker("weather").await.unwrap();
    here.keep().await;
    here.engine.with(|state| {
        state.containers.insert("orphan".to_owned(), (99, 1, true));
        state.networks.insert("x".to_owned(), "svc-99".to_owned());
    });
    here.services.sweep().await.unwrap();
    here.engine.with(|state| {
        assert_eq!(state.containers.len(), 1);
        assert_eq!(state.networks.len(), 1);
    });
    // An engine that is away is no reason to fail.
    here.engine.with(|state| state.away = true);
    here.services.sweep().await.unwrap();
}

#[tokio::test]
async fn secrets_reach_the_service_and_no_answer() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    let input = json!({
        "name": "weather", "image": "weather:1", "wait_seconds": 0,
        "environment_vars": { "TOKEN": "secret://env/TOKEN", "PLAIN": "visible-value" },
    });
    here.call("create_service", input).await.unwrap();
    here.keep().await;
    here.engine.with(|state| {
        assert!(state.environment.contains(&("TOKEN".to_owned(), "hunter2".to_owned())));
    });
    here.keep().await;
    let it = here.get("weather").await;
    assert_eq!(it["environment_vars"], json!({ "TOKEN": "secret://env/TOKEN", "PLAIN": "[hidden]" }));
    let rows = here.services.inner.store.of_node("node").await.unwrap();
    assert!(!format!("{rows:?} {it}").contains("hunter2"));
    let missing = json!({ "name": "other", "image": "weather:1", "wait_seconds": 0, "environment_vars": { "A": "secret://env/MISSING" } });
    here.call("create_service", missing).await.unwrap();
    here.keep().await;
    let it = here.get("other").await;
    assert_eq!(it["status"], "error");
    assert!(it["reason"].as_str().unwrap().contains("OPSROOM_SECRET_MISSING"), "{it}");
}

#[tokio::test]
async fn a_plan_makes_nothing_and_says_all_that_is_refused() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    let plan = json!({ "name": "weather", "image": "weather:1", "vlan_id": 100, "dry_run": true });
    let planned = here.call("create_service", plan).await.unwrap();
    assert_eq!((&planned["status"], &planned["plan"]["refused"]), (&json!("planned"), &json!([])));
    assert!(planned["plan"]["steps"].to_string().contains("sha256:abc"), "{planned}");
    let bad = json!({ "name": "x", "image": "nothing:1", "user": "root", "cpu_limit": "many", "host_port": 80, "dry_run": true });
    let refused = here.call("create_service", bad).await.unwrap();
    assert_eq!(refused["plan"]["refused"].as_array().unwrap().len(), 3, "{refused}");
    let missing = json!({ "name": "x", "image": "nothing:1" });
    assert_eq!(here.call("create_service", missing).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(here.call("list_services", json!({})).await.unwrap()["items"], json!([]));
    assert_eq!(here.call("list_networks", json!({})).await.unwrap()["items"], json!([]));
}
