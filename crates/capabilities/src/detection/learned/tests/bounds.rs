//! What hostile input and crashes may not do: take more memory than its bound, go on when nobody waits, or
//! leave a run that seems to go on.

use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::jobs::{self, Jobs, JobsConfig};

#[tokio::test(flavor = "multi_thread")]
async fn an_array_that_claims_four_hundred_million_items_is_refused_by_its_header() {
    let room = Room::new().await;
    aliyun(&room);
    for (shape, part) in [
        ("(4000000, 100)", "should hold 400000000 items of 8 bytes, but has 80 bytes"),
        ("(400000000, 0)", "400000000 sequences"),
    ] {
        room.file("aliyun/data.npy", npy(shape, &[1; 10]));
        let error = room.refused("describe_dataset", json!({ "name": "aliyun" })).await;
        assert!(error.kind == Kind::Invalid && error.message.contains(part), "{shape}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_millions_of_new_events_is_refused() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(90, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let asked = json!({ "data_type": "mine", "method": "tree", "output_dir": "mine" });
    let path = room.call("train_centralized_model", asked).await.unwrap()["model_save_path"].clone();
    let ids: Vec<String> = (0..300_000).map(|id| format!("e{id}")).collect();
    let asked = json!({ "model_path": path, "sequences": [ids.join(" ")] });
    let error = room.refused("predict_logs", asked).await;
    assert!(error.message.contains("more than 200000 distinct events"), "{error}");
    let asked = json!({ "model_path": path, "sequences": ["1 ".repeat(1_000_001)] });
    let error = room.refused("predict_logs", asked).await;
    assert!(error.message.contains("more than 1000000 events"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_anomalies_are_all_called_and_explained_up_to_a_bound() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(90, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let asked = json!({ "data_type": "mine", "method": "tree", "output_dir": "mine" });
    let path = room.call("train_centralized_model", asked).await.unwrap()["model_save_path"].clone();
    let asked = json!({ "model_path": path, "sequences": vec!["1 2 1 3 5"; 60_000] });
    let said = room.call("predict_logs", asked).await.unwrap();
    let verdicts = said["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 60_000);
    assert!(verdicts.iter().all(|verdict| verdict["anomalous"] == true));
    let explained = verdicts.iter().filter(|verdict| verdict["nearest_normal"].is_object()).count();
    assert!(0 < explained && explained < 60_000);
    let told = format!("{} anomalies have no reasons", 60_000 - explained);
    assert!(said["warnings"].to_string().contains(&told), "{}", said["warnings"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_for_a_caller_who_went_away_stops() {
    let room = Room::new().await;
    aliyun(&room);
    let trained = room.call("train_centralized_model", json!({ "epochs": 1 })).await.unwrap();
    let path = &trained["model_save_path"];
    let gone = || {
        let cancel = CancellationToken::new();
        cancel.cancel();
        Call { cancel, ..Call::new(Caller::operator(Face::Rest)) }
    };
    for (name, asked) in [
        ("predict_logs", json!({ "model_path": path, "log_data": sequences_of_vectors(&rows(12, 5)) })),
        ("evaluate_model", json!({ "model_path": path })),
    ] {
        let error = room.call_as(name, gone(), asked).await.unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled, "{name}: {error}");
    }
    // Clients' files are read one after another, and reading ends between two.
    std::fs::remove_file(room.folder.path().join("files/aliyun/data.npy")).unwrap();
    let error = room.call_as("describe_dataset", gone(), json!({ "name": "aliyun" })).await.unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled, "{error}");
    // Nothing is left waiting for the places that they had.
    for _ in 0..4 {
        room.call("get_model", json!({ "model_path": path })).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_crash_cut_short_is_interrupted_at_once_after_the_start() {
    let room = Room::new().await;
    let clock = room.service.clock.clone();
    room._db.db.migrate(&clock, &[("jobs", &jobs::MIGRATIONS)]).await.unwrap();
    let open = || {
        let (life, events) = (Lifecycle::new(), Events::new(clock.clone()));
        let (db, config) = (room._db.db.clone(), JobsConfig::default());
        Jobs::open(db, clock.clone(), life, events, Metrics::default(), config).unwrap()
    };
    room.file("train.csv", table(&rows(200, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let jobs = open();
    let first = room.service.clone().with_jobs(jobs.clone());
    let operations = first.operations();
    let operation = operations.iter().find(|one| one.name == "train_centralized_model").unwrap();
    let call = Call::new(Caller::operator(Face::Rest));
    let stop = call.cancel.clone();
    let asked = json!({ "data_type": "mine", "epochs": 10000 });
    let running = jobs.start(operation, call, asked).await.unwrap();
    running.detach();
    let status = async |service: &Learned| {
        let operations = service.operations();
        let operation = operations.iter().find(|one| one.name == "get_training_status").unwrap();
        let asked = json!({ "run_id": running.id });
        let call = Call::new(Caller::operator(Face::Rest));
        operation.run(call, asked).await.map(|told| told["centralized"].clone())
    };
    let begun = async {
        // From its acceptance on it is known, also before it begins.
        while status(&first).await.unwrap()["current_epoch"] == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap();
    assert_eq!(status(&first).await.unwrap()["status"], "training");
    // Another server starts on the folder: whatever the row says, the one that ran it is taken for dead.
    let next = open();
    assert_eq!(next.recover().await.unwrap(), 1);
    let second = room.service.clone().with_jobs(next);
    let told = status(&second).await.unwrap();
    assert_eq!(told["status"], "interrupted", "{told}");
    assert!(told["error"].as_str().unwrap().contains("start it again"), "{told}");
    assert!(told["checkpoint"].is_string(), "{told}");
    stop.cancel();
    // Its own end, which comes later, is no success.
    assert!(running.result.await.is_err());
}
