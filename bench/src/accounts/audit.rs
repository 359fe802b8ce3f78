//! Do the journal and the client agree? Every acknowledged command is in the journal exactly once, the journal's
//! balances follow from its own events, and nothing is in it that nobody asked for.

use std::collections::HashMap;

use super::{Client, Event, Host, Outcome};
use crate::accounts::Decision;

/// Why the books do not balance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Imbalance {
    #[error("command {key} was acknowledged, but the journal does not hold it")]
    Lost { key: u64 },
    #[error("command {key} is in the journal twice")]
    Doubled { key: u64 },
    #[error(
        "command {key} ended with {journal:?} according to the journal, {client:?} according to the client"
    )]
    Outcome {
        key: u64,
        journal: Outcome,
        client: Outcome,
    },
    #[error("command {key} is in the journal, but the client never issued it")]
    Unasked { key: u64 },
    #[error("event {event:?} does not follow from the events before it")]
    Impossible { event: Event },
}

/// Compares the journal's events, in order, with what the client was told. Returns the number of events.
///
/// # Errors
/// The first disagreement.
pub(crate) fn audit(client: &Client, journal: impl IntoIterator<Item = Event>) -> Result<u64, Imbalance> {
    let mut host = Host::default();
    let mut outcomes = HashMap::new();
    for event in journal {
        let key = event.command.key;
        if !client.has_issued(key) {
            return Err(Imbalance::Unasked { key });
        }
        if outcomes.insert(key, event.outcome).is_some() {
            return Err(Imbalance::Doubled { key });
        }
        if host.decide(event.command) != Decision::Append(event) {
            return Err(Imbalance::Impossible { event });
        }
        host.apply(&event);
    }
    for (key, client) in client.acknowledged() {
        match outcomes.get(&key) {
            None => return Err(Imbalance::Lost { key }),
            Some(&journal) if journal != client => return Err(Imbalance::Outcome { key, journal, client }),
            Some(_) => {}
        }
    }
    Ok(outcomes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Command};
    use super::*;

    const WINDOW: usize = 8;

    /// A run with several commands on their way, in which the host crashes after every `crash_every`th command: at
    /// times before its event is durable, at times after that and before the answers to it and to those before it.
    fn run(seed: u64, commands: u64, crash_every: u64) -> (Client, Vec<Event>) {
        let mut client = Client::new(3, seed);
        let (mut host, mut journal) = (Host::default(), Vec::new());
        let (mut handled, mut issued) = (0u64, 0);
        while issued < commands || client.open().next().is_some() {
            while issued < commands && client.open().count() < WINDOW {
                client.issue();
                issued += 1;
            }
            let open: Vec<Command> = client.open().copied().collect();
            let mut answers = Vec::new();
            let mut crashed = false;
            for command in open {
                handled += 1;
                crashed = handled.is_multiple_of(crash_every);
                let durable = !crashed || (handled / crash_every).is_multiple_of(2);
                match host.decide(command) {
                    Decision::Append(event) if durable => {
                        journal.push(event);
                        host.apply(&event);
                        answers.push((command.key, event.outcome));
                    }
                    Decision::Append(_) => {}
                    Decision::Answer(outcome) => answers.push((command.key, outcome)),
                }
                if crashed {
                    host = Host::default();
                    journal.iter().for_each(|event| host.apply(event));
                    // Some of the answers are lost with the host.
                    answers.truncate(handled as usize % (answers.len() + 1));
                    break;
                }
            }
            assert!(crashed || !answers.is_empty());
            for (key, outcome) in answers {
                client.answered(key, outcome).unwrap();
            }
        }
        (client, journal)
    }

    #[test]
    fn books_balance_whenever_the_host_crashes() {
        for seed in 0..20 {
            for crash_every in [3, 7, 10, 50] {
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
        journal[50].outcome = Outcome::Done { balance: 123_456_789 };
        assert!(matches!(
            audit(&client, journal),
            Err(Imbalance::Impossible { .. })
        ));
    }

    #[test]
    fn an_event_that_differs_from_the_answer_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        let last = journal.pop().unwrap().command;
        let mut host = Host::default();
        journal.iter().for_each(|event| host.apply(event));
        let action = Action::Deposit(123_456);
        let Decision::Append(other) = host.decide(Command { action, ..last }) else {
            panic!("it is new")
        };
        journal.push(other);
        assert!(matches!(audit(&client, journal), Err(Imbalance::Outcome { .. })));
    }

    #[test]
    fn an_event_that_nobody_asked_for_is_found() {
        let (client, mut journal) = run(1, 100, 1000);
        let command = Command {
            key: 1 << 40,
            account: 77,
            action: Action::Deposit(1),
        };
        let outcome = Outcome::Done { balance: 1 };
        journal.push(Event { command, outcome });
        assert_eq!(audit(&client, journal), Err(Imbalance::Unasked { key: 1 << 40 }));
    }

    #[test]
    fn an_answer_to_nobodys_question_is_found() {
        let mut client = Client::new(5, 1);
        assert!(client.answered(1, Outcome::Done { balance: 0 }).is_err());
    }
}
