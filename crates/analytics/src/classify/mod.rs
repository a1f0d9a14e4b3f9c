//! Detectors that learn from labelled event sequences: LogRobust's network, and cheap peers.
//!
//! A [`dataset::Dataset`] comes from text ([`csv`]), from arrays ([`arrays`]) or from a parser.
//! [`fit::fit`] makes a [`model::Model`] of it by one [`detector::Method`] or by the best of all, chosen on
//! sequences that training did not have; the model predicts, explains and is judged ([`predict`]) and is
//! saved as safetensors ([`artifact`]). [`federated`] trains a network over parties that keep their rows.
//! What other systems wrote is read by [`foreign`], which executes nothing.
//!
//! Words: a *place* is the number of an event in a model's [`space::EventSpace`]; *weight* is how many
//! real sequences a row stands for; *share* is a part of one.
//!
//! Invariants: rows that judge never teach, and equal sequences never lie on both sides of a cut that we
//! make; the same data, configuration and seed give the same bytes on any number of threads.

pub mod arrays;
pub mod artifact;
pub mod counts;
pub mod csv;
pub mod dataset;
pub mod detector;
pub mod error;
pub mod federated;
pub mod fit;
pub mod foreign;
pub mod forest;
pub mod linear;
pub mod model;
pub mod nearest;
pub mod predict;
pub mod report;
pub mod space;
pub mod split;
#[cfg(test)]
mod tests;
pub mod text;
pub mod word_vectors;
