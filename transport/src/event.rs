//! What happens to a node's sessions, told to whoever subscribes, counted, and the latest kept: a flight recorder, which
//! is written to the log when a session ends for another reason than that it was closed.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use std::time::{Duration, Instant};

use crate::session::Ended;
use crate::wait::lock;

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected, or was connected to.
    Connected {
        /// The peer's node.
        node: String,
        /// The link that carries the session: scheme and what was chosen for it.
        link: String,
    },
    /// The link died, or is left for a better one; the session waits for another.
    Suspended {
        /// The peer's node.
        node: String,
        /// Why the link died.
        cause: String,
    },
    /// Another link carries the session on.
    Resumed {
        /// The peer's node.
        node: String,
        /// The link.
        link: String,
    },
    /// The session is over, and is never taken up again: should the peer come back with it, it is turned away, and has to
    /// begin a new one. (Elsewhere this is called quarantine.)
    Ended {
        /// The peer's node.
        node: String,
        /// Why.
        why: Ended,
    },
    /// Somebody dialled and was turned away, or did not finish its handshake.
    HandshakeFailed {
        /// Who, as far as is known.
        peer: String,
        /// Why.
        cause: String,
    },
}

/// How many of the latest events are kept.
pub const KEPT: usize = 256;

/// How often each kind of event has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Sessions made.
    pub connected: u64,
    /// Links lost.
    pub suspended: u64,
    /// Sessions that went on over another link.
    pub resumed: u64,
    /// Sessions that are over.
    pub ended: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
}

impl EventCounts {
    fn count(&mut self, event: &Event) {
        *match event {
            Event::Connected { .. } => &mut self.connected,
            Event::Suspended { .. } => &mut self.suspended,
            Event::Resumed { .. } => &mut self.resumed,
            Event::Ended { .. } => &mut self.ended,
            Event::HandshakeFailed { .. } => &mut self.handshakes_failed,
        } += 1;
    }
}

#[derive(Default)]
struct Recorder {
    counts: EventCounts,
    recent: VecDeque<(Instant, Event)>,
}

/// The subscribers of a node's events.
#[derive(Default)]
pub(crate) struct Events {
    subscribers: Mutex<Vec<SyncSender<Event>>>,
    recorder: Mutex<Recorder>,
}

impl Events {
    pub(crate) fn subscribe(&self, capacity: usize) -> Receiver<Event> {
        let (sender, receiver) = sync_channel(capacity);
        lock(&self.subscribers).push(sender);
        receiver
    }

    pub(crate) fn counts(&self) -> EventCounts {
        lock(&self.recorder).counts
    }

    /// The latest events, oldest first, each with its age.
    pub(crate) fn recent(&self) -> Vec<(Duration, Event)> {
        let recorder = lock(&self.recorder);
        let recent = recorder.recent.iter();
        recent.map(|(at, event)| (at.elapsed(), event.clone())).collect()
    }

    fn record(&self, event: &Event) {
        let mut recorder = lock(&self.recorder);
        recorder.counts.count(event);
        if recorder.recent.len() == KEPT {
            recorder.recent.pop_front();
        }
        recorder.recent.push_back((Instant::now(), event.clone()));
    }

    /// Writes the latest events to the log: something went wrong, and this is what led to it.
    #[cold]
    fn dump(&self) {
        for (age, event) in self.recent() {
            tracing::warn!(?age, ?event, "flight recorder");
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        tracing::info!(?event, "session event");
        self.record(&event);
        if matches!(&event, Event::Ended { why, .. } if *why != Ended::Closed) {
            self.dump();
        }
        lock(&self.subscribers).retain(|subscriber| {
            !matches!(
                subscriber.try_send(event.clone()),
                Err(TrySendError::Disconnected(_))
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    #[test]
    fn events_are_counted_and_the_latest_are_kept_in_order() {
        let events = Events::default();
        let failed = |number: usize| Event::HandshakeFailed {
            peer: number.to_string(),
            cause: "none".into(),
        };
        for number in 0..KEPT + 5 {
            events.tell(failed(number));
        }
        let recent = events.recent();
        assert_eq!((recent.len(), &recent[0].1), (KEPT, &failed(5)));
        assert_eq!(events.counts().handshakes_failed, KEPT as u64 + 5);
    }

    /// The warnings that a thread's log got.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Warnings {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if *event.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn what_led_to_a_loss_is_written_to_the_log_and_what_led_to_a_goodbye_is_not() {
        let warnings = Warnings::default();
        let log = tracing_subscriber::registry().with(warnings.clone());
        tracing::subscriber::with_default(log, || {
            let events = Events::default();
            let ended = |why| Event::Ended {
                node: "b".into(),
                why,
            };
            events.tell(Event::Suspended {
                node: "b".into(),
                cause: "reset".into(),
            });
            events.tell(ended(Ended::Closed));
            assert_eq!(warnings.0.load(Ordering::Relaxed), 0);
            events.tell(ended(Ended::Forgotten));
            // Itself, and the two before it.
            assert_eq!(warnings.0.load(Ordering::Relaxed), 3);
        });
    }
}
