//! Models: reading and importing their files, and the folder in which they are kept.
//!
//! The folder `models` in the data folder holds one safetensors file a model. A model is named by its
//! file's path below that folder; names that the first LogRobust server would have given (`.pkl`) find the
//! file that stands in their place.

use std::path::{Path, PathBuf};

use opsroom_analytics::classify::artifact;
use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::detector::{Detector, Network, Stop};
use opsroom_analytics::classify::foreign::checkpoint;
use opsroom_analytics::classify::model::Model;
use opsroom_analytics::classify::predict::Verdict;
use opsroom_core::files::{Opened, Roots};
use opsroom_core::{Error, Kind, Result};

use super::{refused, refused_of};

/// The ending of a model's file.
pub const ENDING: &str = "safetensors";
/// Bytes of a model's file, at most.
pub const MAX_MODEL_BYTES: u64 = artifact::MAX_BYTES as u64;
/// Events of a sequence that an imported network reads: all of any sequence that can be given.
const IMPORTED_LENGTH: usize = 1_000_000;

/// Reads a model that was saved here, or a PyTorch checkpoint of the first LogRobust server. Nothing in it is
/// executed.
///
/// # Errors
/// `Invalid`, beginning with `name`, for what is neither.
pub fn read(name: &str, bytes: &[u8]) -> Result<Model> {
    // A safetensors file begins with the length of its header, which is a JSON object.
    if bytes.get(8) == Some(&b'{') {
        return Model::from_bytes(bytes).map_err(|error| refused_of(name, error));
    }
    let tensors = checkpoint::read_tensors(bytes).map_err(|error| refused_of(name, error))?;
    let (net, parameters) = checkpoint::network(&tensors).map_err(|error| refused_of(name, error))?;
    Ok(Model::imported(Detector::Network(Network { net, parameters, max_length: IMPORTED_LENGTH })))
}

/// As [`read`], of an open file.
///
/// # Errors
/// Those of [`read`], and `Invalid` for a file that is too large.
pub fn read_opened(opened: Opened) -> Result<Model> {
    let name = opened.path.display().to_string();
    read_named(&name, opened)
}

/// As [`read_opened`], of a file that the caller knows by this name.
///
/// # Errors
/// Those of [`read_opened`].
pub fn read_named(name: &str, opened: Opened) -> Result<Model> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read_all = opened.file.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes);
    read_all.map_err(|error| Error::unavailable(format!("{name} cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        return Err(Error::invalid(format!("{name} has more than {MAX_MODEL_BYTES} bytes, and is no model")));
    }
    read(name, &bytes)
}

/// Whether a file of this name is a model to list: a run's checkpoints are not.
pub fn is_model_file(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    matches!(ending, ENDING | "pkl" | "pt") && stem != "checkpoint"
}

/// The file of a model below the folder of models, and its path there. Names that the first server would
/// have given (`...model_param0.pkl`) find the file in their place.
///
/// # Errors
/// `NotFound` when there is none, `Forbidden` for a path that leaves the folder.
pub fn place(folder: &Roots, path: &str) -> Result<(String, Opened)> {
    let path = path.trim_start_matches("./");
    let stem = path.strip_suffix(".pkl").unwrap_or(path);
    let missing = match folder.open_read(path) {
        Ok(opened) => return Ok((path.to_owned(), opened)),
        Err(error) if error.kind == Kind::NotFound => error,
        Err(error) => return Err(about(error)),
    };
    let instead = format!("{stem}.{ENDING}");
    folder.open_read(&instead).map(|opened| (instead, opened)).map_err(|_| about(missing))
}

fn about(error: Error) -> Error {
    Error { message: format!("model_path: {}; list_models has the models' paths", error.message), ..error }
}

/// Reads a model below the folder of models.
///
/// # Errors
/// Those of [`place`] and of [`read`].
pub fn find(folder: &Roots, path: &str) -> Result<Model> {
    let (path, opened) = place(folder, path)?;
    read_named(&path, opened)
}

/// Writes a model in place of what was there.
///
/// # Errors
/// `Unavailable` when the disk does not take it; what was there stays then.
pub fn replace(folder: &Roots, path: &str, model: &Model) -> Result<()> {
    folder.replace(path, &to_bytes(model)?).map(drop)
}

/// A model's file.
///
/// # Errors
/// `Invalid` for a model that is too large to be saved.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    model.to_bytes().map_err(|error| refused_of("the model cannot be saved", error))
}

/// The folder of models in a data folder, made private when it is missing.
///
/// # Errors
/// `Forbidden` or `Invalid` when it cannot be made or used.
pub fn folder(data_dir: &Path) -> Result<Roots> {
    use std::os::unix::fs::DirBuilderExt;
    let path = data_dir.join("models");
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&path);
    made.map_err(|error| Error::forbidden(format!("{} cannot be made: {error}", path.display())))?;
    Roots::new(&[path])
}

/// The name under which an imported file is kept: its own, with our ending.
///
/// # Errors
/// `Invalid` for a name that is no word of letters, digits, `.`, `-` and `_`.
pub fn imported_name(file: &Path) -> Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    check_name(stem)?;
    Ok(format!("{stem}.{ENDING}"))
}

/// Checks a model's name, without its ending: parts of letters, digits, `.`, `-` and `_`, with `/` between.
///
/// # Errors
/// `Invalid` for another.
pub fn check_name(name: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    if name.len() <= 200 && name.split('/').all(part) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{:?} cannot be a model's name: use letters, digits, `.`, `-` and `_`, such as `nightly-1`",
        name.chars().take(80).collect::<String>()
    )))
}

/// Anomalous rows that are explained together.
const EXPLAINED_AT_ONCE: usize = 4096;

/// Says of every row whether it is an anomaly, and why of those that are: of the first ones, until their
/// reasons name `most` events together; of none for 0. Returns also how many anomalous rows have no reasons.
///
/// # Errors
/// `Invalid` when the model and the data do not fit, `Cancelled` when `stop` says so.
pub fn judge(model: &Model, dataset: &Dataset, most: usize, stop: Stop<'_>) -> Result<(Vec<Verdict>, usize)> {
    let mut verdicts = model.predict_until(dataset, false, stop).map_err(refused)?;
    let anomalous: Vec<usize> = verdicts.iter().filter(|v| v.anomalous).map(|v| v.row).collect();
    let (mut named, mut explained) = (0, 0);
    for rows in anomalous.chunks(EXPLAINED_AT_ONCE) {
        if named >= most {
            break;
        }
        let reasons = model.predict_until(&dataset.select(rows), true, stop).map_err(refused)?;
        for (&row, verdict) in rows.iter().zip(reasons) {
            if named >= most {
                break;
            }
            named += names(&verdict);
            explained += 1;
            let Verdict { probability, anomalous, .. } = verdicts[row];
            verdicts[row] = Verdict { row, probability, anomalous, ..verdict };
        }
    }
    Ok((verdicts, anomalous.len() - explained))
}

/// Events that a verdict's reasons name.
fn names(verdict: &Verdict) -> usize {
    let normal = verdict.nearest_normal.as_ref();
    let normal = normal.map_or(0, |normal| normal.sequence.len() + normal.differences.len());
    1 + verdict.events.len() + verdict.read_as.len() + normal
}

/// Saves a model under a name that is not taken; the path of its file.
///
/// # Errors
/// `Conflict` when there is a model of that name.
pub fn save_new(folder: &Roots, name: &str, model: &Model) -> Result<PathBuf> {
    folder.create_new(name, &to_bytes(model)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_cannot_leave_the_folder() {
        for name in ["nightly-1", "output/run_2e_0.001lr/model_param0"] {
            check_name(name).unwrap();
        }
        for name in
            ["", "..", "a/../b", "/etc/passwd", "a//b", ".hidden", "a b", "a\0", "ü", &"x".repeat(300)]
        {
            assert_eq!(check_name(name).unwrap_err().kind, Kind::Invalid, "{name:?}");
        }
    }

    #[test]
    fn a_pickle_that_calls_a_function_is_refused_by_its_name() {
        let pickle = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.";
        let error = read("malicious.pkl", pickle).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.starts_with("malicious.pkl: "), "{error}");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"{}", b"\x10\0\0\0\0\0\0\0{\"a\":1}", b"not a model at all"] {
            assert_eq!(read("x", bytes).unwrap_err().kind, Kind::Invalid, "{bytes:?}");
        }
    }
}
