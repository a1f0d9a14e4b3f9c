//! What training promises: the tools in their order, on small data made here.

mod bounds;
mod data;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use opsroom_core::caller::Face;
use opsroom_core::clock::{Clock, Time};
use opsroom_core::files::Roots;
use opsroom_core::id::new_id;
use opsroom_core::job::Progress;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Caller, Error, Kind, Result};
use serde_json::{Value, json};

use super::{DetectionConfig, Learned, MIGRATIONS};

/// A service over a folder of data and one of models.
struct Room {
    service: Learned,
    folder: tempfile::TempDir,
    _db: TestDb,
}

impl Room {
    async fn over(db: TestDb) -> Self {
        let clock = Clock::manual(Time(1_700_000_000_000_000));
        db.db.migrate(&clock, &[("detection", &MIGRATIONS)]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        std::fs::create_dir(&files).unwrap();
        let roots = Roots::new(&[files]).unwrap();
        let config = DetectionConfig { cmcc: "elsewhere/cmcc".to_owned(), ..DetectionConfig::default() };
        let service = Learned::new(roots, config, &folder.path().join("data"), db.db.clone(), clock);
        Self { service, folder, _db: db }
    }

    async fn new() -> Self {
        Self::over(sqlite().await).await
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join("files").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    async fn call(&self, name: &str, input: Value) -> Result<Value> {
        self.call_as(name, Call { job: Some(new_id()), ..Call::new(Caller::operator(Face::Rest)) }, input)
            .await
    }

    async fn call_as(&self, name: &str, call: Call, input: Value) -> Result<Value> {
        let operations = self.service.operations();
        let operation = operations.iter().find(|operation| operation.name == name).unwrap();
        let answer = operation.run(call, input).await?;
        jsonschema::validate(operation.output(), &answer).unwrap();
        Ok(answer)
    }

    async fn refused(&self, name: &str, input: Value) -> Error {
        self.call(name, input).await.unwrap_err()
    }
}

/// Numbers in the vectors of events.
const WIDTH: usize = 6;

/// Ids of event sequences, and whether each is an anomaly: those with event 5 or 6.
fn rows(count: usize, salt: usize) -> Vec<(Vec<i64>, bool)> {
    let row = |at: usize| {
        let at = at * 7 + salt;
        let mut ids = vec![1, 2, 1, 3];
        ids.extend(std::iter::repeat_n(4, at % 5));
        ids.rotate_left(at % 4);
        let odd = at.is_multiple_of(3);
        ids.push(if !odd {
            2
        } else if at.is_multiple_of(2) {
            5
        } else {
            6
        });
        ids.rotate_right(at % 3);
        (ids, odd)
    };
    (0..count).map(row).collect()
}

fn table(rows: &[(Vec<i64>, bool)]) -> String {
    let mut text = "sequence,label\n".to_owned();
    for (ids, odd) in rows {
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        writeln!(text, "{},{}", ids.join(" "), u8::from(*odd)).unwrap();
    }
    text
}

fn npy(shape: &str, items: &[i64]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(items.iter().flat_map(|item| item.to_le_bytes()));
    bytes
}

/// Arrays of sequences, filled up with 0 to one length, and of labels.
fn arrays(rows: &[(Vec<i64>, bool)]) -> (Vec<u8>, Vec<u8>) {
    const LENGTH: usize = 10;
    let mut ids = Vec::new();
    for (row, _) in rows {
        ids.extend(row);
        ids.extend(std::iter::repeat_n(0, LENGTH - row.len()));
    }
    let labels: Vec<i64> = rows.iter().map(|row| i64::from(row.1)).collect();
    (npy(&format!("({}, {LENGTH})", rows.len()), &ids), npy(&format!("({},)", rows.len()), &labels))
}

fn vector(id: i64) -> Vec<f64> {
    (0..WIDTH).map(|at| if at as i64 == id % WIDTH as i64 { 1.0 } else { 0.1 }).collect()
}

/// A pickled dictionary of lists, protocol 2.
fn pickle(ids: impl Iterator<Item = i64>) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for id in ids {
        bytes.push(b'K');
        bytes.push(id as u8);
        bytes.extend(b"](");
        for value in vector(id) {
            bytes.push(b'G');
            bytes.extend(value.to_be_bytes());
        }
        bytes.push(b'e');
    }
    bytes.extend(b"u.");
    bytes
}

/// The folder `aliyun` in LogRobust's layout, with two clients.
fn aliyun(room: &Room) {
    let (data, labels) = arrays(&rows(240, 0));
    room.file("aliyun/data.npy", data);
    room.file("aliyun/label.npy", labels);
    for client in 0..2 {
        let (data, labels) = arrays(&rows(120 + 60 * client, client));
        room.file(&format!("aliyun/fedlog/data_{client}.npy"), data);
        room.file(&format!("aliyun/fedlog/label_{client}.npy"), labels);
    }
    room.file("aliyun/EventId2WordVecter.pickle", pickle(1..=6));
}

fn sequences_of_vectors(rows: &[(Vec<i64>, bool)]) -> Value {
    let sequence = |row: &(Vec<i64>, bool)| row.0.iter().map(|&id| json!(vector(id))).collect::<Value>();
    rows.iter().map(sequence).collect()
}

fn has(answer: &Value, fields: &[&str]) {
    let missing: Vec<_> = fields.iter().filter(|field| answer.get(**field).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_tools_answer_in_the_order_of_the_first_servers_example() {
    let room = Room::new().await;
    aliyun(&room);
    let idle = room.call("get_training_status", json!({})).await.unwrap();
    assert_eq!((&idle["federated"]["status"], &idle["centralized"]["progress"]), (&json!("idle"), &json!(0)));

    let asked = json!({ "num_clients": 6, "global_epochs": 3, "local_epochs": 2, "learning_rate": 0.02 });
    let trained = room.call("train_federated_model", asked).await.unwrap();
    let fields = ["model_save_dir", "loss_history", "accuracy_history", "final_accuracy", "client_reports"];
    has(&trained, &fields);
    assert_eq!((&trained["clients_used"], trained["best_scores"].as_array().unwrap().len()), (&json!(2), 2));
    assert!(trained["warnings"].to_string().contains("6 clients were asked for, and 2"), "{trained}");
    let folder = trained["model_save_dir"].as_str().unwrap();
    assert_eq!(folder, "output/fedlog_aliyun_logs_3e_2locEpoch_0.02lr_64bs_6ws/model_save");
    has(
        &trained["client_reports"][0],
        &["classification_report", "precision", "recall", "f1_score", "support"],
    );

    let asked = json!({ "epochs": 30, "learning_rate": 0.02, "batch_size": 16, "gpu_id": -1 });
    let central = room.call("train_centralized_model", asked).await.unwrap();
    has(&central, &["model_save_path", "loss_history", "accuracy_history", "final_accuracy", "metrics"]);
    assert_eq!(central["loss_history"].as_array().unwrap().len(), 30);
    assert_eq!(central["accuracy_history"].as_array().unwrap().len(), 30);
    assert!(central["final_accuracy"].as_f64().unwrap() > 0.9, "{central}");
    let split: u64 =
        ["training", "validation", "test"].iter().map(|p| central["split"][p].as_u64().unwrap()).sum();
    assert_eq!(split, 240);

    let status = room.call("get_training_status", json!({ "model_type": "centralized" })).await.unwrap();
    assert!(status.get("federated").is_none());
    let status = &status["centralized"];
    assert_eq!(
        (&status["status"], &status["progress"], &status["current_epoch"]),
        (&json!("completed"), &json!(100), &json!(30))
    );
    assert_eq!(
        (&status["loss"], status["f1_score"].as_array().unwrap().len()),
        (&central["loss_history"], 30)
    );
    assert_eq!(status["run_id"], central["run_id"]);
    let results = room.call("get_training_results", json!({})).await.unwrap();
    assert_eq!((&results["federated"], &results["centralized"]), (&trained, &central));

    // The path that the first server would have answered finds the file in its place.
    let path = format!("{folder}/model_param1.pkl");
    let asked = json!({ "model_path": path, "client_id": 1, "batch_size": 8 });
    let evaluated = room.call("evaluate_model", asked).await.unwrap();
    has(&evaluated, &["test_loss", "accuracy", "classification_report", "precision", "recall", "f1_score"]);
    assert_eq!(evaluated["support"], 180);

    let rows = rows(12, 5);
    let asked = json!({ "model_path": central["model_save_path"], "log_data": sequences_of_vectors(&rows) });
    let said = room.call("predict_logs", asked).await.unwrap();
    let wanted: Vec<u8> = rows.iter().map(|row| u8::from(row.1)).collect();
    assert_eq!((&said["predictions"], &said["anomaly_flags"]), (&json!(wanted), &json!(wanted)));
    for pair in said["probabilities"].as_array().unwrap() {
        assert!((pair[0].as_f64().unwrap() + pair[1].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
    assert!(said["warnings"].to_string().contains("CPU"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_its_last_checkpoint_and_says_cancelled() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(300, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let call = Call::new(Caller::operator(Face::Rest));
    let (cancel, id) = (call.cancel.clone(), new_id());
    // The first word that an epoch is done asks the run to stop.
    let progress = Progress::to(move |step| {
        if step.message.starts_with("loss") {
            cancel.cancel();
        }
    });
    let asked = json!({ "data_type": "mine", "epochs": 5000, "hidden_size": 3 });
    let call = Call { progress, job: Some(id.clone()), ..call };
    let error = room.call_as("train_centralized_model", call, asked).await.unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
    let status = room.call("get_training_status", json!({ "run_id": id })).await.unwrap();
    assert!(status.get("federated").is_none());
    let status = &status["centralized"];
    assert_eq!((&status["status"], &status["current_epoch"]), (&json!("cancelled"), &json!(1)));
    let checkpoint = status["checkpoint"].as_str().unwrap();
    let details = room.call("get_model", json!({ "model_path": checkpoint })).await.unwrap();
    assert_eq!(details["loss_history"], status["loss"]);
    let asked = json!({ "model_path": checkpoint, "sequences": ["1 2 1 3 2"] });
    assert_eq!(room.call("predict_logs", asked).await.unwrap()["predictions"].as_array().unwrap().len(), 1);
    let results = room.call("get_training_results", json!({ "run_id": id })).await.unwrap();
    assert_eq!(results, json!({ "centralized": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_side_by_side_while_their_status_is_answered() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(200, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let train = |seed: u64| {
        let asked =
            json!({ "data_type": "mine", "epochs": 60, "seed": seed, "output_dir": format!("run{seed}") });
        room.call("train_centralized_model", asked)
    };
    let ask = async {
        loop {
            let status = room.call("get_training_status", json!({})).await.unwrap();
            if status["centralized"]["status"] == "training" {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (one, two, seen) =
        tokio::join!(train(1), train(2), tokio::time::timeout(Duration::from_secs(60), ask));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(seen.is_ok() && one["run_id"] != two["run_id"]);
    let of_one = room.call("get_training_results", json!({ "run_id": one["run_id"] })).await.unwrap();
    assert_eq!(of_one["centralized"], one);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_method_is_chosen_when_asked_and_the_seed_decides_the_bytes() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(200, 0)));
    room.file("t.csv", "Receiving\nWritten\nClosed\nServing\nException while writing\nDeleted\n");
    let dataset = json!({ "name": "mine", "path": "train.csv", "templates": "t.csv" });
    let described = room.call("register_dataset", dataset).await.unwrap();
    assert_eq!((&described["description"]["rows"], &described["clients"]), (&json!(200), &json!(0)));
    let asked = |out: &str| json!({ "data_type": "mine", "method": "auto", "epochs": 2, "output_dir": out });
    let one = room.call("train_centralized_model", asked("one")).await.unwrap();
    let two = room.call("train_centralized_model", asked("two")).await.unwrap();
    assert_eq!((one["candidates"].as_array().unwrap().len(), &one["data_hash"]), (4, &two["data_hash"]));
    let bytes = |out: &str| {
        std::fs::read(room.folder.path().join(format!("data/models/{out}/model_param.safetensors")))
    };
    assert_eq!(bytes("one").unwrap(), bytes("two").unwrap());
    // A dataset without clients' files is dealt out to as many clients as asked.
    let asked = json!({ "data_type": "mine", "num_clients": 3, "global_epochs": 1, "local_epochs": 1, "privacy_noise": 1.0 });
    let trained = room.call("train_federated_model", asked).await.unwrap();
    assert_eq!(trained["clients_used"], 3);
    assert!(trained["epsilon"].as_f64().unwrap() > 0.0 && trained["delta"] == json!(1e-5), "{trained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_shown_exported_imported_and_deleted() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(90, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let asked = json!({ "data_type": "mine", "method": "tree", "output_dir": "mine" });
    room.call("train_centralized_model", asked).await.unwrap();
    let path = "mine/model_param.safetensors";
    let listed = room.call("list_models", json!({})).await.unwrap();
    assert_eq!(
        (&listed["items"][0]["model_path"], listed["items"].as_array().unwrap().len()),
        (&json!(path), 1)
    );
    let shown = room.call("get_model", json!({ "model_path": path })).await.unwrap();
    assert_eq!((&shown["method"], &shown["events"]), (&json!("tree"), &json!(6)));
    room.call("export_model", json!({ "model_path": path, "path": "out/tree.safetensors" })).await.unwrap();
    let error = room.refused("export_model", json!({ "model_path": path, "path": "../tree" })).await;
    assert!(matches!(error.kind, Kind::Forbidden | Kind::Invalid), "{error}");
    let imported =
        room.call("import_model", json!({ "path": "out/tree.safetensors", "name": "kept" })).await.unwrap();
    assert_eq!(imported["model_path"], "kept.safetensors");
    let error = room.refused("import_model", json!({ "path": "out/tree.safetensors", "name": "kept" })).await;
    assert_eq!(error.kind, Kind::Conflict);
    room.call("delete_model", json!({ "model_path": "kept.pkl" })).await.unwrap();
    let error = room.refused("get_model", json!({ "model_path": "kept.safetensors" })).await;
    assert!(error.kind == Kind::NotFound && error.message.contains("list_models"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malicious_pickle_is_refused_and_no_file_appears() {
    let room = Room::new().await;
    room.file("malicious.pkl", b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.");
    let error = room.refused("import_model", json!({ "path": "malicious.pkl" })).await;
    assert!(error.kind == Kind::Invalid && error.message.contains("nothing was executed"), "{error}");
    aliyun(&room);
    room.file("aliyun/EventId2WordVecter.pickle", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.");
    let error = room.refused("train_centralized_model", json!({ "epochs": 1 })).await;
    assert!(error.kind == Kind::Invalid && error.message.contains("EventId2WordVecter.pickle"), "{error}");
    assert!(!Path::new("executed").exists());
    assert_eq!(room.call("list_models", json!({})).await.unwrap()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_cannot_be_used_is_refused_by_name_and_the_run_says_error() {
    let good = arrays(&rows(60, 0));
    let labels = |count: usize| npy(&format!("({count},)"), &vec![1; count]);
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("aliyun/data.npy", b"no array".to_vec(), "data.npy"),
        ("aliyun/data.npy", npy("(4,)", &[1, 2, 3, 4]), "data.npy"),
        ("aliyun/data.npy", npy("(0, 10)", &[]), "data.npy"),
        ("aliyun/label.npy", labels(59), "59 labels for 60"),
        ("aliyun/label.npy", labels(60), "both labels"),
        ("aliyun/EventId2WordVecter.pickle", pickle(1..=5), "event ids 6"),
        ("aliyun/EventId2WordVecter.pickle", b"\x80\x02}.".to_vec(), "no vectors"),
    ];
    for (file, bytes, word) in cases {
        let room = Room::new().await;
        aliyun(&room);
        room.file("aliyun/data.npy", &good.0);
        room.file("aliyun/label.npy", &good.1);
        room.file(file, bytes);
        let error = room.refused("train_centralized_model", json!({ "epochs": 1 })).await;
        assert!(error.kind == Kind::Invalid && error.message.contains(word), "{file}: {error}");
        let status = room.call("get_training_status", json!({})).await.unwrap();
        assert_eq!(
            (&status["centralized"]["status"], &status["centralized"]["error"]),
            (&json!("error"), &json!(error.message))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_paths_that_cannot_be_used_are_refused_by_name() {
    let room = Room::new().await;
    aliyun(&room);
    let central = "train_centralized_model";
    let federated = "train_federated_model";
    let epochs = json!({ "epochs": 1 });
    room.call(central, epochs).await.unwrap();
    let path = "output/centralized_aliyun_1e_0.001lr_64bs/model_param.pkl";
    for (name, input, word) in [
        (central, json!({ "learning_rate": 0 }), "learning_rate"),
        (central, json!({ "data_type": "cmcc" }), "cmcc"),
        (central, json!({ "data_type": "nobody" }), "nobody"),
        (central, json!({ "data_type": "../etc" }), "../etc"),
        (central, json!({ "output_dir": "../out" }), "output_dir"),
        (central, json!({ "output_dir": "/tmp/out" }), "output_dir"),
        (central, json!({ "expected_anomalies": 1.5 }), "1.5"),
        (federated, json!({ "num_clients": 0 }), "num_clients"),
        (federated, json!({ "num_clients": 1 }), "num_clients"),
        (federated, json!({ "participation": 0 }), "participation"),
        ("predict_logs", json!({ "model_path": path, "log_data": [[[1.0, 2.0]]] }), "has 2 numbers"),
        ("predict_logs", json!({ "model_path": path, "log_data": [] }), "no sequences"),
        ("predict_logs", json!({ "model_path": path }), "log_data"),
        ("predict_logs", json!({ "model_path": "../../etc/passwd", "sequences": ["1"] }), "model_path"),
        ("evaluate_model", json!({ "model_path": "none.pkl" }), "none.pkl"),
        ("evaluate_model", json!({ "model_path": path, "client_id": 7 }), "client 7"),
        ("register_dataset", json!({ "name": "x", "path": "/etc" }), "/etc"),
        ("register_dataset", json!({ "name": "a b", "path": "aliyun" }), "name"),
        ("describe_dataset", json!({ "name": "nobody" }), "nobody"),
    ] {
        let error = room.refused(name, input.clone()).await;
        assert!(error.message.contains(word) && error.kind != Kind::Internal, "{name} {input}: {error}");
    }
    let diverged = json!({ "learning_rate": 1e9, "epochs": 50, "method": "network" });
    if let Err(error) = room.call(central, diverged).await {
        assert!(error.message.contains("learning rate"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_datasets_are_kept_on_every_database() {
    for db in each_database().await {
        let room = Room::over(db).await;
        room.file("train.csv", table(&rows(60, 0)));
        room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
        room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
        assert_eq!(
            room.call("list_datasets", json!({})).await.unwrap()["items"].as_array().unwrap().len(),
            1
        );
        let asked = json!({ "data_type": "mine", "epochs": 1, "hidden_size": 2, "num_layers": 1 });
        let trained = room.call("train_centralized_model", asked).await.unwrap();
        let results =
            room.call("get_training_results", json!({ "model_type": "centralized" })).await.unwrap();
        assert_eq!(results["centralized"]["run_id"], trained["run_id"]);
        let error = room.refused("get_training_status", json!({ "run_id": "\0" })).await;
        assert_eq!(error.kind, Kind::NotFound);
        let mut other = Caller::operator(Face::Rest);
        other.teams = vec!["others".to_owned()];
        let seen = room.call_as("get_training_status", Call::new(other), json!({})).await.unwrap();
        assert_eq!(seen["centralized"]["status"], "idle", "another team's run does not exist");
    }
}
