//! How to open a journal. The defaults are right for most: probe the mode, 64 MiB segments, create what is missing.

use std::time::Duration;

use crate::mode::Mode;

/// Options of [`Journal::open_with`](crate::Journal::open_with).
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) require: Option<Mode>,
    pub(crate) segment_size: u64,
    pub(crate) gather: Duration,
    pub(crate) create: bool,
    pub(crate) spare_ahead: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            require: None,
            segment_size: 64 << 20,
            gather: Duration::from_micros(200),
            create: true,
            spare_ahead: true,
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

    /// Whether to create the directory and the journal if there is none. Default true.
    #[must_use]
    pub fn create(self, create: bool) -> Options {
        Options { create, ..self }
    }
}
