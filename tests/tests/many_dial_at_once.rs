//! Many nodes dial one at the same moment: who has to wait comes in later, and nobody comes in beyond the bound.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tests::proxy::Proxy;
use transport::handshake::{HandshakeError, Refusal};
use transport::lane::{LANES, LaneSizes};
use transport::link::{
    HangUp, LaneMemory, Link, LinkError, LinkMemory, Listener, SendMemory, Transport, TransportError, Wire,
};
use transport::ring::Position;
use transport::{ConnectError, Event, Node, NodeBuilder};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"many dial at once, a shared secret";

fn node(name: &str) -> NodeBuilder {
    Node::builder(name).secret(SECRET).rings(LaneSizes {
        control: 4096,
        ordinary: 4096,
        large: 4096,
    })
}

#[tokio::test]
async fn a_hundred_who_dial_from_one_host_at_once_all_come_in() {
    const MANY: usize = 100;
    let hub = node("hub").transport(Tcp::new()).listen("tcp://127.0.0.1:0");
    let hub = hub.start().unwrap();
    let a = node("a").transport(Tcp::new()).start().unwrap();
    let address = &hub.addresses()[0];
    let connected = join_all((0..MANY).map(|_| a.connect_async(address))).await;
    let refused: Vec<_> = connected.iter().filter_map(|peer| peer.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} were refused: {refused:?}", refused.len());
    tests::audit::eventually("the hub has them all", || hub.peers().len() == MANY);
}

#[test]
fn who_does_not_know_the_secret_dials_once() {
    let hub = node("hub").transport(Tcp::new()).listen("tcp://127.0.0.1:0");
    let hub = hub.start().unwrap();
    let target = hub.addresses()[0].trim_start_matches("tcp://").parse().unwrap();
    let proxy = Proxy::start(target).unwrap();
    let a = node("a").secret(b"some other secret of some length");
    let a = a.transport(Tcp::new()).start().unwrap();
    let refused = a.connect(&format!("tcp://{}", proxy.address()));
    assert!(
        matches!(
            refused,
            Err(ConnectError::Handshake {
                source: HandshakeError::WrongSecret,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(proxy.accepted(), 1);
}

/// How many have got as far as their link, and whoever waits for the others.
type Meeting = Arc<(Mutex<usize>, Condvar)>;

/// TCP whose listener makes nobody's link before two are there, if that happens within a second.
struct OverTcp(Tcp, Meeting);

struct MeetingListener(Box<dyn Listener>, Meeting);

struct MeetingWire(Box<dyn Wire>, Meeting);

impl Transport for OverTcp {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        let listener = self.0.listen(address)?;
        Ok(Box::new(MeetingListener(listener, self.1.clone())))
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        self.0.dial(address, deadline)
    }
}

impl Listener for MeetingListener {
    fn address(&self) -> String {
        self.0.address()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        let accepted = self.0.accept()?;
        Ok(accepted.map(|wire| Box::new(MeetingWire(wire, self.1.clone())) as Box<dyn Wire>))
    }

    fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.descriptor()
    }
}

impl Wire for MeetingWire {
    fn peer(&self) -> String {
        self.0.peer()
    }

    fn source(&self) -> String {
        self.0.source()
    }

    fn hang_up(&self) -> Option<HangUp> {
        self.0.hang_up()
    }

    fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), LinkError> {
        self.0.send(message, deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        self.0.receive(deadline)
    }

    fn receive_memory(&mut self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        self.0.receive_memory(sizes)
    }

    fn offer(&mut self, receive: &LaneMemory) -> Result<Vec<u8>, LinkError> {
        self.0.offer(receive)
    }

    fn send_memory(&mut self, sizes: &LaneSizes, offer: &[u8]) -> Result<SendMemory, LinkError> {
        self.0.send_memory(sizes, offer)
    }

    fn link(
        self: Box<Self>,
        memory: &LinkMemory,
        offer: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError> {
        let MeetingWire(wire, meeting) = *self;
        let (here, changed) = &*meeting;
        let mut here = here.lock().unwrap();
        *here += 1;
        changed.notify_all();
        let alone = |here: &mut usize| *here < 2;
        drop(
            changed
                .wait_timeout_while(here, Duration::from_secs(1), alone)
                .unwrap(),
        );
        wire.link(memory, offer, from)
    }
}

#[test]
fn handshakes_side_by_side_bring_no_more_peers_than_there_may_be() {
    let meeting = Meeting::default();
    let hub = node("hub")
        .transport(OverTcp(Tcp::new(), meeting))
        .listen("tcp://127.0.0.1:0")
        .max_peers(NonZeroUsize::MIN)
        .start()
        .unwrap();
    let events = hub.events(64);
    let dialers: Vec<Node> = ["a", "b"]
        .into_iter()
        .map(|name| node(name).transport(Tcp::new()).start().unwrap())
        .collect();
    let address = &hub.addresses()[0];
    let connected = thread::scope(|scope| {
        let dialling: Vec<_> = dialers
            .iter()
            .map(|dialer| scope.spawn(|| dialer.connect(address)))
            .collect();
        let connected: Vec<_> = dialling
            .into_iter()
            .map(|dialling| dialling.join().unwrap())
            .collect();
        connected
    });
    tests::audit::eventually("there is a peer", || !hub.peers().is_empty());
    let came: Vec<Event> = events
        .try_iter()
        .filter(|event| matches!(event, Event::Connected { .. }))
        .collect();
    assert_eq!(came.len(), 1, "{came:?}");
    let refused = connected.into_iter().find_map(Result::err);
    assert!(
        matches!(
            refused,
            Some(ConnectError::Handshake {
                source: HandshakeError::Refused(Refusal::Busy),
                ..
            })
        ),
        "{refused:?}"
    );
}
