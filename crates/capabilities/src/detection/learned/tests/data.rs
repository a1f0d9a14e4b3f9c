//! Where data and models come from: raw logs, words' vectors, parts that are given, configured folders, content.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A log in which every fifth request fails in one of two ways, and the labels of its requests.
fn log(requests: usize) -> (String, String) {
    let (mut log, mut labels) = (String::new(), "session,label\n".to_owned());
    for at in 0..requests {
        let (minute, second) = (at / 60 % 60, at % 60);
        let mut line = |text: &str| {
            writeln!(log, "2026-01-05 {:02}:{minute:02}:{second:02} INFO req-{at:05} {text}", 10 + at / 3600)
                .unwrap();
        };
        line("request accepted from 10.0.0.7");
        // Later requests read more, so that later sequences are new.
        (0..at / 8).for_each(|read| line(&format!("read {read} rows from orders")));
        let odd = at % 5 == 0;
        match (odd, at % 2) {
            (true, 0) => line("connection pool exhausted, giving up"),
            (true, _) => line("disk quota exceeded while writing journal"),
            _ => line("journal written"),
        }
        line("request answered");
        writeln!(labels, "req-{at:05},{}", if odd { "Anomaly" } else { "Normal" }).unwrap();
    }
    (log, labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_log_is_learnt_from_in_order_of_time_and_its_lines_are_judged() {
    let room = Room::new().await;
    let (log, labels) = log(400);
    room.file("app/app.log", &log);
    room.file("labels.csv", labels);
    let asked =
        json!({ "name": "app", "path": "app/app.log", "labels": "labels.csv", "session": r"req-\d+" });
    let told = room.call("register_dataset", asked).await.unwrap();
    let description = &told["description"];
    assert_eq!((&description["rows"], &description["anomalies"]), (&json!(400), &json!(80)), "{told}");
    assert_eq!(
        (&description["timed"], &description["events_with_template"]),
        (&json!(true), &description["events"])
    );
    let asked = json!({ "data_type": "app", "method": "tree" });
    let trained = room.call("train_centralized_model", asked).await.unwrap();
    assert_eq!(trained["split"]["by"], "time", "{trained}");
    assert_eq!(trained["final_accuracy"], 1.0, "{trained}");
    // Other requests, other numbers, and words that changed since.
    let asked = json!({ "model_path": trained["model_save_path"], "lines": [
        ["2026-02-05 10:00:00 INFO req-77777 request accepted from 10.9.9.9",
         "2026-02-05 10:00:01 INFO req-77777 the connection pool is exhausted, giving up",
         "2026-02-05 10:00:02 INFO req-77777 request answered"],
        ["2026-02-05 10:00:00 INFO req-77778 request accepted from 10.9.9.9",
         "2026-02-05 10:00:01 INFO req-77778 read 17 rows from customers",
         "2026-02-05 10:00:01 INFO req-77778 journal written",
         "2026-02-05 10:00:02 INFO req-77778 request answered"],
    ] });
    let said = room.call("predict_logs", asked).await.unwrap();
    assert_eq!(said["predictions"], json!([1, 0]), "{said}");
    assert!(said["verdicts"][0]["nearest_normal"]["sequence"].is_array(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_can_have_the_labels_and_what_is_wrong_with_a_log_is_named() {
    let room = Room::new().await;
    let (log, labels) = log(200);
    let lines =
        log.lines().enumerate().filter(|(_, line)| line.contains("exhausted") || line.contains("quota"));
    let by_line = lines.map(|(at, _)| format!("{},1\n", at + 1)).collect::<String>();
    room.file("app.log", &log);
    room.file("lines.csv", format!("line,label\n{by_line}"));
    room.file("sessions.csv", labels);
    room.file("others.csv", "session,label\nnobody,1\n");
    let register = |labels: &str, session: &str| json!({ "name": "app", "path": "app.log", "labels": labels, "session": session });
    let told = room.call("register_dataset", register("lines.csv", r"req-\d+")).await.unwrap();
    assert_eq!(told["description"]["anomalies"], 40, "{told}");
    for (asked, part) in [
        (register("others.csv", r"req-\d+"), "names none of the 200 sessions"),
        (register("missing.csv", r"req-\d+"), "missing.csv"),
        (register("app.log", r"req-\d+"), "expected the columns"),
        (register("sessions.csv", "("), "session"),
        (json!({ "name": "app", "path": "app.log", "session": "x" }), "labels"),
        (
            json!({ "name": "app", "path": "app.log", "labels": "lines.csv", "test": "t.csv" }),
            "CSV of sequences",
        ),
    ] {
        let error = room.refused("register_dataset", asked).await;
        assert!(error.message.contains(part), "{part}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_words_make_vectors_of_events() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(240, 0)));
    room.file("texts.csv", "receiving block\ndisk write finished\nresponder closed\nserving read\nexception raised\nreplica lost\n");
    let words = ["receiving", "block", "disk", "write", "finished", "responder", "closed", "serving", "read"];
    let words = words.iter().chain(&["exception", "raised", "replica", "lost"]).enumerate();
    let numbers = |at: usize| (0..8).map(|lane| format!(" {}", (at * 7 + lane * 3) % 11)).collect::<String>();
    room.file("words.txt", words.map(|(at, word)| format!("{word}{}\n", numbers(at))).collect::<String>());
    let asked =
        json!({ "name": "mine", "path": "train.csv", "templates": "texts.csv", "vectors": "words.txt" });
    let told = room.call("register_dataset", asked).await.unwrap();
    assert_eq!(told["description"]["events_with_vector"], told["description"]["events"], "{told}");
    let asked = json!({ "data_type": "mine", "epochs": 15, "learning_rate": 0.02, "batch_size": 16 });
    let trained = room.call("train_centralized_model", asked).await.unwrap();
    assert!(trained["final_accuracy"].as_f64().unwrap() > 0.9, "{trained}");
    let details = room.call("get_model", json!({ "model_path": trained["model_save_path"] })).await.unwrap();
    assert_eq!(details["input_width"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_given_are_kept_and_rows_not_seen_in_training_are_told_beside() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(240, 0)));
    room.file("valid.csv", table(&rows(60, 1)));
    // Half of the rows that judge have other sequences than training.
    let mut judging = rows(40, 0);
    judging.extend(rows(40, 3).into_iter().map(|(mut ids, odd)| {
        ids.extend([4, 4, 4, 4, 4, 4]);
        (ids, odd)
    }));
    room.file("test.csv", table(&judging));
    let asked = json!({ "name": "mine", "path": "train.csv", "validation": "valid.csv", "test": "test.csv" });
    let told = room.call("register_dataset", asked).await.unwrap();
    assert!(told["description"]["warnings"].to_string().contains("40 of the 80 rows of `test`"), "{told}");
    let asked = json!({ "data_type": "mine", "method": "tree" });
    let trained = room.call("train_centralized_model", asked).await.unwrap();
    assert_eq!(trained["split"], json!({ "training": 240, "validation": 60, "test": 80, "by": "given" }));
    assert_eq!(
        (&trained["metrics"]["support"], &trained["unseen_metrics"]["support"]),
        (&json!(80), &json!(40))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_dataset_is_configured() {
    let room = Room::new().await;
    assert_eq!(room.refused("describe_dataset", json!({ "name": "cmcc" })).await.kind, Kind::NotFound);
    let (data, labels) = arrays(&rows(90, 0));
    room.file("elsewhere/cmcc/eventIndex_0.npy", data);
    room.file("elsewhere/cmcc/label_0.npy", labels);
    room.file("elsewhere/cmcc/EventId2WordVecter_cmcc.pickle", pickle(1..=6));
    let told = room.call("describe_dataset", json!({ "name": "cmcc" })).await.unwrap();
    assert_eq!((&told["description"]["rows"], &told["clients"]), (&json!(90), &json!(1)));
    let listed = room.call("list_datasets", json!({})).await.unwrap();
    assert_eq!(listed["items"][0]["path"], "elsewhere/cmcc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_as_content_too() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(120, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let asked = json!({ "data_type": "mine", "method": "linear", "output_dir": "one" });
    room.call("train_centralized_model", asked).await.unwrap();
    let file = room.folder.path().join("data/models/one/model_param.safetensors");
    let content = STANDARD.encode(std::fs::read(file).unwrap());
    let asked = json!({ "content": content, "name": "two" });
    let imported = room.call("import_model", asked).await.unwrap();
    assert_eq!((&imported["model_path"], &imported["method"]), (&json!("two.safetensors"), &json!("linear")));
    let said = async |path: &str| {
        let asked = json!({ "model_path": path, "sequences": ["1 2 1 3 5", "1 2 1 3 2"] });
        room.call("predict_logs", asked).await.unwrap()["probabilities"].clone()
    };
    assert_eq!(said("two.safetensors").await, said("one/model_param.safetensors").await);
    let malicious = STANDARD.encode(b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.");
    for (asked, part) in [
        (json!({ "content": "AAAA" }), "name: "),
        (json!({ "content": "no base64!", "name": "x" }), "content: "),
        (json!({ "content": "AAAA", "path": "x", "name": "x" }), "either"),
        (json!({}), "either"),
        (json!({ "content": malicious, "name": "evil" }), "nothing was executed"),
    ] {
        let error = room.refused("import_model", asked).await;
        assert!(error.kind == Kind::Invalid && error.message.contains(part), "{part}: {error}");
    }
    assert!(!Path::new("executed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_descent_learns_too_and_otherwise() {
    let room = Room::new().await;
    room.file("train.csv", table(&rows(240, 0)));
    room.call("register_dataset", json!({ "name": "mine", "path": "train.csv" })).await.unwrap();
    let train = async |optimizer: &str| {
        let asked = json!({ "data_type": "mine", "epochs": 8, "learning_rate": 0.3, "batch_size": 8,
                            "optimizer": optimizer, "hidden_size": 4, "max_length": 30, "output_dir": optimizer });
        room.call("train_centralized_model", asked).await.unwrap()["loss_history"].clone()
    };
    let sgd = train("sgd").await;
    let (first, last) = (sgd[0].as_f64().unwrap(), sgd[7].as_f64().unwrap());
    assert!(last < 0.9 * first, "{sgd}");
    assert_ne!(sgd, train("adam").await);
    let asked = json!({ "data_type": "mine", "dropout": 1.0 });
    assert!(room.refused("train_centralized_model", asked).await.message.contains("dropout is 1"));
}
