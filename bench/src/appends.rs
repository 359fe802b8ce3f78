//! Threads that append to a durable log, whoever's it is, as often as they are told.
//!
//! A log keeps what it is given, so when it has much a new one takes over, in a folder of its own that goes away
//! with it; opening it is not part of the figures. Rotating its segments is.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::{Error, doing};
use crate::floor::journal::Shape;
use crate::measure::{Laps, Metric, RoundResult, Side, rates};
use crate::scratch::Scratch;

/// Bytes of events that one log is given.
const LOG_BYTES: u64 = 256 << 20;

/// Appends a batch and returns when all of it is durable.
pub(crate) type Append<'a> = Box<dyn FnMut() -> Result<(), Error> + 'a>;

/// A durable log, open.
pub(crate) trait Log: Sync {
    /// What the thread `writer` does again and again: it appends `batch` times `event` in one commit.
    fn writer<'a>(&'a self, writer: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error>;
}

/// Opens a log in an empty folder.
pub(crate) type Open = Box<dyn Fn(&Path) -> Result<Box<dyn Log>, Error>>;

/// A side that appends.
pub(crate) struct Appends {
    /// The log in use, if it can take more.
    opened: Option<Opened>,
    open: Open,
    dir: PathBuf,
    shape: Shape,
    event: Vec<u8>,
    /// One for each thread.
    laps: Vec<Laps>,
}

/// An open log, and then its folder.
struct Opened {
    log: Box<dyn Log>,
    /// Commits until the next one takes over.
    left: u64,
    _folder: Scratch,
}

impl Appends {
    /// The first log is opened at once: one that is not to be had here is no matter of rounds.
    pub(crate) fn new(dir: &Path, shape: Shape, open: Open) -> Result<Appends, Error> {
        let mut event = vec![0; shape.size];
        // Nobody shall gain by compressing it.
        getrandom::fill(&mut event)
            .map_err(|error| doing("getting randomness")(std::io::Error::other(error)))?;
        let mut appends = Appends {
            opened: None,
            open,
            dir: dir.to_owned(),
            shape,
            event,
            laps: (0..shape.threads).map(|_| Laps::new()).collect(),
        };
        appends.opened = Some(appends.open()?);
        Ok(appends)
    }

    fn open(&self) -> Result<Opened, Error> {
        let folder = Scratch::make_in(&self.dir)?;
        Ok(Opened {
            log: (self.open)(folder.path())?,
            left: (LOG_BYTES / (self.at_once() * self.shape.size as u64)).max(1),
            _folder: folder,
        })
    }

    /// Events of a commit of all threads.
    fn at_once(&self) -> u64 {
        (self.shape.batch * self.shape.threads) as u64
    }

    /// Each thread appends so many batches.
    fn append(&mut self, log: &dyn Log, batches: u64) -> Result<Duration, Error> {
        let (event, batch) = (&self.event, self.shape.batch);
        let write = |writer: u64, laps: &mut Laps| -> Result<(), Error> {
            let mut append = log.writer(writer, event, batch)?;
            laps.start();
            for _ in 0..batches {
                append()?;
                laps.lap();
            }
            Ok(())
        };
        if let [laps] = &mut self.laps[..] {
            let began = Instant::now();
            write(1, laps)?;
            return Ok(began.elapsed());
        }
        let ready = Barrier::new(self.laps.len() + 1);
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .laps
                .iter_mut()
                .zip(1u64..)
                .map(|(laps, writer)| {
                    let (ready, write) = (&ready, &write);
                    scope.spawn(move || {
                        ready.wait();
                        write(writer, laps)
                    })
                })
                .collect();
            ready.wait();
            let began = Instant::now();
            let written: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            let took = began.elapsed();
            for written in written {
                written.unwrap_or(Err(Error::ThreadPanicked))?;
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
            elapsed += self.append(&*opened.log, now)?;
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
