//! Durable logs of others beside our journal: the same threads append the same events, and each commit is on the disk
//! before it is answered. Every log is set up as its own documentation says for that, and otherwise left as it comes.

mod okaywal;
mod raft_engine;
mod redb;
mod sqlite;
mod syncs;
mod tephra;

use std::path::Path;

use clap::ValueEnum;

use crate::appends::{Append, Appends, Open};
use crate::error::Error;
use crate::floor::journal::{Mode, Shape};
use crate::ours;

pub(crate) use syncs::{append_alone, per_commit};

/// What is appended to, ours first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    PmemJournal,
    Okaywal,
    OkaywalKeeping,
    Tephra,
    RaftEngine,
    Redb,
    Sqlite,
}

impl Peer {
    pub(crate) const ALL: [Peer; 7] = [
        Peer::PmemJournal,
        Peer::Okaywal,
        Peer::OkaywalKeeping,
        Peer::Tephra,
        Peer::RaftEngine,
        Peer::Redb,
        Peer::Sqlite,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::PmemJournal => "pmem-journal",
            Peer::Okaywal => "okaywal",
            Peer::OkaywalKeeping => "okaywal-keeping",
            Peer::Tephra => "tephra",
            Peer::RaftEngine => "raft-engine",
            Peer::Redb => "redb",
            Peer::Sqlite => "sqlite",
        }
    }

    fn opening(self) -> Open {
        match self {
            Peer::PmemJournal => ours::opening(Mode::Buffered),
            Peer::Okaywal => Box::new(okaywal::open),
            Peer::OkaywalKeeping => Box::new(okaywal::open_keeping),
            Peer::Tephra => Box::new(tephra::open),
            Peer::RaftEngine => Box::new(raft_engine::open),
            Peer::Redb => Box::new(redb::open),
            Peer::Sqlite => Box::new(sqlite::open),
        }
    }

    /// The side that appends to it.
    pub(crate) fn side(self, dir: &Path, shape: Shape) -> Result<Appends, Error> {
        Appends::new(dir, shape, self.opening())
    }
}

/// The rows: how many write at a time, and how much each commits.
pub(crate) const ROWS: [(&str, usize, usize); 4] = [
    ("1 writer, 1 a commit", 1, 1),
    ("8 writers, 1 a commit", 8, 1),
    ("1 writer, 256 a commit", 1, 256),
    ("1 writer, 1024 a commit", 1, 1024),
];
