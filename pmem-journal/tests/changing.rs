//! Reading while the journal changes underneath: segments are written, sealed, compacted, moved and dropped while a replay or a
//! selection stands somewhere in the middle. Whatever is read is as it was appended, and what the journal still has is not
//! passed over.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pmem_journal::{
    Compaction, EntityId, Error, Event, Expected, Journal, Mode, Options, OwnedEvent, Reader, Replay, Result,
    Retention, Selected, Selection,
};

const ENTITIES: u64 = 5;
const SEGMENT: u64 = 32 << 10;
/// One event in so many is the only one of its entity, so that no compaction takes it.
const ALONE: u64 = 17;

/// Numbers that follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

fn open(dir: &Path) -> Journal {
    let options = Options::new()
        .require(Mode::Buffered)
        .segment_size(SEGMENT)
        .reserve(0);
    Journal::open_with(dir, &options).unwrap().0
}

fn entity(n: u64) -> EntityId {
    EntityId(u128::from(if n.is_multiple_of(ALONE) {
        1000 + n
    } else {
        n % ENTITIES
    }))
}

fn tagged(n: u64) -> bool {
    n % 11 < 2
}

fn payload(n: u64) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(8 + (n * 31 % 97) as usize, n as u8);
    payload
}

fn append(journal: &Journal, numbers: Range<u64>) {
    let mut next = numbers.start;
    while next < numbers.end {
        let batch = (1 + next % 8).min(numbers.end - next);
        let payloads: Vec<_> = (next..next + batch).map(payload).collect();
        let events: Vec<_> = (next..next + batch)
            .zip(&payloads)
            .map(|(n, payload)| {
                Event::new(entity(n), 1, payload).tags(if tagged(n) { &["tag"] } else { &[] })
            })
            .collect();
        journal.append(&events, Expected::Any).unwrap();
        next += batch;
    }
}

fn wants(selection: &Selection, n: u64) -> bool {
    match selection {
        Selection::All => true,
        Selection::Entity(wanted) => *wanted == entity(n),
        Selection::Tag(_) => tagged(n),
    }
}

/// Somebody who reads.
enum Reads {
    Replay(Box<Replay>),
    Selected(Box<Selected>),
}

struct Reading {
    reads: Reads,
    selection: Selection,
    /// What it gives next is here or after.
    next: u64,
    /// And it knows of everything before this.
    knows: u64,
}

impl Reading {
    fn begin(reader: &Reader, selection: Option<Selection>, from: u64, knows: u64) -> Reading {
        let reads = match &selection {
            None => Reads::Replay(Box::new(reader.replay(from).unwrap())),
            Some(selection) => {
                Reads::Selected(Box::new(reader.select(selection.clone(), Some(from)).unwrap()))
            }
        };
        Reading {
            reads,
            selection: selection.unwrap_or(Selection::All),
            next: from,
            knows,
        }
    }

    fn skip_to(&mut self, position: u64) -> Result<()> {
        if let Reads::Replay(replay) = &mut self.reads {
            replay.skip_to(position)?;
            self.next = self.next.max(position);
        }
        Ok(())
    }

    fn refresh(&mut self, end: u64) -> Result<()> {
        let more = match &mut self.reads {
            Reads::Replay(replay) => replay.refresh(),
            Reads::Selected(selected) => selected.refresh(),
        };
        // A selection that has not come to the last segment yet looks again when it is there.
        if !more? || matches!(self.reads, Reads::Replay(_)) {
            self.knows = end;
        }
        Ok(())
    }

    /// The next event, which is as it was appended and the first of those `kept`.
    fn read(&mut self, kept: &[u64]) -> Result<bool> {
        let event: Option<OwnedEvent> = match &mut self.reads {
            Reads::Replay(replay) => replay.next_event()?.map(|event| event.to_owned()),
            Reads::Selected(selected) => selected.next_event()?.map(|event| event.to_owned()),
        };
        let end = match &event {
            Some(event) => {
                let n = event.position;
                assert!(n >= self.next, "{n} before {}", self.next);
                assert_eq!((event.entity, &event.payload), (entity(n), &payload(n)));
                assert!(wants(&self.selection, n), "{n} is not of {:?}", self.selection);
                n
            }
            None => self.knows,
        };
        let from = kept.partition_point(|n| *n < self.next);
        let passed = kept[from..].iter().find(|n| wants(&self.selection, **n));
        assert!(
            passed.is_none_or(|n| *n >= end),
            "{passed:?} passed over from {} to {event:?}",
            self.next
        );
        self.next = self.next.max(end + u64::from(event.is_some()));
        Ok(event.is_some())
    }
}

fn kept(journal: &Journal) -> Vec<u64> {
    let events = journal.replay_kept().unwrap().owned();
    events.map(|event| event.unwrap().position).collect()
}

/// One history; says what happened in it.
fn history(seed: u64) -> [u64; 5] {
    let (dir, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut chance = Chance(seed);
    let journal = open(dir.path());
    let elsewhere = Reader::open(dir.path()).unwrap();
    let (mut end, mut reading, mut happened) = (0, Vec::new(), [0; 5]);
    for _ in 0..150 {
        match chance.below(20) {
            0..5 => {
                let more = 1 + chance.below(300);
                append(&journal, end..end + more);
                end += more;
            }
            5 => {
                happened[0] += journal
                    .compact(&Compaction::new().newest_only())
                    .unwrap()
                    .segments
            }
            6 if chance.below(4) == 0 => {
                let first = journal.reader().first_position().unwrap();
                let below = first + chance.below(end - first) / 3;
                let rules = Retention::new().below(below).without_snapshots();
                happened[1] += journal.retain(&rules).unwrap().segments;
            }
            7 => {
                let hot = chance.below(8) * SEGMENT;
                happened[2] += journal.cool(cold.path(), hot).unwrap().segments;
            }
            8..11 if reading.len() < 12 => {
                let reader = match chance.below(3) {
                    0 => elsewhere.clone(),
                    _ => journal.reader(),
                };
                let first = reader.first_position().unwrap();
                let from = first + chance.below(end - first);
                let selection = match chance.below(4) {
                    0 => Some(Selection::Entity(entity(1 + chance.below(ENTITIES)))),
                    1 => Some(Selection::Tag("tag".into())),
                    _ => None,
                };
                reading.push(Reading::begin(&reader, selection, from, end));
            }
            _ if !reading.is_empty() => {
                let at = chance.below(reading.len() as u64) as usize;
                let who = &mut reading[at];
                let kept = kept(&journal);
                let mut go = || {
                    if chance.below(3) == 0 {
                        who.refresh(end)?;
                    }
                    for _ in 0..chance.below(8) {
                        if chance.below(2) == 0 {
                            let most = [3, 60, end][chance.below(3) as usize];
                            who.skip_to(who.next + chance.below(most))?;
                        }
                        for _ in 0..chance.below(40) {
                            if !who.read(&kept)? {
                                break;
                            }
                            happened[3] += 1;
                        }
                    }
                    Ok(())
                };
                match go() {
                    Ok(()) => {}
                    Err(Error::BelowFirst { first, .. }) if first > who.next => {
                        happened[4] += 1;
                        reading.swap_remove(at);
                    }
                    Err(e) => panic!("from {}: {e}", who.next),
                }
            }
            _ => {}
        }
    }
    happened
}

#[test]
fn who_reads_while_segments_are_sealed_compacted_moved_and_dropped_passes_over_nothing_that_is_left() {
    let mut all = [0; 5];
    for seed in 0..6 {
        let of_one = std::panic::catch_unwind(|| history(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        for (sum, n) in all.iter_mut().zip(of_one) {
            *sum += n;
        }
    }
    println!("compacted, dropped, moved, read, refused: {all:?}");
    assert!(all.iter().all(|n| *n > 0), "{all:?}");
}

#[test]
fn a_replay_comes_to_a_segment_that_was_written_when_it_began_and_is_compacted_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let begin = |from, end| Reading::begin(&journal.reader(), None, from, end);
    let mut reading = Vec::new();
    for from in (0..600).step_by(20) {
        append(&journal, from..from + 20);
        reading.push(begin(0, from + 20));
        let mut skips = begin(0, from + 20);
        skips.skip_to(from + 10).unwrap();
        reading.push(skips);
    }
    let mut within = begin(590, 600);
    append(&journal, 600..2000);
    within.refresh(2000).unwrap();
    assert!(within.read(&[590]).unwrap());
    assert!(
        journal
            .compact(&Compaction::new().newest_only())
            .unwrap()
            .segments
            > 2
    );
    let kept = kept(&journal);
    for step in 0..100 {
        within.skip_to(591 + 2 * step).unwrap();
        within.read(&kept).unwrap();
    }
    for mut who in reading {
        while who.read(&kept).unwrap() {}
        who.refresh(2000).unwrap();
        while who.read(&kept).unwrap() {}
    }
}

#[test]
fn what_no_compaction_takes_is_read_beside_compactions_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    append(&journal, 0..300);
    let (ended, end) = (AtomicBool::new(false), 3000);
    std::thread::scope(|scope| {
        for selected in [false, true, true] {
            let (journal, ended) = (&journal, &ended);
            scope.spawn(move || {
                let mut chance = Chance(u64::from(selected));
                while !ended.load(Ordering::Relaxed) {
                    let knows = journal.durable_position();
                    let selection = selected.then(|| Selection::Tag("tag".into()));
                    let from = chance.below(knows);
                    let stay: Vec<_> = (from..knows).filter(|n| n.is_multiple_of(ALONE)).collect();
                    let mut who = Reading::begin(&journal.reader(), selection, from, knows);
                    while who.read(&stay).unwrap() {
                        who.skip_to(who.next + chance.below(50)).unwrap();
                    }
                }
            });
        }
        for from in (300..end).step_by(150) {
            append(&journal, from..from + 150);
            journal.compact(&Compaction::new().newest_only()).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
}
