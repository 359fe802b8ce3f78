//! Links that are cut again and again while messages are under way, and what has to hold afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Harness, PATIENCE, Pair, eventually, nothing_more, pair_with, take};
use crate::{Event, Mailbox, Node, Peer, Timing};

/// How soon links are cut, and how slowly messages are taken, so that cuts fall into the run however fast the link.
pub(super) struct Pace {
    /// A link is cut so long after either side has heard the other over it.
    pub(super) cut_after: Duration,
    /// The receiver pauses after every so manyeth message.
    pub(super) every: u64,
    /// How long.
    pub(super) pause: Duration,
}

/// Two nodes whose session waits for another link as long as the case does.
pub(super) fn pair_to_cut(harness: &dyn Harness) -> Pair {
    let timing = Timing {
        resume_window: PATIENCE,
        ..Timing::default()
    };
    pair_with(harness, |builder| builder.timing(timing))
}

/// Links that are cut in one run: a slow device takes long to connect.
const MOST_CUTS: usize = 40;

#[derive(Default)]
struct Progress {
    cuts: AtomicUsize,
    stop: AtomicBool,
}

/// Cuts a link, and the links that take its place, until it is dropped.
struct Cutter(Arc<Progress>);

impl Cutter {
    /// Cuts no link over which nothing has come yet: with such links alone a session ends at its resume window, and is meant
    /// to.
    fn start(to_b: &Peer, b: &Node, after: Duration) -> Cutter {
        eventually("b knows a", || b.peers().len() == 1);
        let (to_a, to_b) = (b.peers().remove(0), to_b.clone());
        let progress = Arc::<Progress>::default();
        let cutter = Cutter(progress.clone());
        thread::spawn(move || {
            let mut last = 0;
            while !progress.stop.load(Ordering::SeqCst) && progress.cuts.load(Ordering::SeqCst) < MOST_CUTS {
                let link = to_b.0.link_number();
                if link > last && to_b.0.is_proven() && to_a.0.is_proven() {
                    thread::sleep(after);
                    to_b.cut_link();
                    last = link;
                    progress.cuts.fetch_add(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        cutter
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Takes `count` messages, which `send` sends on a thread of its own, while their link is cut; `check` is given each with its
/// number. Afterwards nothing more has come, some links have been replaced, and there are no dead letters.
pub(super) fn all_arrive_under_cuts(
    pair: &Pair,
    mut inbox: Mailbox,
    count: u64,
    pace: Pace,
    send: impl FnOnce() + Send + 'static,
    check: impl Fn(&[u8], u64),
) {
    const CUTS: usize = 3;
    let events = pair.a.events(10_000);
    let cutter = Cutter::start(&pair.to_b, &pair.b, pace.cut_after);
    let sender = thread::spawn(send);
    for number in 0..count {
        check(&take(&mut inbox), number);
        if number % pace.every == 0 {
            thread::sleep(pace.pause);
        }
        if number == count / 2 {
            eventually("links are cut", || cutter.0.cuts.load(Ordering::SeqCst) >= CUTS);
        }
    }
    drop(cutter);
    sender.join().unwrap();
    nothing_more(&mut inbox);
    for resumed in 0..CUTS {
        while !matches!(
            events
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("only {resumed} links were cut and replaced: {error}")),
            Event::Resumed { .. }
        ) {}
    }
    let letters = pair.a.dead_letters().count() + pair.b.dead_letters().count();
    assert_eq!(letters, 0);
}
