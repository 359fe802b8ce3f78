//! RDMA as a transport: `rdma://host:port` names a TCP socket that carries the handshake and stays open beside the
//! queue pair.

#[cfg(feature = "verbs")]
pub(crate) mod anchor;
#[cfg(feature = "verbs")]
mod listener;
#[cfg(feature = "verbs")]
pub(crate) mod offer;
#[cfg(not(feature = "verbs"))]
mod unbuilt;
#[cfg(feature = "verbs")]
mod wire;
#[cfg(feature = "verbs")]
mod with_verbs;

#[cfg(not(feature = "verbs"))]
pub use unbuilt::Rdma;
#[cfg(feature = "verbs")]
pub use with_verbs::Rdma;

pub(crate) const SCHEME: &str = "rdma";

/// How this side wants to learn that small frames have arrived; both are right on every device. Those of the large lane
/// are always announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmallFrames {
    /// It polls memory, and a frame proves itself by its checksum: the shortest way.
    #[default]
    Polled,
    /// Each write of the peer carries immediate data, whose completion proves that the bytes are in place: a receive work
    /// request and a completion more for each write.
    Announced,
}

/// Which device, port and address of it to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaOptions {
    /// The device's name, as `ibv_devices` lists it. `None`: the first one with an active port.
    pub device: Option<String>,
    /// The port, from 1 on. `None`: the first active one.
    pub port: Option<u8>,
    /// The index in the port's GID table. `None`: RoCEv2 over IPv4 before RoCEv2 over IPv6 before anything else.
    pub gid_index: Option<u8>,
    /// Work requests that a connection may have under way, at least 1. `None`: 256. The device's limit comes first.
    pub send_depth: Option<u32>,
    /// How the peer's small frames are seen. Each side chooses for itself.
    pub small_frames: SmallFrames,
    /// Whether the rings of a session that begins over RDMA lie on huge pages (2 MiB), when they fill one and the system
    /// keeps enough of them free (`vm.nr_hugepages`). `true`; the link's description tells.
    pub huge_pages: bool,
}

impl Default for RdmaOptions {
    /// What the environment says in `SOFT_ROCE_DEVICE` and `SOFT_ROCE_GID_INDEX`, otherwise whatever works.
    fn default() -> RdmaOptions {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        RdmaOptions {
            device: set("SOFT_ROCE_DEVICE"),
            port: None,
            gid_index: set("SOFT_ROCE_GID_INDEX").and_then(|index| index.parse().ok()),
            send_depth: None,
            small_frames: SmallFrames::default(),
            huge_pages: true,
        }
    }
}
