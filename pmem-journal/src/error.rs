//! Everything that can go wrong, with the figures in it and what the reader can do.
//!
//! Three kinds matter to a caller. A *refusal* ([`Error::WrongSequence`], [`Error::BatchTooLarge`], …) left the
//! journal as it was: go on using it. A *lack* ([`Error::NoSpace`]) may be mended and tried again. Anything after
//! which it is unknown what is durable poisons the handle ([`Error::Poisoned`]): open the journal again, and
//! recovery decides from what the medium really holds.

mod upcast;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use upcast::{RuleError, UpcastError};

use crate::event::EntityId;
use crate::mode::Mode;

/// What the journal returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What a projection's handler may answer when it cannot handle an event.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on a journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another handle of this one, is writing this journal.
    #[error(
        "journal {dir} is being written by process {holder}: stop it, or read with `Reader`, which needs no lock"
    )]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// The writer's process id as it noted it, or `unknown`.
        holder: String,
    },
    /// The caller required a mode that this directory cannot give.
    #[error("mode {required} was required of {dir}, which can give {available}: {reason}")]
    ModeUnavailable {
        /// What was required.
        required: Mode,
        /// What probing found.
        available: Mode,
        /// Why, and what would have to change.
        reason: String,
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Bytes that were durable are not what was written. Nothing was changed on the medium.
    #[error(
        "{segment} is corrupt at byte {offset}: {cause}. Durable events may be missing from there on; nothing was \
         changed. Restore the segment from a backup"
    )]
    Corruption {
        /// File name of the segment.
        segment: String,
        /// Byte offset in that file.
        offset: u64,
        /// What is wrong there.
        cause: String,
    },
    /// The entity is not where the caller expected it to be. Read its new events, decide again, and retry.
    #[error("entity {entity} is at sequence {actual}, and the append expected {expected}")]
    WrongSequence {
        /// The entity.
        entity: EntityId,
        /// The sequence the caller expected (0: no event yet).
        expected: u64,
        /// The sequence of the entity's last event (0: no event yet).
        actual: u64,
    },
    /// `Expected::Exact` speaks of one entity, and the batch holds several.
    #[error(
        "an exact expected sequence speaks of one entity, and this batch holds events of several: split the batch"
    )]
    MixedEntities,
    /// Some events of the batch were appended before under their idempotency keys, and some were not.
    #[error(
        "{duplicates} of {events} events carry idempotency keys that were appended before: a batch is retried \
         whole or not at all"
    )]
    PartialDuplicate {
        /// How many were appended before.
        duplicates: usize,
        /// How many the batch holds.
        events: usize,
    },
    /// A batch without events.
    #[error("a batch must hold at least one event")]
    EmptyBatch,
    /// The batch does not fit into one segment.
    #[error(
        "a batch of {len} bytes does not fit a segment, which holds {max}: split it, or create the journal with larger segments"
    )]
    BatchTooLarge {
        /// Bytes of the batch on the medium.
        len: u64,
        /// Bytes a segment can hold.
        max: u64,
    },
    /// One event is larger than the format allows.
    #[error(
        "an event of {len} bytes exceeds the limit of {max}: store the bulk elsewhere and its address in the event"
    )]
    EventTooLarge {
        /// Bytes of the payload.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// Tags and correlation id of one event exceed the format's limit.
    #[error("tags of {len} bytes exceed the limit of {max} (one tag: 255): use fewer or shorter tags")]
    TagsTooLarge {
        /// Bytes of the tags.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The options contradict themselves or the limits.
    #[error(
        "segment size {given} is outside {min}..={max}, or not a multiple of 4096 (from 2 MiB on: of 2 MiB)"
    )]
    BadSegmentSize {
        /// What was asked for.
        given: u64,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// No room for the next segment. Nothing was lost, the handle stays usable: free some space and retry.
    #[error("no space for a segment of {segment_size} bytes in {dir}: free some and retry, nothing was lost")]
    NoSpace {
        /// Bytes that were wanted.
        segment_size: u64,
        /// The journal's directory.
        dir: PathBuf,
    },
    /// An earlier write or sync failed, so what is durable is unknown to this handle.
    #[error(
        "the handle is poisoned by an earlier failure ({cause}): open the journal again, recovery finds what is durable"
    )]
    Poisoned {
        /// The earlier failure.
        cause: Arc<str>,
    },
    /// There is no journal in the directory.
    #[error("{dir} holds no journal: name the directory that a writer opened")]
    NotAJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// The file was written by a later version of this crate.
    #[error("{segment} has format version {found}, and this build reads up to {known}: use a newer build")]
    UnknownVersion {
        /// File name of the segment.
        segment: String,
        /// Version in the file.
        found: u16,
        /// Newest version this build reads.
        known: u16,
    },
    /// The segment uses a feature that this build does not have.
    #[error(
        "{segment} uses features (flags {flags:#06x}, codec {codec}) that this build does not know: use a newer build"
    )]
    UnknownFeature {
        /// File name of the segment.
        segment: String,
        /// The segment's flags.
        flags: u16,
        /// The segment's compression or encryption.
        codec: u32,
    },
    /// The events asked for were dropped. Read from `first` on, and what came before from a snapshot or a backup.
    #[error(
        "position {asked} was dropped from the journal, which begins at {first}: start there, from a snapshot"
    )]
    BelowFirst {
        /// Position asked for.
        asked: u64,
        /// Position of the oldest event kept.
        first: u64,
    },
    /// The snapshot is of an event that is not durable, or not there. Take it again from what the journal holds.
    #[error(
        "a snapshot of entity {entity} at sequence {sequence}, position {position} is ahead of the journal, where the \
         entity is at {actual} and everything below position {end} is durable: take it from events that were read"
    )]
    SnapshotAhead {
        /// The entity.
        entity: EntityId,
        /// Sequence the snapshot claims (0 is no event's).
        sequence: u64,
        /// Position the snapshot claims.
        position: u64,
        /// The entity's last sequence.
        actual: u64,
        /// Position below which everything is durable.
        end: u64,
    },
    /// The snapshot's payload is too large.
    #[error(
        "a snapshot of {len} bytes exceeds the limit of {max}: store the bulk elsewhere and its address here"
    )]
    SnapshotTooLarge {
        /// Bytes of the payload.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// The number of snapshots to keep is out of range.
    #[error("{given} snapshots of an entity cannot be kept: choose 1 to {max}")]
    BadKeep {
        /// What was asked for.
        given: usize,
        /// Largest.
        max: usize,
    },
    /// Events of the entity were dropped, and no usable snapshot covers them. Restore one from a backup.
    #[error(
        "events of entity {entity} from sequence {expected} to before {found} were dropped and no usable snapshot \
         covers them ({refused} could not be used): restore a snapshot or the journal from a backup"
    )]
    HistoryLost {
        /// The entity.
        entity: EntityId,
        /// Sequence of the first event missing.
        expected: u64,
        /// Sequence of the next event kept.
        found: u64,
        /// Snapshots of the entity that could not be used.
        refused: usize,
    },
    /// A handler could not handle an event. The projection goes on as its way of storing the cursor promises.
    #[error("the handler refused the event at position {position}: {cause}")]
    Handler {
        /// Position of the event.
        position: u64,
        /// What the handler said.
        cause: HandlerError,
    },
    /// The name of a projection is not one.
    #[error("{name:?} cannot name a projection: use 1 to 64 of a-z, 0-9, - and _")]
    BadProjectionName {
        /// What was asked for.
        name: String,
    },
    /// Another process, or another handle of this one, runs the projection.
    #[error("projection {name} is being run by somebody else: one at a time may")]
    ProjectionBusy {
        /// Its name.
        name: String,
    },
    /// The cursor of a projection cannot be used. Restore it, or remove the file to begin anew.
    #[error(
        "the cursor of projection {name} cannot be used: {cause}. Restore projections/{name}.cursor, or remove it to \
         begin anew"
    )]
    BadCursor {
        /// Name of the projection.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The result of a projection is too large to be stored with the cursor.
    #[error(
        "a projection's result of {len} bytes exceeds the limit of {max}: keep it in a database, with the position"
    )]
    ResultTooLarge {
        /// Its bytes.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// The directory cannot hold the journal's cold segments. Choose another.
    #[error("{dir} cannot hold this journal's cold segments: {cause}. Choose another directory")]
    ColdDirectory {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        cause: String,
    },
    /// In the middle of a compacted segment a journal cannot be cut. Cut at its beginning, or not there.
    #[error(
        "position {position} lies in a compacted segment, which cannot be cut: use {first}, where it begins"
    )]
    CompactedThere {
        /// Position asked for.
        position: u64,
        /// First position of the segment.
        first: u64,
    },
    /// A backup cannot be made there. Choose another directory.
    #[error("a backup cannot be made in {dir}: {cause}")]
    BackupDirectory {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Segments are being dropped, compacted or moved all the time. Try again later.
    #[error("sealed segments of {dir} are being changed by somebody else: try again later")]
    UpkeepBusy {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// No room to write a file. Nothing was lost: free some space and retry.
    #[error("no space for the {bytes} bytes of {path}: free some and retry, nothing was lost")]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// An event cannot be given in its newest form.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Bytes of the segment (or another file of the journal) that were durable are not what was written.
    pub(crate) fn corruption(segment: impl Into<String>, offset: u64, cause: impl ToString) -> Error {
        Error::Corruption {
            segment: segment.into(),
            offset,
            cause: cause.to_string(),
        }
    }

    /// Why a new file of this many bytes could not be written.
    pub(crate) fn writing(path: impl Into<PathBuf>, bytes: u64) -> impl FnOnce(io::Error) -> Error {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoRoom {
                path: path.into(),
                bytes,
            },
            _ => Error::io("write", path)(source),
        }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            doing,
            path: path.into(),
            source,
        }
    }
}
