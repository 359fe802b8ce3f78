//! What only the whole can show: two processes, kills, soft-RoCE and DAX. The tests are in `tests/`; this library
//! holds what they share.

pub mod proxy;
