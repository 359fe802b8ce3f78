//! What a node takes from the world around it: the time, random numbers, somewhere to run a conversation, and waiting.
//!
//! Everything that opens, answers and keeps links is written once, as straight asynchronous code, and knows the world
//! only through [`Surroundings`]. On [`Threads`] each conversation has a thread and every wait blocks it, so that its
//! future is done the first time it is polled. In the simulator the same futures wait for simulated time.

use std::future::{Future, ready};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use crate::candidates::Pause;
use crate::connect::PATIENCE;
use crate::handshake::HandshakeError;
use crate::link::{LinkError, Wire};
use crate::session::Time;
use crate::wait::{WaitList, thread_waker};

/// Something that takes time and borrows for as long.
pub(crate) type Pending<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// The world around a node.
pub(crate) trait Surroundings: Send + Sync {
    /// The time since the node started.
    fn now(&self) -> Time;

    /// A time as transports take it.
    fn instant(&self, time: Time) -> Instant;

    /// How long a handshake may take with somebody with whom there is no session yet.
    fn patience(&self) -> Time {
        PATIENCE
    }

    /// Fills `bytes` with random ones.
    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), HandshakeError>;

    /// Runs a task beside the caller.
    fn start(&self, name: &'static str, task: Pending<'static, ()>) -> io::Result<()>;

    /// Waits until `over` holds, looked at again whenever `list` is woken, or until a time.
    fn wait<'t>(
        &'t self,
        list: &'t WaitList,
        until: Time,
        over: &'t (dyn Fn() -> bool + Send + Sync),
    ) -> Pending<'t, ()>;

    /// Waits for the wire's next message.
    fn hear<'t>(&'t self, wire: &'t mut dyn Wire, until: Time) -> Pending<'t, Result<Vec<u8>, LinkError>>;
}

impl dyn Surroundings {
    /// Fresh random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], HandshakeError> {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes)?;
        Ok(bytes)
    }

    /// When to dial again, after a pause that has begun.
    pub(crate) fn after(&self, pause: &mut Pause) -> Time {
        // Without random numbers nobody is dialled anyway.
        let random = self.random().map_or(u32::MAX, u32::from_le_bytes);
        self.now() + pause.next(random)
    }
}

/// The system's clock, random numbers and threads.
pub(crate) struct Threads {
    started: Instant,
}

impl Threads {
    pub(crate) fn new() -> Threads {
        Threads {
            started: Instant::now(),
        }
    }
}

impl Surroundings for Threads {
    fn now(&self) -> Time {
        self.started.elapsed()
    }

    fn instant(&self, time: Time) -> Instant {
        self.started + time
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), HandshakeError> {
        getrandom::fill(bytes).map_err(|error| HandshakeError::NoRandomness(error.to_string()))
    }

    fn start(&self, name: &'static str, task: Pending<'static, ()>) -> io::Result<()> {
        thread::Builder::new()
            .name(name.into())
            .spawn(move || run(task))
            .map(drop)
    }

    fn wait<'t>(
        &'t self,
        list: &'t WaitList,
        until: Time,
        over: &'t (dyn Fn() -> bool + Send + Sync),
    ) -> Pending<'t, ()> {
        loop {
            // Registered first, then looked at: a change in between wakes the sleep below.
            list.register(&thread_waker());
            let left = until.saturating_sub(self.now());
            if over() || left.is_zero() {
                return Box::pin(ready(()));
            }
            thread::park_timeout(left);
        }
    }

    fn hear<'t>(&'t self, wire: &'t mut dyn Wire, until: Time) -> Pending<'t, Result<Vec<u8>, LinkError>> {
        Box::pin(ready(wire.receive(self.instant(until))))
    }
}

/// Runs a conversation to its end on the calling thread.
pub(crate) fn run<T>(conversation: impl Future<Output = T>) -> T {
    let mut conversation = pin!(conversation);
    let waker = thread_waker();
    let mut context = Context::from_waker(&waker);
    loop {
        match conversation.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
