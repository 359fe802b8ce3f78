//! What a simulated node takes for the world around it: simulated time, seeded chance, and tasks that the history polls.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

use super::world::SharedWorld;
use crate::handshake::HandshakeError;
use crate::link::{LinkError, Wire};
use crate::session::Time;
use crate::surroundings::{Pending, Surroundings};
use crate::wait::{WaitList, lock};

/// The simulated world around the node of one host.
pub(super) struct Simulated {
    pub(super) world: SharedWorld,
    pub(super) host: usize,
    /// When the node was started: its own time begins there.
    pub(super) started: Time,
    /// How long a handshake with a stranger may take.
    pub(super) patience: Time,
}

impl Surroundings for Simulated {
    fn now(&self) -> Time {
        lock(&self.world).now - self.started
    }

    fn instant(&self, _: Time) -> Instant {
        // Simulated wires do not look at it.
        Instant::now()
    }

    fn patience(&self) -> Time {
        self.patience
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), HandshakeError> {
        let mut world = lock(&self.world);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&world.random.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    fn start(&self, _: &'static str, task: Pending<'static, ()>) -> io::Result<()> {
        lock(&self.world).tasks.push((self.host, task));
        Ok(())
    }

    fn wait<'t>(
        &'t self,
        _: &'t WaitList,
        until: Time,
        over: &'t (dyn Fn() -> bool + Send + Sync),
    ) -> Pending<'t, ()> {
        Box::pin(poll_fn(move |_| {
            if over() || self.now() >= until {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }))
    }

    fn hear<'t>(&'t self, wire: &'t mut dyn Wire, until: Time) -> Pending<'t, Result<Vec<u8>, LinkError>> {
        Box::pin(poll_fn(move |_| match wire.receive(self.instant(until)) {
            Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.now() >= until {
                    Poll::Ready(Err(LinkError::TimedOut))
                } else {
                    Poll::Pending
                }
            }
            done => Poll::Ready(done),
        }))
    }
}
