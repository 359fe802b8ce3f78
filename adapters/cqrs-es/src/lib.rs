#![doc = include_str!("../README.md")]

mod repository;
mod stored;

pub use repository::JournalRepository;
