//! Accounts that survive a crash: `accounts serve ADDRESS DIR`, and `accounts deposit|withdraw ADDRESS ACCOUNT AMOUNT KEY`,
//! `accounts balance ADDRESS ACCOUNT`. What is answered is durable; the same key is the same command, however often it is sent.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use examples::{Outcome, number};
use pmem_journal::{Event, Expected, Journal};
use serde::{Deserialize, Serialize};
use transport::MailboxOptions;
use transport::typed::{Postcard, Protocol, Question, RecvError};

const USAGE: &str =
    "accounts serve ADDRESS DIR, or deposit|withdraw ADDRESS ACCOUNT AMOUNT KEY, or balance ADDRESS ACCOUNT";

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Command {
    Balance {
        account: u64,
    },
    /// Deposits, or withdraws what is negative.
    Move {
        account: u64,
        amount: i64,
        key: u64,
    },
}

/// The balance; as an error, if it is too little for what was asked.
type Answer = Result<i64, i64>;

impl Protocol for Command {
    const NAME: &'static str = "accounts";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

impl Question for Command {
    type Answer = Answer;
}

/// What the journal holds: a command that moved money or was refused, and what was answered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Decided {
    account: u64,
    key: u64,
    answer: Answer,
}

#[derive(Default)]
struct Books {
    balances: HashMap<u64, i64>,
    decided: HashMap<u64, Answer>,
}

impl Books {
    fn apply(&mut self, decided: Decided) {
        self.decided.insert(decided.key, decided.answer);
        if let Ok(balance) = decided.answer {
            self.balances.insert(decided.account, balance);
        }
    }

    fn balance(&self, account: u64) -> i64 {
        self.balances.get(&account).copied().unwrap_or(0)
    }

    fn decide(&self, account: u64, amount: i64) -> Answer {
        let balance = self.balance(account);
        match balance.checked_add(amount) {
            Some(after) if after >= 0 => Ok(after),
            _ => Err(balance),
        }
    }
}

fn serve(address: &str, dir: &str) -> Outcome {
    let (journal, recovery) = Journal::open(dir)?;
    let mut books = Books::default();
    let mut replay = journal.replay(0)?;
    while let Some(event) = replay.next_event()? {
        books.apply(postcard::from_bytes(event.payload)?);
    }
    let node = examples::node("accounts").listen(address).start()?;
    let mut inbox = node.typed_mailbox::<Command>("accounts", MailboxOptions::default())?;
    println!("open at {}, {} events", node.addresses()[0], recovery.events);
    loop {
        let message = match inbox.recv() {
            Ok(message) => message,
            Err(RecvError::Undecodable(_)) => continue, // counted, and a dead letter
            Err(closed) => return Err(closed.into()),
        };
        let answer = match message.body {
            Command::Balance { account } => Ok(books.balance(account)),
            Command::Move { account, amount, key } => match books.decided.get(&key) {
                Some(answer) => *answer,
                None => {
                    let answer = books.decide(account, amount);
                    let decided = Decided { account, key, answer };
                    let bytes = postcard::to_stdvec(&decided)?;
                    // Durable first, then answered. A journal that fails ends the program, and its state with it.
                    journal.append(&[Event::new(u128::from(account), 1, &bytes)], Expected::Any)?;
                    books.apply(decided);
                    answer
                }
            },
        };
        // Whoever asked may be gone: it will ask again.
        let _ = message.asker().map(|asker| asker.answer(&answer));
    }
}

/// Asks until there is an answer, over a new session each time: the same key makes that safe.
fn ask(address: &str, command: Command) -> Outcome {
    const ATTEMPTS: u32 = 10;
    let node = examples::node(&format!("client {}", std::process::id())).start()?;
    for attempt in 1.. {
        let asked = (|| -> Result<Answer, Box<dyn std::error::Error>> {
            let accounts = node.connect(address)?.typed_address::<Command>("accounts")?;
            Ok(accounts.ask(&command, Duration::from_secs(2))?)
        })();
        match asked {
            Ok(Ok(balance)) => println!("{balance}"),
            Ok(Err(balance)) => println!("refused: there is only {balance}"),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(300));
                continue;
            }
        }
        break;
    }
    Ok(())
}

fn main() -> ExitCode {
    examples::main(|arguments| match arguments {
        ["serve", address, dir] => serve(address, dir),
        ["balance", address, of] => ask(address, Command::Balance { account: number(of)? }),
        [what @ ("deposit" | "withdraw"), address, of, many, key] => {
            let (account, many) = (number(of)?, i64::from(number::<u32>(many)?));
            let amount = if *what == "deposit" { many } else { -many };
            let key = pmem_journal::EntityId::named(key).0 as u64;
            ask(address, Command::Move { account, amount, key })
        }
        _ => Err(USAGE.into()),
    })
}
