//! The recurrent engine: LSTM networks small enough for a CPU, faster there than general frameworks.
//!
//! Three ideas carry it. Sequences are *packed*, so nothing is computed for steps that they do not have
//! ([`packed`]). Events are projected once and looked up, since a log has few distinct ones ([`stack`]).
//! A batch is cut into shards of fixed size that are summed in a fixed order, so that the number of
//! threads never changes a bit of the result ([`shards`]).
//!
//! [`classifier`] is LogRobust's network on top of the [`stack`]; a forecaster takes the same stack with
//! dense rows ([`stack::Input::Rows`]) and a [`dense`] head of its own. Everything is generic over
//! [`real::Real`]: `f32` trains and serves, `f64` proves the gradients. Parameters are one flat vector
//! with named parts ([`layout`]), which [`optimiser`], averaging and saving treat as a slice.
//!
//! Invariants: nothing here reads a clock, does I/O, or keeps state between calls but in the buffers it
//! is given; the only unsafe line is the call in [`matrix`].

mod backward;
mod cell;
pub mod classifier;
pub mod dense;
mod forward;
pub mod layout;
pub mod matrix;
pub mod optimiser;
pub mod packed;
pub mod pool;
pub mod random;
pub mod real;
pub mod score;
pub mod shards;
pub mod stack;
#[cfg(test)]
mod tests;
pub mod train;
#[cfg(test)]
mod train_tests;
