//! The suite that every [`Transport`] must pass: hold a transport of your own to it with
//! [`conformance_tests!`](crate::conformance_tests).
//!
//! Each case is a function that panics when the transport fails it. The cases run two nodes in one process over the
//! transport's real links, and check what [`crate::link`] and the README promise.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::link::Transport;
use crate::{Address, Mailbox, MailboxOptions, Node, NodeBuilder, Overflow, Peer};

/// What the suite needs to know of a transport.
pub trait Harness: Send + Sync {
    /// A transport, made anew for each node.
    fn transport(&self) -> Arc<dyn Transport>;
    /// An address to listen on that nobody uses, with its scheme: `tcp://127.0.0.1:0`.
    fn address(&self) -> String;
    /// Whether a session outlives its link. Not where both ends of the link live in one memory.
    fn resumes(&self) -> bool {
        true
    }
}

/// A case of the suite.
pub type Case = fn(&dyn Harness);

/// Makes one `#[test]` of every case: `conformance_tests!(MyHarness);`, with attributes for each test if any are
/// given, as in `conformance_tests!(MyHarness, #[ignore = "needs a device"]);`.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr $(, #[$attribute:meta])*) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] $harness;
            messages_of_every_size_arrive_in_order
            messages_sent_all_at_once_arrive_in_order
            what_is_sent_all_at_once_keeps_to_the_policy_of_a_full_mailbox
            both_directions_at_once_with_small_rings
            several_threads_each_keep_their_order
            correlation_ids_travel_with_their_messages
            trace_contexts_travel_with_their_messages
            a_polling_receiver_is_lent_every_message
            blocking_use_without_a_thread_of_the_nodes_own
            futures_send_and_receive_on_any_executor
            an_unknown_mailbox_is_refused_by_name
            a_message_over_the_limit_is_refused_with_the_limit
            a_full_mailbox_makes_its_sender_wait_until_a_message_is_taken
            a_full_mailbox_fails_its_sender_when_that_is_its_policy
            a_full_mailbox_drops_the_newest_when_that_is_its_policy
            a_full_mailbox_drops_the_oldest_when_that_is_its_policy
            a_mailbox_that_drops_its_oldest_keeps_nothing_of_sessions_that_are_over
            a_full_mailbox_does_not_hold_up_its_neighbours
            a_permit_dropped_gives_its_room_back
            a_permit_sent_into_a_mailbox_that_was_closed_is_a_dead_letter
            a_closed_mailbox_returns_what_it_did_not_take
            the_handle_of_a_closed_mailbox_is_given_out_again
            a_wrong_secret_and_another_cluster_are_refused
            a_shutdown_delivers_what_was_sent_before
            the_end_of_a_session_is_told_at_once_while_handles_of_it_are_kept
            a_peer_that_is_gone_makes_dead_letters_of_what_it_did_not_acknowledge
            a_link_cut_under_load_loses_doubles_and_reorders_nothing
            an_idle_session_outlives_its_silence_deadline
            garbage_instead_of_a_handshake_is_refused_and_harms_nobody
            a_node_that_dials_itself_is_its_own_peer
            strangers_who_greet_and_say_no_more_keep_no_member_out
            a_peer_that_falls_silent_is_noticed_on_an_idle_link
            a_peer_that_was_restarted_is_another_incarnation
            the_end_of_one_session_leaves_the_others_alone
            what_is_sent_after_the_end_of_a_session_is_a_dead_letter_of_its_mailbox
            a_send_that_is_given_up_sends_nothing_and_holds_no_room
            a_receive_that_is_given_up_takes_nothing
            a_name_that_nobody_waits_for_any_more_is_resolved_for_the_next
            nobody_holds_a_task_that_has_given_up
            large_messages_arrive_whole_and_between_small_ones_in_order
            a_message_larger_than_every_ring_passes_through_small_rings
            large_messages_for_several_mailboxes_mix
            a_polling_receiver_is_lent_large_messages
            a_large_message_goes_at_once_as_a_whole_or_not_at_all
            a_large_message_given_up_half_way_is_forgotten_and_the_next_arrives
            full_mailboxes_treat_large_messages_as_small_ones
            a_closed_mailbox_returns_the_large_messages_it_did_not_take
            a_peer_that_is_gone_makes_one_dead_letter_of_each_large_message
            large_messages_survive_cuts_of_the_link
            buffers_arrive_as_they_were_sent_however_soon_they_are_written_again
            buffers_survive_cuts_of_the_link
            a_buffer_that_is_not_sent_comes_back
            small_messages_pass_a_large_one
            a_large_message_that_has_to_wait_for_a_small_one_keeps_nobody_awake
            streams_that_come_to_nothing_leave_no_handle_behind
            an_answer_to_a_stream_that_was_given_up_leaves_no_handle_behind
            whoever_sleeps_on_a_link_is_told_of_whatever_comes
            whoever_sleeps_on_a_link_is_told_of_its_end
            both_sides_tell_the_same_ends_and_where_nobody_listens_any_more_the_host_refuses
        );
    };
    (@each $attributes:tt $harness:expr; $($case:ident)*) => {
        $($crate::conformance_tests!(@one $attributes $harness; $case);)*
    };
    (@one [$(#[$attribute:meta])*] $harness:expr; $case:ident) => {
        #[test]
        $(#[$attribute])*
        fn $case() {
            $crate::conformance::$case(&$harness);
        }
    };
}

mod bare;
mod buffers;
mod cancelling;
mod cutting;
mod driving;
mod ends;
mod hostile;
mod large;
mod mailboxes;
mod messages;
mod sessions;
mod sleepers;
mod strangers;
mod streams;

pub use buffers::*;
pub use cancelling::*;
pub use driving::*;
pub use ends::*;
pub use hostile::hostile_bytes;
pub use large::*;
pub use mailboxes::*;
pub use messages::*;
pub use sessions::*;
pub use sleepers::*;
pub use strangers::*;
pub use streams::*;

const SECRET: &[u8] = b"the conformance suite's secret";
const PATIENCE: Duration = Duration::from_secs(30);

fn builder(harness: &dyn Harness, name: &str) -> NodeBuilder {
    Node::builder(name).secret(SECRET).transport(harness.transport())
}

/// Two nodes, `a` connected to `b`.
struct Pair {
    a: Node,
    b: Node,
    to_b: Peer,
}

fn pair_with(harness: &dyn Harness, change: impl Fn(NodeBuilder) -> NodeBuilder) -> Pair {
    let b = change(builder(harness, "b").listen(&harness.address()))
        .start()
        .expect("node b starts");
    let a = change(builder(harness, "a")).start().expect("node a starts");
    let to_b = a.connect(&b.addresses()[0]).expect("a connects to b");
    Pair { a, b, to_b }
}

fn pair(harness: &dyn Harness) -> Pair {
    pair_with(harness, |builder| builder)
}

fn options(capacity: u32, overflow: Overflow) -> MailboxOptions {
    MailboxOptions {
        capacity,
        overflow,
        ..MailboxOptions::default()
    }
}

fn take(mailbox: &mut Mailbox) -> Vec<u8> {
    let message = mailbox
        .recv_timeout(PATIENCE)
        .expect("mailbox open")
        .expect("a message in time");
    message.payload.to_vec()
}

fn nothing_more(mailbox: &mut Mailbox) {
    let more = mailbox
        .recv_timeout(Duration::from_millis(50))
        .expect("mailbox open");
    assert!(more.is_none(), "a message too many: {more:?}");
}

/// Drives a node until another thread says that it has come so far.
fn drive_until_told(node: &Node, told: &Receiver<()>) {
    let start = Instant::now();
    loop {
        match told.try_recv() {
            Ok(()) => return,
            Err(TryRecvError::Disconnected) => panic!("the other thread has failed"),
            Err(TryRecvError::Empty) => assert!(start.elapsed() < PATIENCE, "not told in time"),
        }
        node.poll();
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A message of the given length that tells its number.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[..8].try_into().expect("eight bytes"))
}

/// Sends `count` numbered messages, waiting for room; returns the address.
fn send_numbered(address: &Address, numbers: std::ops::Range<u64>, len: impl Fn(u64) -> usize) {
    for index in numbers {
        // Where nothing is taken any more, whoever sends fails too, instead of waiting for ever.
        address
            .send_timeout(&numbered(index, len(index)), None, PATIENCE)
            .expect("sent");
    }
}
