//! Datasets below the folders that are open to callers: CSV files, folders in LogRobust's layout, and raw logs.
//!
//! A folder has `data.npy` and `label.npy` (all rows), or `data_{k}.npy` (also `eventIndex_{k}.npy`) and
//! `label_{k}.npy` for each client k, perhaps in `data`, `fedlog` or `Fedlog/data`; and a pickle of vectors.

use std::collections::BTreeMap;

use opsroom_analytics::classify::arrays::{self, Padding};
use opsroom_analytics::classify::dataset::{Dataset, MAX_MEMORY};
use opsroom_analytics::classify::detector::Stop;
use opsroom_analytics::classify::foreign::npy;
use opsroom_analytics::classify::foreign::vectors::read_event_vectors;
use opsroom_analytics::classify::split::{Order, split};
use opsroom_core::files::Roots;
use opsroom_core::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DetectionConfig, raw, read, refused_of};

/// Bytes of an array's file, at most.
const MAX_ARRAY_BYTES: u64 = 1 << 29;
/// Bytes of a pickle of vectors, at most.
const MAX_VECTOR_BYTES: u64 = 256 << 20;
/// Clients of a dataset that are looked for.
pub const MAX_CLIENTS: usize = 1000;

/// Where a dataset is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// Its name: the `data_type` of training.
    pub name: String,
    /// A CSV of sequences, a folder in LogRobust's layout, or a log, below the configured roots.
    pub path: String,
    /// The events' texts.
    pub templates: Option<String>,
    /// The pickle of the events' vectors, when it is not in the folder; of a CSV or a log, a text file of
    /// words' vectors.
    pub vectors: Option<String>,
    /// Of a log: which sessions or lines are anomalies.
    #[serde(default)]
    pub labels: Option<String>,
    /// Of a log: the pattern of the id that makes lines one session.
    #[serde(default)]
    pub session: Option<String>,
    /// A CSV of sequences that only choose.
    #[serde(default)]
    pub validation: Option<String>,
    /// A CSV of sequences that only judge.
    #[serde(default)]
    pub test: Option<String>,
}

/// The rows that a dataset keeps apart by itself.
pub struct Given {
    /// They only choose.
    pub validation: Option<Dataset>,
    /// They only judge.
    pub test: Option<Dataset>,
}

/// The dataset that a name means when nobody has registered it: `aliyun` and `cmcc` are the folders that the
/// configuration names, else those of these names, or the root itself when it holds their files.
pub fn built_in(files: &Roots, config: &DetectionConfig, name: &str) -> Option<Spec> {
    let configured = match name {
        "aliyun" => config.aliyun.as_str(),
        "cmcc" => config.cmcc.as_str(),
        _ => return None,
    };
    let path = match configured {
        "" if files.list(name, 1).is_ok() => name,
        configured => configured,
    };
    Some(Spec { name: name.to_owned(), path: path.to_owned(), ..Spec::default() })
}

impl Spec {
    fn is_table(&self) -> bool {
        self.labels.is_some() || self.path.to_ascii_lowercase().ends_with(".csv")
    }

    /// Whether what is said of it goes together.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, what: &str| Err(Error::invalid(format!("{field}: {what}")));
        if self.labels.is_none() && self.session.is_some() {
            return wrong("session", "it belongs to a raw log, which needs `labels` too");
        }
        if self.labels.is_some() && self.templates.is_some() {
            return wrong("templates", "a raw log's templates are found in it; leave them out");
        }
        let parts = self.validation.is_some() || self.test.is_some();
        if parts && (self.labels.is_some() || !self.is_table()) {
            return wrong("validation, test", "they belong to a CSV of sequences");
        }
        Ok(())
    }

    /// The rows that it keeps apart.
    ///
    /// # Errors
    /// Those of [`Spec::whole`].
    pub fn given(&self, files: &Roots) -> Result<Given> {
        let part = |path: &Option<String>| path.as_deref().map(|path| self.table(files, path)).transpose();
        Ok(Given { validation: part(&self.validation)?, test: part(&self.test)? })
    }

    fn table(&self, files: &Roots, path: &str) -> Result<Dataset> {
        self.with_texts(files, read::sequences(files.open_read(path)?)?)
    }

    /// Whether there is a file of it.
    pub fn is_there(&self, files: &Roots) -> bool {
        let whole = [self.at("data.npy"), self.at("data/data.npy")];
        first(files, &whole).is_ok_and(|found| found.is_some())
            || self.client_files(files, 1).is_ok_and(|found| !found.is_empty())
    }

    /// All rows.
    ///
    /// # Errors
    /// `NotFound` for a file that is not there, `Forbidden` for one outside the roots, `Invalid`, naming the
    /// file, for one that cannot be used.
    pub fn whole(&self, files: &Roots, padding: Padding, stop: Stop<'_>) -> Result<Dataset> {
        if let Some(labels) = &self.labels {
            let rows = raw::dataset(files, &self.path, labels, self.session.as_deref(), stop)?;
            return self.with_texts(files, rows);
        }
        if self.is_table() {
            return self.table(files, &self.path);
        }
        let found = first(files, &[self.at("data.npy"), self.at("data/data.npy")])?;
        if let Some(data) = found {
            let labels = data.trim_end_matches("data.npy").to_owned() + "label.npy";
            return self.arrays(files, &data, &labels, padding);
        }
        let clients = self.client_files(files, MAX_CLIENTS)?;
        if clients.is_empty() {
            return Err(Error::not_found(format!(
                "the dataset {} has neither `{}` nor `{}`; register_dataset says where a dataset is",
                self.name,
                self.at("data.npy"),
                self.at("data_0.npy")
            )));
        }
        Ok(Dataset::join(&self.parts(files, &clients, padding, stop)?))
    }

    /// The rows of each of `wanted` clients: those of its own files as far as there are such, else parts of
    /// all rows, dealt out by `seed`.
    ///
    /// # Errors
    /// Those of [`Spec::whole`].
    pub fn clients(&self, files: &Roots, wanted: usize, seed: u64, stop: Stop<'_>) -> Result<Vec<Dataset>> {
        let found = if self.is_table() { Vec::new() } else { self.client_files(files, wanted)? };
        if !found.is_empty() {
            return self.parts(files, &found, Padding::Dropped, stop);
        }
        let whole = self.whole(files, Padding::Dropped, stop)?;
        let parts = split(&whole, &vec![1.0; wanted], Order::Stratified(seed));
        Ok(parts.iter().map(|places| whole.select(places)).collect())
    }

    /// The rows of several clients' files, which together take no more memory than one dataset may.
    fn parts(
        &self,
        files: &Roots,
        clients: &[(String, String)],
        padding: Padding,
        stop: Stop<'_>,
    ) -> Result<Vec<Dataset>> {
        let (mut parts, mut memory) = (Vec::new(), 0);
        for (data, labels) in clients {
            stopped(stop)?;
            let part = self.arrays(files, data, labels, padding)?;
            memory += part.memory();
            if memory > MAX_MEMORY {
                return Err(Error::invalid(format!(
                    "the clients of the dataset {} up to {data} take more than the {MAX_MEMORY} bytes of memory \
                     that data may",
                    self.name
                )));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// The rows of one client's own files.
    ///
    /// # Errors
    /// `NotFound` when it has none, and those of [`Spec::whole`].
    pub fn client(&self, files: &Roots, client: usize, padding: Padding) -> Result<Dataset> {
        let found = if self.is_table() { Vec::new() } else { self.client_files(files, client + 1)? };
        let Some((data, labels)) = found.get(client) else {
            return Err(Error::not_found(format!(
                "the dataset {} has files of {} clients, numbered from 0, and none of client {client}",
                self.name,
                found.len()
            )));
        };
        self.arrays(files, data, labels, padding)
    }

    /// How many clients have files of their own.
    ///
    /// # Errors
    /// Those of looking for a file.
    pub fn client_count(&self, files: &Roots) -> Result<usize> {
        if self.is_table() { Ok(0) } else { Ok(self.client_files(files, MAX_CLIENTS)?.len()) }
    }

    /// The files of the first clients, at most `most`.
    fn client_files(&self, files: &Roots, most: usize) -> Result<Vec<(String, String)>> {
        for folder in ["fedlog/", "Fedlog/data/", "data/", ""] {
            for stem in ["data", "eventIndex"] {
                let name = |k: usize| self.at(&format!("{folder}{stem}_{k}.npy"));
                let mut found = Vec::new();
                while found.len() < most.min(MAX_CLIENTS) && exists(files, &name(found.len()))? {
                    let k = found.len();
                    found.push((name(k), self.at(&format!("{folder}label_{k}.npy"))));
                }
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
        Ok(Vec::new())
    }

    fn arrays(&self, files: &Roots, data: &str, labels: &str, padding: Padding) -> Result<Dataset> {
        let vectors = self.event_vectors(files)?;
        let (rows, label) = (files.read(data, MAX_ARRAY_BYTES)?, files.read(labels, MAX_ARRAY_BYTES)?);
        let label = npy::read(&label).map_err(|error| refused_of(labels, error))?;
        let dataset = npy::read(&rows)
            .and_then(|rows| arrays::dataset(&rows, Some(&label), vectors.as_ref(), padding))
            .map_err(|error| refused_of(data, error))?;
        self.with_texts(files, dataset)
    }

    /// The vectors of a folder's events; without any, the events' texts must be given.
    fn event_vectors(&self, files: &Roots) -> Result<Option<BTreeMap<String, Vec<f32>>>> {
        let named = match &self.vectors {
            Some(path) => vec![path.clone()],
            None => {
                let own = self.at(&format!("EventId2WordVecter_{}.pickle", self.name));
                vec![own, self.at("EventId2WordVecter.pickle")]
            }
        };
        let Some(path) = first(files, &named)? else {
            if self.templates.is_some() {
                return Ok(None);
            }
            return Err(Error::not_found(format!(
                "there is no `{}` with the vectors of the events of {}",
                named[named.len() - 1],
                self.name
            )));
        };
        let bytes = files.read(&path, MAX_VECTOR_BYTES)?;
        read_event_vectors(&bytes).map(Some).map_err(|error| refused_of(&path, error))
    }

    fn with_texts(&self, files: &Roots, mut dataset: Dataset) -> Result<Dataset> {
        if let Some(path) = &self.templates {
            let texts = read::templates(files.open_read(path)?)?;
            read::add_used(&mut dataset, &texts);
        }
        if let Some(path) = self.vectors.as_deref().filter(|_| self.is_table()) {
            read::add_word_vectors(&mut dataset, files.open_read(path)?)?;
        }
        Ok(dataset)
    }

    /// A file of the dataset's folder.
    fn at(&self, name: &str) -> String {
        let folder = self.path.trim_end_matches('/');
        if matches!(folder, "" | ".") { name.to_owned() } else { format!("{folder}/{name}") }
    }
}

/// Ends work that was asked to stop.
pub fn stopped(stop: Stop<'_>) -> Result<()> {
    if stop() { Err(Error::cancelled("the work was stopped before its end")) } else { Ok(()) }
}

fn exists(files: &Roots, path: &str) -> Result<bool> {
    match files.open_read(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn first(files: &Roots, paths: &[String]) -> Result<Option<String>> {
    for path in paths {
        if exists(files, path)? {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}
