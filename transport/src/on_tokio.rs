//! A node driven by a task of tokio: what arrives reaches the tasks that wait for it without a step from one thread to
//! another, and the node needs no thread of its own.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

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

async fn drive(node: Arc<NodeInner>, poller: AsyncFd<OwnedFd>) {
    /// How long to leave the driving to a thread that blocks in an operation of the node.
    const OTHER_DRIVES: Duration = Duration::from_micros(200);
    let mut idle = Idle::new(node.wait);
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
            tokio::task::yield_now().await;
        } else if idle.step() == Step::Poll {
            tokio::task::yield_now().await;
        } else {
            sleep(&node, &poller).await;
        }
    }
    if let Some(mut driver) = node.try_drive() {
        driver.stop();
    }
}

/// Sleeps until something arrives, a deadline comes, or [`NodeInner::wake`] is called: announced first, as
/// `NodeInner::sleep` does.
async fn sleep(node: &NodeInner, poller: &AsyncFd<OwnedFd>) {
    doze::announce(&node.asleep);
    let longest = node
        .try_drive()
        .and_then(|mut driver| driver.prepare_to_sleep(node));
    if let Some(longest) = longest
        && let Ok(Ok(mut ready)) = tokio::time::timeout(longest, poller.readable()).await
    {
        // Cleared before what made it ready is taken over: what comes in between makes it ready again.
        ready.clear_ready();
    }
    doze::withdraw(&node.asleep);
    if longest.is_some()
        && let Some(mut driver) = node.try_drive()
    {
        driver.woken();
    }
}
