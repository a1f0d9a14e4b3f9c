//! `train`, `predict`, `evaluate` and `import-model`, run as their users run them.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Sequences of six events; those with event 5 or 6 are anomalies. Every anomaly stands for one sequence, a
/// normal row for three.
fn table(rows: usize) -> String {
    let mut text = "Weight,SEQUENCE,Label\n".to_owned();
    for row in 0..rows {
        let odd = row % 3 == 0;
        let repeated = "4 ".repeat(row % 5);
        let last = if !odd {
            "2"
        } else if row % 2 == 0 {
            "5"
        } else {
            "6"
        };
        let (weight, label) = if odd { (1, 7) } else { (3, 0) };
        let order = if row % 4 < 2 { "1 2 1 3" } else { "1 1 2 3" };
        writeln!(text, "{weight},{order} {repeated}{last},{label}").unwrap();
    }
    text
}

fn opsroom(folder: &Path, arguments: &str) -> Output {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    Command::new(env!("CARGO_BIN_EXE_opsroom")).current_dir(folder).args(arguments).output().unwrap()
}

fn json(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &str) -> (i32, String) {
    let output = opsroom(folder, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train.csv"), table(120)).unwrap();
    std::fs::write(folder.path().join("test.csv"), table(30)).unwrap();
    let templates = "Receiving block\nDisk write finished\nResponder closed\nServing read request\nException while writing mirror\nReplica deleted\n";
    std::fs::write(folder.path().join("templates.csv"), templates).unwrap();
    folder
}

#[test]
fn a_model_that_was_trained_judges_every_row_in_order_and_says_why() {
    let folder = folder();
    let at = folder.path();
    let learnt = json(opsroom(at, "train train.csv --templates templates.csv --method tree --out m --json"));
    assert_eq!((&learnt["method"], &learnt["training_rows"]), (&"tree".into(), &120.into()));
    // Nothing in the data says that event 99 is a reworded event 5, but its text does.
    std::fs::write(at.join("new.csv"), "sequence\n1 2 1 3 2\n1 2 1 3 99\n").unwrap();
    std::fs::write(at.join("t.csv"), "id,template\n99,An exception happened while writing mirror\n").unwrap();
    let answer = json(opsroom(at, "predict m new.csv --templates t.csv --json"));
    let verdicts = answer["verdicts"].as_array().unwrap();
    let said: Vec<_> = verdicts.iter().map(|v| (v["row"].as_u64(), v["anomalous"].as_bool())).collect();
    assert_eq!(said, [(Some(0), Some(false)), (Some(1), Some(true))]);
    assert_eq!(verdicts[1]["read_as"][0]["known"], "5");
    assert!(verdicts[1]["probability"].as_f64().unwrap() > 0.5 && verdicts[0].get("events").is_none());
    assert!(!verdicts[1]["nearest_normal"]["differences"].as_array().unwrap().is_empty());
}

#[test]
fn an_evaluation_honours_weights_and_the_best_method_says_why_it_was_chosen() {
    let folder = folder();
    let at = folder.path();
    let learnt = json(opsroom(at, "train train.csv --valid test.csv --epochs 1 --out m --json"));
    assert_eq!(learnt["candidates"].as_array().unwrap().len(), 4);
    assert!(learnt["reason"].as_str().unwrap().contains("had not seen"), "{learnt}");
    let figures = json(opsroom(at, "evaluate m test.csv --json"));
    assert_eq!(figures["support"], 30);
    assert_eq!(figures["classification_report"]["0"]["support"], 20.0);
    assert_eq!(figures["weighted"]["classification_report"]["0"]["support"], 60.0);
    assert_eq!(figures["anomaly_f1"], 1.0);
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let folder = folder();
    let train = |out: &str| {
        let asked =
            format!("train train.csv --method network --epochs 1 --hidden 3 --layers 1 --seed 7 --out {out}");
        assert!(opsroom(folder.path(), &asked).status.success());
        std::fs::read(folder.path().join(out)).unwrap()
    };
    assert_eq!(train("a"), train("b"));
}

#[test]
fn input_that_cannot_be_used_is_refused_by_name_and_leaves_no_file() {
    let folder = folder();
    let at = folder.path();
    for (name, text) in [
        ("one-class.csv", "sequence,label\n1 2,1\n3,1\n"),
        ("no-sequence.csv", "events,label\n1 2,1\n"),
        ("empty.csv", ""),
        ("weight.csv", "sequence,label,weight\n1,0,NaN\n2,1,1\n"),
        ("no-events.csv", "sequence,label\n,1\n"),
    ] {
        std::fs::write(at.join(name), text).unwrap();
        let (code, message) = refused(at, &format!("train {name} --out model"));
        assert_eq!(code, 2, "{name}: {message}");
    }
    for (arguments, code, word) in [
        ("train none.csv --out model", 3, "none.csv"),
        ("train train.csv --out none/model", 3, "none/model"),
        ("train train.csv --out .", 2, "folder"),
        ("train train.csv --hidden 0 --out model", 2, "hidden"),
        ("train train.csv --epochs 0 --out model", 2, "epochs"),
        ("train train.csv --expected-anomalies 80% --out model", 2, "80%"),
        ("train train.csv --method oracle --out model", 2, "oracle"),
        ("predict train.csv test.csv", 2, "train.csv"),
        ("evaluate none test.csv", 3, "none"),
    ] {
        let (found, message) = refused(at, arguments);
        assert!(found == code && message.contains(word), "{arguments}: {found} {message}");
    }
    assert!(!at.join("model").exists());
}

#[test]
fn a_malicious_pickle_is_refused_and_a_good_model_is_kept_under_its_name() {
    let folder = folder();
    let at = folder.path();
    let pickle = b"\x80\x02cos\nsystem\nX\x13\x00\x00\x00echo done > executed\x85R.";
    std::fs::write(at.join("malicious.pkl"), pickle).unwrap();
    let (code, message) = refused(at, "--data-dir data import-model malicious.pkl");
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("malicious.pkl"), "{message}");
    assert!(!at.join("executed").exists() && !at.join("data/models").exists());

    assert!(opsroom(at, "train train.csv --method linear --out own.model").status.success());
    let output = opsroom(at, "import-model own.model --data-dir data");
    let path = String::from_utf8(output.stdout).unwrap();
    assert!(path.trim().ends_with("data/models/own.safetensors"), "{path}");
    assert_eq!(std::fs::read(path.trim()).unwrap(), std::fs::read(at.join("own.model")).unwrap());
    let (code, message) = refused(at, "import-model own.model --data-dir data");
    assert!(code == 5 && message.contains("own.safetensors"), "{code} {message}");
}
