//! `register_dataset`, `list_datasets` and `describe_dataset`.

use opsroom_analytics::classify::arrays::Padding;
use opsroom_analytics::classify::dataset::Description;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Learned;
use super::layout::{Spec, built_in};

/// Give a dataset a name, which is then a `data_type` of training and evaluation: a CSV of sequences
/// (`sequence,label`), or a folder in LogRobust's layout (`.npy` arrays and a pickle of vectors).
///
/// The data are read once, to refuse what cannot be used. A name that is known gets the new place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterDataset {
    /// The name: letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// The CSV or the folder, below the configured roots.
    #[schemars(length(max = 300))]
    path: String,
    /// The events' texts, below the configured roots: `id,template`, or one a line.
    #[serde(default)]
    #[schemars(length(max = 300))]
    templates: Option<String>,
    /// The pickle of the events' vectors, when it is not in the folder.
    #[serde(default)]
    #[schemars(length(max = 300))]
    vectors: Option<String>,
}

/// List the datasets that training can name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDatasets {}

/// Describe a dataset: sizes, balance, duplicates, contradictions, and what to know before trusting figures.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeDataset {
    /// The dataset's name.
    #[schemars(length(max = 64))]
    name: String,
}

/// The datasets.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DatasetPage {
    /// The datasets by name.
    pub items: Vec<Spec>,
}

/// What a dataset is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DatasetDetails {
    /// Where it is.
    pub dataset: Spec,
    /// Clients that have files of their own.
    pub clients: usize,
    /// What it holds.
    pub description: Description,
}

pub(super) async fn register_dataset(
    service: Learned,
    call: Call,
    input: RegisterDataset,
) -> Result<DatasetDetails> {
    let RegisterDataset { name, path, templates, vectors } = input;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(word) {
        return Err(Error::invalid("name: use 1 to 64 letters, digits, `-` and `_`"));
    }
    let spec = Spec { name, path, templates, vectors };
    let details = describe(&service, spec).await?;
    let caller = &call.caller;
    service.store.put_dataset(caller.team(), &caller.subject, &details.dataset, service.clock.now()).await?;
    Ok(details)
}

pub(super) async fn list_datasets(service: Learned, call: Call, _: ListDatasets) -> Result<DatasetPage> {
    let mut items = service.store.datasets(&call.caller.teams).await?;
    let files = service.files.clone();
    Lifecycle::blocking(move || {
        for name in ["aliyun", "cmcc"] {
            let known = items.iter().any(|spec| spec.name == name);
            let spec = built_in(&files, name).filter(|spec| !known && spec.is_there(&files));
            items.extend(spec);
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(DatasetPage { items })
    })
    .await
}

pub(super) async fn describe_dataset(
    service: Learned,
    call: Call,
    input: DescribeDataset,
) -> Result<DatasetDetails> {
    let spec = service.spec(&call.caller, &input.name).await?;
    describe(&service, spec).await
}

async fn describe(service: &Learned, spec: Spec) -> Result<DatasetDetails> {
    let files = service.files.clone();
    Lifecycle::blocking(move || {
        let description = spec.whole(&files, Padding::Dropped)?.describe();
        Ok(DatasetDetails { clients: spec.client_count(&files)?, description, dataset: spec })
    })
    .await
}
