//! Sessions whose RDMA link dies, or whose device does: they go on over TCP, and return when it works again. As root, on soft-RoCE.
#![cfg(feature = "verbs")]

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{audited, eventually};
use transport::link::Transport;
use transport::{Event, Node, NodeBuilder, Peer, Timing};
use transport_rdma::{Rdma, RdmaOptions};
use transport_tcp::Tcp;

/// The soft-RoCE device under test, and the network device below it.
struct SoftRoce {
    device: String,
    below: String,
}

impl SoftRoce {
    fn of_the_environment() -> SoftRoce {
        let device = std::env::var("SOFT_ROCE_DEVICE").expect("SOFT_ROCE_DEVICE");
        let parent = format!("/sys/class/infiniband/{device}/parent");
        let below = std::fs::read_to_string(&parent).unwrap_or_else(|error| panic!("{parent}: {error}"));
        SoftRoce {
            device,
            below: below.trim().to_owned(),
        }
    }

    fn set_network(&self, state: &str) {
        run("ip", &["link", "set", &self.below, state]);
    }

    fn exists(&self) -> bool {
        Path::new("/sys/class/infiniband").join(&self.device).exists()
    }

    /// Deletes the device, which takes until nobody has it open: how long.
    fn delete(&self) -> Duration {
        let start = Instant::now();
        let mut deleting = Command::new("rdma")
            .args(["link", "delete", &self.device])
            .spawn()
            .expect("the rdma command");
        let mut ended = None;
        eventually("the device is let go", || {
            ended = deleting.try_wait().expect("a child");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        assert!(!self.exists());
        start.elapsed()
    }

    fn create(&self) {
        run(
            "rdma",
            &["link", "add", &self.device, "type", "rxe", "netdev", &self.below],
        );
    }
}

impl Drop for SoftRoce {
    /// What a failed test leaves behind is for others to use.
    fn drop(&mut self) {
        if !self.exists() {
            self.create();
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

fn builder(name: &str) -> NodeBuilder {
    let timing = Timing {
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(2),
        resume_window: Duration::from_secs(20),
        better_link: Duration::from_millis(300),
    };
    let rdma = Rdma::new(RdmaOptions::default()).expect("an RDMA device");
    Node::builder(name)
        .secret(b"links over rdma, a shared secret")
        .timing(timing)
        .transport(rdma)
        .transport(Tcp::new())
}

/// Two nodes, and a session between them over RDMA that may go on over TCP.
struct Two {
    a: Node,
    b: Node,
    to_b: Peer,
    events: Vec<Receiver<Event>>,
}

impl Two {
    fn joined() -> Two {
        let host = std::env::var("SOFT_ROCE_ADDRESS").expect("SOFT_ROCE_ADDRESS");
        let b = builder("b")
            .listen(&format!("rdma://{host}:0"))
            .listen("tcp://127.0.0.1:0")
            .start()
            .unwrap();
        let a = builder("a").start().unwrap();
        let events = vec![a.events(1024), b.events(1024)];
        let to_b = a.connect_any(b.addresses()).unwrap();
        let two = Two { a, b, to_b, events };
        two.is_over("rdma");
        two
    }

    /// Waits until a link of this kind carries the session.
    fn is_over(&self, scheme: &str) {
        eventually(scheme, || {
            self.to_b.link().is_some_and(|link| link.starts_with(scheme))
        });
    }

    /// Runs `drill` under load, and accounts for every message.
    fn audited(&self, drill: impl FnOnce()) {
        let sent = audited(&self.b, &self.to_b, drill);
        println!("{sent} messages, each once and in order");
        assert_eq!(self.a.dead_letters().count() + self.b.dead_letters().count(), 0);
    }

    /// Why either end has lost its links.
    fn causes(&self) -> Vec<String> {
        let events = self.events.iter().flat_map(Receiver::try_iter);
        events
            .filter_map(|event| match event {
                Event::Suspended { cause, .. } => Some(cause),
                _ => None,
            })
            .collect()
    }
}

#[test]
#[ignore = "needs a soft-RoCE device and root: soft-roce-setup run"]
fn a_session_outlives_its_rdma_link_over_tcp_and_returns_to_it() {
    let soft_roce = SoftRoce::of_the_environment();
    let two = Two::joined();
    two.audited(|| {
        for round in 1..=2 {
            thread::sleep(Duration::from_millis(300));
            let start = Instant::now();
            soft_roce.set_network("down");
            two.is_over("tcp");
            println!(
                "round {round}: over TCP {:?} after the device lost its network",
                start.elapsed()
            );
            thread::sleep(Duration::from_millis(300));
            let start = Instant::now();
            soft_roce.set_network("up");
            // An attempt may come to nothing while the device still comes up; then the session is back over TCP.
            two.is_over("rdma");
            println!(
                "round {round}: over RDMA {:?} after the network was back",
                start.elapsed()
            );
        }
    });
    let transports = two.a.observer().observe().unwrap().transports;
    let rdma = transports
        .iter()
        .find(|transport| transport.scheme == "rdma")
        .unwrap();
    assert!(figure(&rdma.figures, "completions") > 0, "{:?}", rdma.figures);
}

#[test]
#[ignore = "needs a soft-RoCE device and root: soft-roce-setup run"]
fn what_a_device_tells_of_its_port_is_counted() {
    let soft_roce = SoftRoce::of_the_environment();
    let host = std::env::var("SOFT_ROCE_ADDRESS").expect("SOFT_ROCE_ADDRESS");
    let rdma = Rdma::new(RdmaOptions::default()).expect("an RDMA device");
    let listener = rdma.listen(&format!("{host}:0")).unwrap();
    eventually("an event of the device", || {
        // Keeps the device open. There is none to be had until its port is active again.
        let wire = rdma.dial(&listener.address(), Instant::now() + Duration::from_secs(1));
        soft_roce.set_network("down");
        soft_roce.set_network("up");
        drop(wire);
        figure(&rdma.figures(), "device events") > 0
    });
}

fn figure(figures: &[(&str, u64)], name: &str) -> u64 {
    let found = figures.iter().find(|figure| figure.0 == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {figures:?}")).1
}

#[test]
#[ignore = "needs a soft-RoCE device and root: soft-roce-setup run"]
fn a_session_outlives_its_rdma_device_over_tcp_and_returns_to_the_next_one() {
    let soft_roce = SoftRoce::of_the_environment();
    let two = Two::joined();
    let removed = format!("device: {} is being removed", soft_roce.device);
    let delete_and_create = |round: &str| {
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let deleted = soft_roce.delete();
        two.is_over("tcp");
        let over_tcp = start.elapsed();
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        soft_roce.create();
        two.is_over("rdma");
        println!(
            "round {round}: device deleted {deleted:?} and session over TCP {over_tcp:?} after `rdma link delete`, \
             over RDMA {:?} after `rdma link add`",
            start.elapsed()
        );
    };
    two.audited(|| ["1", "2", "3"].into_iter().for_each(delete_and_create));
    delete_and_create("4, with nothing to send");
    // The end that sees it first says so; the other may have seen only that the link was closed.
    let causes = two.causes();
    assert!(causes.contains(&removed), "{causes:?}");
}
