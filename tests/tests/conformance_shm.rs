//! The conformance suite over memory shared by two processes; here, by two nodes of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use transport::conformance::Harness;
use transport::link::Transport;
use transport_rdma::Shm;

struct OverShm;

impl Harness for OverShm {
    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Shm::new())
    }

    fn address(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!(
            "shm://@conformance-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    fn resumes(&self) -> bool {
        false
    }
}

transport::conformance_tests!(OverShm);
