//! Answers for a mailbox that this node does not own (any more, or for sure): it moved there, or ask again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use transport::Node;
use transport::typed::{Address, Mailbox, RecvError};

use crate::error::Error;
use crate::wire::{HowFar, Packets};

struct Shared {
    answer: Mutex<HowFar>,
    stop: AtomicBool,
}

pub(crate) struct StandIn {
    shared: Arc<Shared>,
    thread: JoinHandle<Mailbox<Packets>>,
    wake: Option<Address<Packets>>,
}

impl StandIn {
    pub(crate) fn start(node: &Node, mailbox: Mailbox<Packets>, answer: HowFar) -> Result<StandIn, Error> {
        let wake = node.typed_address::<Packets>(mailbox.name()).ok();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name("stand-in".into())
            .spawn({
                let shared = shared.clone();
                move || answer_all(&shared, mailbox)
            })
            .map_err(Error::Thread)?;
        Ok(StandIn { shared, thread, wake })
    }

    pub(crate) fn set(&self, answer: HowFar) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Ends it, and gives the mailbox back.
    pub(crate) fn stop(self) -> Option<Mailbox<Packets>> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(&Packets(Vec::new()));
        }
        self.thread.join().ok()
    }
}

fn answer_all(shared: &Shared, mut mailbox: Mailbox<Packets>) -> Mailbox<Packets> {
    // A wake-up that found the mailbox full is made up for by this.
    const LOOK_AROUND: Duration = Duration::from_millis(100);
    while !shared.stop.load(Ordering::Acquire) {
        match mailbox.recv_timeout(LOOK_AROUND) {
            // Deliveries are left unanswered: they are sent again, to whoever owns the mailbox by then.
            Ok(Some(message)) => {
                if let Some(asker) = message.asker() {
                    let answer = shared
                        .answer
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    let _ = asker.try_answer(&answer);
                }
            }
            Ok(None) | Err(RecvError::Undecodable(_)) => {}
            Err(RecvError::Closed(_)) => break,
        }
    }
    mailbox
}
