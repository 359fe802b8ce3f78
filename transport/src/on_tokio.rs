//! A node driven by tokio: what arrives reaches the tasks that wait for it without a step from one thread to another, and
//! the node needs no thread of its own.
//!
//! Where the runtime tells that something has arrived, it is handed out on the spot, by the waker that the runtime calls
//! ([`Arrivals`]): whoever waits for it is woken as by a socket of the runtime's own. A task does the rest: it keeps the
//! deadlines, accepts, and takes over where there is more than a waker should do.
//!
//! What streams have written may be left to this task ([`PeerInner::flush_soon`]): it runs once the task that wrote lets go
//! of its thread, and pushes what that has written until then in one piece.

mod told;

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::drive::{Driver, SleepOn};
use crate::node::{Drive, Node, NodeBuilder, NodeError, NodeInner};
use crate::peer::PeerInner;
use crate::standing::{Standing, TurnedAway};
use crate::wait::{Idle, Step, Wait, lock};

pub(crate) use told::{Closed, Telling, Told};

impl NodeBuilder {
    /// As [`NodeBuilder::start`], driven by a task of the tokio runtime that this is called in, whose I/O and time have to
    /// be enabled. The task ends with the node. By default such a node parks ([`crate::Wait::Park`]): it takes no
    /// processor time while nothing arrives, and what does arrive is handed out on the spot, without a turn of the task. With
    /// another [`NodeBuilder::wait`] the task polls between two things that arrive, which keeps a core from sleeping.
    ///
    /// The node's time is the runtime's. Code that blocks one thread of it may hold up the I/O and the timers of all of them, and with
    /// them this node's heartbeats: for longer than [`crate::Timing::silence`], and its peers take it for lost.
    ///
    /// # Errors
    /// [`NodeError`]; [`NodeError::Io`] outside a runtime.
    pub fn start_on_tokio(mut self) -> Result<Node, NodeError> {
        self.wait.get_or_insert(Wait::Park);
        let unfit = |source| NodeError::Io {
            what: "driving the node by a task of tokio",
            source,
        };
        let runtime = Handle::try_current().map_err(|error| unfit(std::io::Error::other(error)))?;
        let node = self.drive(Drive::Caller).start()?;
        let arrivals = |by| Waker::from(Arc::new(Arrivals(node.inner.weak(), by)));
        let (by_link, by_poller) = (arrivals(By::Link), arrivals(By::Poller));
        let idle = Waker::from(Arc::new(Idling(node.inner.weak())));
        let poller = {
            let mut driver = lock(&node.inner.driver);
            driver.told_by(Telling::new(runtime.clone(), by_link));
            driver.descriptor().map_err(unfit)?
        };
        // Deprecated for descriptors that may be closed while they are registered; this one is owned.
        #[allow(deprecated)]
        let poller = AsyncFd::with_interest(poller, Interest::READABLE).map_err(unfit)?;
        runtime.spawn(drive(node.inner.clone(), poller, by_poller, idle));
        Ok(node)
    }
}

/// What others have to know of the task that drives a node.
pub(crate) struct DrivingTask {
    waker: Waker,
    /// Readable when something has arrived for the node.
    poller: AsyncFd<OwnedFd>,
    /// The poller has told the runtime of something, and was not asked of what: whoever drives next asks. That something has
    /// arrived is no answer: it may be of another link, or a listener, that the poller has told, and it tells of that once.
    unasked: AtomicBool,
    /// What the runtime wakes then, while the task sleeps.
    arrivals: Waker,
    /// What a thread of the runtime wakes when it has nothing else to run.
    idle: Waker,
    standing: Standing,
    /// It waits for a waker that drives.
    turned_away: TurnedAway,
    /// It has ended, or its runtime has: nothing may be left to it.
    over: AtomicBool,
    /// Peers whose committed bytes it is to push.
    postponed: Mutex<Vec<Arc<PeerInner>>>,
}

impl DrivingTask {
    fn new(waker: Waker, poller: AsyncFd<OwnedFd>, arrivals: Waker, idle: Waker) -> DrivingTask {
        DrivingTask {
            waker,
            poller,
            unasked: AtomicBool::new(false),
            arrivals,
            idle,
            standing: Standing::default(),
            turned_away: TurnedAway::default(),
            over: AtomicBool::new(false),
            postponed: Mutex::default(),
        }
    }

    /// Makes it make a pass, waking it if it sleeps.
    pub(crate) fn call(&self) {
        if self.standing.call() {
            self.waker.wake_by_ref();
        }
    }

    /// Whether something has arrived since this was last asked. If not, the runtime tells when it does.
    fn poll_arrivals(&self) -> Poll<()> {
        self.poller
            .poll_read_ready(&mut Context::from_waker(&self.arrivals))
            .map(|ready| {
                // Cleared before what made it ready is taken in: what comes in between makes it ready again.
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                self.unasked.store(true, Ordering::Relaxed);
            })
    }

    /// Asks the poller, where that is due. Whether it was.
    fn ask(&self, driver: &mut Driver) -> bool {
        let is_due = self.unasked.load(Ordering::Relaxed) && self.unasked.swap(false, Ordering::Relaxed);
        if is_due {
            driver.woken();
        }
        is_due
    }

    /// Hands out what has arrived while the task sleeps. False when the task has to see to it.
    fn take_in(&self, node: &NodeInner, by: By) -> bool {
        // After something has come the task polls for a while, where it is to poll at all.
        let by_task = node.wait != Wait::Park;
        if by_task || self.over.load(Ordering::Relaxed) || node.closed.load(Ordering::Acquire) {
            return false;
        }
        let Some(mut driver) = node.try_drive() else {
            return false;
        };
        let done = self.pass_until_quiet(&mut driver, node, by);
        drop(driver);
        done && !self.turned_away.take_word()
    }

    /// A few passes, until there is nothing more. False when the task has to see to what is left.
    fn pass_until_quiet(&self, driver: &mut Driver, node: &NodeInner, by: By) -> bool {
        for _ in 0..PASSES_PER_WAKE {
            // The poller wakes by itself when it has something: only what it has woken for is asked of it.
            if by == By::Poller {
                let _ = self.poll_arrivals();
            }
            if !self.ask(driver) {
                driver.rise();
            }
            driver.pass_and_arm(node);
            match driver.sleep_on(node) {
                SleepOn::Asleep if by == By::Link || self.poll_arrivals().is_pending() => return true,
                SleepOn::Asleep | SleepOn::Stirred => {}
                SleepOn::Called => return false,
            }
        }
        false
    }

    /// Leaves it to the task to push what was committed to this peer. False when there is no such task any more.
    pub(crate) fn postpone(&self, peer: Arc<PeerInner>) -> bool {
        let listed = self.list(peer);
        if listed && self.standing.rouse() {
            self.waker.wake_by_ref();
        }
        listed
    }

    /// As [`DrivingTask::postpone`], to whoever pushes next, or to this thread of the runtime when it has nothing else to run or is
    /// about to block: no task has to run for it. Where this is no thread of a runtime it is pushed now.
    pub(crate) fn postpone_until_idle(&self, peer: Arc<PeerInner>) -> bool {
        let listed = self.list(peer);
        if listed {
            // Hands the waker to the runtime's thread, which is all that is wanted of it.
            let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&self.idle));
        }
        listed
    }

    fn list(&self, peer: Arc<PeerInner>) -> bool {
        let mut postponed = lock(&self.postponed);
        // Under the lock, as it is set: whoever adds to the list before that is seen by the last push.
        let listed = !self.over.load(Ordering::Relaxed);
        if listed {
            postponed.push(peer);
        }
        listed
    }

    fn has_postponed(&self) -> bool {
        !lock(&self.postponed).is_empty()
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

/// Who tells the runtime that something has arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Link,
    Poller,
}

/// What the runtime wakes when something has arrived while the task sleeps.
struct Arrivals(Weak<NodeInner>, By);

impl Wake for Arrivals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        on_the_spot(&self.0, |node, task| task.take_in(node, self.1));
    }
}

/// What a thread of the runtime wakes when it has nothing else to run.
struct Idling(Weak<NodeInner>);

impl Wake for Idling {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        on_the_spot(&self.0, |_, task| {
            task.push_postponed();
            true
        });
    }
}

/// Does in a waker what the task would do, and calls the task where that is not done with it.
fn on_the_spot(node: &Weak<NodeInner>, work: impl FnOnce(&NodeInner, &DrivingTask) -> bool) {
    let Some(node) = node.upgrade() else { return };
    let Some(task) = node.task.get() else { return };
    // A panic must not reach the runtime, which calls this in its driver or between two tasks.
    let done = catch_unwind(AssertUnwindSafe(|| work(&node, task)));
    if !done.unwrap_or(false) {
        task.call();
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

/// Passes that a waker makes before it leaves the rest to the task: the runtime's other I/O waits for it.
const PASSES_PER_WAKE: u32 = 4;

async fn drive(node: Arc<NodeInner>, poller: AsyncFd<OwnedFd>, arrivals: Waker, idle: Waker) {
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let task = node
        .task
        .get_or_init(|| DrivingTask::new(waker, poller, arrivals, idle));
    let _over = Over(task);
    let mut idle = Idle::new(node.wait);
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut awake = 0;
    while !node.closed.load(Ordering::Acquire) {
        task.standing.begin_pass();
        task.push_postponed();
        let Some(arrived) = node.try_drive().map(|mut driver| {
            task.ask(&mut driver);
            node.pass(&mut driver, &mut None)
        }) else {
            wait_for_whoever_drives(&node, task).await;
            continue;
        };
        if arrived {
            idle.reset();
        }
        // The tasks that something arrived for run once this one sleeps, so it does that at once.
        if !arrived && idle.step() == Step::Poll {
            tokio::task::yield_now().await;
        } else if sleep_and_push(&node, task, timer.as_mut()).await {
            awake = 0;
        } else {
            awake += 1;
            if awake % PASSES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    // Dropped, it gives up the listeners.
    drop(node.try_drive());
}

/// How long the task leaves the driving to a thread that blocks in an operation of the node, and that tells nobody of its end.
const OTHER_DRIVES: Duration = Duration::from_millis(1);

/// Sleeps until a waker that drives is done, at once where it is done already, or somebody leaves something to the task.
async fn wait_for_whoever_drives(node: &NodeInner, task: &DrivingTask) {
    task.turned_away.leave_word();
    if node.try_drive().is_some() {
        return;
    }
    if !task.standing.fall_asleep() || task.has_postponed() {
        tokio::task::yield_now().await;
        return;
    }
    let called = poll_fn(|_| match task.standing.is_asleep() {
        true => Poll::Pending,
        false => Poll::Ready(()),
    });
    // Its end is told by no waker if a blocked thread drives: then the time is up.
    let _ = tokio::time::timeout(OTHER_DRIVES, called).await;
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
async fn sleep_and_push(node: &NodeInner, task: &DrivingTask, mut timer: Pin<&mut Sleep>) -> bool {
    loop {
        match sleep(node, task, timer.as_mut()).await {
            Woken::NotAsleep => return false,
            Woken::ForAPass => return true,
            Woken::ToPush => task.push_postponed(),
        }
    }
}

/// Sleeps until there is something to do.
async fn sleep(node: &NodeInner, task: &DrivingTask, mut timer: Pin<&mut Sleep>) -> Woken {
    if !task.standing.fall_asleep() || task.has_postponed() {
        return Woken::NotAsleep;
    }
    let longest = node
        .try_drive()
        .and_then(|mut driver| driver.prepare_to_sleep(node));
    let Some(longest) = longest else {
        return Woken::NotAsleep;
    };
    let deadline = Instant::now() + longest;
    // Woken too early, or a little late, costs less than setting the timer each time.
    if timer.is_elapsed() || timer.deadline() > deadline + LATE {
        timer.as_mut().reset(deadline);
    }
    let woken = poll_fn(|context| match task.poll_arrivals() {
        Poll::Ready(()) => Poll::Ready(Woken::ForAPass),
        Poll::Pending if task.standing.is_called() => Poll::Ready(Woken::ForAPass),
        Poll::Pending if !task.standing.is_asleep() => Poll::Ready(Woken::ToPush),
        Poll::Pending => timer.as_mut().poll(context).map(|()| Woken::ForAPass),
    })
    .await;
    if woken == Woken::ForAPass
        && let Some(mut driver) = node.try_drive()
    {
        driver.rise();
    }
    woken
}
