//! How to open a journal. The defaults are right for most: probe the mode, 64 MiB segments, create what is missing.

use std::sync::Arc;
use std::time::Duration;

use crate::mode::Mode;

/// How far reading a segment has come, at an open or in verifying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The segment being read.
    pub segment: u64,
    /// Bytes of it read.
    pub done: u64,
    /// Bytes of it in all; the rest may turn out to be empty.
    pub of: u64,
}

/// Is called with each step of a long piece of work.
#[derive(Clone)]
pub(crate) struct OnProgress(pub(crate) Arc<dyn Fn(Progress) + Send + Sync>);

impl std::fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnProgress")
    }
}

/// Options of [`Journal::open_with`](crate::Journal::open_with).
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) require: Option<Mode>,
    pub(crate) segment_size: u64,
    pub(crate) gather: Duration,
    pub(crate) create: bool,
    pub(crate) background: bool,
    pub(crate) progress: OnProgress,
    pub(crate) reserve: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            require: None,
            segment_size: 64 << 20,
            gather: Duration::from_micros(200),
            create: true,
            background: true,
            progress: OnProgress(Arc::new(|_| {})),
            reserve: 1 << 20,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Only this mode will do: anything else is [`Error::ModeUnavailable`](crate::Error::ModeUnavailable).
    /// `Buffered` and `Volatile` can be had on any x86_64 Linux file system.
    #[must_use]
    pub fn require(self, mode: Mode) -> Options {
        Options {
            require: Some(mode),
            ..self
        }
    }

    /// Bytes of a new segment: 8 KiB to 1 GiB, a multiple of 4096. Multiples of 2 MiB map best. It bounds a batch.
    #[must_use]
    pub fn segment_size(self, bytes: u64) -> Options {
        Options {
            segment_size: bytes,
            ..self
        }
    }

    /// How long at most a commit waits for other threads that are expected to append, so that one sync serves
    /// all. A single thread never waits. Default 200 µs.
    #[must_use]
    pub fn gather(self, most: Duration) -> Options {
        Options { gather: most, ..self }
    }

    /// Is told every few mebibytes how far recovery has come. It reads one segment, whatever the size of the log.
    #[must_use]
    pub fn progress(self, each: impl Fn(Progress) + Send + Sync + 'static) -> Options {
        Options {
            progress: OnProgress(Arc::new(each)),
            ..self
        }
    }

    /// Whether to create the directory and the journal if there is none. Default true.
    #[must_use]
    pub fn create(self, create: bool) -> Options {
        Options { create, ..self }
    }

    /// Bytes kept in the file `reserve`, so that on a full disk segments can still be dropped (32 bytes for every
    /// entity in what is dropped), compacted (the bytes that are kept of a segment) and snapshots saved. At most 1 GiB;
    /// 0 for none. Default 1 MiB.
    #[must_use]
    pub fn reserve(self, bytes: u64) -> Options {
        Options {
            reserve: bytes.min(crate::reserve::MAX),
            ..self
        }
    }
}
