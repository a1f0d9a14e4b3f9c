//! The call record.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn calls_are_written_at_shutdown_at_the_latest_and_listed_by_team() {
    for room in rooms().await {
        let caller = operator();
        let refused = Error::forbidden("no");
        for (operation, error) in [("list_jobs", None), ("get_job", Some(&refused))] {
            room.identity.record_call(&CallRecord {
                caller: &caller,
                operation,
                error,
                took: Duration::from_micros(250),
                request_id: Some("r\u{0}1"),
            });
        }
        room.life.finish(Duration::from_secs(30)).await.unwrap();
        let listed = room.call(&caller, "list_calls", json!({})).await.unwrap();
        let items = listed["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!((&items[0]["operation"], &items[0]["outcome"]), (&json!("get_job"), &json!("forbidden")));
        assert_eq!((&items[1]["outcome"], &items[1]["took_us"]), (&json!("ok"), &json!(250)));
        let one = room.call(&caller, "list_calls", json!({ "outcome": "ok" })).await.unwrap();
        assert_eq!(one["items"].as_array().unwrap().len(), 1);
        let stranger = Caller { teams: vec!["other".to_owned()], ..operator() };
        let none = room.call(&stranger, "list_calls", json!({})).await.unwrap();
        assert_eq!(none["items"], json!([]));
    }
}

#[tokio::test]
async fn a_flood_of_calls_neither_blocks_nor_grows_the_memory_and_is_counted() {
    let room = Room::new(sqlite().await).await;
    let caller = operator();
    let call = CallRecord {
        caller: &caller,
        operation: "list_jobs",
        error: None,
        took: Duration::ZERO,
        request_id: None,
    };
    // Nothing is written meanwhile: this thread, the only one, never waits.
    for _ in 0..30_000 {
        room.identity.record_call(&call);
    }
    assert_eq!(room.identity.calls.dropped(), 10_000);
    let checks = room.identity.capability().checks;
    let check = checks.iter().find(|check| check.name == "call_record").unwrap();
    assert_eq!((check.run)().await.status, Status::Degraded);
}
