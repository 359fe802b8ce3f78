//! The far half: a node with a mailbox, which answers each message from where it lies, or takes and counts them.

use transport::{Address, Node, SendError};

use super::Setup;
use super::inbox::{Inbox, Order, send};
use crate::error::{Error, failed};
use crate::two_process::{Far, Plan, Work};
use crate::wait::Gone;

pub(super) const FAR_MAILBOX: &str = "far";
pub(super) const NEAR_MAILBOX: &str = "near";
/// A round trip with this number is none: the round is over.
pub(super) const END: [u8; 8] = [0xff; 8];

pub(crate) struct Responder {
    inbox: Inbox,
    /// The mailbox of the near half, once it has connected.
    near: Option<Address>,
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
            near: None,
            node,
        })
    }

    fn near(&self) -> Result<&Address, Error> {
        self.near.as_ref().ok_or(Error::PeerGone)
    }
}

impl Far for Responder {
    fn address(&self) -> Result<String, Error> {
        self.node.addresses().first().cloned().ok_or(Error::PeerGone)
    }

    fn meet(&mut self, gone: &Gone) -> Result<(), Error> {
        let mut peer = None;
        self.inbox.take(gone, |message| peer = message.peer())?;
        let peer = peer.ok_or(Error::PeerGone)?;
        let near = peer
            .address(NEAR_MAILBOX)
            .map_err(failed("asking for the near mailbox"))?;
        near.try_send(&END).map_err(failed("greeting the near mailbox"))?;
        self.near = Some(near);
        Ok(())
    }

    fn run(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        let mut order = Order::new(plan.size);
        match plan.work {
            Work::PingPong => {
                let near = self.near()?.clone();
                let mut answered: Result<(), SendError> = Ok(());
                // What can't be answered from where it lies, because that takes waiting.
                let mut long = Vec::new();
                let mut end = false;
                while !end {
                    self.inbox.take(gone, |message| {
                        if message.payload == END {
                            end = true;
                            return;
                        }
                        match near.try_send(message.payload) {
                            Ok(()) => {}
                            Err(SendError::TooLongAtOnce { .. }) => long.extend_from_slice(message.payload),
                            Err(error) => answered = Err(error),
                        }
                        order.see(message.payload);
                    })?;
                    if !long.is_empty() {
                        answered = send(&near, &long);
                        long.clear();
                    }
                    if let Err(error) = answered {
                        return Err(failed("answering a message")(error));
                    }
                }
                order.check()
            }
            Work::Stream => {
                while order.seen() < plan.count {
                    self.inbox.take(gone, |message| order.see(message.payload))?;
                }
                order.check()?;
                self.near()?
                    .try_send(&order.seen().to_le_bytes())
                    .map_err(failed("reporting the end of a stream"))
            }
        }
    }
}
