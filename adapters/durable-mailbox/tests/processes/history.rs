//! What an actor is, in this node's journal: its snapshot and the events after it. The numbers that it took, summed up.

use std::sync::Arc;

use pmem_journal::{EntityId, Event, Journal, Snapshot};

/// A number was taken: the last eight bytes of the event.
pub(crate) const TAKEN: u16 = 1;
/// The state that came with the mailbox: whatever was here before is older.
pub(crate) const CARRIED: u16 = 2;

/// The last eight bytes, as a number.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let at = bytes.len() - 8;
    u64::from_le_bytes(bytes[at..].try_into().unwrap())
}

/// The state of an actor that takes 1, 2, 3, …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) last: u64,
    pub(crate) sum: u64,
}

impl State {
    pub(crate) fn take(&mut self, number: u64) {
        assert_eq!(self.last + 1, number, "the one that comes next");
        self.last = number;
        self.sum += number;
        assert_eq!(
            self.sum,
            number * (number + 1) / 2,
            "of every number before, each once"
        );
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let bytes = [self.last.to_le_bytes(), self.sum.to_le_bytes()].concat();
        bytes.try_into().unwrap()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> State {
        State {
            last: number(&bytes[..8]),
            sum: number(bytes),
        }
    }
}

/// The history of one actor at one of its homes.
pub(crate) struct History {
    pub(crate) journal: Arc<Journal>,
    pub(crate) actor: EntityId,
}

impl History {
    /// The state, and how many events it was made of after the snapshot.
    pub(crate) fn state(&self) -> (State, usize) {
        let mut history = self.journal.history(self.actor).unwrap();
        let snapshot = history.take_snapshot();
        let mut state = snapshot.map_or(State::default(), |snapshot| State::from_bytes(&snapshot.payload));
        let mut tail = 0;
        for event in history {
            let event = event.unwrap();
            match event.kind {
                CARRIED => state = State::from_bytes(&event.payload),
                TAKEN => state.take(number(&event.payload)),
                other => panic!("an event of kind {other}"),
            }
            tail += 1;
        }
        (state, tail)
    }

    /// The event that makes a state that came along part of this history.
    pub(crate) fn carried<'e>(&self, state: &'e [u8]) -> Event<'e> {
        Event::new(self.actor, CARRIED, state)
    }

    /// Saves a snapshot of what there is, if there is anything after the one before.
    pub(crate) fn save_snapshot(&self) {
        let (state, _) = self.state();
        let newest = self.journal.history(self.actor).unwrap().last();
        let Some(newest) = newest else { return };
        let newest = newest.unwrap();
        let snapshot = Snapshot::new(self.actor, newest.sequence, newest.position, state.to_bytes());
        self.journal.save_snapshots(&[snapshot], 2).unwrap();
    }
}
