//! Nothing that arrives is slept through, whoever drives the nodes and however deeply they sleep when it comes.
//!
//! No clock plays a part, neither in the nodes nor in their runtimes: what nobody is woken for stays unseen, and the test says
//! which call it was. Calls and casts go for a while, with pauses of up to a few hundred microseconds, so that the other side
//! sleeps, is about to, or is awake when they come. `WAKE_UPS_SECONDS` makes each case longer.

mod parties;
mod service;
mod traffic;

use std::time::Duration;

use tests::over::Over;
use tests::over_each_transport;
use transport::Wait;
use transport::lane::LaneSizes;

use parties::{Driven, run};
use traffic::{Beside, Traffic};

/// Two nodes, one caller.
const ALONE: Traffic = Traffic {
    server: Driven::ByTokio(Wait::Park),
    clients: &[Driven::ByTokio(Wait::Park)],
    streams: 0,
    begun: 0,
    questions: 0,
    burst: 0,
    longest: 64,
    capacity: 1024,
    rings: None,
    beside: &[],
};

const STREAM: Traffic = Traffic { streams: 1, ..ALONE };
const QUESTIONS: Traffic = Traffic {
    questions: 1,
    ..ALONE
};

/// Long enough for the large lane.
const LONG: usize = 60 << 10;

fn calls_on_a_stream(over: Over) {
    run(over, &STREAM);
}

fn questions_to_a_mailbox(over: Over) {
    run(over, &QUESTIONS);
}

fn questions_and_answers_in_two_pieces_or_one_that_is_only_begun(over: Over) {
    run(over, &Traffic { begun: 1, ..ALONE });
}

fn casts_and_a_call_on_a_stream(over: Over) {
    run(
        over,
        &Traffic {
            burst: 60,
            longest: LONG,
            ..STREAM
        },
    );
}

fn casts_and_a_question_to_a_mailbox(over: Over) {
    run(
        over,
        &Traffic {
            burst: 60,
            longest: LONG,
            ..QUESTIONS
        },
    );
}

/// Whoever sends waits for room: of the mailbox, of the ring.
fn casts_for_which_there_is_little_room(over: Over) {
    run(
        over,
        &Traffic {
            burst: 60,
            longest: 2_000,
            capacity: 5,
            rings: Some(LaneSizes {
                control: 4 << 10,
                ordinary: 16 << 10,
                large: 32 << 10,
            }),
            streams: 1,
            questions: 1,
            ..ALONE
        },
    );
}

fn several_streams_at_once(over: Over) {
    run(
        over,
        &Traffic {
            streams: 2,
            begun: 1,
            questions: 1,
            burst: 3,
            ..ALONE
        },
    );
}

/// More than are polled without asking the system which of them are ready.
fn a_few_peers(over: Over) {
    run(
        over,
        &Traffic {
            clients: &[Driven::ByTokio(Wait::Park); 3],
            burst: 2,
            ..STREAM
        },
    );
}

/// So many that those which are quiet have no turn.
fn many_peers(over: Over) {
    run(
        over,
        &Traffic {
            clients: &[Driven::ByTokio(Wait::Park); 10],
            burst: 2,
            ..QUESTIONS
        },
    );
}

/// The same, of a node that polls those which are not quiet.
fn many_peers_of_a_node_with_a_thread_of_its_own(over: Over) {
    run(
        over,
        &Traffic {
            server: Driven::ByAThread(BRIEF),
            clients: &[Driven::ByTokio(Wait::Park); 10],
            burst: 2,
            ..QUESTIONS
        },
    );
}

const BRIEF: Wait = Wait::Adaptive {
    spin: Duration::from_micros(20),
    yields: Duration::from_micros(20),
};

fn a_node_with_a_thread_of_its_own_is_called(over: Over) {
    run(
        over,
        &Traffic {
            server: Driven::ByAThread(Wait::Park),
            burst: 2,
            ..STREAM
        },
    );
}

fn nodes_with_threads_of_their_own_call(over: Over) {
    run(
        over,
        &Traffic {
            clients: &[Driven::ByAThread(Wait::Park), Driven::ByAThread(BRIEF)],
            burst: 2,
            ..QUESTIONS
        },
    );
}

fn tasks_that_poll_for_a_while_before_they_sleep(over: Over) {
    run(
        over,
        &Traffic {
            server: Driven::ByTokio(BRIEF),
            clients: &[Driven::ByTokio(BRIEF)],
            burst: 2,
            ..STREAM
        },
    );
}

/// Whoever else looks at a node that a task of tokio drives leaves it as it was.
fn nodes_that_threads_look_at_as_well(over: Over) {
    run(
        over,
        &Traffic {
            beside: &[Beside::ServerIsPolled],
            ..QUESTIONS
        },
    );
}

fn nodes_that_threads_block_on_as_well(over: Over) {
    run(
        over,
        &Traffic {
            beside: &[Beside::ClientBlocks],
            ..STREAM
        },
    );
}

fn many_peers_of_a_node_that_is_told_of_deadlines(over: Over) {
    run(
        over,
        &Traffic {
            clients: &[Driven::ByTokio(Wait::Park); 10],
            beside: &[Beside::ServerAsksItself],
            ..STREAM
        },
    );
}

/// Also who dials calls, and is let in.
fn nodes_that_are_dialled_meanwhile(over: Over) {
    run(
        over,
        &Traffic {
            beside: &[Beside::SomebodyDials],
            ..QUESTIONS
        },
    );
}

fn a_few_peers_while_others_dial(over: Over) {
    run(
        over,
        &Traffic {
            clients: &[Driven::ByTokio(Wait::Park); 4],
            beside: &[Beside::SomebodyDials],
            ..QUESTIONS
        },
    );
}

over_each_transport!(
    nodes_that_threads_look_at_as_well,
    nodes_that_threads_block_on_as_well,
    many_peers_of_a_node_that_is_told_of_deadlines,
    nodes_that_are_dialled_meanwhile,
    a_few_peers_while_others_dial,
    calls_on_a_stream,
    questions_to_a_mailbox,
    questions_and_answers_in_two_pieces_or_one_that_is_only_begun,
    casts_and_a_call_on_a_stream,
    casts_and_a_question_to_a_mailbox,
    casts_for_which_there_is_little_room,
    several_streams_at_once,
    a_few_peers,
    many_peers,
    many_peers_of_a_node_with_a_thread_of_its_own,
    a_node_with_a_thread_of_its_own_is_called,
    nodes_with_threads_of_their_own_call,
    tasks_that_poll_for_a_while_before_they_sleep,
);
