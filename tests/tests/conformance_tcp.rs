//! The conformance suite over TCP sockets.

use std::sync::Arc;

use transport::conformance::Harness;
use transport::link::Transport;
use transport_tcp::Tcp;

struct OverTcp;

impl Harness for OverTcp {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Tcp::new())
    }

    fn address(&self) -> String {
        "tcp://127.0.0.1:0".into()
    }
}

transport::conformance_tests!(OverTcp);
