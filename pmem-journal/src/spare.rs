//! The next segment, made ahead of need by a thread of its own, so that no append waits for zeroes to be written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::medium::{Medium, MediumFile};
use crate::segment::SPARE;

type Made = io::Result<Box<dyn MediumFile>>;

/// Makes empty segments under the name [`SPARE`].
pub(crate) struct SpareMaker {
    medium: Arc<dyn Medium>,
    size: u64,
    thread: Option<(Sender<()>, Receiver<Made>, JoinHandle<()>)>,
    outstanding: bool,
}

impl SpareMaker {
    /// With `ahead`, a thread makes each segment before it is asked for.
    pub(crate) fn new(medium: Arc<dyn Medium>, size: u64, ahead: bool) -> io::Result<SpareMaker> {
        let thread = if ahead {
            let (ask, asked) = channel::<()>();
            let (give, made) = channel();
            let medium = Arc::clone(&medium);
            let thread = std::thread::Builder::new()
                .name("journal-spare".to_owned())
                .spawn(move || {
                    while asked.recv().is_ok() {
                        if give.send(medium.create(SPARE, size)).is_err() {
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
            size,
            thread,
            outstanding: false,
        })
    }

    /// Bytes of a segment.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Starts making the next one.
    pub(crate) fn prepare(&mut self) {
        if let Some((ask, _, _)) = &self.thread
            && !self.outstanding
        {
            self.outstanding = ask.send(()).is_ok();
        }
    }

    /// An empty segment, called [`SPARE`]; waits for it if need be.
    pub(crate) fn take(&mut self) -> Made {
        if std::mem::take(&mut self.outstanding)
            && let Some((_, made, _)) = &self.thread
            && let Ok(made) = made.recv()
        {
            // Made ahead when there was no room; there may be some by now.
            return made.or_else(|_| self.medium.create(SPARE, self.size));
        }
        self.medium.create(SPARE, self.size)
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        if let Some((ask, made, thread)) = self.thread.take() {
            drop((ask, made));
            let _ = thread.join();
            let _ = self.medium.remove(SPARE);
        }
    }
}
