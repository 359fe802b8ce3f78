//! A node driven by a task of tokio: what arrives reaches the tasks that wait for it without a step from one thread to
//! another, and the node needs no thread of its own.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::doze;
use crate::node::{Drive, Node, NodeBuilder, NodeError, NodeInner};
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

/// Passes without a sleep after which other tasks have their turn.
const PASSES_PER_TURN: u32 = 16;

async fn drive(node: Arc<NodeInner>, poller: AsyncFd<OwnedFd>) {
    /// How long to leave the driving to a thread that blocks in an operation of the node.
    const OTHER_DRIVES: Duration = Duration::from_micros(200);
    let mut idle = Idle::new(node.wait);
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut awake = 0;
    while !node.closed.load(Ordering::Acquire) {
        let Some(arrived) = node
            .try_drive()
            .map(|mut driver| node.pass(&mut driver, &mut None))
        else {
            tokio::time::sleep(OTHER_DRIVES).await;
            continue;
        };
        if arrived {
            idle.reset();
        }
        // The tasks that something arrived for run once this one sleeps, so it does that at once.
        if !arrived && idle.step() == Step::Poll {
            tokio::task::yield_now().await;
        } else if sleep(&node, &poller, timer.as_mut()).await {
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

/// Sleeps until something arrives, a deadline comes, or [`NodeInner::wake`] is called: announced first, as
/// `NodeInner::sleep` does. False when something has arrived already.
async fn sleep(node: &NodeInner, poller: &AsyncFd<OwnedFd>, mut timer: Pin<&mut Sleep>) -> bool {
    doze::announce(&node.asleep);
    let longest = node
        .try_drive()
        .and_then(|mut driver| driver.prepare_to_sleep(node));
    if let Some(longest) = longest {
        let deadline = Instant::now() + longest;
        // Woken too early costs less than setting the timer each time.
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        poll_fn(|context| match poller.poll_read_ready(context) {
            // Cleared before what made it ready is taken over: what comes in between makes it ready again.
            Poll::Ready(ready) => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Poll::Ready(())
            }
            Poll::Pending => timer.as_mut().poll(context),
        })
        .await;
    }
    doze::withdraw(&node.asleep);
    if longest.is_some()
        && let Some(mut driver) = node.try_drive()
    {
        driver.woken();
    }
    longest.is_some()
}
