//! What can go wrong in a bench, and what the reader can do about it.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::accounts::{Imbalance, WrongAnswer};

/// Everything a bench can end with instead of figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },

    #[error("{doing}: {source}")]
    Failed {
        doing: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    #[error(
        "a message came with {len} bytes and number {number:?}, where one of {size} bytes and the next number was \
         expected: the transport lost, doubled, cut or reordered messages"
    )]
    WrongMessage {
        len: usize,
        number: Option<u64>,
        size: usize,
    },

    #[error("{sent} messages were sent, and the receiver says that it took {taken:?}")]
    Miscounted { sent: u64, taken: Option<u64> },

    #[error(
        "the other process of the bench ended in mid-run; what it printed stands above, \
         and running the same command again shows whether it was chance"
    )]
    PeerGone,

    #[cfg(feature = "clusters")]
    #[error("an application of the bench of clusters: {0}")]
    Cluster(String),

    #[error("the other process of the bench: {reason}")]
    Peer { reason: String },

    #[error(
        "the other process of the bench said {said}, where {wanted} was expected; both must be the same build"
    )]
    Protocol { said: String, wanted: &'static str },

    #[error(
        "{url:?} is no address of a metrics endpoint, which is http://host:port, as in http://127.0.0.1:9900"
    )]
    NotAUrl { url: String },

    #[error(
        "{url}: something else than the metrics endpoint of a node is there. `node_metrics::Endpoint` opens one"
    )]
    NotAnEndpoint { url: String },

    #[error(
        "{url}: {source}. Nobody serves the figures of a node there: is it running, and does it open a \
         `node_metrics::Endpoint` on that address?"
    )]
    NoEndpoint { url: String, source: io::Error },

    #[error("no progress for {0:?}: the machine is overloaded, or the link is stuck")]
    Stalled(Duration),

    #[error(
        "which RDMA device? Name one with --device or in SOFT_ROCE_DEVICE ({present}). \
         `soft-roce-setup run -- bench …` runs a bench where there is one; build it with `--features verbs`"
    )]
    DeviceNotNamed { present: String },

    #[error(
        "no RDMA device `{name}` ({present}). `soft-roce-setup doctor` says what this machine lacks for one"
    )]
    DeviceUnknown { name: String, present: String },

    #[error("`{program}` is not installed, and it is the floor of the rdma rows: apt-get install perftest")]
    PerftestMissing { program: &'static str },

    #[error("`{program}` failed ({why}) and printed:\n{output}")]
    Perftest {
        program: &'static str,
        why: String,
        output: String,
    },

    #[cfg(feature = "journal-peers")]
    #[error("`strace` is not installed, and it counts the syncs: apt-get install strace")]
    StraceMissing,

    #[cfg(feature = "journal-peers")]
    #[error("`strace` counted nothing and printed:\n{said}")]
    Strace { said: String },

    #[error("`valgrind` is not installed, and it counts the instructions: apt-get install valgrind")]
    ValgrindMissing,

    #[error("`valgrind` counted nothing and printed:\n{said}")]
    Valgrind { said: String },

    #[error(
        "{over} counts are over their limits: make the path shorter again, or say in bench/src/instructions/limits.rs \
         what it costs now and in the commit why"
    )]
    TooManyInstructions { over: usize },

    #[error("{dir}: {what}; give another --dir")]
    JournalDir { dir: PathBuf, what: String },

    #[error("cannot write to {place}: {source}")]
    Printing { place: String, source: io::Error },

    #[error("nobody reads the output")]
    NobodyReads,

    #[error("cannot make a folder in {dir}: {source}; give another with --dir, or in TMPDIR")]
    NoFolder { dir: PathBuf, source: io::Error },

    #[error("cannot open {path} for --json: {source}")]
    JsonPath { path: PathBuf, source: io::Error },

    #[error(
        "{dir} is not on persistent memory (MAP_SYNC: {source}): give a --dir on a DAX mount, \
         or run under `soft-roce-setup run`, which makes one and names it in PMEM_DIR"
    )]
    NotPersistentMemory { dir: PathBuf, source: io::Error },

    #[error("--mode {mode} needs {needs}, which this machine does not have")]
    ModeUnavailable { mode: &'static str, needs: &'static str },

    #[error("the books do not balance: {0}")]
    BooksDoNotBalance(Imbalance),

    #[error("the books do not balance: {0}")]
    WrongAnswer(WrongAnswer),

    #[error("the accounts' process ended by itself; what it printed stands above")]
    AccountsEnded,

    #[error("the accounts were sent something that is no command; both processes must be the same build")]
    NotACommand,

    #[error("the client was sent something that is no answer; both processes must be the same build")]
    NotAnAnswer,

    #[error("event {position} of the accounts' journal is none that this program wrote")]
    NotAnEvent { position: u64 },

    #[error("{source}. The journal is kept in {dir}")]
    JournalKept { source: Box<Error>, dir: PathBuf },

    #[error("--small-frames announced is a way of rdma; over {transport} there is nothing to choose")]
    NothingToAnnounce { transport: &'static str },

    #[error("--pin needs two cores, and this process may run on one only")]
    OneCore,

    #[error("there is no core {core}")]
    NoSuchCore { core: usize },

    #[error("a thread of the bench panicked; what it printed stands above")]
    ThreadPanicked,

    #[error(
        "{what} are not part of this build of bench: build it with `--features {feature}`; bench/README.md says what that needs"
    )]
    NotBuilt {
        what: &'static str,
        feature: &'static str,
    },

    #[error("a child of bench has no business on a command line: run `bench --help`")]
    NotAChild,
}

impl Error {
    /// Exit status: 2 where the command line is to blame, 1 where the run is; what a shell says of a program that a closed pipe
    /// ended.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::DeviceNotNamed { .. }
            | Error::DeviceUnknown { .. }
            | Error::JournalDir { .. }
            | Error::JsonPath { .. }
            | Error::NoFolder { .. }
            | Error::NotPersistentMemory { .. }
            | Error::ModeUnavailable { .. }
            | Error::NotBuilt { .. }
            | Error::NothingToAnnounce { .. }
            | Error::OneCore
            | Error::NoSuchCore { .. }
            | Error::NotAUrl { .. }
            | Error::NotAChild => 2,
            Error::NobodyReads => 141,
            _ => 1,
        }
    }
}

/// Names what was being done when an I/O error came: `file.read(..).map_err(doing("reading x"))`.
pub(crate) fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        doing: what.into(),
        source: source.into(),
    }
}

/// The same for what is printed: a reader that goes away is an end, not a failure.
pub(crate) fn printing(place: impl Display) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        io::ErrorKind::BrokenPipe => Error::NobodyReads,
        _ => Error::Printing {
            place: place.to_string(),
            source,
        },
    }
}

/// The same for the errors of our own crates.
pub(crate) fn failed<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| Error::Failed {
        doing: doing.into(),
        source: source.into(),
    }
}
