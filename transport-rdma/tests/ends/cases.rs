//! What must hold of a link on every fabric. Each case takes a transport and an address to listen on.

use std::time::{Duration, Instant};

use transport::lane::Lane;
use transport::link::{LinkError, Push, Transport};

use super::{End, Meeting, accept, cpu_time, deadline, exchange, integrity, join, spawn, spawned, wait};

/// Two ends in two threads, each given to a function.
pub(crate) fn in_two_threads(
    transport: &dyn Transport,
    address: &str,
    here: impl FnOnce(End),
    there: impl FnOnce(End) + Send,
) {
    let mut listener = transport.listen(address).unwrap();
    let address = listener.address();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let wire = transport.dial(&address, deadline()).unwrap();
            there(End::new(wire, integrity(transport)).unwrap());
        });
        here(End::new(accept(&mut *listener), integrity(transport)).unwrap());
        other.join().unwrap();
    });
}

/// This end with another process at the other, which runs the test `other`.
pub(crate) fn with_process(
    transport: &dyn Transport,
    address: &str,
    other: &str,
    here: impl FnOnce(End, std::process::Child),
) {
    let mut listener = transport.listen(address).unwrap();
    let child = spawn(other, &listener.address());
    here(
        End::new(accept(&mut *listener), integrity(transport)).unwrap(),
        child,
    );
}

/// In the other process: the end, unless the test runs on its own.
pub(crate) fn other_end(transport: impl FnOnce() -> Box<dyn Transport>) -> Option<End> {
    let address = spawned()?;
    let transport = transport();
    let wire = transport.dial(&address, deadline()).unwrap();
    Some(End::new(wire, integrity(&*transport)).unwrap())
}

pub(crate) fn bytes_appear_at_the_same_positions_over_many_laps(
    transport: &dyn Transport,
    address: &str,
    laps: u64,
) {
    in_two_threads(
        transport,
        address,
        |mut end| exchange(&mut end, laps, false),
        |mut end| exchange(&mut end, laps, false),
    );
}

pub(crate) fn two_processes_exchange_and_sleep(
    transport: &dyn Transport,
    address: &str,
    other: &str,
    laps: u64,
) {
    with_process(transport, address, other, |mut end, child| {
        exchange(&mut end, laps, true);
        join(child);
    });
}

pub(crate) fn a_later_link_goes_on_where_the_session_was(
    transport: &dyn Transport,
    address: &str,
    laps: u64,
) {
    let mut listener = transport.listen(address).unwrap();
    let address = listener.address();
    // A link that is dropped takes with it what was on its way: not before both have all they wait for.
    let both = Meeting::default();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut end = End::new(
                transport.dial(&address, deadline()).unwrap(),
                integrity(transport),
            )
            .unwrap();
            exchange(&mut end, laps, false);
            // Committed, perhaps pushed, perhaps arrived, and not consumed when the link goes.
            for number in 0..5u64 {
                assert!(end.try_send(
                    Lane::Ordinary,
                    |_, body| body.copy_from_slice(&number.to_le_bytes()),
                    8
                ));
            }
            end.push().unwrap();
            both.wait();
            let mut end = end.resume(transport.dial(&address, deadline()).unwrap()).unwrap();
            end.push().unwrap();
            receive_numbers(&mut end, 5);
            exchange(&mut end, laps, false);
        });
        let mut end = End::new(accept(&mut *listener), integrity(transport)).unwrap();
        exchange(&mut end, laps, false);
        for number in 0..5u64 {
            assert!(end.try_send(
                Lane::Ordinary,
                |_, body| body.copy_from_slice(&number.to_le_bytes()),
                8
            ));
        }
        end.push().unwrap();
        both.wait();
        let mut end = end.resume(accept(&mut *listener)).unwrap();
        end.push().unwrap();
        receive_numbers(&mut end, 5);
        exchange(&mut end, laps, false);
        other.join().unwrap();
    });
}

fn receive_numbers(end: &mut End, count: u64) {
    let until = deadline();
    let mut next = 0;
    while next < count {
        assert!(Instant::now() < until, "only {next} of {count} arrived");
        end.poll().unwrap();
        let read = |_, body: &[u8]| u64::from_le_bytes(body.try_into().unwrap());
        while next < count
            && let Some(number) = end.take(Lane::Ordinary, read)
        {
            assert_eq!(number, next);
            next += 1;
        }
        std::thread::yield_now();
    }
}

/// Frames one at a time between ends that sleep whenever they can. `other` answers them.
pub(crate) fn a_sleeping_pair_loses_no_wake_up(
    transport: &dyn Transport,
    address: &str,
    other: &str,
    rounds: u64,
) {
    with_process(transport, address, other, |mut end, child| {
        answer(&mut end, rounds, true);
        join(child);
    });
}

/// One side of that: each number is answered by the next one, with pauses that make the sleep race the arrival.
pub(crate) fn answer(end: &mut End, rounds: u64, first: bool) {
    let mut random = super::Random(if first { 77 } else { 99 });
    let read = |_, body: &[u8]| u64::from_le_bytes(body.try_into().unwrap());
    let mut number = 0;
    if first {
        say(end, 0);
    }
    while number < rounds {
        end.poll().unwrap();
        if let Some(got) = end.take(Lane::Ordinary, read) {
            assert!(got == number || got == number + 1, "{got} after {number}");
            number = got + 1;
            for _ in 0..random.below(2_000) {
                std::hint::spin_loop();
            }
            say(end, number);
        } else {
            for _ in 0..random.below(500) {
                std::hint::spin_loop();
            }
            end.sleep().unwrap();
        }
    }
    // Whoever said the last word stays until the other has answered it, or has gone, which it does after taking it.
    let until = deadline();
    while number == rounds
        && end.push().is_ok()
        && end.poll().is_ok()
        && end.take(Lane::Ordinary, read).is_none()
    {
        assert!(Instant::now() < until, "the last word is not answered");
        std::thread::yield_now();
    }
}

fn say(end: &mut End, number: u64) {
    assert!(end.try_send(
        Lane::Ordinary,
        |_, body| body.copy_from_slice(&number.to_le_bytes()),
        8
    ));
    let until = deadline();
    while end.push().unwrap() == Push::Blocked {
        assert!(Instant::now() < until);
        end.poll().unwrap();
    }
}

/// An end that waits for room sleeps, and the peer's acknowledgement alone wakes it.
pub(crate) fn an_acknowledgement_wakes_a_sleeping_sender(transport: &dyn Transport, address: &str) {
    in_two_threads(
        transport,
        address,
        |mut end| {
            let until = deadline();
            while end.send.ring(Lane::Control).released() == 0 {
                while end.try_send(Lane::Control, |_, _| {}, 48) {}
                end.push().unwrap();
                if !end.poll().unwrap() {
                    end.sleep().unwrap();
                    end.poll().unwrap();
                }
                assert!(Instant::now() < until);
            }
            // Tells the other end that it may go.
            assert!(end.try_send(Lane::Ordinary, |_, _| {}, 8));
            while end.push().unwrap() == Push::Blocked {
                assert!(Instant::now() < until);
            }
            let _ = wait_for_end(&mut end);
        },
        |mut end| {
            std::thread::sleep(Duration::from_millis(50));
            let until = deadline();
            loop {
                end.poll().unwrap();
                while end.take(Lane::Control, |_, _| {}).is_some() {}
                end.push().unwrap();
                if end.take(Lane::Ordinary, |_, _| {}).is_some() {
                    return;
                }
                assert!(Instant::now() < until);
                std::thread::sleep(Duration::from_millis(1));
            }
        },
    );
}

/// Polls, as a spinning node does, until the link reports the end of the peer.
fn wait_for_end(end: &mut End) -> LinkError {
    let until = deadline();
    loop {
        if let Err(error) = end.poll() {
            return error;
        }
        assert!(Instant::now() < until, "the end of the peer goes unnoticed");
    }
}

pub(crate) fn a_killed_peer_is_noticed(transport: &dyn Transport, address: &str, other: &str, asleep: bool) {
    with_process(transport, address, other, |mut end, mut child| {
        // The other end says that it is there, then lives on until it is killed.
        let until = deadline();
        while end.take(Lane::Ordinary, |_, _| {}).is_none() {
            end.poll().unwrap();
            assert!(Instant::now() < until);
        }
        child.kill().unwrap();
        let killed = Instant::now();
        let until = deadline();
        let error = if asleep {
            loop {
                match end.sleep().and_then(|()| end.poll()) {
                    Ok(_) => assert!(Instant::now() < until, "woken, and told of no end"),
                    Err(error) => break error,
                }
            }
        } else {
            wait_for_end(&mut end)
        };
        let noticed = killed.elapsed();
        child.wait().unwrap();
        println!("noticed after {noticed:?}: {error}");
        assert!(
            matches!(error, LinkError::Closed | LinkError::Device(_)),
            "{error}"
        );
        assert!(noticed < super::PATIENCE, "noticed after {noticed:?}");
    });
}

/// The other end of [`a_killed_peer_is_noticed`].
pub(crate) fn live_until_killed(end: &mut End) {
    say(end, 0);
    let until = deadline();
    while Instant::now() < until {
        let _ = end.poll();
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn an_idle_link_uses_no_cpu(transport: &dyn Transport, address: &str) {
    const IDLE: Duration = Duration::from_secs(2);
    // Connecting costs, and the ends need a moment to agree that both sleep.
    const SETTLE: Duration = Duration::from_millis(500);
    // Both stay until both have measured.
    let measured = Meeting::default();
    let idle = |end: &mut End, period: Duration| {
        let until = Instant::now() + period;
        while Instant::now() < until {
            end.poll().unwrap();
            if end.link.receiver.arm(&end.receive).unwrap() {
                let left = until.saturating_duration_since(Instant::now());
                wait(&end.link.receiver.descriptors(), left);
            }
        }
    };
    in_two_threads(
        transport,
        address,
        |mut end| {
            idle(&mut end, SETTLE);
            let before = cpu_time();
            idle(&mut end, IDLE);
            let used = cpu_time() - before;
            println!("an idle pair used {used:?} in {IDLE:?}");
            // One that polls uses all of it. In a guest the time counts in which the guest itself had to wait.
            measured.wait();
            assert!(used < IDLE / 10, "an idle pair used {used:?} in {IDLE:?}");
        },
        |mut end| {
            idle(&mut end, SETTLE + IDLE);
            measured.wait();
        },
    );
}

/// Whoever connects and speaks no word of ours gets an error and costs the listener nothing.
pub(crate) fn a_handshake_that_never_comes_ends_at_the_deadline(transport: &dyn Transport, address: &str) {
    let mut listener = transport.listen(address).unwrap();
    let silent = transport.dial(&listener.address(), deadline()).unwrap();
    let mut wire = accept(&mut *listener);
    let started = Instant::now();
    let error = wire.receive(started + Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, LinkError::TimedOut), "{error}");
    assert!(started.elapsed() < super::PATIENCE / 2);
    drop(silent);
    assert!(matches!(wire.receive(deadline()), Err(LinkError::Closed)));
}

pub(crate) fn offers_of_garbage_are_refused(transport: &dyn Transport, address: &str) {
    let mut listener = transport.listen(address).unwrap();
    let mut random = super::Random(3);
    for round in 0..200 {
        let mut far = transport.dial(&listener.address(), deadline()).unwrap();
        let mut near = accept(&mut *listener);
        let receive = near.receive_memory(&super::SIZES).unwrap();
        let real = near.offer(&receive).unwrap();
        let mut garbage: Vec<u8> = if round % 2 == 0 {
            (0..random.below(1024)).map(|_| random.next() as u8).collect()
        } else {
            real[..random.below(real.len())].to_vec()
        };
        garbage.truncate(1024);
        far.send(&garbage, deadline()).unwrap();
        let offer = near.receive(deadline()).unwrap();
        assert_eq!(offer, garbage);
        let refused = near.send_memory(&super::SIZES, &offer).and_then(|memory| {
            let memory = transport::link::LinkMemory {
                send: memory.rings,
                receive,
            };
            near.link(&memory, &offer, [0; 3]).map(|_| ())
        });
        assert!(refused.is_err(), "{garbage:?}");
    }
}
