//! What carries an application: the runtime's own transport, or one of ours.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use transport::Node;
use transport_rdma::{Rdma, RdmaOptions, Shm};
use transport_tcp::Tcp;

use super::went_wrong;
use crate::error::Error;

const SECRET: &[u8] = b"the bench of clusters, a secret of no consequence";

/// What carries an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Over {
    /// What the runtime brings: TCP, or QUIC.
    Own,
    Tcp,
    Shm,
    Rdma,
}

impl Over {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Over::Own => "own",
            Over::Tcp => "tcp",
            Over::Shm => "shm",
            Over::Rdma => "rdma",
        }
    }

    /// An address for a node that the system chooses.
    pub(super) fn listen(self) -> String {
        match self {
            Over::Own | Over::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Over::Shm => format!("shm://@bench-clusters-{}", std::process::id()),
            Over::Rdma => {
                let host = std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned());
                format!("rdma://{host}:0")
            }
        }
    }

    /// A node that listens there, or nowhere.
    pub(super) fn node(self, name: &str, listen: Option<&str>) -> Result<Node, Error> {
        let builder = Node::builder(name).secret(SECRET);
        let builder = match self {
            Over::Own | Over::Tcp => builder.transport(Tcp::new()),
            Over::Shm => builder.transport(Shm::new()),
            Over::Rdma => {
                let rdma = Rdma::new(RdmaOptions::default());
                builder.transport(rdma.map_err(|error| went_wrong("RDMA", error))?)
            }
        };
        let builder = match listen {
            Some(address) => builder.listen(address),
            None => builder,
        };
        builder
            .start_on_tokio()
            .map_err(|error| went_wrong("starting a node", error))
    }

    /// An address that names this process and nobody listens on.
    pub(super) fn stand_in() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + (std::process::id() % 50_000) as u16))
    }
}
