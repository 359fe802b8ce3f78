//! Links that are cut again and again while messages are under way, and what has to hold afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{Harness, PATIENCE, Pair, nothing_more, pair_with, take};
use crate::{Event, Mailbox, Timing};

/// Long enough for either side to hear the other on a slow device: a link that dies before does not count as one.
pub(super) const BETWEEN_CUTS: Duration = Duration::from_millis(60);

/// A receiver's pauses, so that cuts fall into the run.
pub(super) struct Pauses {
    /// After every so manyeth message.
    pub(super) every: u64,
    /// How long.
    pub(super) pause: Duration,
}

/// Two nodes whose session outlives as many cuts as there are.
pub(super) fn pair_to_cut(harness: &dyn Harness) -> Pair {
    let timing = Timing {
        resume_window: PATIENCE,
        ..Timing::default()
    };
    pair_with(harness, |builder| builder.timing(timing))
}

/// Takes `count` messages, which `send` sends on a thread of its own, while their link is cut; `check` is given each with its
/// number. Afterwards nothing more has come, some links have been replaced, and there are no dead letters.
pub(super) fn all_arrive_under_cuts(
    pair: &Pair,
    mut inbox: Mailbox,
    count: u64,
    pauses: Pauses,
    send: impl FnOnce() + Send + 'static,
    check: impl Fn(&[u8], u64),
) {
    let events = pair.a.events(1_000);
    let done = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicU64::new(0));
    let cutter = thread::spawn({
        let (peer, done, taken) = (pair.to_b.clone(), done.clone(), taken.clone());
        move || {
            let mut at_last_cut = 0;
            while !done.load(Ordering::Relaxed) {
                // A link that has carried nothing yet is not cut.
                if taken.load(Ordering::Relaxed) > at_last_cut && peer.link().is_some() {
                    thread::sleep(BETWEEN_CUTS);
                    peer.cut_link();
                    at_last_cut = taken.load(Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let sender = thread::spawn(send);
    for number in 0..count {
        check(&take(&mut inbox), number);
        taken.store(number + 1, Ordering::Relaxed);
        if number % pauses.every == 0 {
            thread::sleep(pauses.pause);
        }
    }
    done.store(true, Ordering::Relaxed);
    cutter.join().unwrap();
    sender.join().unwrap();
    nothing_more(&mut inbox);
    let resumed = events
        .try_iter()
        .filter(|event| matches!(event, Event::Resumed { .. }))
        .count();
    assert!(resumed >= 3, "only {resumed} links were cut and replaced");
    let letters = pair.a.dead_letters().count() + pair.b.dead_letters().count();
    assert_eq!(letters, 0);
}
