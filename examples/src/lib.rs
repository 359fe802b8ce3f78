//! What the programs share: a node that speaks every transport of this build.

use transport::{Node, NodeBuilder, Timing};
use transport_rdma::Shm;
use transport_tcp::Tcp;

/// A node of the examples' cluster. Its peers are taken for dead soon, so that one sees it happen.
///
/// # Errors
/// Where RDMA was built in: that there is no device is no error, the node runs without.
pub fn node(name: &str) -> NodeBuilder {
    let timing = Timing {
        resume_window: std::time::Duration::from_secs(2),
        ..Timing::default()
    };
    let builder = Node::builder(name)
        .secret(b"the examples' shared secret")
        .timing(timing)
        .transport(Tcp::new())
        .transport(Shm::new());
    #[cfg(feature = "verbs")]
    let builder = match transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()) {
        Ok(rdma) => builder.transport(rdma),
        Err(error) => {
            eprintln!("without rdma: {error}");
            builder
        }
    };
    builder
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
