//! What mailboxes promise, between two processes over each transport: every overflow policy, every reason of a dead letter,
//! the order of what a watcher sees, every way in which an answer comes or fails to, and addresses.
//!
//! The far process is this program again; see `far`.

mod addresses;
mod asking;
mod far;
mod letters;
mod policies;
mod watching;

/// Which transport the two processes talk over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Tcp,
    Shm,
    #[cfg(feature = "verbs")]
    Rdma,
}

macro_rules! over_each_transport {
    ($($module:ident :: $case:ident)*) => {
        mod over_tcp {
            $(#[test] fn $case() { crate::$module::$case(crate::Over::Tcp) })*
        }
        mod over_shm {
            $(#[test] fn $case() { crate::$module::$case(crate::Over::Shm) })*
        }
        #[cfg(feature = "verbs")]
        mod over_rdma {
            $(#[test] #[ignore = "needs an RDMA device: soft-roce-setup run"]
            fn $case() { crate::$module::$case(crate::Over::Rdma) })*
        }
    };
}

over_each_transport! {
    addresses::another_type_and_another_version_are_refused_with_the_names_of_both_sides
    addresses::a_reference_in_a_message_is_an_address_on_a_node_that_never_heard_of_its_own
    addresses::a_view_is_read_where_it_arrived_in_the_ring
    policies::wait_makes_the_sender_wait_until_a_message_is_taken
    policies::fail_tells_the_sender_at_once
    policies::drop_newest_drops_at_the_sender
    policies::drop_oldest_drops_at_the_receiver
    policies::a_place_is_reserved_before_the_message_is_made
    letters::a_mailbox_that_is_closed_returns_what_it_did_not_take
    letters::what_a_killed_process_did_not_acknowledge_is_a_dead_letter_with_all_that_is_known_of_it
    letters::what_is_no_message_is_a_dead_letter_at_the_receiver
    watching::the_notice_of_a_closed_mailbox_comes_once_and_after_its_last_message
    watching::the_notice_of_a_killed_process_comes_once_and_after_its_last_message
    watching::a_watch_of_what_is_gone_already_is_told_at_once_and_one_given_up_never
    asking::an_answer_comes_to_who_blocks_and_to_who_awaits
    asking::many_questions_at_once_get_each_its_own_answer
    asking::a_question_without_an_answer_times_out_and_a_late_answer_is_a_dead_letter
    asking::a_question_to_a_mailbox_that_closes_fails_before_its_time
    asking::a_question_to_a_process_that_is_killed_fails_when_its_session_ends
}
