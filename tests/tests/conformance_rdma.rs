//! The conformance suite over RDMA writes, on a real device: hardware, or the kernel's soft-RoCE.
#![cfg(feature = "verbs")]

use std::sync::Arc;

use transport::conformance::Harness;
use transport::link::Transport;
use transport_rdma::{Rdma, RdmaOptions};

struct OverRdma;

impl Harness for OverRdma {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Rdma::new(RdmaOptions::default()).expect("an RDMA device"))
    }

    fn address(&self) -> String {
        let host = std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
        format!("rdma://{host}:0")
    }
}

transport::conformance_tests!(OverRdma, #[ignore = "needs an RDMA device: soft-roce-setup run"]);
