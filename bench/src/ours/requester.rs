//! The near half: sends through the address of a mailbox that the far half has, from as many nodes and threads as the
//! load asks for.

use std::time::Duration;

use transport::{Address, Buffer, Node, SendBatch, SendError, Unsent};

use super::Setup;
use super::inbox::{Inbox, Order, SLEEP_AT_MOST, number, send};
use super::responder::{END, FAR_MAILBOX, NEAR_MAILBOX};
use crate::clock;
use crate::error::{Error, failed};
use crate::load::{self, Load, MOST_TOGETHER};
use crate::measure::Laps;
use crate::two_process::{Near, Plan, Work};
use crate::wait::{Gone, Idle, Next, STALLED_AFTER, Wait};

/// How long connecting may take.
const PATIENCE: Duration = STALLED_AFTER;
/// A sender that is more than twice as early as this for its next message sleeps until it is this early.
const EARLY: Duration = Duration::from_micros(500);
/// Longer messages are sent in buffers, unless they are to be copied.
const LONGEST_COPIED: usize = 16 << 10;
/// How long one of several near nodes sleeps before the others have a turn again.
const TURN: Duration = Duration::from_millis(1);

pub(super) struct Requester {
    peers: Vec<NearPeer>,
    load: Load,
    message: Vec<u8>,
}

/// A near node, and what it has to do with the far one.
pub(super) struct NearPeer {
    pub(super) far: Address,
    pub(super) inbox: Inbox,
    /// Last, so that the mailbox is closed before the node is.
    node: Node,
}

impl NearPeer {
    fn connect(setup: &Setup, address: &str, index: u32) -> Result<NearPeer, Error> {
        let node = setup
            .node(&format!("near-{index}"))?
            .start()
            .map_err(failed("starting a near node"))?;
        let mut mailbox = setup.mailbox(&node, NEAR_MAILBOX)?;
        let peer = node
            .connect(address)
            .map_err(failed(format!("connecting to {address}")))?;
        let far = peer
            .address(FAR_MAILBOX)
            .map_err(failed("asking for the far mailbox"))?;
        let mut greeting = vec![0x5a; setup.size];
        load::mark(&mut greeting, load::number(index, 0));
        far.send_timeout(&greeting, None, PATIENCE)
            .map_err(failed("greeting the far mailbox"))?;
        if mailbox
            .recv_timeout(PATIENCE)
            .map_err(failed("waiting for the far half's greeting"))?
            .is_none()
        {
            return Err(Error::Stalled(PATIENCE));
        }
        Ok(NearPeer {
            far,
            inbox: Inbox::new(mailbox, setup.wait),
            node,
        })
    }
}

impl Requester {
    /// Connects to the far half, and returns once both halves know each other's mailbox.
    pub(super) fn connect(setup: &Setup, address: &str) -> Result<Requester, Error> {
        let peers = (0..setup.load.peers)
            .map(|index| NearPeer::connect(setup, address, index))
            .collect::<Result<_, _>>()?;
        Ok(Requester {
            peers,
            load: setup.load,
            message: vec![0x5a; setup.size],
        })
    }

    /// The message of a round trip, and the peer whose turn it is.
    pub(super) fn next(&mut self, round_trip: u64) -> (&[u8], &mut NearPeer) {
        let peers = self.peers.len() as u64;
        let stream = (round_trip % peers) as u32;
        load::mark(&mut self.message, load::number(stream, round_trip / peers));
        (&self.message, &mut self.peers[stream as usize])
    }

    /// The far half drives its node until it hears this: the last of its answers may have waited for room.
    pub(super) fn end_of_round_trips(&self) -> Result<(), Error> {
        self.peers[0]
            .far
            .try_send(&END)
            .map_err(failed("sending the end of a round"))
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
        let mut order = Order::new(plan.size, self.load.peers);
        laps.start();
        for round_trip in 0..plan.count {
            let (message, peer) = self.next(round_trip);
            send(&peer.far, message).map_err(failed("sending a message"))?;
            peer.inbox.take(gone, |message| order.see(message.payload))?;
            laps.lap();
        }
        order.check()?;
        self.end_of_round_trips()
    }

    fn stream(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        let (load, peers) = (self.load, &self.peers);
        match load.senders {
            1 => Sender::new(load, 0, peers, gone).run(plan)?,
            senders => std::thread::scope(|scope| {
                let running: Vec<_> = (0..senders)
                    .map(|sender| scope.spawn(move || Sender::new(load, sender, peers, gone).run(plan)))
                    .collect();
                running
                    .into_iter()
                    .try_for_each(|thread| thread.join().map_err(|_| Error::ThreadPanicked)?)
            })?,
        }
        match self.taken_by_far(gone)? {
            Some(taken) if taken == plan.count => Ok(()),
            taken => Err(Error::Miscounted {
                sent: plan.count,
                taken,
            }),
        }
    }

    /// Drives the nodes until the far half has everything, for a push may wait for room; returns how much it had.
    fn taken_by_far(&mut self, gone: &Gone) -> Result<Option<u64>, Error> {
        let (reporting, others) = self
            .peers
            .split_first_mut()
            .expect("a load has one peer at least");
        let mut taken = None;
        if others.is_empty() {
            reporting
                .inbox
                .take(gone, |message| taken = number(message.payload))?;
            return Ok(taken);
        }
        let mut idle = Idle::new(reporting.inbox.wait, gone);
        loop {
            for other in &*others {
                other.node.poll();
            }
            if reporting.inbox.look(|message| taken = number(message.payload))? > 0 {
                return Ok(taken);
            }
            if idle.found_nothing()? == Next::Sleep {
                std::thread::sleep(TURN);
            }
        }
    }
}

/// One thread that sends its streams of a round.
struct Sender<'a> {
    load: Load,
    streams: Vec<(u32, &'a NearPeer)>,
    gone: &'a Gone,
}

impl<'a> Sender<'a> {
    fn new(load: Load, sender: u32, peers: &'a [NearPeer], gone: &'a Gone) -> Sender<'a> {
        Sender {
            load,
            streams: load
                .of_sender(sender)
                .map(|stream| (stream, &peers[load.peer_of(stream) as usize]))
                .collect(),
            gone,
        }
    }

    fn run(&self, plan: &Plan) -> Result<(), Error> {
        match plan.pace {
            None if plan.size > LONGEST_COPIED && !self.load.copied => self.in_buffers(plan),
            None => self.as_fast_as_it_goes(plan),
            Some(_) => self.at_a_rate(plan, &mut vec![0x5a; plan.size]),
        }
    }

    /// As fast as it goes, so many messages of a stream in one call.
    fn as_fast_as_it_goes(&self, plan: &Plan) -> Result<(), Error> {
        let together = self.load.together.clamp(1, MOST_TOGETHER) as usize;
        let mut messages = vec![vec![0x5a; plan.size]; together];
        let mut batches: Vec<_> = self
            .streams
            .iter()
            .map(|(stream, peer)| {
                let share = self.load.share(*stream, plan.count);
                (*stream, *peer, peer.far.batch(), 0..share)
            })
            .collect();
        loop {
            let mut sent = false;
            for (stream, peer, batch, left) in &mut batches {
                let mut count = 0;
                for (message, sequence) in messages.iter_mut().zip(left) {
                    load::mark(message, load::number(*stream, sequence));
                    count += 1;
                }
                if count > 0 {
                    sent = true;
                    self.send_in_batch(peer, batch, &messages[..count])?;
                }
            }
            if !sent {
                return Ok(());
            }
        }
    }

    /// All of them, those for which there is no room yet as soon as there is.
    #[inline]
    fn send_in_batch(
        &self,
        peer: &NearPeer,
        batch: &mut SendBatch<'_>,
        mut left: &[Vec<u8>],
    ) -> Result<(), Error> {
        while let Some(first) = left.first() {
            let sent = match left {
                [message] => batch.try_send(message).map(|()| 1),
                several => batch.try_send_all(&slices(several)[..several.len()]),
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(full) if full.is_full() => {
                    self.send_when_possible(peer, first)?;
                    1
                }
                Err(SendError::TooLongAtOnce { .. }) => {
                    batch.flush();
                    send(&peer.far, first).map_err(failed("sending a message"))?;
                    1
                }
                Err(error) => return Err(failed("sending a message")(error)),
            };
            left = &left[sent..];
        }
        Ok(())
    }

    /// As fast as it goes, each message in a buffer of its node. What a message says beside its number is left as it is.
    fn in_buffers(&self, plan: &Plan) -> Result<(), Error> {
        for sequence in 0..plan.count {
            let mut sent = false;
            for (stream, peer) in &self.streams {
                if sequence >= self.load.share(*stream, plan.count) {
                    continue;
                }
                sent = true;
                let mut buffer = peer.node.buffer(plan.size).map_err(failed("taking a buffer"))?;
                load::mark(&mut buffer, load::number(*stream, sequence));
                self.send_buffer(peer, buffer)?;
            }
            if !sent {
                break;
            }
        }
        Ok(())
    }

    /// Drives the node, which is how room is heard of, until the buffer is sent.
    fn send_buffer(&self, peer: &NearPeer, mut buffer: Buffer) -> Result<(), Error> {
        let mut idle = Idle::new(peer.inbox.wait, self.gone);
        loop {
            let Unsent { why, buffer: unsent } = match peer.far.try_send_buffer(buffer) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent,
            };
            let too_long = matches!(why, SendError::TooLongAtOnce { .. });
            let Some(unsent) = unsent.filter(|_| too_long || why.is_full()) else {
                return Err(failed("sending a buffer")(why));
            };
            buffer = unsent;
            if !too_long {
                peer.node.poll();
                if idle.found_nothing()? == Next::Look {
                    continue;
                }
            }
            return peer
                .far
                .send_buffer_timeout(buffer, None, STALLED_AFTER)
                .map_err(failed("sending a buffer"));
        }
    }

    /// Each message when it is due, or as soon after as there is room.
    fn at_a_rate(&self, plan: &Plan, message: &mut [u8]) -> Result<(), Error> {
        let Some(pace) = plan.pace else { return Ok(()) };
        let longest = self
            .streams
            .iter()
            .map(|(stream, _)| self.load.share(*stream, plan.count))
            .max()
            .unwrap_or(0);
        for sequence in 0..longest {
            for (stream, peer) in &self.streams {
                if sequence >= self.load.share(*stream, plan.count) {
                    continue;
                }
                self.wait_until(pace.due(self.load, *stream, sequence), peer)?;
                load::mark(message, load::number(*stream, sequence));
                match send(&peer.far, message) {
                    Ok(()) => {}
                    Err(full) if full.is_full() => self.send_when_possible(peer, message)?,
                    Err(error) => return Err(failed("sending a message")(error)),
                }
            }
        }
        Ok(())
    }

    /// Drives the node meanwhile, and sleeps where there is time for it.
    fn wait_until(&self, due: u64, peer: &NearPeer) -> Result<(), Error> {
        loop {
            let early = due.saturating_sub(clock::ticks());
            if early == 0 {
                return Ok(());
            }
            if !peer.node.poll() && peer.inbox.wait != Wait::Spin {
                let early = Duration::from_nanos((early as f64 * clock::ns_per_tick()) as u64);
                if early > 2 * EARLY {
                    if self.gone.load(std::sync::atomic::Ordering::Relaxed) {
                        return Err(Error::PeerGone);
                    }
                    std::thread::sleep((early - EARLY).min(SLEEP_AT_MOST));
                }
            }
        }
    }

    /// There is no room: drives the node, which is how room is heard of, until the message is sent.
    #[cold]
    fn send_when_possible(&self, peer: &NearPeer, message: &[u8]) -> Result<(), Error> {
        let mut idle = Idle::new(peer.inbox.wait, self.gone);
        loop {
            peer.node.poll();
            match peer.far.try_send(message) {
                Ok(()) => return Ok(()),
                Err(full) if full.is_full() => {}
                Err(error) => return Err(failed("sending a message")(error)),
            }
            if idle.found_nothing()? == Next::Sleep {
                match peer.far.send_timeout(message, None, SLEEP_AT_MOST) {
                    Ok(()) => return Ok(()),
                    Err(SendError::TimedOut(_)) => {}
                    Err(error) => return Err(failed("sending a message")(error)),
                }
            }
        }
    }
}

/// The messages of one call, and nothing behind them.
#[inline]
fn slices(messages: &[Vec<u8>]) -> [&[u8]; MOST_TOGETHER as usize] {
    let mut slices: [&[u8]; MOST_TOGETHER as usize] = [&[]; MOST_TOGETHER as usize];
    for (slice, message) in slices.iter_mut().zip(messages) {
        *slice = message;
    }
    slices
}
