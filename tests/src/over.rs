//! Which transport a test runs over, chosen by one word, so that the same test and its other process can run over all.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use transport::{Node, NodeBuilder, Timing};
use transport_rdma::Shm;
use transport_tcp::Tcp;

const SECRET: &[u8] = b"tests of whole programs, a secret";

/// Deadlines short enough for a test to wait for, and longer than a busy machine holds a live process up: a peer that is out of
/// reach is noticed within 4 s.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    silence: Duration::from_secs(2),
    resume_window: Duration::from_secs(2),
    better_link: Duration::from_millis(200),
};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Sockets on the loopback device.
    Tcp,
    /// Memory shared by the two processes.
    Shm,
    /// RDMA writes, on the device that `SOFT_ROCE_DEVICE` and `SOFT_ROCE_ADDRESS` name. Needs the feature `verbs`.
    Rdma,
}

impl Over {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Shm => "shm",
            Over::Rdma => "rdma",
        }
    }

    /// The transport of an address.
    ///
    /// # Panics
    /// When the address is of none of them.
    pub fn of(address: &str) -> Over {
        [Over::Tcp, Over::Shm, Over::Rdma]
            .into_iter()
            .find(|over| address.starts_with(over.name()))
            .unwrap_or_else(|| panic!("{address}: no such transport"))
    }

    /// A node over it, with [`TIMING`].
    ///
    /// # Panics
    /// For RDMA, when there is no device, or the feature is not built.
    pub fn builder(self, name: &str) -> NodeBuilder {
        let builder = Node::builder(name).secret(SECRET).timing(TIMING);
        match self {
            Over::Tcp => builder.transport(Tcp::new()),
            Over::Shm => builder.transport(Shm::new()),
            #[cfg(feature = "verbs")]
            Over::Rdma => builder.transport(
                transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()).expect("an RDMA device"),
            ),
            #[cfg(not(feature = "verbs"))]
            Over::Rdma => panic!("built without the feature verbs"),
        }
    }

    /// An address that nobody uses yet.
    pub fn free_address(self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        match self {
            Over::Tcp => "tcp://127.0.0.1:0".into(),
            Over::Shm => {
                let name = format!(
                    "transport-test-{}-{}",
                    std::process::id(),
                    NEXT.fetch_add(1, Ordering::Relaxed)
                );
                format!("shm://{}", PathBuf::from("/tmp").join(name).display())
            }
            Over::Rdma => {
                let host = std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
                format!("rdma://{host}:0")
            }
        }
    }
}

/// Longer than a whole case of async functions may take: one that waits in vain fails.
pub const WHOLE_CASE: Duration = Duration::from_secs(300);

/// Makes of each case, a function of an [`Over`], a test over each transport: `over_tcp::case`, `over_shm::case`, and where the
/// crate has its feature `verbs`, `over_rdma::case`, which is ignored without being asked for, since it needs a device. After
/// `async` the cases are async functions, each on a tokio runtime of two threads.
#[macro_export]
macro_rules! over_each_transport {
    (async $($case:ident),+ $(,)?) => {
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let case = super::$case($crate::over::Over::Tcp);
                tokio::time::timeout($crate::over::WHOLE_CASE, case).await.expect("over in time");
            })+
        }
        mod over_shm {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let case = super::$case($crate::over::Over::Shm);
                tokio::time::timeout($crate::over::WHOLE_CASE, case).await.expect("over in time");
            })+
        }
        #[cfg(feature = "verbs")]
        mod over_rdma {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs an RDMA device: soft-roce-setup run"]
            async fn $case() {
                let case = super::$case($crate::over::Over::Rdma);
                tokio::time::timeout($crate::over::WHOLE_CASE, case).await.expect("over in time");
            })+
        }
    };
    ($($case:ident),+ $(,)?) => {
        mod over_tcp {
            $(#[test]
            fn $case() { super::$case($crate::over::Over::Tcp) })+
        }
        mod over_shm {
            $(#[test]
            fn $case() { super::$case($crate::over::Over::Shm) })+
        }
        #[cfg(feature = "verbs")]
        mod over_rdma {
            $(#[test]
            #[ignore = "needs an RDMA device: soft-roce-setup run"]
            fn $case() { super::$case($crate::over::Over::Rdma) })+
        }
    };
}
