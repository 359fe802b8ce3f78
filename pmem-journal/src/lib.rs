//! A durable event journal on DAX-mapped persistent memory or ordinary files.
//!
//! ```
//! use pmem_journal::{EntityId, Event, Expected, Journal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let dir = temporary.path();
//! let (journal, recovery) = Journal::open(dir)?;
//! println!("{} events, {}: {}", recovery.events, journal.mode().mode, journal.mode().reason);
//!
//! let account = EntityId::named("account-17");
//! let deposit = Event::new(account, 1, b"100 EUR").key(0xfeed);
//! let appended = journal.append(&[deposit], Expected::None)?; // durable from here on
//! assert_eq!(journal.append(&[deposit], Expected::None)?.first_position, appended.first_position); // a retry
//!
//! let mut replay = journal.replay(0)?;
//! while let Some(event) = replay.next_event()? {
//!     assert_eq!((event.entity, event.sequence, event.payload), (account, 1, &b"100 EUR"[..]));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is promised, exactly, is in `docs/DURABILITY.md`; what is in the files, byte by byte, in `docs/FORMAT.md`.

mod backup;
mod batch;
#[allow(unsafe_code)]
mod checksum;
#[allow(unsafe_code)]
mod clock;
mod cold;
mod commit;
mod compaction;
mod coverage;
#[cfg(test)]
mod crash_tests;
mod cursor;
mod cut;
mod error;
mod event;
mod extension;
mod filter;
mod first_segment;
mod flock;
mod floor;
mod follow;
mod format;
mod gate;
mod group;
mod history;
mod index;
mod indexer;
mod indexes;
mod inventory;
mod journal;
mod listing;
mod lock;
mod medium;
#[cfg(test)]
mod mend_crash_tests;
mod mode;
mod open_segment;
mod opening;
mod options;
mod pace;
mod projection;
mod publish;
mod published;
mod queue;
mod reader;
mod recover;
mod repair;
mod replay;
mod reserve;
mod retention;
mod rotation;
mod scan;
mod sealed;
mod sealed_records;
mod segment;
mod segment_index;
mod select;
mod snapshot;
#[cfg(test)]
mod snapshot_crash_tests;
mod snapshot_format;
mod snapshot_slots;
mod span;
mod spare;
mod state;
mod sync;
mod sync_thread;
mod table;
mod tail;
mod truncate;
mod upcast;
mod upkeep;
#[cfg(test)]
mod upkeep_crash_tests;
mod verify;

pub use backup::Backup;
pub use cold::Cooled;
pub use compaction::{Compacted, Compaction};
pub use cursor::MAX_RESULT;
pub use error::{Error, HandlerError, Result, RuleError, UpcastError};
pub use event::{Appended, EntityId, Event, Expected, IdempotencyKey, OwnedEvent, Recorded};
pub use extension::MAX_EXTENSION;
pub use follow::{Followed, Follower};
pub use format::MAX_PAYLOAD;
pub use history::History;
pub use inventory::{ListedProjection, ListedSnapshot};
pub use journal::Journal;
pub use medium::probe;
pub use mode::{Mode, Probe};
pub use options::{Options, Progress};
pub use projection::Projection;
pub use reader::{Reader, Summary};
pub use recover::{Recovery, Torn};
pub use repair::{Repair, Repaired, repair};
pub use replay::Replay;
pub use retention::{Held, Retained, Retention};
pub use sealed::SealedSegment;
pub use select::{Selected, Selection};
pub use snapshot::{FoundSnapshot, RefusedSnapshot, Snapshot};
pub use snapshot_format::MAX_SNAPSHOT;
pub use snapshot_slots::MAX_KEEP;
pub use truncate::{Truncated, truncate};
pub use upcast::{Forms, MAX_UPCASTS, Upcast, Upcasters};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
