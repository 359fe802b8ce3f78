//! Appending from futures and from threads at once, and past the page cache.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use pmem_journal::{Error, Event, Expected, Journal, Mode, Options, Reader};

/// The smallest executor there is: parks the thread until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn options(mode: Mode) -> Options {
    Options::new().require(mode).segment_size(64 << 10)
}

#[test]
fn futures_and_threads_share_one_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    thread::scope(|scope| {
        for entity in 0..6u128 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..100u64 {
                    let payload = n.to_le_bytes();
                    let event = [Event::new(entity, 1, &payload).key(u128::from(n) + 1)];
                    let done = if entity % 2 == 0 {
                        block_on(journal.append_async(&event, Expected::Exact(n)))
                    } else {
                        journal.append(&event, Expected::Exact(n))
                    };
                    let done = done.unwrap();
                    assert!(journal.durable_position() > done.last_position);
                    let again = block_on(journal.append_async(&event, Expected::Any)).unwrap();
                    assert_eq!(
                        (again.first_position, again.duplicate),
                        (done.first_position, true)
                    );
                }
            });
        }
    });
    journal.close().unwrap();
    assert_eq!(Reader::open(dir.path()).unwrap().verify().unwrap().events, 600);
}

#[test]
fn many_futures_polled_by_one_thread_become_durable_together() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    let events: Vec<[Event<'_>; 1]> = (0..50).map(|n| [Event::new(n, 1, b"x")]).collect();
    let mut futures: Vec<_> = events
        .iter()
        .map(|event| Box::pin(journal.append_async(event, Expected::None)))
        .collect();
    let mut done = Vec::new();
    while !futures.is_empty() {
        let mut context = Context::from_waker(Waker::noop());
        futures.retain_mut(|future| match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => {
                done.push(answer.unwrap().first_position);
                false
            }
            Poll::Pending => true,
        });
        thread::yield_now();
    }
    done.sort_unstable();
    assert_eq!(done, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_future_dropped_after_its_first_poll_is_kept_by_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    for n in 0..5 {
        let event = [Event::new(1, 1, b"x")];
        let mut future = Box::pin(journal.append_async(&event, Expected::Exact(n)));
        let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    let refused = block_on(journal.append_async(&[Event::new(1, 1, b"x")], Expected::Exact(0)));
    assert!(
        matches!(refused, Err(Error::WrongSequence { actual: 5, .. })),
        "{refused:?}"
    );
    journal.close().unwrap();
    let report = Reader::open(dir.path()).unwrap().verify().unwrap();
    assert_eq!((report.events, report.clean), (5, true));
}

#[test]
fn past_the_page_cache_everything_is_the_same() {
    // The build's own directory is on a disk; a temporary directory may be in memory, which has no such mode.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (journal, _) = match Journal::open_with(dir.path(), &options(Mode::Direct)) {
        Err(Error::ModeUnavailable {
            required: Mode::Direct,
            reason,
            ..
        }) => {
            println!("not run: {reason}");
            return;
        }
        opened => opened.unwrap(),
    };
    let reader = Reader::open(dir.path()).unwrap();
    let sent: Vec<Vec<u8>> = (0..400usize).map(|n| vec![n as u8; n * 37 % 900]).collect();
    for (n, payload) in sent.iter().enumerate() {
        journal
            .append(&[Event::new(1, 1, payload)], Expected::Exact(n as u64))
            .unwrap();
        // Another process's reader goes through the page cache beside it.
        if n % 20 == 0 {
            let last = reader
                .replay(n as u64)
                .unwrap()
                .next_event()
                .unwrap()
                .map(|event| event.payload.to_vec());
            assert_eq!(last.as_ref(), Some(payload), "event {n}");
        }
    }
    journal.close().unwrap();
    let kept: Vec<_> = reader
        .replay(0)
        .unwrap()
        .owned()
        .map(|event| event.unwrap().payload)
        .collect();
    assert!(kept == sent);
    let (journal, recovery) = Journal::open_with(dir.path(), &options(Mode::Direct)).unwrap();
    assert_eq!((recovery.events, recovery.clean), (400, true));
    journal
        .append(&[Event::new(1, 1, b"on")], Expected::Exact(400))
        .unwrap();
    drop(journal);
    // And any other mode goes on with it.
    let (journal, recovery) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    assert_eq!(recovery.events, 401);
    drop(journal);
}
