//! Opening a journal: the lock, the mode, recovery, and the first segment of the new epoch.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::first_segment::{self, Start};
use crate::floor;
use crate::format::{self, CONTROL_EPOCH};
use crate::gate::Gate;
use crate::group::Group;
use crate::index::{Index, Learned};
use crate::indexer::Indexer;
use crate::indexes::Indexes;
use crate::journal::Journal;
use crate::lock::WriterLock;
use crate::medium::direct;
use crate::medium::file::FileMedium;
use crate::medium::pmem;
use crate::medium::{Medium, UNFINISHED, probe};
use crate::mode::{Mode, Probe};
use crate::options::Options;
use crate::publish::Publisher;
use crate::published::Published;
use crate::reader::Reader;
use crate::recover::{Recovery, recover};
use crate::reserve::{self, Reserve};
use crate::scan::Checks;
use crate::segment::{self, SPARE};
use crate::segment_index;
use crate::snapshot_slots;
use crate::spare::SpareMaker;
use crate::state::State;

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
            .and_then(|()| snapshot_slots::remove_leftovers(&*medium))
            .map_err(Error::io("remove what a crash left in", dir))?;
        let names = medium.list().map_err(Error::io("list", dir))?;
        let published = Arc::new(Published::default());
        let reserve = Arc::new(Reserve::new(Arc::clone(&medium), options.reserve));
        let mut spare = SpareMaker::new(
            Arc::clone(&medium),
            Arc::clone(&reserve),
            options.segment_size,
            options.background,
            Arc::clone(&published),
        )
        .map_err(Error::io("start a thread for", dir))?;
        let indexes = Arc::new(Indexes::new(Arc::clone(&medium), Some(Arc::clone(&reserve))));
        let indexer =
            Indexer::new(&indexes, options.background).map_err(Error::io("start a thread for", dir))?;
        let epoch = recovered.epoch + 1;
        let Start {
            segment,
            offset,
            fresh,
        } = match &recovered.active {
            Some(active) => first_segment::go_on(&*medium, &mut spare, dir, &recovered, active)?,
            None => first_segment::begin(&*medium, &mut spare, dir, epoch)?,
        };
        spare.prepare(segment.header.base);
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
        if !fresh {
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
            gate: Arc::new(Gate::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
            published,
            reserve,
            dropping: Mutex::new(()),
            saving: Mutex::new(()),
        };
        journal.reserve.refill();
        Ok((journal, recovered.report))
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
            Err(Error::Locked { .. }) if tries < 100 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn choose_mode(dir: &Path, options: &Options) -> Result<Probe> {
    let found = probe(dir)?;
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
