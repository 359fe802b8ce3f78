//! The ring alone: a sender's ring mirrored by hand into a receiver's.

mod at_once;
mod hostile;
mod one_by_one;
mod shared;

use super::*;
use crate::frame::{Integrity, Kind};
use crate::memory::RingMemory;

const CAPACITY: usize = 4096;

fn salted() -> Integrity {
    Integrity::salted(0x5eed)
}

fn pair(integrity: Integrity, arrival: Arrival) -> (SendRing, ReceiveRing) {
    let memory = || RingMemory::anonymous(CAPACITY).unwrap();
    (
        SendRing::new(memory(), integrity.clone()),
        ReceiveRing::new(memory(), integrity, arrival),
    )
}

/// Carries everything committed, as a counting link does.
fn carry(sender: &SendRing, receiver: &mut ReceiveRing) {
    let from = receiver.arrived();
    let to = sender.committed(from, u64::MAX);
    for mut piece in sender.span(from, to) {
        while !piece.is_empty() {
            let room = receiver.writable();
            let len = room.len().min(piece.len());
            room[..len].copy_from_slice(&piece[..len]);
            receiver.advance(len);
            piece = &piece[len..];
        }
    }
}

fn send(ring: &SendRing, body: &[u8]) {
    let mut claim = ring.claim(body.len()).unwrap();
    claim.body().copy_from_slice(body);
    claim.commit(Kind::Message, 0, 0, 7);
}

fn take(ring: &mut ReceiveRing) -> Option<Vec<u8>> {
    loop {
        let frame = ring.peek().unwrap()?;
        let (taken, frame_size) = (frame.body.to_vec(), frame.header.size());
        let kind = frame.header.kind;
        ring.consume(frame_size);
        if kind == Kind::Message {
            return Some(taken);
        }
    }
}
