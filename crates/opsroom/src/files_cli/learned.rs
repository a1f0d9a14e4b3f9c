//! `opsroom train`, `predict`, `evaluate` and `import-model`: detectors that learn from labelled sequences.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::fit::FitConfig;
use opsroom_analytics::classify::model::Model;
use opsroom_analytics::classify::predict::Verdict;
use opsroom_capabilities::detection::learned::{fitting, models, read};
use opsroom_capabilities::detection::model::parse_share;
use opsroom_core::files::{DataDir, open_named};
use opsroom_core::{Error, Result};
use serde::Serialize;
use serde_json::json;

use super::learned_text;
use super::out::Out;
use super::{bar, ended};

/// `opsroom train`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
DATA.csv has a header with `sequence` (event ids separated by spaces) and `label` (0 is normal, anything
else an anomaly), and perhaps `weight` (how many sequences a row stands for).

Examples:
  opsroom train train.csv --templates templates.csv --expected-anomalies 3% --out hdfs.safetensors
  opsroom train train.csv --method network --epochs 5 --seed 1 --out network.safetensors")]
pub struct TrainArgs {
    /// Labelled sequences to learn from
    #[arg(value_name = "DATA.csv")]
    data: PathBuf,
    /// The events' texts, so that events never seen in training are understood: `id,template`, or one a line
    #[arg(long, value_name = "T.csv")]
    templates: Option<PathBuf>,
    /// How to tell normal sequences from anomalies; auto compares all on sequences not seen in training
    #[arg(long, default_value = "auto", value_parser = ["auto", "network", "tree", "linear", "nearest"])]
    method: String,
    /// Labelled sequences that only choose (the method), and never teach
    #[arg(long, value_name = "V.csv")]
    valid: Option<PathBuf>,
    /// The share of anomalies where the model will be used, such as 3% or 0.03 [default: that of DATA.csv]
    #[arg(long, value_name = "SHARE")]
    expected_anomalies: Option<String>,
    /// The network's hidden units of one direction [default: 10]
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// The network's layers [default: 2]
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// The network's passes over the data [default: 10]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Sequences between two steps of the network [default: 64]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// The seed: the same one gives the same model [default: 2020]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the model goes, in place of what is there
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Print one JSON object about what was learnt
    #[arg(long)]
    json: bool,
}

/// `opsroom predict`
#[derive(clap::Args, Debug)]
pub struct PredictArgs {
    /// The model, as `train` wrote it
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Sequences to judge: a column `sequence` of event ids
    #[arg(value_name = "DATA.csv")]
    data: PathBuf,
    /// The events' texts: `id,template`, or one a line
    #[arg(long, value_name = "T.csv")]
    templates: Option<PathBuf>,
    /// Print one JSON object: {"verdicts": [{"row": 0, "anomalous": true, "probability": 0.98, ...}]}
    #[arg(long)]
    json: bool,
    /// Leave out why a row is an anomaly
    #[arg(long)]
    brief: bool,
}

/// `opsroom evaluate`
#[derive(clap::Args, Debug)]
pub struct EvaluateArgs {
    /// The model, as `train` wrote it
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Labelled sequences; with a column `weight`, the figures by weight are told too
    #[arg(value_name = "DATA.csv")]
    data: PathBuf,
    /// The events' texts: `id,template`, or one a line
    #[arg(long, value_name = "T.csv")]
    templates: Option<PathBuf>,
    /// Print one JSON object: {"accuracy", "f1_score", "classification_report", ...}
    #[arg(long)]
    json: bool,
}

/// `opsroom import-model`
#[derive(clap::Args, Debug)]
pub struct ImportModelArgs {
    /// A model: a safetensors file of ours, or a PyTorch checkpoint of the first LogRobust server
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs `opsroom train`.
pub fn train(args: TrainArgs) -> ExitCode {
    ended(run_train(&args))
}

/// Runs `opsroom predict`.
pub fn predict(args: PredictArgs) -> ExitCode {
    ended(run_predict(&args))
}

/// Runs `opsroom evaluate`.
pub fn evaluate(args: EvaluateArgs) -> ExitCode {
    ended(run_evaluate(&args))
}

/// Runs `opsroom import-model`, into the folder of models of a data folder.
pub fn import_model(args: ImportModelArgs, data_dir: Result<PathBuf>) -> ExitCode {
    ended(data_dir.and_then(|data_dir| run_import(&args, &data_dir)))
}

fn run_train(args: &TrainArgs) -> Result<()> {
    let config = args.config()?;
    // Better now than after the training.
    drop(beside(&args.out)?);
    let templates = args.templates.as_deref();
    let training = dataset(&args.data, templates)?;
    let validation = args.valid.as_deref().map(|valid| dataset(valid, templates)).transpose()?;
    let model = bar::watched(|watch| fitting::train(&training, validation.as_ref(), &config, watch))?;
    save(&args.out, &models::to_bytes(&model)?)?;
    let mut out = Out::new()?;
    if args.json {
        return out.json(&learnt(&model, &args.out));
    }
    bar::warn(&model.provenance.warnings);
    learned_text::learnt(&model, &args.out, &mut out)
}

impl TrainArgs {
    fn config(&self) -> Result<FitConfig> {
        let mut config = FitConfig {
            method: fitting::method(&self.method)?,
            expected_share: self.expected_anomalies.as_deref().map(parse_share).transpose()?,
            ..FitConfig::default()
        };
        let network = &mut config.network;
        network.hidden = self.hidden.unwrap_or(network.hidden);
        network.layers = self.layers.unwrap_or(network.layers);
        let training = &mut network.training;
        training.epochs = self.epochs.unwrap_or(training.epochs);
        training.batch_size = self.batch_size.unwrap_or(training.batch_size);
        training.seed = self.seed.unwrap_or(training.seed);
        network.check().map_err(|error| Error::invalid(error.to_string()))?;
        Ok(config)
    }
}

fn learnt(model: &Model, path: &Path) -> serde_json::Value {
    let provenance = &model.provenance;
    json!({
        "model": path.display().to_string(),
        "method": model.detector.method(),
        "reason": provenance.reason,
        "candidates": provenance.candidates,
        "training_rows": provenance.training_rows,
        "validation_rows": provenance.validation_rows,
        "training_share": model.training_share,
        "expected_share": model.expected_share,
        "seed": provenance.seed,
        "data_hash": provenance.data_hash,
        "loss_history": model.history.iter().map(|epoch| epoch.loss).collect::<Vec<_>>(),
        "warnings": provenance.warnings,
    })
}

#[derive(Serialize)]
struct Verdicts<'a> {
    verdicts: &'a [Verdict],
}

fn run_predict(args: &PredictArgs) -> Result<()> {
    let model = models::read_opened(open_named(&args.model)?)?;
    let data = dataset(&args.data, args.templates.as_deref())?;
    let most = if args.brief { 0 } else { usize::MAX };
    let (verdicts, _) = models::judge(&model, &data, most, &|| false)?;
    let mut out = Out::new()?;
    if args.json {
        return out.json(&Verdicts { verdicts: &verdicts });
    }
    learned_text::verdicts(&verdicts, &mut out)
}

fn run_evaluate(args: &EvaluateArgs) -> Result<()> {
    let model = models::read_opened(open_named(&args.model)?)?;
    let data = dataset(&args.data, args.templates.as_deref())?;
    let evaluation =
        model.evaluate(&data).map_err(|error| Error::invalid(format!("{}: {error}", args.data.display())))?;
    let mut out = Out::new()?;
    if args.json {
        return out.json(&evaluation);
    }
    learned_text::evaluation(&evaluation, &mut out)
}

fn run_import(args: &ImportModelArgs, data_dir: &Path) -> Result<()> {
    let name = models::imported_name(&args.file)?;
    let model = models::read_opened(open_named(&args.file)?)?;
    let folder = models::folder(DataDir::open(data_dir)?.path())?;
    let path = models::save_new(&folder, &name, &model)?;
    let mut out = Out::new()?;
    out.line(format_args!("{}", path.display()))?;
    out.flush()
}

/// A table of sequences, with the texts of its events where they are given.
fn dataset(data: &Path, templates: Option<&Path>) -> Result<Dataset> {
    let texts = templates.map(|path| read::templates(open_named(path)?)).transpose()?;
    let mut dataset = read::sequences(open_named(data)?)?;
    if let Some(texts) = texts {
        read::add_used(&mut dataset, &texts);
    }
    Ok(dataset)
}

/// A file next to where a result will be.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    if path.is_dir() {
        return Err(Error::invalid(format!("{} is a folder; name a file", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(folder).map_err(|error| unwritable(path, &error))
}

/// Writes a file whole, or leaves what is there.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = beside(path)?;
    file.write_all(bytes).map_err(|error| unwritable(path, &error))?;
    file.as_file().sync_all().map_err(|error| unwritable(path, &error))?;
    file.persist(path).map(drop).map_err(|error| unwritable(path, &error.error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    // The whole error would name the file of our own that is written first.
    let text = format!("{} cannot be written: {}", path.display(), error.kind());
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(text),
        std::io::ErrorKind::PermissionDenied => Error::forbidden(text),
        _ => Error::unavailable(text),
    }
}
