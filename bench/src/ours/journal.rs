//! Our journal, appending the same events as often as its floor.
//!
//! A journal keeps what it is given, so when it has much a new one takes over, in a folder of its own that goes away
//! with it; opening it is not part of the figures. Rotating its segments is.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use pmem_journal::{Event, Expected, Options};
use tempfile::TempDir;

use crate::clock;
use crate::error::{Error, doing, failed};
use crate::floor::journal::{Mode, Shape};
use crate::measure::{Laps, Metric, RoundResult, Side, rates};

/// Bytes of events that one journal is given.
const JOURNAL_BYTES: u64 = 256 << 20;
const KIND: u16 = 1;

/// The journal in `dir`, in a mode that its floor could be opened in.
pub(crate) fn journal(dir: &Path, mode: Mode, shape: Shape) -> Result<Box<dyn Side>, Error> {
    let mode = required_mode(mode)?.ok_or(Error::NoSuchJournalMode { mode: mode.name() })?;
    let mut side = Appends {
        opened: None,
        dir: dir.to_owned(),
        mode,
        shape,
        event: vec![0x5a; shape.size],
        laps: (0..shape.threads).map(|_| Laps::new()).collect(),
    };
    // Now, for a mode that is not to be had here is no matter of rounds.
    side.opened = Some(side.open()?);
    Ok(Box::new(side))
}

/// What the command line's mode asks of the journal; nothing where the journal is to choose.
pub(crate) fn required_mode(mode: Mode) -> Result<Option<pmem_journal::Mode>, Error> {
    Ok(Some(match mode {
        Mode::Auto => return Ok(None),
        Mode::Pmem => pmem_journal::Mode::Pmem,
        Mode::Eadr => pmem_journal::Mode::Eadr,
        Mode::Buffered => pmem_journal::Mode::Buffered,
        Mode::Volatile => pmem_journal::Mode::Volatile,
        Mode::Direct => return Err(Error::NoSuchJournalMode { mode: mode.name() }),
    }))
}

struct Appends {
    /// The journal in use, if it can take more.
    opened: Option<Opened>,
    dir: PathBuf,
    mode: pmem_journal::Mode,
    shape: Shape,
    event: Vec<u8>,
    /// One for each thread.
    laps: Vec<Laps>,
}

/// An open journal, and then its folder.
struct Opened {
    journal: pmem_journal::Journal,
    /// Commits until the next one takes over.
    left: u64,
    _folder: TempDir,
}

impl Appends {
    fn open(&self) -> Result<Opened, Error> {
        let folder = tempfile::Builder::new()
            .prefix("bench-journal-")
            .tempdir_in(&self.dir)
            .map_err(doing(format!("making a folder in {}", self.dir.display())))?;
        let options = Options::new().require(self.mode);
        let (journal, _) =
            pmem_journal::Journal::open_with(folder.path(), &options).map_err(failed("opening a journal"))?;
        Ok(Opened {
            journal,
            left: (JOURNAL_BYTES / (self.at_once() * self.shape.size as u64)).max(1),
            _folder: folder,
        })
    }

    /// Events of a commit.
    fn at_once(&self) -> u64 {
        (self.shape.batch * self.shape.threads) as u64
    }

    /// Each thread appends so many batches.
    fn append(&mut self, journal: &pmem_journal::Journal, batches: u64) -> Result<Duration, Error> {
        let (event, batch) = (&self.event, self.shape.batch);
        let append = |entity: u128, laps: &mut Laps| -> Result<(), Error> {
            let events = vec![Event::new(entity, KIND, event); batch];
            laps.start();
            for _ in 0..batches {
                journal
                    .append(&events, Expected::Any)
                    .map_err(failed("appending to the journal"))?;
                laps.lap();
            }
            Ok(())
        };
        if let [laps] = &mut self.laps[..] {
            let began = Instant::now();
            append(1, laps)?;
            return Ok(began.elapsed());
        }
        let ready = Barrier::new(self.laps.len() + 1);
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .laps
                .iter_mut()
                .zip(1u128..)
                .map(|(laps, entity)| {
                    let (ready, append) = (&ready, &append);
                    scope.spawn(move || {
                        ready.wait();
                        append(entity, laps)
                    })
                })
                .collect();
            ready.wait();
            let began = Instant::now();
            let appended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            let took = began.elapsed();
            for appended in appended {
                appended.unwrap_or(Err(Error::ThreadPanicked))?;
            }
            Ok(took)
        })
    }
}

impl Side for Appends {
    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
        let at_once = self.at_once();
        let commits = count.div_ceil(at_once);
        let (mut left, mut elapsed, mut cpu_ns) = (commits, Duration::ZERO, 0);
        while left > 0 {
            let mut opened = match self.opened.take() {
                Some(opened) => opened,
                None => self.open()?,
            };
            let now = left.min(opened.left);
            let cpu_before = clock::cpu_ns();
            elapsed += self.append(&opened.journal, now)?;
            cpu_ns += clock::cpu_ns() - cpu_before;
            left -= now;
            opened.left -= now;
            self.opened = Some(opened).filter(|opened| opened.left > 0);
        }
        let done = commits * at_once;
        let mut figures = rates(Metric::EventsPerSecond, done, self.shape.size, elapsed, cpu_ns);
        let (first, others) = self.laps.split_at_mut(1);
        for laps in others {
            first[0].take_over(laps);
        }
        figures.extend(first[0].percentiles(1));
        Ok(RoundResult { elapsed, figures })
    }
}
