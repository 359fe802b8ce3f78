//! The near half: sends through the address of a mailbox that the far half has.

use std::time::Duration;

use transport::{Address, Node, SendError};

use super::Setup;
use super::inbox::{Inbox, Order, SLEEP_AT_MOST, number, send};
use super::responder::{END, FAR_MAILBOX, NEAR_MAILBOX};
use crate::error::{Error, failed};
use crate::measure::Laps;
use crate::two_process::{Near, Plan, Work};
use crate::wait::{Gone, Idle, Next, STALLED_AFTER};

/// How long connecting may take.
const PATIENCE: Duration = STALLED_AFTER;

pub(super) struct Requester {
    far: Address,
    inbox: Inbox,
    message: Vec<u8>,
    /// Last, so that the mailbox is closed before the node is.
    node: Node,
}

impl Requester {
    /// Connects to the far half, and returns once both halves know each other's mailbox.
    pub(super) fn connect(setup: &Setup, address: &str) -> Result<Requester, Error> {
        let node = setup
            .node("near")?
            .start()
            .map_err(failed("starting the near node"))?;
        let mut mailbox = setup.mailbox(&node, NEAR_MAILBOX)?;
        let peer = node
            .connect(address)
            .map_err(failed(format!("connecting to {address}")))?;
        let far = peer
            .address(FAR_MAILBOX)
            .map_err(failed("asking for the far mailbox"))?;
        let message = vec![0x5a; setup.size];
        far.send_timeout(&message, None, PATIENCE)
            .map_err(failed("greeting the far mailbox"))?;
        if mailbox
            .recv_timeout(PATIENCE)
            .map_err(failed("waiting for the far half's greeting"))?
            .is_none()
        {
            return Err(Error::Stalled(PATIENCE));
        }
        Ok(Requester {
            far,
            inbox: Inbox::new(mailbox, setup.wait),
            message,
            node,
        })
    }
}

impl Near for Requester {
    fn run(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error> {
        match plan.work {
            Work::PingPong => self.ping_pong(plan, laps, gone),
            Work::Stream => self.stream(plan, gone),
        }
    }
}

impl Requester {
    fn ping_pong(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error> {
        let mut order = Order::new(plan.size);
        laps.start();
        for round_trip in 0..plan.count {
            self.message[..8].copy_from_slice(&round_trip.to_le_bytes());
            send(&self.far, &self.message).map_err(failed("sending a message"))?;
            self.inbox.take(gone, |message| order.see(message.payload))?;
            laps.lap();
        }
        order.check()?;
        // The far half drives its node until it hears this: the last of its answers may have waited for room.
        self.far
            .try_send(&END)
            .map_err(failed("sending the end of a round"))
    }

    fn stream(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        let mut batch = self.far.batch();
        for sent in 0..plan.count {
            self.message[..8].copy_from_slice(&sent.to_le_bytes());
            match batch.try_send(&self.message) {
                Ok(()) => {}
                Err(full) if full.is_full() => {
                    send_when_possible(&self.node, &self.far, &self.message, self.inbox.wait, gone)?;
                }
                Err(SendError::TooLongAtOnce { .. }) => {
                    batch.flush();
                    send(&self.far, &self.message).map_err(failed("sending a message"))?;
                }
                Err(error) => return Err(failed("sending a message")(error)),
            }
        }
        drop(batch);
        // Until the far half has everything, somebody must drive this node: a push may wait for room.
        let mut taken = None;
        self.inbox.take(gone, |message| taken = number(message.payload))?;
        match taken {
            Some(taken) if taken == plan.count => Ok(()),
            taken => Err(Error::Miscounted {
                sent: plan.count,
                taken,
            }),
        }
    }
}

/// There is no room: drives the node, which is how room is heard of, until the message is sent.
#[cold]
fn send_when_possible(
    node: &Node,
    far: &Address,
    message: &[u8],
    wait: crate::wait::Wait,
    gone: &Gone,
) -> Result<(), Error> {
    let mut idle = Idle::new(wait, gone);
    loop {
        node.poll();
        match far.try_send(message) {
            Ok(()) => return Ok(()),
            Err(full) if full.is_full() => {}
            Err(error) => return Err(failed("sending a message")(error)),
        }
        if idle.found_nothing()? == Next::Sleep {
            match far.send_timeout(message, None, SLEEP_AT_MOST) {
                Ok(()) => return Ok(()),
                Err(transport::SendError::TimedOut(_)) => {}
                Err(error) => return Err(failed("sending a message")(error)),
            }
        }
    }
}
