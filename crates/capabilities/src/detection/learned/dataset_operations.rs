//! `register_dataset`, `list_datasets` and `describe_dataset`.

use opsroom_analytics::classify::arrays::Padding;
use opsroom_analytics::classify::dataset::Description;
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Learned;
use super::layout::{Spec, built_in, stopped};

/// Give a dataset a name, which is then a `data_type` of training and evaluation: a CSV of sequences
/// (`sequence,label`), a folder in LogRobust's layout (`.npy` arrays and a pickle of vectors), or a raw log with
/// `labels`.
///
/// The data are read once, to refuse what cannot be used. A name that is known gets the new place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterDataset {
    /// The name: letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// The CSV, the folder, or the log (a file or a folder of logs), below the configured roots.
    #[schemars(length(max = 300))]
    path: String,
    /// The events' texts, below the configured roots: `id,template`, or one a line.
    #[serde(default)]
    #[schemars(length(max = 300))]
    templates: Option<String>,
    /// Of a folder: the pickle of the events' vectors, when it is not in the folder. Of a CSV or a log: a text
    /// file of words' vectors (GloVe, fastText), of which the events' vectors are made.
    #[serde(default)]
    #[schemars(length(max = 300))]
    vectors: Option<String>,
    /// Of a log: a CSV with `session,label` or `line,label` (lines count from 1; those that it does not name are
    /// normal). The labels 0, `normal` and `-` are normal, any other is an anomaly.
    #[serde(default)]
    #[schemars(length(max = 300))]
    labels: Option<String>,
    /// Of a log: the regular expression of the id that makes lines one session, such as `blk_-?\\d+`. By default
    /// it is guessed, and without one, windows of time or of lines are the rows.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    session: Option<String>,
    /// Of a CSV: another one whose rows only choose.
    #[serde(default)]
    #[schemars(length(max = 300))]
    validation: Option<String>,
    /// Of a CSV: another one whose rows only judge.
    #[serde(default)]
    #[schemars(length(max = 300))]
    test: Option<String>,
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
    let RegisterDataset { name, path, templates, vectors, labels, session, validation, test } = input;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(word) {
        return Err(Error::invalid("name: use 1 to 64 letters, digits, `-` and `_`"));
    }
    let spec = Spec { name, path, templates, vectors, labels, session, validation, test };
    spec.check()?;
    let (files, cancel) = (service.files.clone(), call.cancel.clone());
    let details = Lifecycle::blocking(move || describe(&files, spec, &cancel)).await?;
    let caller = &call.caller;
    service.store.put_dataset(caller.team(), &caller.subject, &details.dataset, service.clock.now()).await?;
    Ok(details)
}

pub(super) async fn list_datasets(service: Learned, call: Call, _: ListDatasets) -> Result<DatasetPage> {
    let mut items = service.store.datasets(&call.caller.teams).await?;
    let (files, config) = (service.files.clone(), service.config.clone());
    Lifecycle::blocking(move || {
        for name in ["aliyun", "cmcc"] {
            let known = items.iter().any(|spec| spec.name == name);
            let spec = built_in(&files, &config, name).filter(|spec| !known && spec.is_there(&files));
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
    let files = service.files.clone();
    service.in_turn(&call, move |cancel| describe(&files, spec, cancel)).await
}

fn describe(files: &Roots, spec: Spec, cancel: &CancellationToken) -> Result<DatasetDetails> {
    let stop = || cancel.is_cancelled();
    let rows = spec.whole(files, Padding::Dropped, &stop)?;
    let mut description = rows.describe();
    stopped(&stop)?;
    let given = spec.given(files)?;
    for (name, part) in [("validation", given.validation), ("test", given.test)] {
        let Some(part) = part else { continue };
        stopped(&stop)?;
        let seen = part.overlap(&rows).into_iter().filter(|seen| *seen).count();
        if seen > 0 {
            description.warnings.push(format!(
                "{seen} of the {} rows of `{name}` have sequences that training has too: figures on them \
                 flatter, so those of the others are told beside",
                part.rows.len()
            ));
        }
    }
    Ok(DatasetDetails { clients: spec.client_count(files)?, description, dataset: spec })
}
