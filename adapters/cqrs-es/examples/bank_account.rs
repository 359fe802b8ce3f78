//! Two processes, one account: the first teller moves money until it is killed; the second opens the journal that it left
//! and goes on, with nothing lost that was answered.
//!
//! `cargo run -p pmem-es --example bank_account` plays both.

#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod bank;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bank::{BankAccount, BankAccountCommand, BankAccountServices};
use cqrs_es::{AggregateContext, CqrsFramework, EventStore};
use pmem_es::JournalRepository;
use pmem_journal::Journal;

const ACCOUNT: &str = "account-17";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("teller") {
        let dir = arguments.next().ok_or("which journal?")?;
        return teller(Path::new(&dir)).await;
    }
    let dir = std::env::temp_dir().join(format!("bank-account-{}", std::process::id()));
    let mut first = Command::new(std::env::current_exe()?)
        .arg("teller")
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let answers = BufReader::new(first.stdout.take().ok_or("a pipe")?).lines();
    let mut answered = 0;
    for answer in answers.take(100) {
        answered = answer?.parse()?;
    }
    first.kill()?;
    first.wait()?;
    println!("the first teller answered for {answered} deposits and was killed");

    let (journal, recovery) = Journal::open(&dir)?;
    println!(
        "its journal holds {} events ({})",
        recovery.events,
        journal.mode().mode
    );
    let store = JournalRepository::new(Arc::new(journal)).event_store::<BankAccount>();
    let mut account = store.load_aggregate(ACCOUNT).await?;
    let balance = account.aggregate().balance;
    println!("the second teller finds {balance} cents");
    assert!(balance >= answered, "a deposit that was answered is lost");
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Pays in a cent at a time, and says so after each.
async fn teller(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (journal, _) = Journal::open(dir)?;
    let store = JournalRepository::new(Arc::new(journal)).event_store::<BankAccount>();
    let cqrs = CqrsFramework::new(store, vec![], BankAccountServices);
    let account_id = ACCOUNT.to_owned();
    cqrs.execute(ACCOUNT, BankAccountCommand::OpenAccount { account_id })
        .await?;
    for answered in 1.. {
        cqrs.execute(ACCOUNT, BankAccountCommand::DepositMoney { amount: 1 })
            .await?;
        writeln!(std::io::stdout(), "{answered}")?;
    }
    Ok(())
}
