//! The floor of the journal rows: checksum, store and make durable the same bytes, in one bare loop.
//!
//! No records, no recovery, nobody else: a fixed stretch of one file is written round and round. With several
//! threads the floor is a perfect group commit, that is one writer whose commits hold a batch of each thread.

mod medium;

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::Error;
use crate::measure::{Laps, Metric, RoundResult, Side, rates};
use medium::Medium;

/// How bytes become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// The best that the folder allows: pmem, otherwise buffered.
    Auto,
    /// A DAX mapping (MAP_SYNC): stores past the cache, then a fence.
    Pmem,
    /// The same where the cache itself survives a power loss: stores and a fence.
    Eadr,
    /// An ordinary file: pwrite, fdatasync.
    Buffered,
    /// An ordinary file past the page cache: O_DIRECT and O_DSYNC.
    Direct,
    /// What pmem does, on ordinary memory: nothing is durable, and the code is measured without the medium.
    Volatile,
}

impl Mode {
    /// Its name on the command line and in the figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Pmem => "pmem",
            Mode::Eadr => "eadr",
            Mode::Buffered => "buffered",
            Mode::Direct => "direct",
            Mode::Volatile => "volatile",
        }
    }
}

/// What is written at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of an event.
    pub(crate) size: usize,
    /// Events of one thread's commit.
    pub(crate) batch: usize,
    pub(crate) threads: usize,
}

/// The bare loop over one medium.
pub(crate) struct JournalFloor {
    medium: Medium,
    mode: Mode,
    shape: Shape,
    event: Vec<u8>,
    laps: Laps,
}

impl JournalFloor {
    /// Makes the file in `dir` (without a name, so nothing stays behind).
    pub(crate) fn open(dir: &Path, mode: Mode, shape: Shape) -> Result<JournalFloor, Error> {
        let commit = shape.size * shape.batch * shape.threads;
        let (mode, medium) = match mode {
            Mode::Auto => match Medium::open(dir, Mode::Pmem, commit) {
                Ok(medium) => (Mode::Pmem, medium),
                Err(Error::NotPersistentMemory { .. } | Error::ModeUnavailable { .. }) => {
                    (Mode::Buffered, Medium::open(dir, Mode::Buffered, commit)?)
                }
                Err(error) => return Err(error),
            },
            mode => (mode, Medium::open(dir, mode, commit)?),
        };
        Ok(JournalFloor {
            medium,
            mode,
            shape,
            event: vec![0x5a; shape.size],
            laps: Laps::new(),
        })
    }

    /// The mode in use, never [`Mode::Auto`].
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }
}

impl Side for JournalFloor {
    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
        let events = self.shape.batch * self.shape.threads;
        let commits = count.div_ceil(events as u64);
        let (cpu_before, began) = (clock::cpu_ns(), Instant::now());
        self.laps.start();
        for _ in 0..commits {
            self.medium.begin();
            for _ in 0..events {
                let checksum = crc32c::crc32c(&self.event);
                // The next event depends on this checksum, so neither can be left out.
                self.event[..4].copy_from_slice(&checksum.to_le_bytes());
                self.medium.store(&self.event);
            }
            self.medium.make_durable()?;
            self.laps.lap();
        }
        let (elapsed, cpu_ns) = (began.elapsed(), clock::cpu_ns() - cpu_before);
        let done = commits * events as u64;
        let mut figures = rates(Metric::EventsPerSecond, done, self.shape.size, elapsed, cpu_ns);
        figures.extend(self.laps.percentiles(1));
        Ok(RoundResult { elapsed, figures })
    }
}
