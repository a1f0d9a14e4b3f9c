//! What can be wrong with labelled data, a model or a file of either.

use crate::recurrent::train::TrainError;

/// Why a dataset, a model or a file was refused. Every message names the culprit.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ClassifyError {
    /// A table of text is not what it should be.
    #[error("line {line} of the {what}: {problem}")]
    Table {
        /// Which table.
        what: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong there, and what would be right.
        problem: String,
    },
    /// A binary file is not what it should be.
    #[error("the {what} cannot be read: {problem}")]
    File {
        /// Which kind of file.
        what: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The data cannot be learnt from or judged on.
    #[error("{0}")]
    Data(String),
    /// A setting is out of its range, or training failed.
    #[error(transparent)]
    Training(#[from] TrainError),
    /// The model and the data, or two models, do not fit.
    #[error("{0}")]
    Model(String),
    /// The caller's watcher ended the run.
    #[error("the run was cancelled")]
    Cancelled,
}

/// A refusal of a file.
pub(super) fn file(what: &'static str, problem: impl Into<String>) -> ClassifyError {
    ClassifyError::File { what, problem: problem.into() }
}

/// A refusal of data.
pub(super) fn data(problem: impl Into<String>) -> ClassifyError {
    ClassifyError::Data(problem.into())
}
