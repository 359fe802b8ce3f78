//! The one-sided link: RDMA writes into the peer's ring through libibverbs, or shared memory between processes of
//! one host.
//!
//! Both run the same link over a small fabric: what a device must do is to make bytes of a ring appear at the same
//! place of another one, to carry an acknowledgement, and to wake a sleeping receiver. [`Shm`] needs nothing but
//! Linux. [`Rdma`] needs the cargo feature `verbs` when built, and libibverbs and a device when run; without them
//! [`Rdma::new`] says what is missing.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod fabric;
mod limits;
mod link;
mod rdma;
mod shm;

pub use rdma::{Rdma, RdmaOptions, SmallFrames};
pub use shm::Shm;
