//! Names, VLANs and addresses are taken once; nobody sees another team's services.

use opsroom_core::testing::{each_database, sqlite};
use opsroom_core::{Kind, Role};
use serde_json::json;

use super::Here;

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_and_not_another_service() {
    for test in each_database().await {
        let here = Here::open(&test).await;
        here.docker("weather").await.unwrap();
        let error = here.docker("weather").await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.message.contains("`weather`"), "{error}");
    }
}

#[tokio::test]
async fn another_team_sees_neither_services_nor_networks_and_cannot_join_a_vlan() {
    let test = sqlite().await;
    let mut here = Here::open(&test).await;
    let input = json!({ "name": "weather", "image": "weather:1", "vlan_id": 100, "wait_seconds": 0 });
    here.call("create_service", input).await.unwrap();
    here.caller.teams = vec!["others".to_owned()];
    for operation in ["get_service", "start_service", "delete_service", "get_service_logs"] {
        let error = here.call(operation, json!({ "id": "weather" })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound, "{operation}");
    }
    assert_eq!(here.call("list_services", json!({})).await.unwrap()["items"], json!([]));
    assert_eq!(here.call("list_networks", json!({})).await.unwrap()["items"], json!([]));
    assert_eq!(
        here.call("delete_network", json!({ "name": "vlan-100" })).await.unwrap_err().kind,
        Kind::NotFound
    );
    let input = json!({ "name": "mine", "image": "weather:1", "vlan_id": 100 });
    assert!(here.call("create_service", input).await.unwrap_err().message.contains("another team"));
}

#[tokio::test]
async fn each_vlan_has_addresses_of_its_own_that_overlap_nothing() {
    for test in each_database().await {
        let here = Here::open(&test).await;
        let mut seen = Vec::new();
        for vlan in [1, 100, 236, 4094] {
            let made = here.call("create_network", json!({ "vlan_id": vlan })).await.unwrap();
            assert!(
                made["internal"] == true && made["subnet"].as_str().unwrap().starts_with("172.30."),
                "{made}"
            );
            // The engine has that one already.
            assert_ne!(made["subnet"], "172.30.0.0/24");
            assert!(!seen.contains(&made["subnet"]));
            seen.push(made["subnet"].clone());
        }
        let taken = here.call("create_network", json!({ "vlan_id": 100 })).await.unwrap_err();
        assert_eq!(taken.kind, Kind::Conflict);
        let overlap = json!({ "vlan_id": 7, "subnet": "172.30.0.0/20" });
        assert!(here.call("create_network", overlap).await.unwrap_err().message.contains("overlaps"));
        for subnet in ["8.8.8.0/24", "172.31.0.1/24", "nonsense", "10.0.0.0/8"] {
            let wrong =
                here.call("create_network", json!({ "vlan_id": 8, "subnet": subnet })).await.unwrap_err();
            assert_eq!(wrong.kind, Kind::Invalid, "{subnet}");
        }
        let wire = json!({ "vlan_id": 9, "driver": "macvlan", "dry_run": true });
        let planned = here.call("create_network", wire.clone()).await.unwrap();
        assert!(planned["refused"][0].as_str().unwrap().contains("no interface `eth0.9`"), "{planned}");
        let mut wire = wire;
        wire["dry_run"] = json!(false);
        assert_eq!(here.call("create_network", wire).await.unwrap_err().kind, Kind::Conflict);
        here.call("delete_network", json!({ "name": "vlan-100" })).await.unwrap();
        here.call("create_network", json!({ "vlan_id": 100 })).await.unwrap();
    }
}

#[tokio::test]
async fn stdio_proxy_escalation_only_an_administrator_makes_starts_or_changes_a_local_service() {
    let test = sqlite().await;
    let mut here = Here::open(&test).await;
    let input = json!({ "name": "tool", "service_type": "local", "command": ["true"], "wait_seconds": 0 });
    here.call("create_service", input.clone()).await.unwrap();
    here.caller.role = Role::Operator;
    let mut second = input;
    second["name"] = json!("second");
    assert_eq!(here.call("create_service", second).await.unwrap_err().kind, Kind::Forbidden);
    for (operation, input) in [
        ("start_service", json!({ "id": "tool" })),
        ("restart_service", json!({ "id": "tool" })),
        ("update_service", json!({ "id": "tool", "environment_vars": { "A": "b" } })),
    ] {
        assert_eq!(here.call(operation, input).await.unwrap_err().kind, Kind::Forbidden, "{operation}");
    }
}

#[tokio::test]
async fn a_change_starts_a_service_anew_and_a_wrong_one_changes_nothing() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.docker("weather").await.unwrap();
    here.keep().await;
    here.keep().await;
    let wrong = json!({ "id": "weather", "memory_limit": "lots" });
    assert_eq!(here.call("update_service", wrong).await.unwrap_err().kind, Kind::Invalid);
    let starts = here.engine.with(|state| state.starts);
    here.keep().await;
    assert_eq!(here.engine.with(|state| state.starts), starts);
    let right = json!({ "id": "weather", "memory_limit": "64Mi", "name": "climate" });
    here.call("update_service", right).await.unwrap();
    here.keep().await;
    here.keep().await;
    let it = here.get("climate").await;
    assert_eq!((&it["memory_limit"], &it["status"]), (&json!("64Mi"), &json!("running")));
    assert_eq!(here.engine.with(|state| state.starts), starts + 1);
}
