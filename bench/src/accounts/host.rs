//! The accounts themselves: deciding on a command, applying an event. Rebuilt from the journal after a crash.

use std::collections::HashMap;

use super::{Amount, Command, Event, Outcome};

/// What is to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Append this event, and answer with its outcome once it is durable.
    Append(Event),
    /// The command came before: answer what was answered then.
    Answer(Outcome),
}

/// All accounts of a node.
#[derive(Debug, Default)]
pub(crate) struct Host {
    balances: HashMap<u32, Amount>,
    done: HashMap<u64, Outcome>,
}

impl Host {
    /// Decides on a command; changes nothing.
    pub(crate) fn decide(&self, command: Command) -> Decision {
        if let Some(&outcome) = self.done.get(&command.key) {
            return Decision::Answer(outcome);
        }
        let balance = self.balances.get(&command.account).copied().unwrap_or(0);
        let outcome = match command.action.on(balance) {
            Some(balance) => Outcome::Done { balance },
            None => Outcome::Refused { balance },
        };
        Decision::Append(Event { command, outcome })
    }

    /// Applies an event: one that was just made durable, or one of the journal's at a start.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.balances
            .insert(event.command.account, event.outcome.balance());
        self.done.insert(event.command.key, event.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Action;
    use super::*;

    fn command(key: u64, action: Action) -> Command {
        Command {
            key,
            account: 1,
            action,
        }
    }

    fn append(host: &mut Host, command: Command) -> Outcome {
        let Decision::Append(event) = host.decide(command) else {
            panic!("{command:?} is not new")
        };
        host.apply(&event);
        event.outcome
    }

    #[test]
    fn a_command_is_carried_out_once_however_often_it_comes() {
        let mut host = Host::default();
        let deposit = command(1, Action::Deposit(10));
        assert_eq!(append(&mut host, deposit), Outcome::Done { balance: 10 });
        let withdrawal = command(2, Action::Withdraw(4));
        assert_eq!(append(&mut host, withdrawal), Outcome::Done { balance: 6 });
        assert_eq!(
            host.decide(deposit),
            Decision::Answer(Outcome::Done { balance: 10 })
        );
    }

    #[test]
    fn nobody_withdraws_more_than_there_is() {
        let mut host = Host::default();
        append(&mut host, command(1, Action::Deposit(10)));
        let refused = append(&mut host, command(2, Action::Withdraw(11)));
        assert_eq!(refused, Outcome::Refused { balance: 10 });
    }

    #[test]
    fn a_refusal_stands_also_when_there_is_enough_by_the_time_it_is_asked_for_again() {
        let mut host = Host::default();
        let withdrawal = command(1, Action::Withdraw(5));
        append(&mut host, withdrawal);
        append(&mut host, command(2, Action::Deposit(10)));
        assert_eq!(
            host.decide(withdrawal),
            Decision::Answer(Outcome::Refused { balance: 0 })
        );
    }

    #[test]
    fn a_restart_from_the_events_knows_what_was_done() {
        let mut host = Host::default();
        let deposit = command(1, Action::Deposit(10));
        let Decision::Append(event) = host.decide(deposit) else {
            panic!("not carried out")
        };
        host.apply(&event);
        let mut restarted = Host::default();
        restarted.apply(&event);
        assert_eq!(restarted.decide(deposit), host.decide(deposit));
    }
}
