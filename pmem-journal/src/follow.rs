//! Following a journal live: what is there, a word that this was all, and then each event as it becomes durable.
//!
//! In the process of a writer on a file a follower sleeps until the writer publishes. Elsewhere, and beside a writer on
//! persistent memory, it looks at what is published, more and more rarely while nothing comes, up to every
//! [`LONGEST`]; it never spins.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::event::Recorded;
use crate::reader::Reader;
use crate::select::{Selected, Selection};

/// The longest pause between two looks.
const LONGEST: Duration = Duration::from_millis(5);
const SHORTEST: Duration = Duration::from_micros(50);

/// What a follower is given.
#[derive(Clone, Copy, Debug)]
pub enum Followed<'a> {
    /// The next event.
    Event(Recorded<'a>),
    /// All that was durable has been given; said once, before the first wait.
    CaughtUp,
    /// Nothing came in the time allowed.
    TimedOut,
}

/// Follows a journal.
pub struct Follower {
    reader: Reader,
    selected: Selected,
    caught_up: bool,
    pause: Duration,
}

impl Reader {
    /// Follows the selected events from position `from` on; `None` begins with the first event kept.
    pub fn follow(&self, selection: Selection, from: Option<u64>) -> Result<Follower> {
        Ok(Follower {
            reader: self.clone(),
            selected: self.select(selection, from)?,
            caught_up: false,
            pause: SHORTEST,
        })
    }
}

impl Follower {
    /// The next event; [`Followed::CaughtUp`] once, when there is none yet; then waits for one for `most`.
    ///
    /// Between two waits the end is looked for anew, so an event is given as soon as it is durable.
    pub fn next(&mut self, most: Duration) -> Result<Followed<'_>> {
        let deadline = Instant::now().checked_add(most);
        loop {
            if self.selected.advance()? {
                self.pause = SHORTEST;
                break;
            }
            if self.selected.refresh()? {
                continue;
            }
            if !std::mem::replace(&mut self.caught_up, true) {
                return Ok(Followed::CaughtUp);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => most,
            };
            if left.is_zero() {
                return Ok(Followed::TimedOut);
            }
            match self.reader.wakes() {
                Some(published) => drop(published.wait_beyond(self.selected.limit(), left)),
                None => {
                    std::thread::sleep(self.pause.min(left));
                    self.pause = (self.pause * 2).min(LONGEST);
                }
            }
        }
        Ok(match self.selected.last_event() {
            Some(event) => Followed::Event(event),
            None => Followed::TimedOut,
        })
    }
}
