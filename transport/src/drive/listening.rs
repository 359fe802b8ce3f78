//! Listening: when the driver asks its node's listeners for whoever has dialled.
//!
//! A driver that sleeps is told by the poller. One that does not would have to make a system call to hear, so it asks now and
//! then, and ever more rarely while nobody comes.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::LISTENER;
use crate::answer;
use crate::link::Listener;
use crate::node::NodeInner;
use crate::session::Time;

/// The node's listeners, each with the scheme of its transport.
pub(crate) type Listeners = Vec<(&'static str, Box<dyn Listener>)>;

/// Time between two questions of a driver that does not sleep, each of which costs a system call: after somebody has come, ...
const SOONEST: Duration = Duration::from_millis(1);
/// ... and at most, each time that nobody has being twice the one before. Whoever dials waits for that long.
const LATEST: Duration = Duration::from_millis(16);

/// How soon after somebody could not be accepted: the process may have had no descriptor left.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The listeners, and when they are asked.
pub(super) struct Listening {
    listeners: Listeners,
    /// Somebody may have dialled.
    due: bool,
    next: Time,
    pause: Duration,
    /// A listener could not accept: nobody is asked again before.
    again: Option<Time>,
}

impl Listening {
    pub(super) fn new(listeners: Listeners, registry: &Registry) -> std::io::Result<Listening> {
        for (_, listener) in &listeners {
            let descriptor = listener.descriptor().as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), LISTENER, Interest::READABLE)?;
        }
        Ok(Listening {
            listeners,
            due: true,
            next: Time::ZERO,
            pause: SOONEST,
            again: None,
        })
    }

    /// The poller tells that somebody has dialled, or that is to be found out without it.
    pub(super) fn ask_next(&mut self) {
        self.due = true;
    }

    /// Whether the next look around asks.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// For a driver that does not sleep, and hears nothing from the poller.
    pub(super) fn ask_now_and_then(&mut self, now: Time) {
        if now >= self.next {
            self.due = true;
            self.next = now + self.pause;
            self.pause = (2 * self.pause).min(LATEST);
        }
    }

    /// Accepts whoever has dialled, if that is due.
    pub(super) fn accept(&mut self, node: &NodeInner, now: Time) {
        if !self.due || self.again.is_some_and(|again| now < again) {
            return;
        }
        self.due = false;
        let has_failed = self.again.take().is_some();
        for (scheme, listener) in &mut self.listeners {
            loop {
                match listener.accept() {
                    Ok(Some(wire)) => {
                        // Others of a cluster that starts come at the same time.
                        (self.next, self.pause) = (Time::ZERO, SOONEST);
                        if let Some(node) = node.strong() {
                            answer::answer(&node, scheme, wire);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        if !has_failed {
                            tracing::warn!(%error, "nobody is let in until this is mended");
                        }
                        // Whoever dialled still waits, and nothing tells of that again.
                        self.due = true;
                        self.again = Some(now + ACCEPT_AGAIN);
                        break;
                    }
                }
            }
        }
    }

    /// Gives up the listeners.
    pub(super) fn stop(&mut self) {
        self.listeners.clear();
    }
}
