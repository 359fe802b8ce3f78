//! The next segment, made ahead of need by a thread of its own, so that no append waits for zeroes to be written, and at a pace
//! at which the zeroes are not in the way of appends (`pace.rs`).

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::medium::{Medium, MediumFile};
use crate::pace::{Pace, Urge, Urgency};
use crate::published::Published;
use crate::reserve::Reserve;
use crate::segment::SPARE;

type Made = io::Result<Box<dyn MediumFile>>;

/// Makes empty segments under the name [`SPARE`].
pub(crate) struct SpareMaker {
    medium: Arc<dyn Medium>,
    reserve: Arc<Reserve>,
    size: u64,
    thread: Option<(Sender<u64>, Receiver<Made>, JoinHandle<()>)>,
    urgency: Arc<Urgency>,
    outstanding: bool,
}

impl SpareMaker {
    /// With `ahead`, a thread makes each segment before it is asked for, at the pace at which the journal is written.
    pub(crate) fn new(
        medium: Arc<dyn Medium>,
        reserve: Arc<Reserve>,
        size: u64,
        ahead: bool,
        written: Arc<Published>,
    ) -> io::Result<SpareMaker> {
        let urgency = Arc::new(Urgency::default());
        let thread = if ahead {
            let (ask, asked) = channel::<u64>();
            let (give, made) = channel();
            let (medium, reserve, urgency) =
                (Arc::clone(&medium), Arc::clone(&reserve), Arc::clone(&urgency));
            let thread = std::thread::Builder::new()
                .name("journal-spare".to_owned())
                .spawn(move || {
                    for from in asked {
                        let pace = Pace::new(from, &written, &urgency);
                        let making = Cell::new(Some(reserve.making()));
                        let made = medium.create_step_by_step(SPARE, size, &|done| {
                            // It has its room.
                            drop(making.take());
                            pace.wait(done)
                        });
                        drop(making);
                        if give.send(made).is_err() {
                            return;
                        }
                    }
                })?;
            Some((ask, made, thread))
        } else {
            None
        };
        Ok(SpareMaker {
            medium,
            reserve,
            size,
            thread,
            urgency,
            outstanding: false,
        })
    }

    /// Bytes of a segment.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Starts making the next one; the segment being written begins at this log position.
    pub(crate) fn prepare(&mut self, from: u64) {
        if let Some((ask, _, _)) = &self.thread
            && !self.outstanding
        {
            self.urgency.set(Urge::None);
            self.outstanding = ask.send(from).is_ok();
        }
    }

    /// An empty segment, called [`SPARE`]; waits for it if need be.
    pub(crate) fn take(&mut self) -> Made {
        self.urgency.set(Urge::Needed);
        if std::mem::take(&mut self.outstanding)
            && let Some((_, made, _)) = &self.thread
            && let Ok(made) = made.recv()
        {
            // Made ahead when there was no room; there may be some by now.
            return made.or_else(|_| self.make());
        }
        self.make()
    }

    fn make(&self) -> Made {
        let _making = self.reserve.making();
        self.medium.create(SPARE, self.size)
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.urgency.set(Urge::Unwanted);
        if let Some((ask, made, thread)) = self.thread.take() {
            drop((ask, made));
            let _ = thread.join();
            let _ = self.medium.remove(SPARE);
        }
    }
}
