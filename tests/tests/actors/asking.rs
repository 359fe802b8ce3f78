//! How an answer comes, and how it does not.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use transport::{AskError, Overflow, Reason};

use crate::far::{Done, Order, PATIENCE, pair};
use crate::letters::Letter;
use tests::over::Over;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(start.elapsed() < PATIENCE, "not ready in time");
        thread::park_timeout(PATIENCE);
    }
}

fn an_answer_comes_to_who_blocks_and_to_who_awaits(over: Over) {
    let pair = pair(over);
    for number in 0..50 {
        let (blocking, awaiting) = (Order::Echo(number), Order::Echo(number + 1000));
        assert_eq!(
            pair.orders.ask(&blocking, PATIENCE),
            Ok(Done::Numbers(vec![number]))
        );
        assert_eq!(
            block_on(pair.orders.ask_async(&awaiting, PATIENCE)),
            Ok(Done::Numbers(vec![number + 1000]))
        );
    }
    assert_eq!(pair.near.dead_letters().count(), 0);
}

fn many_questions_at_once_get_each_its_own_answer(over: Over) {
    let pair = pair(over);
    thread::scope(|scope| {
        for thread in 0..4 {
            let orders = &pair.orders;
            scope.spawn(move || {
                for number in 0..200 {
                    let number = thread * 1000 + number;
                    let answer = orders.ask(&Order::Echo(number), PATIENCE);
                    assert_eq!(answer, Ok(Done::Numbers(vec![number])));
                }
            });
        }
    });
}

fn a_question_without_an_answer_times_out_and_a_late_answer_is_a_dead_letter(over: Over) {
    let pair = pair(over);
    let patience = Duration::from_millis(100);
    let dawdle = Order::Dawdle(Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(
        pair.orders.ask(&dawdle, patience),
        Err(AskError::TimedOut(patience))
    );
    assert_eq!(
        block_on(pair.orders.ask_async(&dawdle, patience)),
        Err(AskError::TimedOut(patience))
    );
    assert!(start.elapsed() >= 2 * patience && start.elapsed() < PATIENCE);
    for letter in pair.near_letters(Reason::AnswerTooLate, 2) {
        let number = letter.correlation.expect("the number of its question");
        assert!(number >> 63 == 1 && letter.len > 0);
        let said = Letter {
            from: Some("far".into()),
            to: None,
            protocol: None,
            ..Letter::to_far("answers", "", Some(number), letter.len)
        };
        // It has just come in.
        assert_eq!((letter.without_age(), letter.age), (said, Some(Duration::ZERO)));
    }
    assert_eq!(pair.order(Order::Echo(1)), Done::Numbers(vec![1]));
}

fn a_question_to_a_mailbox_that_closes_fails_before_its_time(over: Over) {
    let pair = pair(over);
    let inbox = pair.open("inbox", 8, Overflow::Wait);
    thread::scope(|scope| {
        let asking = scope.spawn(|| inbox.ask(b"anybody there", PATIENCE));
        pair.wait_for_sent("inbox", 1);
        pair.order(Order::Close { name: "inbox".into() });
        assert_eq!(asking.join().unwrap(), Err(AskError::NotTaken));
    });
    let newest = pair.open("newest", 1, Overflow::DropNewest);
    newest.try_send(b"fills it").unwrap();
    assert_eq!(newest.ask(b"dropped", PATIENCE), Err(AskError::NotTaken));
}

fn a_question_to_a_process_that_is_killed_fails_when_its_session_ends(over: Over) {
    let mut pair = pair(over);
    let orders = pair.orders.clone();
    let before = pair.sent("orders");
    let asking = thread::spawn(move || {
        let dawdle = Order::Dawdle(Duration::from_secs(60));
        (
            orders.ask(&dawdle, PATIENCE),
            block_on(orders.ask_async(&dawdle, PATIENCE)),
        )
    });
    pair.wait_for_sent("orders", before + 1);
    pair.kill();
    let (blocked, awaited) = asking.join().unwrap();
    assert!(matches!(blocked, Err(AskError::SessionOver(_))), "{blocked:?}");
    assert!(
        matches!(
            awaited,
            Err(AskError::Send(transport::SendError::SessionOver(_)) | AskError::SessionOver(_))
        ),
        "{awaited:?}"
    );
}

tests::over_each_transport! {
    an_answer_comes_to_who_blocks_and_to_who_awaits,
    many_questions_at_once_get_each_its_own_answer,
    a_question_without_an_answer_times_out_and_a_late_answer_is_a_dead_letter,
    a_question_to_a_mailbox_that_closes_fails_before_its_time,
    a_question_to_a_process_that_is_killed_fails_when_its_session_ends,
}
