//! The link over RDMA, on a real device: `soft-roce-setup run -- …/rdma-… --ignored`.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use transport::lane::Lane;
use transport::link::{LinkError, Push, Transport, TransportError};
use transport_rdma::{Rdma, RdmaOptions, SmallFrames};

mod ends;

use ends::cases;
use ends::{End, accept, deadline, exchange, integrity};

/// Where this machine listens.
const ADDRESS: &str = "127.0.0.1:0";

fn rdma() -> Rdma {
    Rdma::new(RdmaOptions::default()).unwrap()
}

/// Learns of small frames by completions.
fn announced() -> Rdma {
    Rdma::new(RdmaOptions {
        small_frames: SmallFrames::Announced,
        ..RdmaOptions::default()
    })
    .unwrap()
}

/// A send queue that a single look over the lanes overfills.
fn shallow() -> Rdma {
    Rdma::new(RdmaOptions {
        send_depth: Some(2),
        ..RdmaOptions::default()
    })
    .unwrap()
}

#[test]
fn an_unknown_device_is_unavailable_and_says_what_there_is() {
    let options = RdmaOptions {
        device: Some("no-such-device0".into()),
        ..RdmaOptions::default()
    };
    let error = Rdma::new(options).unwrap_err();
    assert!(
        matches!(error, TransportError::Unavailable { scheme: "rdma", .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("no-such-device0") || text.contains("soft-roce-setup"),
        "{text}"
    );
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn bytes_appear_at_the_same_positions_over_many_laps() {
    println!("{}", rdma().device());
    cases::bytes_appear_at_the_same_positions_over_many_laps(&rdma(), ADDRESS, 20);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn announced_bytes_appear_at_the_same_positions_over_many_laps() {
    cases::bytes_appear_at_the_same_positions_over_many_laps(&announced(), ADDRESS, 20);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_sleeping_pair_that_learns_by_completions_loses_no_wake_up() {
    cases::a_sleeping_pair_loses_no_wake_up(&announced(), ADDRESS, "other_end_answers_announced", 1_000);
}

#[test]
fn other_end_answers_announced() {
    if let Some(mut end) = cases::other_end(|| Box::new(announced())) {
        cases::answer(&mut end, 1_000, false);
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn two_processes_exchange_and_sleep() {
    cases::two_processes_exchange_and_sleep(&rdma(), ADDRESS, "other_end_exchanges", 10);
}

#[test]
fn other_end_exchanges() {
    if let Some(mut end) = cases::other_end(|| Box::new(rdma())) {
        exchange(&mut end, 10, true);
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_full_send_queue_is_back_pressure_and_loses_nothing() {
    cases::bytes_appear_at_the_same_positions_over_many_laps(&shallow(), ADDRESS, 10);
    cases::in_two_threads(
        &shallow(),
        ADDRESS,
        |mut end| {
            let until = deadline();
            let mut blocked = false;
            while !blocked {
                for lane in Lane::ALL {
                    end.try_send(lane, |_, _| {}, 900);
                }
                blocked = end.push().unwrap() == Push::Blocked;
                end.poll().unwrap();
                assert!(Instant::now() < until, "three lanes fit a queue of two");
            }
            // Asleep, it is the room in the queue that wakes us.
            while end.push().unwrap() == Push::Blocked {
                end.poll().unwrap();
                end.sleep().unwrap();
            }
        },
        |mut end| {
            let until = Instant::now() + Duration::from_secs(30);
            while end.poll().is_ok() && Instant::now() < until {
                for lane in Lane::ALL {
                    while end.take(lane, |_, _| {}).is_some() {}
                }
                let _ = end.push();
                std::thread::yield_now();
            }
        },
    );
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_later_link_goes_on_where_the_session_was() {
    cases::a_later_link_goes_on_where_the_session_was(&rdma(), ADDRESS, 3);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_sleeping_pair_loses_no_wake_up() {
    cases::a_sleeping_pair_loses_no_wake_up(&rdma(), ADDRESS, "other_end_answers", 3_000);
}

#[test]
fn other_end_answers() {
    if let Some(mut end) = cases::other_end(|| Box::new(rdma())) {
        cases::answer(&mut end, 3_000, false);
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn an_acknowledgement_wakes_a_sleeping_sender() {
    cases::an_acknowledgement_wakes_a_sleeping_sender(&rdma(), ADDRESS);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_killed_peer_is_noticed_while_polling() {
    cases::a_killed_peer_is_noticed(&rdma(), ADDRESS, "other_end_lives_until_killed", false);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_killed_peer_is_noticed_while_asleep() {
    cases::a_killed_peer_is_noticed(&rdma(), ADDRESS, "other_end_lives_until_killed", true);
}

#[test]
fn other_end_lives_until_killed() {
    if let Some(mut end) = cases::other_end(|| Box::new(rdma())) {
        cases::live_until_killed(&mut end);
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn an_idle_link_uses_no_cpu() {
    // Alone in its process, because what is measured is the process.
    if ends::spawned().is_some() {
        cases::an_idle_link_uses_no_cpu(&rdma(), ADDRESS);
    } else {
        ends::join(ends::spawn("an_idle_link_uses_no_cpu", "alone"));
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_handshake_that_never_comes_ends_at_the_deadline() {
    cases::a_handshake_that_never_comes_ends_at_the_deadline(&rdma(), ADDRESS);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn offers_of_garbage_are_refused() {
    cases::offers_of_garbage_are_refused(&rdma(), ADDRESS);
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn garbage_on_the_socket_is_a_protocol_error() {
    let mut listener = rdma().listen(ADDRESS).unwrap();
    for bytes in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[1, 0x10, 0, 0]] {
        let mut socket = TcpStream::connect(listener.address()).unwrap();
        socket.write_all(bytes).unwrap();
        let error = accept(&mut *listener).receive(deadline()).unwrap_err();
        assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    }
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn an_address_in_use_says_so() {
    let first = rdma().listen(ADDRESS).unwrap();
    let refused = rdma().listen(&first.address()).map(|_| ());
    assert!(
        matches!(refused, Err(TransportError::AddressInUse { .. })),
        "{refused:?}"
    );
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn a_peer_whose_memory_is_gone_is_a_device_error() {
    cases::in_two_threads(
        &rdma(),
        ADDRESS,
        |mut end| {
            let until = deadline();
            let error = loop {
                end.try_send(Lane::Ordinary, |_, _| {}, 64);
                if let Err(error) = end.push().map(|_| ()).and_then(|()| end.poll().map(|_| ())) {
                    break error;
                }
                assert!(
                    Instant::now() < until,
                    "a peer without a queue pair goes unnoticed"
                );
            };
            assert!(
                matches!(error, LinkError::Device(_) | LinkError::Closed),
                "{error}"
            );
        },
        drop,
    );
}

#[test]
#[ignore = "needs an RDMA device: SOFT_ROCE_DEVICE"]
fn after_the_drop_of_a_link_nothing_is_written_into_its_rings() {
    let mut listener = rdma().listen(ADDRESS).unwrap();
    let address = listener.address();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wire = rdma().dial(&address, deadline()).unwrap();
            let mut end = End::new(wire, integrity(&rdma())).unwrap();
            // Writes on until the other end is found gone.
            let until = Instant::now() + Duration::from_secs(20);
            while Instant::now() < until {
                end.try_send(Lane::Large, |_, body| body.fill(0xaa), 4000);
                let claimed = end.send.ring(Lane::Large).claimed();
                if end.push().is_err() || end.poll().is_err() {
                    break;
                }
                let _ = end.send.ring(Lane::Large).release(claimed);
            }
        });
        let end = End::new(accept(&mut *listener), integrity(&rdma())).unwrap();
        let memory = end.ring_memory()[Lane::Large.index()].clone();
        let word = |index: usize| memory.word(8 * index).load(std::sync::atomic::Ordering::Relaxed);
        let until = deadline();
        while word(0) == 0 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        drop(end);
        for index in 0..memory.len() / 8 {
            memory
                .word(8 * index)
                .store(0, std::sync::atomic::Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!((0..memory.len() / 8).all(|index| word(index) == 0));
    });
}
