//! Registered services are there as long as they are heard of.

use opsroom_core::Kind;
use opsroom_core::testing::{each_database, sqlite};
use serde_json::json;

use super::Here;

#[tokio::test]
async fn a_registered_service_is_found_until_it_falls_silent() {
    for test in each_database().await {
        let here = Here::open(&test).await;
        let input = json!({ "service_id": "maps", "url": "https://maps.example.com/mcp", "tags": ["geo"], "ttl": 60 });
        here.call("register_service", input).await.unwrap();
        here.keep().await;
        assert_eq!(here.services.upstreams().borrow()[0].name, "maps");
        let found = here.call("discover_services", json!({ "tag": "geo" })).await.unwrap();
        assert_eq!(found["items"][0]["service_id"], "maps");
        here.clock.advance_seconds(50);
        here.call("heartbeat_service", json!({ "service_id": "maps", "status": "healthy" })).await.unwrap();
        here.clock.advance_seconds(50);
        let found = here.call("discover_services", json!({ "healthy": true })).await.unwrap();
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "it was heard of");
        here.clock.advance_seconds(11);
        assert_eq!(here.call("discover_services", json!({})).await.unwrap()["items"], json!([]));
        let silent = here.call("heartbeat_service", json!({ "service_id": "maps" })).await.unwrap_err();
        assert_eq!(silent.kind, Kind::NotFound);
        here.keep().await;
        assert!(here.services.upstreams().borrow().is_empty());
    }
}

#[tokio::test]
async fn cross_server_shadowing_a_name_belongs_to_the_team_that_took_it() {
    let test = sqlite().await;
    let mut here = Here::open(&test).await;
    let input = |url: &str| json!({ "service_id": "maps", "url": url });
    here.call("register_service", input("https://maps.example.com/mcp")).await.unwrap();
    here.caller.teams = vec!["others".to_owned()];
    let error = here.call("register_service", input("https://evil.example.com/mcp")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    for operation in ["heartbeat_service", "deregister_service"] {
        let error = here.call(operation, json!({ "service_id": "maps" })).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
    }
    // A service of ours with that name goes first: what is registered cannot stand in its place.
    here.caller.teams = vec!["default".to_owned()];
    here.docker("maps").await.unwrap();
    here.keep().await;
    here.keep().await;
    let upstreams = here.services.upstreams();
    let upstreams = upstreams.borrow();
    assert_eq!(upstreams.len(), 1);
    assert!(!format!("{:?}", upstreams[0].transport).contains("example.com"));
}

#[tokio::test]
async fn ssrf_a_service_cannot_be_registered_at_a_private_address() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    for url in [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:9/",
        "http://0x7f.1/",
        "file:///etc/passwd",
        "https://a@b/",
    ] {
        let error =
            here.call("register_service", json!({ "service_id": "x", "url": url })).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Forbidden | Kind::Invalid), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_official_registry_api_lists_what_is_here() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    for name in ["alpha", "beta", "gamma"] {
        here.docker(name).await.unwrap();
    }
    let first = here.call("list_registry_servers", json!({ "limit": 2 })).await.unwrap();
    assert_eq!(first["metadata"], json!({ "nextCursor": "beta", "count": 2 }));
    assert_eq!(first["servers"][0]["server"]["name"], "opsroom.local/alpha");
    let rest = here.call("list_registry_servers", json!({ "cursor": "beta" })).await.unwrap();
    assert_eq!(rest["metadata"], json!({ "count": 1 }));
    let one = json!({ "server_name": "opsroom.local/gamma", "version": "latest" });
    let one = here.call("get_registry_server", one).await.unwrap();
    assert_eq!(one["server"]["remotes"][0]["url"], "/mcp/services/gamma");
    let none = json!({ "server_name": "elsewhere/gamma" });
    assert_eq!(here.call("list_registry_versions", none).await.unwrap_err().kind, Kind::NotFound);
}
