//! `list_models`, `get_model`, `delete_model`, `export_model` and `import_model`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opsroom_analytics::classify::detector::Method;
use opsroom_analytics::classify::model::{Model, Provenance};
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Learned, models};

/// List the trained and imported models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListModels {}

/// Show what a model is and how it came to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetModel {
    /// The model's path below the folder of models, as `list_models` shows it.
    #[schemars(length(max = 300))]
    model_path: String,
}

/// Remove a model for good.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteModel {
    /// The model's path below the folder of models, as `list_models` shows it.
    #[schemars(length(max = 300))]
    model_path: String,
}

/// Write a model to a new file below the configured roots.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportModel {
    /// The model's path below the folder of models, as `list_models` shows it.
    #[schemars(length(max = 300))]
    model_path: String,
    /// The new file, below the configured roots: `exports/nightly.safetensors`.
    #[schemars(length(max = 300))]
    path: String,
}

/// Take a model over, from a file below the configured roots or from its content: one of ours, or a PyTorch
/// checkpoint of the first LogRobust server, which is read without being executed and then predicts as the
/// original would.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportModel {
    /// The file, below the configured roots.
    #[serde(default)]
    #[schemars(length(max = 300))]
    path: Option<String>,
    /// The file itself in place of a path, in base64.
    #[serde(default)]
    #[schemars(length(max = 100000000))]
    content: Option<String>,
    /// The name that it gets; by default that of the file. Content needs one.
    #[serde(default)]
    #[schemars(length(max = 200))]
    name: Option<String>,
}

/// The models.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelPage {
    /// The models by path.
    pub items: Vec<ModelFile>,
    /// Whether there are more than are listed.
    pub more: bool,
}

/// A model's file.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelFile {
    /// Its path below the folder of models: the `model_path` of other operations.
    pub model_path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, RFC 3339.
    pub modified_at: String,
}

/// What a model is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelDetails {
    /// Its path below the folder of models.
    pub model_path: String,
    /// How it decides.
    pub method: Method,
    /// Events that it knows; null for an imported network, which takes any vectors.
    pub events: Option<usize>,
    /// Numbers in the vector of an event.
    pub input_width: usize,
    /// The share of anomalies among its training rows.
    pub training_anomalies: f64,
    /// The share of anomalies expected where it is used.
    pub expected_anomalies: f64,
    /// The mean loss of each epoch, if it is a network.
    pub loss_history: Vec<f64>,
    /// How it came to be.
    pub provenance: Provenance,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Exported {
    /// The file.
    pub path: String,
    /// Its size.
    pub bytes: usize,
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deleted {
    /// The model's path below the folder of models.
    pub model_path: String,
}

pub(super) async fn list_models(service: Learned, call: Call, _: ListModels) -> Result<ModelPage> {
    let folder = service.models(&call.caller)?;
    Lifecycle::blocking(move || {
        let mut page = ModelPage { items: Vec::new(), more: false };
        list_below(&folder, "", 0, &mut page)?;
        Ok(page)
    })
    .await
}

fn list_below(folder: &Roots, below: &str, depth: usize, page: &mut ModelPage) -> Result<()> {
    const MOST: usize = 1000;
    let listing = folder.list(below, MOST)?;
    page.more |= listing.more;
    for entry in listing.entries {
        let path = if below.is_empty() { entry.name.clone() } else { format!("{below}/{}", entry.name) };
        if entry.folder {
            if depth < 8 {
                list_below(folder, &path, depth + 1, page)?;
            }
            continue;
        }
        if !models::is_model_file(&entry.name) {
            continue;
        }
        if page.items.len() == MOST {
            page.more = true;
            return Ok(());
        }
        let modified_at = Time(entry.modified.saturating_mul(1_000_000)).to_rfc3339();
        page.items.push(ModelFile { model_path: path, bytes: entry.bytes, modified_at });
    }
    Ok(())
}

pub(super) async fn get_model(service: Learned, call: Call, input: GetModel) -> Result<ModelDetails> {
    let folder = service.models(&call.caller)?;
    service.in_turn(&call, move |_| details(&folder, &input.model_path)).await
}

fn details(folder: &Roots, path: &str) -> Result<ModelDetails> {
    details_of(folder, path, models::find(folder, path)?)
}

fn details_of(folder: &Roots, path: &str, model: Model) -> Result<ModelDetails> {
    Ok(ModelDetails {
        model_path: models::place(folder, path)?.0,
        method: model.detector.method(),
        events: model.space.as_ref().map(|space| space.events.len()),
        input_width: model.input_width(),
        training_anomalies: model.training_share,
        expected_anomalies: model.expected_share,
        loss_history: model.history.iter().map(|epoch| epoch.loss).collect(),
        provenance: model.provenance,
    })
}

pub(super) async fn delete_model(service: Learned, call: Call, input: DeleteModel) -> Result<Deleted> {
    let folder = service.models(&call.caller)?;
    Lifecycle::blocking(move || {
        let (model_path, opened) = models::place(&folder, &input.model_path)?;
        std::fs::remove_file(&opened.path).map_err(|error| {
            Error::unavailable(format!("the model {model_path} cannot be removed: {}", error.kind()))
        })?;
        Ok(Deleted { model_path })
    })
    .await
}

pub(super) async fn export_model(service: Learned, call: Call, input: ExportModel) -> Result<Exported> {
    let (folder, files) = (service.models(&call.caller)?, service.files.clone());
    let work = move |_: &CancellationToken| {
        let bytes = models::to_bytes(&models::find(&folder, &input.model_path)?)?;
        files.create_new(&input.path, &bytes)?;
        Ok(Exported { path: input.path, bytes: bytes.len() })
    };
    service.in_turn(&call, work).await
}

pub(super) async fn import_model(service: Learned, call: Call, input: ImportModel) -> Result<ModelDetails> {
    let (folder, files) = (service.models(&call.caller)?, service.files.clone());
    let work = move |cancel: &CancellationToken| {
        let given = |name: &str| -> Result<String> {
            models::check_name(name)?;
            Ok(format!("{}.{}", name.trim_end_matches(".safetensors"), models::ENDING))
        };
        let (name, model) = match (&input.path, &input.content, &input.name) {
            (Some(path), None, name) => {
                let opened = files.open_read(path)?;
                let name = match name {
                    None => models::imported_name(&opened.path)?,
                    Some(name) => given(name)?,
                };
                (name, models::read_named(path, opened)?)
            }
            (None, Some(content), Some(name)) => {
                let bytes = STANDARD.decode(content.trim()).map_err(|error| {
                    Error::invalid(format!("content: it is not base64 of a file: {error}"))
                })?;
                (given(name)?, models::read(name, &bytes)?)
            }
            (None, Some(_), None) => {
                return Err(Error::invalid("name: a model that comes as `content` needs one"));
            }
            _ => return Err(Error::invalid("give either `path` or `content`")),
        };
        if cancel.is_cancelled() {
            return Err(Error::cancelled("the caller went away before the model was written"));
        }
        models::save_new(&folder, &name, &model)?;
        details_of(&folder, &name, model)
    };
    service.in_turn(&call, work).await
}
