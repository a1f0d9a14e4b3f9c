//! Configuration: defaults, then a YAML file, then the environment, then flags.
//!
//! Any `T` with a default and a schema can be loaded. What is set by each source is checked against
//! the schema, so that a wrong key or value is refused with the place that set it (a line, a variable,
//! a flag), the key, and what would be right. The schema's doc comments make the documented example.
//!
//! *Key* is a dotted path such as `server.port`. *Source* is who set a key last.
//!
//! Structs that are loaded say `#[serde(default, deny_unknown_fields)]`. A field whose schema is
//! `writeOnly` is a secret: its value is in no error and in nothing that is shown.

mod environment;
mod example;
mod node;
mod overlay;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};

pub use environment::environment;
pub use example::example;

/// The most bytes of a configuration file.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most bytes of a file that a `_FILE` variable names.
pub const MAX_VALUE_BYTES: u64 = 64 << 10;

/// Where the values come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The YAML file.
    pub file: ConfigFile,
    /// The environment; see [`environment`].
    pub environment: BTreeMap<String, String>,
    /// Variables outside the `OPSROOM__` pattern and the keys they set, such as
    /// `("DATABASE_URL", "database.url")`. A variable of the pattern wins over one of these.
    pub names: &'static [(&'static str, &'static str)],
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// The YAML file of the configuration.
#[derive(Clone, Debug, Default)]
pub enum ConfigFile {
    /// None is read.
    #[default]
    None,
    /// Read when it exists: the default place.
    IfPresent(PathBuf),
    /// Must exist: the place that somebody named.
    Required(PathBuf),
}

/// A key that the command line sets.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it was written, such as `--port`.
    pub name: String,
    /// The key, such as `server.port`.
    pub key: String,
    /// The value's text.
    pub text: String,
}

/// Who set a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it has its default.
    Default,
    /// A line of the file, from 1.
    File(PathBuf, u64),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("the default"),
            Source::File(path, line) => write!(f, "{}:{line}", path.display()),
            Source::Variable(name) => write!(f, "the variable {name}"),
            Source::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// A configuration, and who set what in it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The values in force.
    pub config: T,
    sources: BTreeMap<String, Source>,
}

impl<T> Loaded<T> {
    /// Who set this key.
    pub fn source(&self, key: &str) -> Source {
        overlay::source_of(&self.sources, key)
    }

    /// Adds to an error of a `validate`, whose message begins with `key: `, who set that key.
    pub fn blame(&self, error: Error) -> Error {
        let key = error.message.split_once(": ").map_or("", |(key, _)| key);
        match self.source(key) {
            Source::Default => error,
            source => Error { message: format!("{} (set by {source})", error.message), ..error },
        }
    }
}

impl<T: Serialize + JsonSchema> Loaded<T> {
    /// The values in force as YAML, each with who set it; secrets are hidden.
    pub fn show(&self) -> Result<String> {
        example::show(&self.config, &self.sources)
    }
}

/// Loads a configuration.
///
/// # Errors
/// `Invalid` names the source, the key, and what would be right; a required file that is missing is
/// `NotFound`.
pub fn load<T>(sources: &Sources) -> Result<Loaded<T>>
where
    T: DeserializeOwned + Serialize + Default + JsonSchema,
{
    let schema = schema::of::<T>();
    let mut layers = overlay::Layers::new(&schema);
    if let Some((path, text)) = read(&sources.file)? {
        layers.add_file(&path, &text)?;
    }
    for (source, key, text) in environment::settings(sources, &schema)? {
        layers.add_text(source, &key, &text)?;
    }
    for flag in &sources.flags {
        layers.add_text(Source::Flag(flag.name.clone()), &flag.key, &flag.text)?;
    }
    layers.finish()
}

fn read(file: &ConfigFile) -> Result<Option<(PathBuf, String)>> {
    let (path, required) = match file {
        ConfigFile::None => return Ok(None),
        ConfigFile::IfPresent(path) => (path, false),
        ConfigFile::Required(path) => (path, true),
    };
    match read_text(path, MAX_FILE_BYTES) {
        Ok(text) => Ok(Some((path.clone(), text))),
        Err(error) if error.kind == Kind::NotFound && !required => Ok(None),
        Err(error) => Err(Error { message: format!("the configuration file: {error}"), ..error }),
    }
}

/// The text of a file that the one who starts the server named; links are followed.
fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let bytes = crate::files::read_named(path, max_bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::invalid(format!("{}:{} is not UTF-8 text", path.display(), line + 1))
    })
}
