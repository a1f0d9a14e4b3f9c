//! Forecasts of hourly metrics, and the capacity decisions made from them.
//!
//! Words. A [`series::Series`] is one metric of one service, one value an hour, with gaps. An
//! *origin* is the position of the first hour that is forecast; everything before it is *history*.
//! An [`engine::Engine`] is a configuration that `fit`s a series into a [`engine::Fitted`] which
//! `predict`s up to [`MAX_HORIZON`] hours. The *floor* is the seasonal naive: the same hour
//! yesterday. A [`choice::Choice`] says which engines a series is forecast with, and was made by a
//! rolling [`backtest`] on that series.
//!
//! Invariants. Nothing reads a clock, a file or the environment: the same input gives the same
//! bytes. Nothing after an origin is seen by what is fitted at it. What is shipped never loses to
//! the floor in its own backtest. What could not be done is an error or a note, never a guess.

pub mod anomaly;
pub mod backtest;
pub mod blend;
pub mod capacity;
pub mod card;
pub mod choice;
pub mod clean;
pub mod conformal;
pub mod contract;
pub mod engine;
pub mod error;
pub mod flavor;
pub mod linear;
pub mod lstm;
pub mod model;
pub mod mstl;
pub mod pooled;
pub mod rolling;
pub mod seasonal;
pub mod series;
pub mod shift;
pub mod smoothing;
pub mod stats;
pub mod theta;

#[cfg(test)]
mod tests;

/// The most hours ahead that any engine answers.
pub const MAX_HORIZON: usize = 168;

/// The hours of one day, the period of the floor.
pub const DAY: usize = 24;

/// The hours of one week.
pub const WEEK: usize = 168;
