#![doc = include_str!("../README.md")]

mod endpoint;
mod publish;
pub mod recent;
mod serving;

pub use endpoint::{Endpoint, EndpointError};
pub use publish::{Publisher, WAITED_BUCKETS, names};
