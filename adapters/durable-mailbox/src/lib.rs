#![doc = include_str!("../README.md")]

mod courier;
mod doubts;
mod error;
mod hand_over;
mod home;
mod home_state;
mod inbox;
mod outbox;
mod outbox_state;
mod record;
mod residents;
mod service;
mod settling;
mod stand_in;
mod wire;

pub use error::Error;
pub use hand_over::HandOverError;
pub use home::Home;
pub use inbox::{Delivery, Inbox};
pub use outbox::Outbox;
pub use outbox_state::{OutboxOptions, Status, Trouble};
pub use record::KIND;
