//! The accounts themselves: deciding on a command, applying an event. Rebuilt from the journal after a crash.

use std::collections::HashMap;

use super::{Amount, Command, Event, Outcome};

/// What is to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Append this event, apply it once it is durable, then answer with its balance.
    Append(Event),
    /// Answer at once: the command was refused, or carried out before.
    Answer(Outcome),
}

/// All accounts of a node.
#[derive(Debug, Default)]
pub(crate) struct Host {
    balances: HashMap<u32, Amount>,
    done: HashMap<u64, Amount>,
}

impl Host {
    /// Decides on a command; changes nothing.
    pub(crate) fn decide(&self, command: Command) -> Decision {
        if let Some(&balance) = self.done.get(&command.key) {
            return Decision::Answer(Outcome::Done { balance });
        }
        let balance = self.balances.get(&command.account).copied().unwrap_or(0);
        match command.action.on(balance) {
            Some(balance) => Decision::Append(Event { command, balance }),
            None => Decision::Answer(Outcome::Refused { balance }),
        }
    }

    /// Applies an event: one that was just made durable, or one of the journal's at a start.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.balances.insert(event.command.account, event.balance);
        self.done.insert(event.command.key, event.balance);
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

    fn append(host: &mut Host, command: Command) -> Amount {
        let Decision::Append(event) = host.decide(command) else {
            panic!("{command:?} was not carried out")
        };
        host.apply(&event);
        event.balance
    }

    #[test]
    fn a_command_is_carried_out_once_however_often_it_comes() {
        let mut host = Host::default();
        let deposit = command(1, Action::Deposit(10));
        assert_eq!(append(&mut host, deposit), 10);
        assert_eq!(append(&mut host, command(2, Action::Withdraw(4))), 6);
        assert_eq!(
            host.decide(deposit),
            Decision::Answer(Outcome::Done { balance: 10 })
        );
    }

    #[test]
    fn nobody_withdraws_more_than_there_is() {
        let mut host = Host::default();
        append(&mut host, command(1, Action::Deposit(10)));
        let decision = host.decide(command(2, Action::Withdraw(11)));
        assert_eq!(decision, Decision::Answer(Outcome::Refused { balance: 10 }));
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
