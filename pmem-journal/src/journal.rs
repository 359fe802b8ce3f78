//! The writer's handle: opens, appends, rotates, closes.
//!
//! An append returns only when its whole batch is durable. A mapped journal commits under the lock, because a fence
//! costs less than handing over; a file journal gathers the batches of all threads that wait and syncs once for
//! them (`commit.rs`). Any failure after which it is unknown what is durable poisons the handle.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::Group;
use crate::error::{Error, Result};
use crate::event::{Appended, EntityId, Event, Expected};
use crate::floor;
use crate::format::{
    self, CONTROL_CLOSE, CONTROL_EPOCH, FLAG_BATCH_END, FLAG_BATCH_START, JournalId, MAX_EXTENSION,
    MAX_PAYLOAD, Place,
};
use crate::gate::Gate;
use crate::index::{Index, Learned, Span};
use crate::indexer::Indexer;
use crate::indexes::Indexes;
use crate::lock::WriterLock;
use crate::medium::direct;
use crate::medium::file::FileMedium;
use crate::medium::pmem::{self, probe};
use crate::medium::{Access, Medium, MediumFile, UNFINISHED};
use crate::mode::{Mode, Probe};
use crate::options::Options;
use crate::publish::Publisher;
use crate::published::Published;
use crate::reader::Reader;
use crate::recover::{Recovery, recover};
use crate::replay::Replay;
use crate::reserve;
use crate::scan::Checks;
use crate::segment::{self, DATA, Footer, Header, SPARE};
use crate::segment_index;
use crate::snapshot;
use crate::spare::SpareMaker;

/// Sealed segments whose entities and keys may be kept in memory because they have no index yet.
const MOST_WAITING: usize = 4;

/// A large batch is written as it is encoded, in pieces of this many bytes, so that the medium works meanwhile. In tests
/// they are small, so that crashes fall between them.
const AHEAD: usize = if cfg!(test) { 256 } else { 64 << 10 };
/// The medium works by whole pages.
const PAGE: u64 = if cfg!(test) { 64 } else { 4096 };

/// A journal open for appending. Share it between threads by reference or `Arc`.
pub struct Journal {
    dir: PathBuf,
    probe: Probe,
    pub(crate) gather: Duration,
    pub(crate) mapped: bool,
    pub(crate) state: Mutex<State>,
    pub(crate) gate: Arc<Gate>,
    published: Arc<Published>,
    /// Bytes to hold in reserve.
    pub(crate) reserve: u64,
    /// Held while segments are dropped.
    pub(crate) dropping: Mutex<()>,
    /// Held while snapshots are saved.
    pub(crate) saving: Mutex<()>,
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) medium: Arc<dyn Medium>,
    spare: SpareMaker,
    indexer: Indexer,
    publisher: Publisher,
    published: Arc<Published>,
    pub(crate) segment: Arc<Segment>,
    epoch: u32,
    salt: u32,
    /// Offset in the segment of the next record.
    offset: u64,
    next_position: u64,
    timestamp: u64,
    pub(crate) index: Index,
    /// Log position up to which everything is durable.
    pub(crate) durable: u64,
    /// Global position up to which everything is durable.
    durable_events: u64,
    /// Encoded and not yet written, ending at `offset`.
    pub(crate) pending: Vec<u8>,
    /// Records are written where they belong as they are encoded; `pending` stays empty.
    in_place: bool,
    scratch: Vec<u8>,
    clock: Clock,
    pub(crate) group: Group,
    pub(crate) poison: Option<Arc<str>>,
    closed: bool,
    _lock: Option<WriterLock>,
}

/// What became of a batch before its commit.
pub(crate) enum Taken {
    /// It is encoded, or a duplicate.
    Appended(Appended),
    /// The segment has no room for its bytes; nothing was changed.
    NeedsRoom(u64),
}

/// The segment being written.
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) file: Box<dyn MediumFile>,
}

impl Journal {
    /// Opens or creates the journal in `dir` with the default options.
    pub fn open(dir: impl AsRef<Path>) -> Result<(Journal, Recovery)> {
        Journal::open_with(dir, &Options::default())
    }

    /// Opens or creates the journal in `dir`: takes the writer lock, recovers, and makes a new epoch durable.
    pub fn open_with(dir: impl AsRef<Path>, options: &Options) -> Result<(Journal, Recovery)> {
        let dir = dir.as_ref();
        let (min, max, given) = (segment::MIN_SIZE, segment::MAX_SIZE, options.segment_size);
        let multiple = if given < segment::HUGE_PAGE {
            4096
        } else {
            segment::HUGE_PAGE
        };
        if !(min..=max).contains(&given) || !given.is_multiple_of(multiple) {
            return Err(Error::BadSegmentSize { given, min, max });
        }
        if options.create {
            create_dir(dir)?;
        } else if !Reader::has_segments(dir)? {
            return Err(Error::NotAJournal { dir: dir.to_owned() });
        }
        let lock = take_lock(dir)?;
        let probe = choose_mode(dir, options)?;
        let mapped = matches!(probe.mode, Mode::Pmem | Mode::Eadr | Mode::Volatile);
        let mode = probe.mode;
        let medium = Arc::new(if mapped {
            FileMedium::written_by(dir, Box::new(move |_, file| pmem::mapped(file, mode)))
        } else if mode == Mode::Direct {
            FileMedium::written_by(dir, Box::new(direct::written_past_cache))
        } else {
            FileMedium::new(dir)
        });
        let publisher = Publisher::create(dir, mapped).map_err(Error::io("write `published` in", dir))?;
        Journal::start(
            dir,
            options,
            probe,
            mapped,
            medium,
            publisher,
            Some(lock),
            Checks::ALL,
        )
    }

    /// Recovers from the medium and starts a new epoch on it.
    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where the parts of a journal come together"
    )]
    pub(crate) fn start(
        dir: &Path,
        options: &Options,
        probe: Probe,
        mapped: bool,
        medium: Arc<dyn Medium>,
        publisher: Publisher,
        lock: Option<WriterLock>,
        checks: Checks,
    ) -> Result<(Journal, Recovery)> {
        let mut learned = Learned::default();
        let recovered = recover(&*medium, checks, &mut learned, &*options.progress.0)?;
        remove_leftovers(&*medium)
            .and_then(|()| snapshot::remove_leftovers(&*medium))
            .map_err(Error::io("remove what a crash left in", dir))?;
        let names = medium.list().map_err(Error::io("list", dir))?;
        let mut spare = SpareMaker::new(Arc::clone(&medium), options.segment_size, options.background)
            .map_err(Error::io("start a thread for", dir))?;
        let indexes = Arc::new(Indexes::new(Arc::clone(&medium), true));
        let indexer =
            Indexer::new(&indexes, options.background).map_err(Error::io("start a thread for", dir))?;
        let epoch = recovered.epoch + 1;
        let mut fresh = None;
        let (segment, offset) = match &recovered.active {
            Some(active) => {
                let name = segment::name(active.header.index);
                let file = medium
                    .open(&name, Access::Write)
                    .map_err(Error::io("open for writing", &name))?;
                // What a dead writer wrote may still be in a cache: it counts only once it is durable. The name of
                // this segment may be all that its rotation got done, too.
                file.sync().map_err(Error::io("sync", &name))?;
                medium.sync_dir().map_err(Error::io("sync", dir))?;
                let header = active.header;
                // An epoch record, and the close record after it.
                let full = active.sealed || active.offset + format::HEADER as u64 > header.events_end();
                if full {
                    let old = Segment { header, file };
                    let next = Header {
                        index: header.index + 1,
                        base: active.log_end,
                        first_position: recovered.report.next_position,
                        size: options.segment_size,
                        epoch,
                        compacted: false,
                        ..header
                    };
                    if !active.sealed {
                        let timestamp = recovered.timestamp;
                        seal(
                            &old,
                            active.offset,
                            next.first_position,
                            recovered.epoch,
                            timestamp,
                        )
                        .map_err(Error::io("seal", &name))?;
                    }
                    fresh = Some(next.epoch);
                    (make_segment(&*medium, &mut spare, next, dir)?, DATA)
                } else {
                    (Segment { header, file }, active.offset)
                }
            }
            None => {
                let mut journal = JournalId::default();
                getrandom::fill(&mut journal)
                    .map_err(|e| Error::io("get randomness for", dir)(std::io::Error::other(e)))?;
                let size = options.segment_size;
                fresh = Some(epoch);
                let header = Header {
                    journal,
                    index: 0,
                    size,
                    base: 0,
                    first_position: 0,
                    epoch,
                    compacted: false,
                };
                (make_segment(&*medium, &mut spare, header, dir)?, DATA)
            }
        };
        spare.prepare();
        let last = recovered.active.as_ref().map_or(0, |active| active.header.index);
        let mut index = Index::new(learned, recovered.first..last, indexes, recovered.floor);
        if segment.header.index > last {
            index.seal(last);
        }
        let indexed: Vec<u64> = names
            .iter()
            .filter_map(|name| segment_index::index_of(name))
            .collect();
        for missing in (recovered.first..segment.header.index).filter(|index| !indexed.contains(index)) {
            indexer.ask(missing);
        }
        let log_position = segment.header.log_position(offset);
        let next_position = recovered.report.next_position;
        let published = Arc::new(Published::default());
        let mut state = State {
            salt: format::salt(&segment.header.journal, epoch),
            medium,
            spare,
            publisher,
            published: Arc::clone(&published),
            segment: Arc::new(segment),
            epoch,
            offset,
            next_position,
            timestamp: recovered.timestamp,
            index,
            indexer,
            durable: log_position,
            durable_events: next_position,
            pending: Vec::new(),
            in_place: mapped,
            scratch: Vec::new(),
            clock: Clock::default(),
            group: Group::default(),
            poison: None,
            closed: false,
            _lock: lock,
        };
        // A fresh segment's header carries the epoch already.
        if fresh.is_none() {
            state
                .write_control(CONTROL_EPOCH)
                .map_err(Error::io("write the epoch in", dir))?;
        }
        state.publish().map_err(Error::io("publish in", dir))?;
        let journal = Journal {
            dir: dir.to_owned(),
            probe,
            gather: options.gather,
            mapped,
            state: Mutex::new(state),
            gate: Arc::default(),
            published,
            reserve: options.reserve,
            dropping: Mutex::new(()),
            saving: Mutex::new(()),
        };
        journal.refill_reserve();
        Ok((journal, recovered.report))
    }

    /// How this journal becomes durable, and why that way.
    pub fn mode(&self) -> &Probe {
        &self.probe
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Position of the first event that is not known to be durable: everything below it is.
    pub fn durable_position(&self) -> u64 {
        self.lock().durable_events
    }

    /// The entity's last sequence, 0 if it never had an event.
    pub fn sequence(&self, entity: EntityId) -> Result<u64> {
        self.lock().index.sequence(entity.0)
    }

    /// Appends the events as one batch, all or nothing, durable before this returns.
    ///
    /// A batch whose idempotency keys were all used before is not appended again: the answer is the first append's,
    /// with `duplicate` set, whatever `expected` says. Threads may call this at once.
    pub fn append(&self, events: &[Event<'_>], expected: Expected) -> Result<Appended> {
        let mut state = self.lock();
        let appended = loop {
            match state.take(events, expected)? {
                Taken::Appended(appended) => break appended,
                // Rotation lets others in: what was checked must be checked again.
                Taken::NeedsRoom(bytes) => state = self.rotate(state, bytes)?,
            }
        };
        if self.mapped {
            state.commit_here()?;
        } else if !appended.duplicate || appended.last_position >= state.durable_events {
            let end = state.log_end();
            self.commit_together(state, end)?;
        }
        Ok(appended)
    }

    /// As [`Journal::append`], for a caller that owns the journal alone: on a mapped journal it takes no lock.
    pub fn append_mut(&mut self, events: &[Event<'_>], expected: Expected) -> Result<Appended> {
        if self.mapped {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.refuse_if_poisoned()?;
            let bytes = state.bytes_of(events)?;
            let duplicate = state.check(events, expected)?.is_some();
            if !duplicate && state.offset + bytes <= state.segment.header.events_end() {
                let Span {
                    first,
                    last,
                    sequence,
                } = state.encode(events)?;
                state.commit_here()?;
                // Made after the fence out of three numbers: moving a whole answer across it would wait for the
                // medium, and the next append may begin meanwhile.
                return Ok(Appended {
                    first_position: first,
                    last_position: last,
                    sequence,
                    duplicate: false,
                });
            }
        }
        self.append(events, expected)
    }

    /// Appends the batches with one commit, as the leader of several threads does.
    #[cfg(test)]
    pub(crate) fn append_group(&self, batches: &[Vec<Event<'_>>]) -> Result<()> {
        let mut state = self.lock();
        state.refuse_if_poisoned()?;
        let bytes: usize = batches.iter().flatten().map(format::encoded_len).sum();
        if state.offset + bytes as u64 > state.segment.header.events_end() {
            state = self.rotate(state, bytes as u64)?;
        }
        for batch in batches {
            state.encode(batch)?;
        }
        if self.mapped {
            return state.commit_here();
        }
        let end = state.log_end();
        self.commit_together(state, end)
    }

    /// A reader in this process: what it reads is durable, and following wakes with each commit.
    pub fn reader(&self) -> Reader {
        let indexes = Arc::clone(self.lock().index.indexes());
        Reader::within(&self.dir, Arc::clone(&self.published), !self.mapped, indexes)
    }

    /// Events at `from` and after, up to what is durable now.
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.reader().replay(from)
    }

    /// All events kept, up to what is durable now.
    pub fn replay_kept(&self) -> Result<Replay> {
        self.reader().replay_kept()
    }

    /// Bytes that are set aside for a full disk now: less than [`Options::reserve`] where there is no room for more.
    pub fn reserved(&self) -> u64 {
        reserve::held(&*self.lock().medium)
    }

    /// Waits until everything taken so far is durable.
    pub(crate) fn settle(&self) -> Result<()> {
        let state = self.lock();
        let end = state.log_end();
        self.commit_until(state, end).map(drop)
    }

    /// A full disk, which the reserve is for, is no reason to fail.
    pub(crate) fn refill_reserve(&self) {
        let medium = Arc::clone(&self.lock().medium);
        let _ = reserve::refill(&*medium, self.reserve);
    }

    /// Notes a good end in the journal and releases the lock. Dropping does the same and hides failures.
    pub fn close(self) -> Result<()> {
        let mut state = self.lock();
        state.close().map_err(Error::io("close", &self.dir))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals the segment and goes on in a new one that has room for `bytes`.
    pub(crate) fn rotate<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: u64,
    ) -> Result<MutexGuard<'a, State>> {
        // The footer says that all below it is durable: nothing may be pending or on its way.
        while state.durable != state.log_end() {
            let end = state.log_end();
            state = self.commit_until(state, end)?;
            if state.offset + bytes <= state.segment.header.events_end() {
                return Ok(state);
            }
        }
        state.settle_indexes()?;
        let old = Arc::clone(&state.segment);
        let size = state.spare_size();
        if bytes > size - segment::OVERHEAD {
            return Err(Error::BatchTooLarge {
                len: bytes,
                max: size - segment::OVERHEAD,
            });
        }
        let next = Header {
            index: old.header.index + 1,
            size,
            base: old.header.log_position(state.offset),
            first_position: state.next_position,
            epoch: state.epoch,
            ..old.header
        };
        // Until the footer is written a lack of space leaves everything as it was.
        let file = state.spare.take().map_err(|e| no_space(e, size, &self.dir))?;
        let made = seal(
            &old,
            state.offset,
            state.next_position,
            state.epoch,
            state.timestamp,
        )
        .and_then(|()| name_segment(&*state.medium, file, next));
        match made {
            Ok(segment) => state.segment = Arc::new(segment),
            Err(e) => return Err(state.poison(&format!("starting segment {} failed: {e}", next.index))),
        }
        state.offset = DATA;
        state.spare.prepare();
        state.index.seal(old.header.index);
        state.indexer.ask(old.header.index);
        Ok(state)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.lock().close();
    }
}

impl State {
    /// Log position of the next record.
    pub(crate) fn log_end(&self) -> u64 {
        self.segment.header.log_position(self.offset)
    }

    /// Forgets what indexes on the medium know by now; makes one if the thread that makes them is far behind.
    fn settle_indexes(&mut self) -> Result<()> {
        if let Some(done) = self.indexer.done() {
            self.index.indexed(done);
        }
        while self.index.waiting().count() > MOST_WAITING {
            let oldest = self.index.waiting().next().unwrap_or(0);
            self.index.indexes().ensure(oldest)?;
            self.index.indexed(oldest);
        }
        Ok(())
    }

    fn spare_size(&self) -> u64 {
        self.spare.size()
    }

    pub(crate) fn poison(&mut self, cause: &str) -> Error {
        let cause: Arc<str> = cause.into();
        self.poison.get_or_insert(Arc::clone(&cause));
        Error::Poisoned { cause }
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned {
                cause: Arc::clone(cause),
            }),
            None => Ok(()),
        }
    }

    /// Checks and encodes the batch.
    pub(crate) fn take(&mut self, events: &[Event<'_>], expected: Expected) -> Result<Taken> {
        self.refuse_if_poisoned()?;
        let bytes = self.bytes_of(events)?;
        if let Some(span) = self.check(events, expected)? {
            return Ok(Taken::Appended(span.appended(true)));
        }
        if self.offset + bytes > self.segment.header.events_end() {
            return Ok(Taken::NeedsRoom(bytes));
        }
        Ok(Taken::Appended(self.encode(events)?.appended(false)))
    }

    /// Bytes of the batch on the medium, if it is inside all limits.
    fn bytes_of(&self, events: &[Event<'_>]) -> Result<u64> {
        let mut len = 0u64;
        for event in events {
            if event.payload.len() > MAX_PAYLOAD {
                return Err(Error::EventTooLarge {
                    len: event.payload.len() as u64,
                    max: MAX_PAYLOAD as u64,
                });
            }
            let extension = format::extension_len(event);
            let longest = event.tags.iter().map(|tag| tag.len()).max().unwrap_or(0);
            if extension > MAX_EXTENSION || longest > 255 {
                return Err(Error::TagsTooLarge {
                    len: extension.max(longest),
                    max: MAX_EXTENSION,
                });
            }
            len += format::encoded_len(event) as u64;
        }
        let max = self.spare_size().max(self.segment.header.size) - segment::OVERHEAD;
        if len > max {
            return Err(Error::BatchTooLarge { len, max });
        }
        Ok(len)
    }

    /// Whether the batch may be appended. `Some` is the earlier append of the same keys.
    fn check(&self, events: &[Event<'_>], expected: Expected) -> Result<Option<Span>> {
        let [first, rest @ ..] = events else {
            return Err(Error::EmptyBatch);
        };
        if let Some(span) = self.duplicate(events)? {
            return Ok(Some(span));
        }
        let mixed = rest.iter().any(|event| event.entity != first.entity);
        let at = |event: &Event<'_>, expected| {
            let actual = self.index.sequence(event.entity.0)?;
            if actual == expected {
                return Ok(());
            }
            Err(Error::WrongSequence {
                entity: event.entity,
                expected,
                actual,
            })
        };
        match expected {
            Expected::Any => {}
            Expected::Exact(_) if mixed => return Err(Error::MixedEntities),
            Expected::Exact(sequence) => at(first, sequence)?,
            Expected::None => events.iter().try_for_each(|event| at(event, 0))?,
        }
        Ok(None)
    }

    fn duplicate(&self, events: &[Event<'_>]) -> Result<Option<Span>> {
        let mut keyed = 0;
        let mut known = 0;
        let mut span = None;
        for event in events.iter().filter(|event| event.idempotency_key != 0) {
            keyed += 1;
            if let Some(found) = self.index.span(event.entity.0, event.idempotency_key)? {
                known += 1;
                span.get_or_insert(found);
            }
        }
        if known != 0 && known != keyed {
            return Err(Error::PartialDuplicate {
                duplicates: known,
                events: events.len(),
            });
        }
        Ok(span)
    }

    /// Takes positions and sequences for the batch and encodes it: on a mapped journal into the segment, on a file
    /// at the end of `pending`.
    #[inline(always)]
    fn encode(&mut self, events: &[Event<'_>]) -> Result<Span> {
        let Some(mut entity) = events.first().map(|event| event.entity) else {
            return Err(Error::EmptyBatch);
        };
        // Nothing may fail once positions are taken: sequences of other entities are looked for before.
        if events.iter().any(|event| event.entity != entity) {
            for event in events {
                self.index.load(event.entity.0)?;
            }
        }
        let mut sequence = self.index.loaded(entity.0)?;
        self.timestamp = self.timestamp.max(self.clock.now());
        let first = self.next_position;
        let header = &self.segment.header;
        let mut keyed = false;
        let mut failed = None;
        for (n, event) in events.iter().enumerate() {
            if event.entity != entity {
                entity = event.entity;
                sequence = self.index.sequence_mut(entity.0);
            }
            *sequence += 1;
            keyed |= event.idempotency_key != 0;
            let start = if n == 0 { FLAG_BATCH_START } else { 0 };
            let end = if n + 1 == events.len() { FLAG_BATCH_END } else { 0 };
            let place = Place {
                salt: self.salt,
                epoch: self.epoch,
                flags: start | end,
                position: self.next_position,
                // A group never spans segments, so the gap stays below the largest segment.
                durable_gap: (header.log_position(self.offset) - self.durable) as u32,
                sequence: *sequence,
                timestamp: self.timestamp,
            };
            let record = format::encode(event, &place, &mut self.scratch);
            if self.in_place {
                if let Err(e) = self.segment.file.write_record(self.offset, &record) {
                    failed = Some(e);
                    break;
                }
            } else {
                record.append_to(&mut self.pending);
            }
            self.offset += record.padded_len() as u64;
            self.next_position += 1;
            // One writes at a time: two could share a block.
            if self.pending.len() >= AHEAD
                && !self.group.is_syncing()
                && let Err(e) = write_ahead(&*self.segment.file, self.offset, &mut self.pending)
            {
                failed = Some(e);
                break;
            }
        }
        let sequence = *sequence;
        if let Some(e) = failed {
            return Err(self.poison(&format!("a write failed: {e}")));
        }
        let span = Span {
            first,
            last: self.next_position - 1,
            sequence,
        };
        if keyed {
            for event in events.iter().filter(|event| event.idempotency_key != 0) {
                self.index.remember(event.entity.0, event.idempotency_key, span);
            }
        }
        Ok(span)
    }

    /// Commits, under the lock, what was written into the segment.
    #[inline(always)]
    pub(crate) fn commit_here(&mut self) -> Result<()> {
        if self.durable == self.log_end() {
            return Ok(());
        }
        match self.segment.file.commit() {
            Ok(()) => self.committed(self.log_end(), self.next_position),
            Err(e) => Err(self.poison(&format!("a sync failed: {e}"))),
        }
    }

    /// Everything below these positions is durable.
    pub(crate) fn committed(&mut self, log_position: u64, position: u64) -> Result<()> {
        self.durable = log_position;
        self.durable_events = position;
        self.publish()
            .map_err(|e| self.poison(&format!("publishing failed: {e}")))
    }

    /// Tells readers in all processes what is durable.
    fn publish(&self) -> std::io::Result<()> {
        self.publisher.publish(self.durable)?;
        if self.in_place {
            self.published.publish_quietly(self.durable);
        } else {
            self.published.publish(self.durable);
        }
        Ok(())
    }

    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    pub(crate) fn durable_events(&self) -> u64 {
        self.durable_events
    }

    fn write_control(&mut self, kind: u16) -> std::io::Result<()> {
        let place = Place {
            salt: self.salt,
            epoch: self.epoch,
            flags: 0,
            position: self.next_position,
            durable_gap: 0,
            sequence: 0,
            timestamp: self.timestamp,
        };
        let bytes = format::encode_control(kind, &place);
        self.segment.file.write_at(self.offset, &bytes)?;
        self.segment.file.commit()?;
        self.offset += bytes.len() as u64;
        self.durable = self.log_end();
        Ok(())
    }

    fn close(&mut self) -> std::io::Result<()> {
        self.dismiss_helper();
        // Batches whose futures were dropped.
        if self.durable != self.log_end() && self.poison.is_none() && !self.closed {
            if !self.pending.is_empty() {
                let at = self.offset - self.pending.len() as u64;
                self.segment.file.write_at(at, &self.pending)?;
            }
            self.segment.file.commit()?;
            self.pending.clear();
        }
        let room = self.offset + format::HEADER as u64 <= self.segment.header.data_end();
        if self.closed || self.poison.is_some() || !self.pending.is_empty() || !room {
            return Ok(());
        }
        self.closed = true;
        self.write_control(CONTROL_CLOSE)?;
        self.publish()
    }
}

/// Writes the whole pages of what is pending and ends at `end`. The commit that follows, whoever makes it, covers them; until
/// then they may be a batch without its end, which does not exist.
#[cold]
fn write_ahead(file: &dyn MediumFile, end: u64, pending: &mut Vec<u8>) -> std::io::Result<()> {
    let at = end - pending.len() as u64;
    let whole = (end / PAGE * PAGE).saturating_sub(at) as usize;
    file.write_ahead(at, &pending[..whole])?;
    pending.drain(..whole);
    Ok(())
}

fn seal(
    segment: &Segment,
    offset: u64,
    next_position: u64,
    epoch: u32,
    timestamp: u64,
) -> std::io::Result<()> {
    let footer = Footer {
        log_end: segment.header.log_position(offset),
        timestamp,
        index: segment.header.index,
        end: offset,
        next_position,
        epoch,
    };
    segment
        .file
        .write_at(segment.header.data_end(), &footer.encode())?;
    segment.file.commit()
}

fn make_segment(medium: &dyn Medium, spare: &mut SpareMaker, header: Header, dir: &Path) -> Result<Segment> {
    let file = spare.take().map_err(|e| no_space(e, header.size, dir))?;
    name_segment(medium, file, header).map_err(Error::io("start a segment in", dir))
}

/// Header durable, then the name, then the directory: the order that recovery relies on.
fn name_segment(medium: &dyn Medium, file: Box<dyn MediumFile>, header: Header) -> std::io::Result<Segment> {
    file.write_at(0, &header.encode())?;
    file.commit()?;
    medium.rename(SPARE, &segment::name(header.index))?;
    medium.sync_dir()?;
    Ok(Segment { header, file })
}

fn no_space(e: std::io::Error, segment_size: u64, dir: &Path) -> Error {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::NoSpace {
            segment_size,
            dir: dir.to_owned(),
        },
        _ => Error::io("make a segment in", dir)(e),
    }
}

/// Removes files that a crash left unfinished, and segments that a drop had no time to remove.
fn remove_leftovers(medium: &dyn Medium) -> std::io::Result<()> {
    let names = medium.list()?;
    let first = names.iter().filter_map(|name| floor::index_of(name)).max();
    let below: Vec<&String> = names
        .iter()
        .filter(|name| first.is_some_and(|first| floor::is_below(name, first)))
        .collect();
    if !below.is_empty() {
        // A dead writer may have named the floor without making the name durable.
        medium.sync_dir()?;
    }
    let unfinished = |name: &&String| {
        let ours = |name: &str| {
            let index = segment::index_of(name).or_else(|| floor::index_of(name));
            index.or_else(|| segment_index::index_of(name)).is_some() || name == reserve::NAME
        };
        *name == SPARE || name.strip_suffix(UNFINISHED).is_some_and(ours)
    };
    for name in names.iter().filter(unfinished).chain(below) {
        medium.remove(name)?;
    }
    Ok(())
}

fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let parent = dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(parent)
        .and_then(|p| p.sync_all())
        .map_err(Error::io("sync", parent))
}

/// A reader that only looks holds the lock for an instant; a writer is there for longer.
fn take_lock(dir: &Path) -> Result<WriterLock> {
    let mut tries = 0;
    loop {
        match WriterLock::take(dir) {
            Err(Error::Locked { .. }) if tries < 20 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn choose_mode(dir: &Path, options: &Options) -> Result<Probe> {
    let found = probe(dir).map_err(Error::io("probe", dir))?;
    match options.require {
        None => Ok(found),
        Some(mode) if mode == found.mode => Ok(found),
        Some(mode) if mode == Mode::Buffered || (mode == Mode::Volatile && cfg!(target_arch = "x86_64")) => {
            Ok(Probe {
                mode,
                reason: format!(
                    "required by the caller; probing found {}: {}",
                    found.mode, found.reason
                ),
            })
        }
        Some(Mode::Direct) => match direct::probe(dir) {
            Ok(()) => Ok(Probe {
                mode: Mode::Direct,
                reason: format!(
                    "required by the caller; O_DIRECT and O_DSYNC work; probing found {}",
                    found.mode
                ),
            }),
            Err(e) => Err(Error::ModeUnavailable {
                required: Mode::Direct,
                available: found.mode,
                reason: format!(
                    "a write with O_DIRECT and O_DSYNC failed ({e}): use a file system on a disk"
                ),
                dir: dir.to_owned(),
            }),
        },
        // Going around the caches is right on an eADR platform too, only slower.
        Some(Mode::Pmem) if found.mode == Mode::Eadr => Ok(Probe {
            mode: Mode::Pmem,
            reason: format!("required by the caller; {}", found.reason),
        }),
        Some(required) => Err(Error::ModeUnavailable {
            required,
            available: found.mode,
            reason: found.reason,
            dir: dir.to_owned(),
        }),
    }
}
