//! Opsroom: the binary.
fn main() {}
