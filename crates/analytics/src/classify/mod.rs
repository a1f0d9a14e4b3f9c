//! Detectors that learn from labelled event sequences.
