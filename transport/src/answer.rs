//! Guests: those who dialled and have not finished their handshake. How many there may be, and who has to go.
//!
//! Whoever dials costs a thread and a connection before anything is known of them. So strangers are few from one source, have
//! little time, and make room for newcomers: the silent at once, the longest silent first, and those who have not proven the
//! secret after a while. They cannot keep members out by holding their tongue. Whoever has to go, or is not let in, is told to
//! try again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::conversation;
use crate::event::Event;
use crate::handshake::{Refusal, refuse};
use crate::link::{HangUp, Wire};
use crate::node::NodeInner;
use crate::session::Time;
use crate::wait::lock;

/// Guests at one time.
const MAX_GUESTS: usize = 64;
/// Guests at one time from one source: one host, as the transport names it.
const MAX_FROM_ONE_SOURCE: usize = 32;
/// How long a guest that has spoken may take to prove the secret before it makes room for others. Long enough for a member that
/// has to open a device first, if that is not slow; it is told to try again.
const TO_PROVE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Book {
    next: u64,
    /// In the order in which they came.
    entries: Vec<Entry>,
}

struct Entry {
    number: u64,
    source: String,
    since: Time,
    has_spoken: bool,
    /// Ends the connection of a guest that has not proven the secret yet, if its transport can.
    hang_up: Option<HangUp>,
}

impl Entry {
    fn may_have_to_go(&self, now: Time) -> bool {
        self.hang_up.is_some() && (!self.has_spoken || now >= self.since + TO_PROVE)
    }
}

/// The guests of a node.
#[derive(Default)]
pub(crate) struct Guests(Arc<Mutex<Book>>);

/// One guest. Dropped, it has left.
pub(crate) struct Guest {
    book: Arc<Mutex<Book>>,
    number: u64,
}

impl Guests {
    /// Lets one in, in place of another where there is no room. The error says why not.
    fn admit(&self, now: Time, source: String, hang_up: Option<HangUp>) -> Result<Guest, String> {
        let mut book = lock(&self.0);
        let from_there = book.entries.iter().filter(|entry| entry.source == source).count();
        if from_there >= MAX_FROM_ONE_SOURCE {
            let same = |entry: &Entry| entry.may_have_to_go(now) && entry.source == source;
            make_room(&mut book, same).ok_or_else(|| {
                format!("{MAX_FROM_ONE_SOURCE} handshakes from {source} are running already")
            })?;
        } else if book.entries.len() >= MAX_GUESTS {
            make_room(&mut book, |entry| entry.may_have_to_go(now))
                .ok_or_else(|| format!("{MAX_GUESTS} handshakes are running already"))?;
        }
        let number = book.next;
        book.next += 1;
        book.entries.push(Entry {
            number,
            source,
            since: now,
            has_spoken: false,
            hang_up,
        });
        Ok(Guest {
            book: self.0.clone(),
            number,
        })
    }
}

/// Sends away one of those who are meant: the longest silent, or who has been there for longest.
fn make_room(book: &mut MutexGuard<'_, Book>, meant: impl Fn(&Entry) -> bool) -> Option<()> {
    let silent = |entry: &Entry| meant(entry) && !entry.has_spoken;
    let entries = &book.entries;
    let place = entries
        .iter()
        .position(silent)
        .or_else(|| entries.iter().position(&meant))?;
    let hang_up = book.entries.remove(place).hang_up?;
    hang_up(&refuse(Refusal::Crowded));
    Some(())
}

impl Guest {
    /// How long a guest may take for its first message.
    pub(crate) const FIRST_WORD: Duration = Duration::from_secs(2);

    fn note(&self, what: impl FnOnce(&mut Entry)) {
        let mut book = lock(&self.book);
        if let Some(entry) = book.entries.iter_mut().find(|entry| entry.number == self.number) {
            what(entry);
        }
    }

    /// The guest has said something: it is not sent away for another at once.
    pub(crate) fn has_spoken(&self) {
        self.note(|entry| entry.has_spoken = true);
    }

    /// The guest has proven the secret: it is not sent away for another.
    pub(crate) fn is_member(&self) {
        self.note(|entry| entry.hang_up = None);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.book)
            .entries
            .retain(|entry| entry.number != self.number);
    }
}

/// Tells a newcomer to try again, without waiting: the caller drives the node.
fn turn_away(node: &NodeInner, mut wire: Box<dyn Wire>) {
    let now = node.surroundings.instant(node.now());
    // A connection that is closed over something unread is reset, and what was said last may be lost.
    let _ = wire.receive(now);
    let _ = wire.send(&refuse(Refusal::Crowded), now);
}

/// Answers somebody who dialled, beside the caller.
pub(crate) fn answer(node: &Arc<NodeInner>, scheme: &'static str, wire: Box<dyn Wire>) {
    let peer = wire.peer();
    let guest = match node.guests.admit(node.now(), wire.source(), wire.hang_up()) {
        Ok(guest) => guest,
        Err(cause) => {
            turn_away(node, wire);
            node.events.tell(Event::HandshakeFailed { peer, cause });
            return;
        }
    };
    let answering = {
        let node = node.clone();
        async move {
            if let Err(error) = conversation::answer(&node, scheme, wire, &guest).await {
                node.events.tell(Event::HandshakeFailed {
                    peer,
                    cause: error.to_string(),
                });
            }
        }
    };
    if let Err(error) = node.surroundings.start("answer", Box::pin(answering)) {
        tracing::warn!(%error, "no thread to answer a peer");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting(hung_up: &Arc<AtomicUsize>) -> Option<HangUp> {
        let hung_up = hung_up.clone();
        Some(Box::new(move |_| {
            hung_up.fetch_add(1, Ordering::Relaxed);
        }))
    }

    #[test]
    fn the_longest_silent_make_room_and_those_who_have_spoken_stay() {
        let (guests, hung_up) = (Guests::default(), Arc::new(AtomicUsize::new(0)));
        let admit = |number: usize| guests.admit(Time::ZERO, format!("10.0.0.{number}"), counting(&hung_up));
        let mut all: Vec<Guest> = (0..MAX_GUESTS).map(|number| admit(number).unwrap()).collect();
        assert_eq!(hung_up.load(Ordering::Relaxed), 0);
        all[0].has_spoken();
        all.push(admit(MAX_GUESTS).unwrap());
        assert_eq!(hung_up.load(Ordering::Relaxed), 1);
        let left: Vec<u64> = lock(&guests.0).entries.iter().map(|entry| entry.number).collect();
        assert_eq!((left[0], left[1], left.len()), (0, 2, MAX_GUESTS));
        all.iter().for_each(Guest::has_spoken);
        assert!(admit(0).is_err());
        all.pop();
        assert!(admit(0).is_ok());
    }

    #[test]
    fn whoever_has_spoken_and_not_proven_the_secret_makes_room_after_a_while_and_is_told() {
        let (guests, told) = (Guests::default(), Arc::new(Mutex::new(Vec::new())));
        let admit = |at: Time, number: usize| {
            let told = told.clone();
            let hang_up: HangUp = Box::new(move |word| lock(&told).push((number, word.to_vec())));
            guests.admit(at, format!("10.0.0.{number}"), Some(hang_up))
        };
        let all: Vec<Guest> = (0..MAX_GUESTS)
            .map(|number| admit(Time::ZERO, number).unwrap())
            .collect();
        all.iter().for_each(Guest::has_spoken);
        all[0].is_member();
        assert!(admit(TO_PROVE / 2, MAX_GUESTS).is_err());
        let _newcomer = admit(TO_PROVE, MAX_GUESTS).unwrap();
        assert_eq!(*lock(&told), [(1, refuse(Refusal::Crowded))]);
        all.iter().for_each(Guest::is_member);
        assert!(admit(2 * TO_PROVE, 1).is_ok(), "the newcomer is silent");
        assert!(admit(2 * TO_PROVE, 2).is_ok());
    }

    #[test]
    fn one_source_cannot_take_every_place() {
        let (guests, hung_up) = (Guests::default(), Arc::new(AtomicUsize::new(0)));
        let admit = |source: &str| guests.admit(Time::ZERO, source.to_owned(), counting(&hung_up));
        let mut all: Vec<Guest> = (0..4 * MAX_GUESTS).map(|_| admit("10.0.0.1").unwrap()).collect();
        assert_eq!(lock(&guests.0).entries.len(), MAX_FROM_ONE_SOURCE);
        let before = hung_up.load(Ordering::Relaxed);
        all.push(admit("10.0.0.2").unwrap());
        assert_eq!(hung_up.load(Ordering::Relaxed), before);
    }

    #[test]
    fn a_guest_that_cannot_be_hung_up_on_is_not_sent_away() {
        let guests = Guests::default();
        let _all: Vec<Guest> = (0..MAX_FROM_ONE_SOURCE)
            .map(|_| guests.admit(2 * TO_PROVE, "here".into(), None).unwrap())
            .collect();
        assert!(guests.admit(2 * TO_PROVE, "here".into(), None).is_err());
    }
}
