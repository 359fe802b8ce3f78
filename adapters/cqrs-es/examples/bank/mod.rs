//! A bank account as the guide of `cqrs-es` walks through one: open it, pay in, draw cash, write checks, never overdraw.
//! Nothing here knows of a journal.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, CqrsFramework, DomainEvent, EventEnvelope, EventStore, Query};
use serde::{Deserialize, Serialize};

/// The account. Amounts are cents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAccount {
    pub opened: bool,
    pub balance: i64,
}

#[derive(Debug)]
pub enum BankAccountCommand {
    OpenAccount { account_id: String },
    DepositMoney { amount: i64 },
    WithdrawMoney { amount: i64 },
    WriteCheck { check_number: u32, amount: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BankAccountEvent {
    AccountOpened {
        account_id: String,
    },
    CustomerDepositedMoney {
        amount: i64,
        balance: i64,
    },
    CustomerWithdrewCash {
        amount: i64,
        balance: i64,
    },
    CustomerWroteCheck {
        check_number: u32,
        amount: i64,
        balance: i64,
    },
}

impl DomainEvent for BankAccountEvent {
    fn event_type(&self) -> String {
        match self {
            BankAccountEvent::AccountOpened { .. } => "AccountOpened",
            BankAccountEvent::CustomerDepositedMoney { .. } => "CustomerDepositedMoney",
            BankAccountEvent::CustomerWithdrewCash { .. } => "CustomerWithdrewCash",
            BankAccountEvent::CustomerWroteCheck { .. } => "CustomerWroteCheck",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BankAccountError {
    #[error("funds not available")]
    NoFunds,
    #[error("the account is open already")]
    AlreadyOpen,
    #[error("check {0} is not valid")]
    InvalidCheck(u32),
}

/// What the account needs from outside.
pub struct BankAccountServices;

impl BankAccountServices {
    fn is_valid_check(&self, number: u32) -> bool {
        number >= 1_000
    }
}

impl BankAccount {
    fn without(&self, amount: i64) -> Result<i64, BankAccountError> {
        match self.balance - amount {
            balance if balance >= 0 => Ok(balance),
            _ => Err(BankAccountError::NoFunds),
        }
    }
}

impl Aggregate for BankAccount {
    const TYPE: &'static str = "account";
    type Command = BankAccountCommand;
    type Event = BankAccountEvent;
    type Error = BankAccountError;
    type Services = BankAccountServices;

    async fn handle(
        &mut self,
        command: BankAccountCommand,
        services: &BankAccountServices,
        sink: &EventSink<Self>,
    ) -> Result<(), BankAccountError> {
        let event = match command {
            BankAccountCommand::OpenAccount { .. } if self.opened => {
                return Err(BankAccountError::AlreadyOpen);
            }
            BankAccountCommand::OpenAccount { account_id } => BankAccountEvent::AccountOpened { account_id },
            BankAccountCommand::DepositMoney { amount } => BankAccountEvent::CustomerDepositedMoney {
                amount,
                balance: self.balance + amount,
            },
            BankAccountCommand::WithdrawMoney { amount } => BankAccountEvent::CustomerWithdrewCash {
                amount,
                balance: self.without(amount)?,
            },
            BankAccountCommand::WriteCheck { check_number, .. } if !services.is_valid_check(check_number) => {
                return Err(BankAccountError::InvalidCheck(check_number));
            }
            BankAccountCommand::WriteCheck { check_number, amount } => BankAccountEvent::CustomerWroteCheck {
                check_number,
                amount,
                balance: self.without(amount)?,
            },
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: BankAccountEvent) {
        match event {
            BankAccountEvent::AccountOpened { .. } => self.opened = true,
            BankAccountEvent::CustomerDepositedMoney { balance, .. }
            | BankAccountEvent::CustomerWithdrewCash { balance, .. }
            | BankAccountEvent::CustomerWroteCheck { balance, .. } => self.balance = balance,
        }
    }
}

/// A query that keeps what it was told, in order.
#[derive(Clone, Default)]
pub struct Ledger(pub Arc<Mutex<Vec<(String, usize, BankAccountEvent)>>>);

#[async_trait]
impl Query<BankAccount> for Ledger {
    async fn dispatch(&self, account: &str, events: &[EventEnvelope<BankAccount>]) {
        let mut ledger = self.0.lock().unwrap();
        for event in events {
            ledger.push((account.to_owned(), event.sequence, event.payload.clone()));
        }
    }
}

/// The walk-through, on whatever store: opens an account, moves money, and is refused what it should be refused. Returns
/// what a query saw.
pub async fn walk_through<S: EventStore<BankAccount>>(
    store: S,
    account: &str,
) -> Vec<(String, usize, BankAccountEvent)> {
    use BankAccountCommand::{DepositMoney, OpenAccount, WithdrawMoney, WriteCheck};
    let ledger = Ledger::default();
    let cqrs = CqrsFramework::new(store, vec![Box::new(ledger.clone())], BankAccountServices);
    let account_id = account.to_owned();
    cqrs.execute(account, OpenAccount { account_id }).await.unwrap();
    cqrs.execute(account, DepositMoney { amount: 100_000 })
        .await
        .unwrap();
    cqrs.execute(account, WithdrawMoney { amount: 20_000 })
        .await
        .unwrap();
    let overdraw = cqrs.execute(account, WithdrawMoney { amount: 80_001 }).await;
    assert!(overdraw.unwrap_err().to_string().contains("funds not available"));
    let check = WriteCheck {
        check_number: 1_170,
        amount: 25_681,
    };
    cqrs.execute(account, check).await.unwrap();
    let forged = WriteCheck {
        check_number: 1,
        amount: 1,
    };
    assert!(cqrs.execute(account, forged).await.is_err());
    ledger.0.lock().unwrap().clone()
}
