//! Detection without labels on HDFS sessions: ours, the best published rule and two peers.
//!
//! Every method is fitted on 4,855 normal sessions, and on them with 150 (3 %) or 539 (10 %) anomalous
//! sessions among them, drawn from `train.csv` with seeds 0 to 4; nobody is told the share. It then judges
//! `test.csv`, whose weights bring back the abundance of normal sessions, at its own threshold.
//!
//! With `--development` the sessions judged are those of `train.csv` and `valid.csv` that were not drawn:
//! the split on which constants were chosen, so that `test.csv` has no part in any choice.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use opsroom_analytics::detect::DetectorConfig;
use opsroom_analytics::features::{GroupBuilder, Grouping, Groups};
use opsroom_analytics::metrics::{Confusion, Judged, roc_auc};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Sequence = Vec<u32>;

const SEEDS: u64 = 5;
/// Anomalous sessions put among the normal ones.
const SHARES: [(&str, usize); 3] = [("0 %", 0), ("3 %", 150), ("10 %", 539)];
const PEERS: &str = include_str!("../peers/sklearn_detection.py");
/// The share of anomalous sessions in operation, for the development split.
const ABUNDANCE: f64 = 0.0175;

/// One row to judge.
#[derive(Clone)]
struct Row {
    sequence: Sequence,
    anomalous: bool,
    weight: f64,
}

/// A training set and the rows to judge with it.
struct Case {
    /// The share of anomalous sessions among those learnt from, as a place in [`SHARES`].
    share: usize,
    train: Vec<Sequence>,
    rows: Vec<Row>,
}

/// What a method said: a score for each row, and the threshold from which a row is anomalous.
struct Scores {
    scores: Vec<f64>,
    threshold: f64,
}

/// Runs the benchmark and prints its table.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let (mut development, mut with_peers, mut data) = (false, true, None);
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--development" => development = true,
            "--no-peers" => with_peers = false,
            "--data" => data = Some(left.next().ok_or("--data needs a folder")?.clone()),
            other => {
                return Err(
                    format!("unknown option '{other}'; known: --data --development --no-peers").into()
                );
            }
        }
    }
    let cases = cases(&data_folder(data)?, development)?;
    let mut table: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
    let mut put = |method: usize, case: &Case, said: &Scores| {
        let rows: Vec<Judged> = (case.rows.iter().zip(&said.scores))
            .map(|(row, &score)| Judged { score, positive: row.anomalous, weight: row.weight })
            .collect();
        let f1 = Confusion::at(&rows, said.threshold).f1().unwrap_or(0.0);
        table.entry((method, case.share)).or_default().push((f1, roc_auc(&rows).unwrap_or(0.5)));
    };
    let peers = if with_peers { Some(ask_peers(&cases)?) } else { None };
    for (number, case) in cases.iter().enumerate() {
        put(0, case, &ours(case)?);
        put(1, case, &published_rule(case));
        if let Some(peers) = &peers {
            put(2, case, &peers[number].0);
            put(3, case, &peers[number].1);
        }
    }
    print(&table);
    Ok(())
}

fn print(table: &BTreeMap<(usize, usize), Vec<(f64, f64)>>) {
    let names = ["opsroom", "event|length|ECVC .07", "IsolationForest", "PCA, squared error"];
    println!("{:<24}{:<8}{:<28}{:<28}", "method", "share", "weighted F1", "weighted ROC AUC");
    for ((method, share), figures) in table {
        let column = |pick: fn(&(f64, f64)) -> f64| {
            let values: Vec<f64> = figures.iter().map(pick).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            format!("{mean:.4} ({low:.4} to {high:.4})")
        };
        println!(
            "{:<24}{:<8}{:<28}{:<28}",
            names[*method],
            SHARES[*share].0,
            column(|f| f.0),
            column(|f| f.1)
        );
    }
}

fn ours(case: &Case) -> Outcome<Scores> {
    let fitted = DetectorConfig::default().fit(&grouped(case.train.iter()))?;
    let groups = grouped(case.rows.iter().map(|row| &row.sequence));
    let judgement = fitted.judge(&groups)?;
    let scores = judgement.scores().iter().map(|&score| f64::from(score)).collect();
    Ok(Scores { scores, threshold: fitted.threshold() })
}

fn grouped<'a>(sequences: impl Iterator<Item = &'a Sequence>) -> Groups {
    let mut builder = GroupBuilder::new(Grouping::Session);
    for (line, sequence) in (1..).zip(sequences) {
        let key = line.to_string();
        builder.open(line, key.as_bytes());
        for &event in sequence {
            builder.push(line, event, None, false, Some(key.as_bytes()));
        }
    }
    builder.finish()
}

/// The best published rule for normal sessions (Landauer, Skopik and Wurzenberger, 2024): anomalous is an
/// unknown event, a length outside the range seen, or a count vector at least .07 from every one seen.
fn published_rule(case: &Case) -> Scores {
    let known: BTreeSet<Vec<(u32, u32)>> = case.train.iter().map(|s| counted(s)).collect();
    let events: BTreeSet<u32> = case.train.iter().flatten().copied().collect();
    let lengths = || case.train.iter().map(Vec::len);
    let (low, high) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(usize::MAX));
    let mut cache: BTreeMap<Vec<(u32, u32)>, f64> = BTreeMap::new();
    let mut score = |sequence: &Sequence| {
        let strange = sequence.iter().any(|event| !events.contains(event));
        if strange || sequence.len() < low || sequence.len() > high {
            return 2.0;
        }
        let vector = counted(sequence);
        let near = |v: &Vec<(u32, u32)>| known.iter().map(|k| ecvc(v, k)).fold(2.0, f64::min);
        *cache.entry(vector).or_insert_with_key(near)
    };
    Scores { scores: case.rows.iter().map(|row| score(&row.sequence)).collect(), threshold: 0.07 }
}

fn counted(sequence: &[u32]) -> Vec<(u32, u32)> {
    let mut counts = BTreeMap::new();
    for &event in sequence {
        *counts.entry(event).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// The distance of two count vectors: what they differ by, of the most that they could, from 0 to 1.
fn ecvc(a: &[(u32, u32)], b: &[(u32, u32)]) -> f64 {
    let mut both: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for &(event, count) in a {
        both.entry(event).or_default().0 = count;
    }
    for &(event, count) in b {
        both.entry(event).or_default().1 = count;
    }
    let sum = |part: fn(&(u32, u32)) -> u32| both.values().map(part).sum::<u32>();
    let most = sum(|&(x, y)| x.max(y));
    if most == 0 { 0.0 } else { f64::from(sum(|&(x, y)| x.abs_diff(y))) / f64::from(most) }
}

/// What scikit-learn's isolation forest and PCA say of every case.
fn ask_peers(cases: &[Case]) -> Outcome<Vec<(Scores, Scores)>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers");
    let python = home.join("detection/bin/python");
    fs::create_dir_all(&home)?;
    if !python.exists() {
        let venv = home.join("detection");
        call(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        call(Command::new(&python).args(["-m", "pip", "install", "-q", "scikit-learn==1.7.2", "numpy<2.4"]))?;
    }
    let script = home.join("detection_peers.py");
    fs::write(&script, PEERS)?;
    let cases: Vec<serde_json::Value> = cases
        .iter()
        .map(|case| {
            serde_json::json!({
                "train": case.train.iter().map(|s| counted(s)).collect::<Vec<_>>(),
                "rows": case.rows.iter().map(|row| counted(&row.sequence)).collect::<Vec<_>>(),
            })
        })
        .collect();
    let asked = home.join("detection_cases.json");
    fs::write(&asked, serde_json::to_vec(&cases)?)?;
    let output = Command::new(&python).arg(&script).arg(&asked).output()?;
    if !output.status.success() {
        return Err(format!("the peers failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let answers: Vec<BTreeMap<String, (Vec<f64>, f64)>> = serde_json::from_slice(&output.stdout)?;
    let scores = |answer: &BTreeMap<String, (Vec<f64>, f64)>, name: &str| -> Outcome<Scores> {
        let (scores, threshold) = answer.get(name).ok_or("a peer did not answer")?.clone();
        Ok(Scores { scores, threshold })
    };
    answers.iter().map(|answer| Ok((scores(answer, "forest")?, scores(answer, "pca")?))).collect()
}

fn call(command: &mut Command) -> Outcome<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

fn cases(folder: &Path, development: bool) -> Outcome<Vec<Case>> {
    let normal: Vec<Sequence> =
        fs::read_to_string(folder.join("normal_only.txt"))?.lines().map(sequence).collect::<Outcome<_>>()?;
    let train = rows(folder, "train.csv")?;
    let (valid, test) = (rows(folder, "valid.csv")?, rows(folder, "test.csv")?);
    let anomalous: Vec<usize> = (0..train.len()).filter(|&i| train[i].anomalous).collect();
    let mut cases = Vec::new();
    for (share, (_, count)) in SHARES.into_iter().enumerate() {
        for seed in 0..if count == 0 { 1 } else { SEEDS } {
            let drawn = draw(&anomalous, count, seed);
            let mut learnt = normal.clone();
            learnt.extend(drawn.iter().map(|&i| train[i].sequence.clone()));
            let judged = if development { rest(&train, &valid, &drawn) } else { test.clone() };
            cases.push(Case { share, train: learnt, rows: judged });
        }
    }
    Ok(cases)
}

/// Draws without putting back; the same seed draws the same rows everywhere.
fn draw(from: &[usize], count: usize, seed: u64) -> BTreeSet<usize> {
    let mut left = from.to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    for i in 0..count {
        // Marsaglia's xorshift, scrambled by a multiplication (Vigna, 2016).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let j = i + (random >> 33) as usize % (left.len() - i);
        left.swap(i, j);
    }
    left[..count].iter().copied().collect()
}

/// The rows of the development split, weighted to the abundance of anomalies in operation.
fn rest(train: &[Row], valid: &[Row], drawn: &BTreeSet<usize>) -> Vec<Row> {
    let kept = train.iter().enumerate().filter(|(i, _)| !drawn.contains(i)).map(|(_, row)| row);
    let mut rows: Vec<Row> = kept.chain(valid).cloned().collect();
    let anomalous = rows.iter().filter(|row| row.anomalous).count() as f64;
    let normal = rows.len() as f64 - anomalous;
    let weight = anomalous * (1.0 - ABUNDANCE) / ABUNDANCE / normal;
    rows.iter_mut().for_each(|row| row.weight = if row.anomalous { 1.0 } else { weight });
    rows
}

/// Reads `sequence,label[,weight,..]` with a header.
fn rows(folder: &Path, name: &str) -> Outcome<Vec<Row>> {
    let text = fs::read_to_string(folder.join(name))?;
    let row = |line: &str| -> Outcome<Row> {
        let mut fields = line.split(',');
        let mut next = || fields.next().ok_or_else(|| format!("{name}: too few fields in {line:?}"));
        let (sequence, anomalous) = (sequence(next()?)?, next()? == "1");
        Ok(Row { sequence, anomalous, weight: next().map_or(Ok(1.0), str::parse)? })
    };
    text.lines().skip(1).map(row).collect()
}

fn sequence(text: &str) -> Outcome<Sequence> {
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

fn data_folder(flag: Option<String>) -> Outcome<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration of its own")]
    let named = flag.or_else(|| std::env::var("OPSROOM_BENCH_DATA").ok());
    let root = PathBuf::from(named.ok_or("name the data folder with --data or OPSROOM_BENCH_DATA")?);
    let inner = root.join("logs/hdfs_sequences");
    let folder = if inner.is_dir() { inner } else { root };
    if folder.join("test.csv").is_file() {
        Ok(folder)
    } else {
        Err(format!("{} has no logs/hdfs_sequences/test.csv", folder.display()).into())
    }
}
