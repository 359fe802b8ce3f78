//! What only the whole can show: two processes, kills, soft-RoCE and DAX. The tests are in `tests/`; this library
//! holds what they share.

pub mod audit;
pub mod hub;
pub mod numbers;
pub mod over;
pub mod process;
pub mod proxy;

/// The example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
