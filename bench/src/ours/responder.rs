//! The far half: a node with a mailbox, which answers each message from where it lies, or takes and counts them.

use transport::{Address, Node, SendError};

use super::Setup;
use super::inbox::{Inbox, Order, number, send};
use crate::clock;
use crate::error::{Error, failed};
use crate::load::{Load, parts};
use crate::measure::Laps;
use crate::two_process::{Far, FarReport, Plan, Work};
use crate::wait::Gone;

pub(super) const FAR_MAILBOX: &str = "far";
pub(super) const NEAR_MAILBOX: &str = "near";
/// A round trip with this number is none: the round is over.
pub(super) const END: [u8; 8] = [0xff; 8];

pub(crate) struct Responder {
    inbox: Inbox,
    /// The mailboxes of the near nodes, once they have connected.
    near: Vec<Address>,
    load: Load,
    /// From when each message was meant to be sent until it was taken, where that is known.
    late: Laps,
    /// Last, so that the mailbox is closed before the node is.
    node: Node,
}

impl Responder {
    pub(crate) fn open(setup: &Setup) -> Result<Responder, Error> {
        let node = setup
            .node("far")?
            .listen(setup.listen())
            .start()
            .map_err(failed("starting the far node"))?;
        let mailbox = setup.mailbox(&node, FAR_MAILBOX)?;
        Ok(Responder {
            inbox: Inbox::new(mailbox, setup.wait),
            near: Vec::new(),
            load: setup.load,
            late: Laps::new(),
            node,
        })
    }

    /// The near node to which the round's result is told.
    fn reporting(&self) -> Result<&Address, Error> {
        self.near.first().ok_or(Error::PeerGone)
    }
}

impl Far for Responder {
    fn address(&self) -> Result<String, Error> {
        self.node.addresses().first().cloned().ok_or(Error::PeerGone)
    }

    fn meet(&mut self, gone: &Gone) -> Result<(), Error> {
        // They come one after the other: the next when this one has been answered.
        for _ in 0..self.load.peers {
            let mut peer = None;
            self.inbox.take(gone, |message| peer = message.peer())?;
            let peer = peer.ok_or(Error::PeerGone)?;
            let near = peer
                .address(NEAR_MAILBOX)
                .map_err(failed("asking for the near mailbox"))?;
            near.try_send(&END).map_err(failed("greeting the near mailbox"))?;
            self.near.push(near);
        }
        Ok(())
    }

    fn run(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        let load = self.load;
        let mut order = Order::new(plan.size, load.streams());
        match plan.work {
            Work::PingPong => {
                let Responder { inbox, near, .. } = self;
                let mut answered: Result<(), SendError> = Ok(());
                // What can't be answered from where it lies, because that takes waiting.
                let mut long: Option<(&Address, Vec<u8>)> = None;
                let mut end = false;
                while !end {
                    inbox.take(gone, |message| {
                        if message.payload == END {
                            end = true;
                            return;
                        }
                        order.see(message.payload);
                        let stream = number(message.payload).map_or(0, |number| parts(number).0);
                        // A wrong number is found by `order`.
                        let Some(near) = near.get(stream) else { return };
                        match near.try_send(message.payload) {
                            Ok(()) => {}
                            Err(SendError::TooLongAtOnce { .. }) => {
                                long = Some((near, message.payload.to_vec()));
                            }
                            Err(error) => answered = Err(error),
                        }
                    })?;
                    if let Some((near, message)) = long.take() {
                        answered = send(near, &message);
                    }
                    if let Err(error) = answered {
                        return Err(failed("answering a message")(error));
                    }
                }
                order.check()
            }
            Work::Stream => {
                let Responder { inbox, late, .. } = self;
                while order.seen() < plan.count {
                    match &plan.pace {
                        None => inbox.take(gone, |message| order.see(message.payload))?,
                        Some(pace) => inbox.take(gone, |message| {
                            let (stream, sequence) = parts(number(message.payload).unwrap_or(0));
                            let due = pace.due(load, stream as u32, sequence);
                            late.add(clock::ticks().saturating_sub(due));
                            order.see(message.payload);
                        })?,
                    };
                }
                order.check()?;
                self.reporting()?
                    .try_send(&order.seen().to_le_bytes())
                    .map_err(failed("reporting the end of a stream"))
            }
        }
    }

    fn report(&mut self) -> FarReport {
        FarReport {
            figures: self.late.percentiles(1),
            ..FarReport::default()
        }
    }
}
