//! Do the journal and the client agree? Every acknowledged command is in the journal exactly once, the journal's
//! balances follow from its own events, and nothing is in it that nobody asked for.

use std::collections::HashMap;

use super::{Amount, Client, Event, Host};
use crate::accounts::Decision;

/// Why the books do not balance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Imbalance {
    #[error("command {key} was acknowledged, but the journal does not hold it")]
    Lost { key: u64 },
    #[error("command {key} is in the journal twice")]
    Doubled { key: u64 },
    #[error(
        "command {key} left {journal} in its account according to the journal, {client} according to the client"
    )]
    Balance {
        key: u64,
        journal: Amount,
        client: Amount,
    },
    #[error("event {event:?} does not follow from the events before it")]
    Impossible { event: Event },
}

/// Compares the journal's events, in order, with what the client was told. Returns the number of events.
///
/// # Errors
/// The first disagreement.
pub(crate) fn audit(client: &Client, journal: impl IntoIterator<Item = Event>) -> Result<u64, Imbalance> {
    let mut host = Host::default();
    let mut balances = HashMap::new();
    for event in journal {
        let key = event.command.key;
        if balances.insert(key, event.balance).is_some() {
            return Err(Imbalance::Doubled { key });
        }
        if host.decide(event.command) != Decision::Append(event) {
            return Err(Imbalance::Impossible { event });
        }
        host.apply(&event);
    }
    for (key, client) in client.acknowledged() {
        match balances.get(&key) {
            None => return Err(Imbalance::Lost { key }),
            Some(&journal) if journal != client => return Err(Imbalance::Balance { key, journal, client }),
            Some(_) => {}
        }
    }
    Ok(balances.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Command, Outcome};
    use super::*;

    /// A run in which the host crashes after every `crash_every`th command: at times before the event is durable,
    /// at times after that and before the answer.
    fn run(seed: u64, commands: u64, crash_every: u64) -> (Client, Vec<Event>) {
        let mut client = Client::new(5, seed);
        let (mut host, mut journal) = (Host::default(), Vec::new());
        let mut handled = 0u64;
        for _ in 0..commands {
            client.issue();
            let open: Vec<Command> = client.open().copied().collect();
            for command in open {
                handled += 1;
                let crash = handled.is_multiple_of(crash_every);
                let (durable, answer) = (!crash || (handled / crash_every).is_multiple_of(2), !crash);
                let outcome = match host.decide(command) {
                    Decision::Append(event) if durable => {
                        journal.push(event);
                        host.apply(&event);
                        Outcome::Done {
                            balance: event.balance,
                        }
                    }
                    Decision::Append(_) => Outcome::Refused { balance: 0 },
                    Decision::Answer(outcome) => outcome,
                };
                if crash {
                    host = Host::default();
                    journal.iter().for_each(|event| host.apply(event));
                    break;
                }
                if answer {
                    client.answered(command.key, outcome).unwrap();
                }
            }
        }
        (client, journal)
    }

    #[test]
    fn books_balance_whenever_the_host_crashes() {
        for seed in 0..20 {
            for crash_every in [2, 3, 7, 50] {
                let (client, journal) = run(seed, 300, crash_every);
                let events = journal.len() as u64;
                assert_eq!(
                    audit(&client, journal),
                    Ok(events),
                    "seed {seed}, a crash every {crash_every}"
                );
            }
        }
    }

    #[test]
    fn a_lost_event_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        let last = journal.pop().unwrap();
        assert_eq!(
            audit(&client, journal),
            Err(Imbalance::Lost {
                key: last.command.key
            })
        );
    }

    #[test]
    fn a_doubled_event_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        journal.push(journal[0]);
        assert_eq!(
            audit(&client, journal.clone()),
            Err(Imbalance::Doubled {
                key: journal[0].command.key
            })
        );
    }

    #[test]
    fn a_changed_balance_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        journal[50].balance += 1;
        assert!(matches!(
            audit(&client, journal),
            Err(Imbalance::Impossible { .. })
        ));
    }

    #[test]
    fn an_event_that_differs_from_the_answer_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        let last = journal.pop().unwrap();
        let action = Action::Deposit(123_456);
        let before = match last.command.action {
            Action::Deposit(amount) => last.balance - amount,
            Action::Withdraw(amount) => last.balance + amount,
        };
        journal.push(Event {
            command: Command {
                action,
                ..last.command
            },
            balance: before + 123_456,
        });
        assert!(matches!(audit(&client, journal), Err(Imbalance::Balance { .. })));
    }

    #[test]
    fn an_answer_to_nobodys_question_is_found() {
        let mut client = Client::new(5, 1);
        assert!(client.answered(1, Outcome::Done { balance: 0 }).is_err());
    }
}
