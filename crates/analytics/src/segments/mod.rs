//! Segments: many log lines as one block of bytes, small and still searchable.
//!
//! # Words
//!
//! - A *row* is one line: its time, its level, the stream that it belongs to, its text.
//! - A *stream* is a set of labels, such as `service=api`, that many lines share.
//! - A *shape* is what is left of a line when its variables are taken out; see [`shape`].
//! - A *column* holds the variables of one place of one shape, over all its rows.
//! - A *chunk* is the unit of compression: some columns, or a large one alone.
//!
//! # Invariants
//!
//! - What is read is, byte for byte, what was written.
//! - Bytes that are no segment, or a damaged one, give an error and never a panic; what is unpacked is as
//!   large as the segment says, and it says so within bounds.
//! - A search that can tell from shapes and from a column's bounds that it finds nothing reads no chunk.

mod align;
mod bits;
mod column;
mod moment;
mod numbers;
mod query;
mod read;
mod shape;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub use bits::Bits;
pub use query::{LabelTest, Pattern, Test};
pub use read::{Blob, Hits, Segment, ShapeRows};
pub use wire::SegmentError;
pub use write::{Labels, Row, Rows, encode};

/// The most rows of a segment.
pub const MOST_ROWS: usize = 1 << 20;
/// The most bytes of a row's text.
pub const MOST_TEXT: usize = 1 << 20;
