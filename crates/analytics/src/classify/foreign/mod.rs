//! Files that other systems wrote: numpy arrays, pickled vectors, PyTorch checkpoints.
//!
//! A pickle is a program for Python's machine. Ours knows the instructions that build plain data, and of
//! all functions only the few by which numpy and PyTorch describe arrays, which it does itself; at any
//! other name it stops. Nothing is ever imported, called or executed.

pub mod checkpoint;
pub mod npy;
mod opcodes;
pub mod pickle;
mod storage;
pub mod vectors;
