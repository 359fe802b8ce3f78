//! A node driven by a task of tokio: what arrives reaches the tasks that wait for it without a step from one thread to
//! another, and the node needs no thread of its own.
//!
//! What streams have written may be left to this task ([`PeerInner::flush_soon`]): it runs once the task that wrote lets go
//! of its thread, and pushes what that has written until then in one piece.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::doze;
use crate::node::{Drive, Node, NodeBuilder, NodeError, NodeInner};
use crate::peer::PeerInner;
use crate::sync;
use crate::wait::{Idle, Step, lock};

impl NodeBuilder {
    /// As [`NodeBuilder::start`], driven by a task of the tokio runtime that this is called in, whose I/O and time have to
    /// be enabled. The task ends with the node. Between two operations that wait, the runtime polls the node as
    /// [`NodeBuilder::wait`] says: [`crate::Wait::Park`] takes no processor time while nothing arrives.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::Io`] outside a runtime.
    pub fn start_on_tokio(self) -> Result<Node, NodeError> {
        let unfit = |source| NodeError::Io {
            what: "driving the node by a task of tokio",
            source,
        };
        let runtime = Handle::try_current().map_err(|error| unfit(std::io::Error::other(error)))?;
        let node = self.drive(Drive::Caller).start()?;
        let poller = lock(&node.inner.driver).descriptor().map_err(unfit)?;
        // Deprecated for descriptors that may be closed while they are registered; this one is owned.
        #[allow(deprecated)]
        let poller = AsyncFd::with_interest(poller, Interest::READABLE).map_err(unfit)?;
        runtime.spawn(drive(node.inner.clone(), poller));
        Ok(node)
    }
}

/// What others have to know of the task that drives a node.
pub(crate) struct DrivingTask {
    waker: Waker,
    /// It sleeps, or is about to.
    asleep: sync::atomic::AtomicU64,
    /// Somebody wants it to make a pass.
    called: AtomicBool,
    /// It has ended, or its runtime has: nothing may be left to it.
    over: AtomicBool,
    /// Peers whose committed bytes it is to push.
    postponed: Mutex<Vec<Arc<PeerInner>>>,
}

impl DrivingTask {
    fn new(waker: Waker) -> DrivingTask {
        DrivingTask {
            waker,
            asleep: sync::atomic::AtomicU64::new(0),
            called: AtomicBool::new(false),
            over: AtomicBool::new(false),
            postponed: Mutex::default(),
        }
    }

    /// Makes it make a pass, waking it if it sleeps.
    pub(crate) fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if doze::must_wake(&self.asleep) {
            self.waker.wake_by_ref();
        }
    }

    /// Leaves it to the task to push what was committed to this peer. False when there is no such task any more.
    pub(crate) fn postpone(&self, peer: Arc<PeerInner>) -> bool {
        let mut postponed = lock(&self.postponed);
        // Under the lock, as it is set: whoever adds to the list before that is seen by the last push.
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        postponed.push(peer);
        drop(postponed);
        self.wake();
        true
    }

    fn push_postponed(&self) {
        // Taken out, because whoever pushes may find more to postpone.
        let mut peers = std::mem::take(&mut *lock(&self.postponed));
        for peer in peers.drain(..) {
            peer.push_postponed();
        }
        let mut postponed = lock(&self.postponed);
        if postponed.is_empty() {
            *postponed = peers;
        }
    }
}

/// Ends the leaving of pushes to the task, however the task ends.
struct Over<'n>(&'n DrivingTask);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let left = {
            let mut postponed = lock(&self.0.postponed);
            self.0.over.store(true, Ordering::Relaxed);
            std::mem::take(&mut *postponed)
        };
        for peer in left {
            peer.push_postponed();
        }
    }
}

/// How much later than it should the timer may wake the task: it counts in milliseconds.
const LATE: Duration = Duration::from_millis(1);

/// Passes without a sleep after which other tasks have their turn.
const PASSES_PER_TURN: u32 = 16;

async fn drive(node: Arc<NodeInner>, poller: AsyncFd<OwnedFd>) {
    /// How long to leave the driving to a thread that blocks in an operation of the node.
    const OTHER_DRIVES: Duration = Duration::from_micros(200);
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let task = node.task.get_or_init(|| DrivingTask::new(waker));
    let _over = Over(task);
    let mut idle = Idle::new(node.wait);
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut awake = 0;
    while !node.closed.load(Ordering::Acquire) {
        task.called.swap(false, Ordering::SeqCst);
        task.push_postponed();
        let Some(arrived) = node.try_drive().map(|mut driver| {
            let arrived = node.pass(&mut driver, &mut None);
            if !arrived {
                driver.ask_if_unasked();
            }
            arrived
        }) else {
            tokio::time::sleep(OTHER_DRIVES).await;
            continue;
        };
        if arrived {
            idle.reset();
        }
        // The tasks that something arrived for run once this one sleeps, so it does that at once.
        if !arrived && idle.step() == Step::Poll {
            tokio::task::yield_now().await;
        } else if sleep_and_push(&node, task, &poller, timer.as_mut()).await {
            awake = 0;
        } else {
            awake += 1;
            if awake % PASSES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    if let Some(mut driver) = node.try_drive() {
        driver.stop();
    }
}

/// What ended a sleep.
#[derive(PartialEq, Eq)]
enum Woken {
    /// There was none: something has arrived already.
    NotAsleep,
    /// Something arrived, a deadline came, or somebody wants a pass.
    ForAPass,
    /// Something was left to the task, no more.
    ToPush,
}

/// Sleeps, and pushes what is left to the task meanwhile, until there is a reason for a pass. False when it did not sleep.
async fn sleep_and_push(
    node: &NodeInner,
    task: &DrivingTask,
    poller: &AsyncFd<OwnedFd>,
    mut timer: Pin<&mut Sleep>,
) -> bool {
    loop {
        match sleep(node, task, poller, timer.as_mut()).await {
            Woken::NotAsleep => return false,
            Woken::ForAPass => return true,
            Woken::ToPush => task.push_postponed(),
        }
    }
}

/// Sleeps until there is something to do: announced first, as `NodeInner::sleep` does.
async fn sleep(
    node: &NodeInner,
    task: &DrivingTask,
    poller: &AsyncFd<OwnedFd>,
    mut timer: Pin<&mut Sleep>,
) -> Woken {
    doze::announce(&task.asleep);
    let longest = node
        .try_drive()
        .filter(|_| !task.called.load(Ordering::SeqCst) && lock(&task.postponed).is_empty())
        .and_then(|mut driver| driver.prepare_to_sleep(node));
    let Some(longest) = longest else {
        doze::withdraw(&task.asleep);
        return Woken::NotAsleep;
    };
    let deadline = Instant::now() + longest;
    // Woken too early, or a little late, costs less than setting the timer each time.
    if timer.is_elapsed() || timer.deadline() > deadline + LATE {
        timer.as_mut().reset(deadline);
    }
    let woken = poll_fn(|context| match poller.poll_read_ready(context) {
        // Cleared before what made it ready is taken over: what comes in between makes it ready again.
        Poll::Ready(ready) => {
            if let Ok(mut ready) = ready {
                ready.clear_ready();
            }
            Poll::Ready(Woken::ForAPass)
        }
        Poll::Pending if task.called.load(Ordering::SeqCst) => Poll::Ready(Woken::ForAPass),
        Poll::Pending if task.asleep.load(Ordering::Relaxed) == 0 => Poll::Ready(Woken::ToPush),
        Poll::Pending => timer.as_mut().poll(context).map(|()| Woken::ForAPass),
    })
    .await;
    doze::withdraw(&task.asleep);
    if woken == Woken::ForAPass
        && let Some(mut driver) = node.try_drive()
    {
        driver.woken();
    }
    woken
}
