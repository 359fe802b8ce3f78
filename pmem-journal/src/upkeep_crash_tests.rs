//! Crash at every operation of saving snapshots, retention, compaction and moving to the cold directory; recover, check,
//! do it all again, and crash again; and proof that each sync and each guard is needed.
//!
//! What must hold after any crash: the journal opens and verifies; each entity's newest good snapshot and the events
//! after it give exactly its history up to an event that was acknowledged, or sent after that; its sequence goes on from
//! there.
//!
//! `JOURNAL_UPKEEP_IMAGES` sets how many images are looked at after each crash (default 12).

use std::collections::BTreeMap;

use crate::compaction::Compaction;
use crate::coverage::Guards;
use crate::crash_tests::{Suite, open_with, suite};
use crate::event::{EntityId, Event, Expected};
use crate::journal::Journal;
use crate::medium::sim::{COLD, Disk, Kind, SimMedium, Site};
use crate::medium::{Access, Medium};
use crate::retention::Retention;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, Footer, Header};
use crate::snapshot::Snapshot;
use crate::snapshot_format::SnapshotChecks;
use crate::snapshot_slots;
use crate::verify::verify;

const SEGMENT: u64 = 16 << 10;
const ENTITIES: [u128; 2] = [1, 2];

/// Each entity's acknowledged and sent events.
#[derive(Clone, Default)]
struct Model {
    acknowledged: BTreeMap<u128, u64>,
    sent: BTreeMap<u128, u64>,
}

type Crashed = ();

fn payload(entity: u128, sequence: u64) -> Vec<u8> {
    vec![(entity as u8) << 6 | sequence as u8; 1400 + sequence as usize]
}

fn state_after(entity: u128, sequence: u64) -> Vec<u8> {
    vec![(entity as u8) << 6 | sequence as u8; 900]
}

impl Model {
    fn append(&mut self, journal: &Journal, entity: u128) -> Result<(), Crashed> {
        let at = self.sent.get(&entity).copied().unwrap_or(0);
        let payloads = [payload(entity, at + 1), payload(entity, at + 2)];
        let batch: Vec<_> = payloads.iter().map(|p| Event::new(entity, 1, p)).collect();
        self.sent.insert(entity, at + 2);
        journal.append(&batch, Expected::Exact(at)).map_err(drop)?;
        self.acknowledged.insert(entity, at + 2);
        Ok(())
    }

    fn save(&self, journal: &Journal) -> Result<(), Crashed> {
        let position = journal.durable_position() - 1;
        let of = |entity: u128| {
            let sequence = journal.sequence(EntityId(entity)).unwrap_or(0);
            let state = state_after(entity, sequence);
            (sequence > 0).then(|| Snapshot::new(entity, sequence, position, state))
        };
        let snapshots: Vec<_> = ENTITIES.into_iter().filter_map(of).collect();
        journal.save_snapshots(&snapshots, 2).map_err(drop)
    }
}

fn retain(journal: &Journal, guards: Guards, snapshots: usize) -> Result<(), Crashed> {
    let all = Retention::new().below(u64::MAX).covered_by(snapshots);
    journal.retain_guarded(&all, guards).map(drop).map_err(drop)
}

fn compact(journal: &Journal, guards: Guards, snapshots: usize) -> Result<(), Crashed> {
    let what = Compaction::new().covered_by(snapshots);
    journal.compact_guarded(&what, guards).map(drop).map_err(drop)
}

fn first_life(suite: Suite, guards: Guards, medium: &SimMedium, model: &mut Model) -> Result<(), Crashed> {
    let journal = open_with(suite, medium, SEGMENT).map_err(drop)?;
    for round in 0..3 {
        // More than a segment, so that the first snapshots cover one.
        for _ in 0..3 {
            model.append(&journal, 1)?;
            model.append(&journal, 2)?;
        }
        model.save(&journal)?;
        match round {
            0 => {}
            1 => {
                journal.cool_to(COLD, SEGMENT).map_err(drop)?;
                compact(&journal, guards, 2)?;
            }
            _ => retain(&journal, guards, 2)?,
        }
    }
    // Of entity 1 the newest event is covered, of entity 2 nothing is from here on.
    for _ in 0..6 {
        model.append(&journal, 2)?;
    }
    compact(&journal, guards, 1)?;
    journal.cool_to(COLD, SEGMENT).map_err(drop)?;
    retain(&journal, guards, 2)
}

/// Relies at once on what the first life left, then does everything once more.
fn second_life(suite: Suite, guards: Guards, medium: &SimMedium, model: &mut Model) -> Result<(), Crashed> {
    let journal = open_with(suite, medium, SEGMENT).map_err(drop)?;
    for entity in ENTITIES {
        let at = journal.sequence(EntityId(entity)).map_err(drop)?;
        model.sent.insert(entity, at);
        model.acknowledged.insert(entity, at);
    }
    retain(&journal, guards, 1)?;
    model.append(&journal, 1)?;
    model.append(&journal, 2)?;
    model.save(&journal)?;
    compact(&journal, guards, 1)?;
    journal.cool_to(COLD, SEGMENT).map_err(drop)?;
    retain(&journal, guards, 2)
}

/// Sequences and payloads, by entity.
pub(crate) type Kept = BTreeMap<u128, Vec<(u64, Vec<u8>)>>;

/// All events kept.
pub(crate) fn kept(journal: &Journal, medium: &SimMedium) -> crate::Result<Kept> {
    let (active, offset) = {
        let state = journal.lock();
        (
            state.segment.header.index,
            state.segment.header.offset_of(state.log_end()),
        )
    };
    let mut out = Kept::new();
    for index in crate::listing::Listing::read(medium)?.segments {
        let name = segment::name(index);
        let io = |e| crate::Error::io("read", &name)(e);
        let file = medium.open(&name, Access::Read).map_err(io)?;
        let header = Header::read(&*file, &name)?;
        let io = |e| crate::Error::io("read", &name)(e);
        let footer = Footer::read(&*file, &header).map_err(io)?;
        let end = if index == active {
            offset
        } else {
            footer.map_or(0, |footer| footer.end)
        };
        let mut scanner = Scanner::new(&header, end, Checks::ALL);
        let io = |e| crate::Error::io("read", &name)(e);
        while let Step::Record = scanner.step(&*file).map_err(io)? {
            let record = *scanner.header();
            if !record.is_control() {
                let event = record.event(scanner.record());
                let events = out.entry(record.entity).or_default();
                events.push((event.sequence, event.payload.to_vec()));
            }
        }
    }
    Ok(out)
}

fn check(suite: Suite, disk: &Disk, model: &Model) -> Result<(), String> {
    let medium = disk.reborn(u64::MAX);
    verify(&medium, Checks::ALL, &|_| {}).map_err(|e| format!("verify: {e}"))?;
    let journal = open_with(suite, &medium, SEGMENT).map_err(|e| format!("recovery refused: {e}"))?;
    let (id, end) = {
        let state = journal.lock();
        (state.segment.header.journal, state.durable_events())
    };
    let kept = kept(&journal, &medium).map_err(|e| e.to_string())?;
    for entity in ENTITIES {
        let found = snapshot_slots::find(&medium, &id, EntityId(entity), end, SnapshotChecks::ALL)
            .map_err(|e| e.to_string())?;
        if let Some(refused) = found.refused.first() {
            return Err(format!("a crash left a bad snapshot: {refused:?}"));
        }
        let mut at = found.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence);
        if found
            .snapshot
            .is_some_and(|snapshot| snapshot.payload != state_after(entity, at))
        {
            return Err(format!("snapshot {at} is not what was sent"));
        }
        for (sequence, bytes) in kept.get(&entity).into_iter().flatten() {
            if *bytes != payload(entity, *sequence) {
                return Err(format!("entity {entity}: event {sequence} is not what was sent"));
            }
            if *sequence > at {
                if *sequence != at + 1 {
                    return Err(format!("entity {entity}: event {sequence} follows {at}"));
                }
                at += 1;
            }
        }
        let bound = |of: &BTreeMap<u128, u64>| of.get(&entity).copied().unwrap_or(0);
        let (least, most) = (bound(&model.acknowledged), bound(&model.sent));
        if !(least..=most).contains(&at) {
            return Err(format!(
                "entity {entity} is at {at}; {least} acknowledged, {most} sent"
            ));
        }
        let next = journal.sequence(EntityId(entity)).map_err(|e| e.to_string())?;
        if next != at {
            return Err(format!("entity {entity} is at {at}, and the journal says {next}"));
        }
    }
    // And it goes on: also where stale bytes may stand.
    let mut model = model.clone();
    for entity in ENTITIES {
        let at = journal.sequence(EntityId(entity)).unwrap_or(0);
        model.sent.insert(entity, at);
    }
    model
        .append(&journal, 1)
        .map_err(|()| "the next append failed".to_owned())
}

fn images_wanted() -> usize {
    let wanted = std::env::var("JOURNAL_UPKEEP_IMAGES");
    wanted.map_or(12, |n| n.parse().expect("JOURNAL_UPKEEP_IMAGES is a number"))
}

fn run(suite: Suite, guards: Guards) -> Result<u64, String> {
    let mut images = 0;
    let whole = Disk::new(suite.kind, suite.omit).reborn(u64::MAX);
    let mut model = Model::default();
    first_life(suite, guards, &whole, &mut model).map_err(|()| "failed without a crash")?;
    check(suite, &whole.disk(), &model)?;
    for crash in 0..=whole.disk().ops() {
        let medium = Disk::new(suite.kind, suite.omit).reborn(crash);
        let mut model = Model::default();
        let _ = first_life(suite, guards, &medium, &mut model);
        let dead = medium.disk();
        let left = dead.power_loss(suite.images, crash + 1);
        for (nth, disk) in [dead.clone()].into_iter().chain(left).enumerate() {
            images += 1;
            check(suite, &disk, &model).map_err(|e| format!("crash {crash}: {e}"))?;
            // The second life after the death of the process, and in turn after one of the power losses.
            if nth == 0 || nth as u64 == 1 + crash % suite.images as u64 {
                images += again(suite, guards, &disk, &model, crash)
                    .map_err(|e| format!("crash {crash}, image {nth}, then {e}"))?;
            }
        }
    }
    Ok(images)
}

fn again(suite: Suite, guards: Guards, disk: &Disk, before: &Model, seed: u64) -> Result<u64, String> {
    let live = |crash: u64| {
        let medium = disk.reborn(crash);
        let mut model = before.clone();
        let done = second_life(suite, guards, &medium, &mut model);
        (medium.disk(), model, done)
    };
    let (whole, model, done) = live(u64::MAX);
    done.map_err(|()| "the second life failed without a crash")?;
    check(suite, &whole, &model).map_err(|e| format!("no second crash: {e}"))?;
    let mut images = 0;
    // Every operation in one of three aftermaths, so that all of them are met.
    for crash in (seed % 3..=whole.ops()).step_by(3) {
        let (dead, model, _) = live(crash);
        for disk in dead.power_loss(suite.images / 3, seed * 41 + crash) {
            images += 1;
            check(suite, &disk, &model).map_err(|e| format!("crash {crash}: {e}"))?;
        }
    }
    Ok(images)
}

fn small(kind: Kind) -> Suite {
    Suite {
        images: images_wanted(),
        ..suite(kind)
    }
}

#[test]
fn no_crash_of_upkeep_loses_what_was_acknowledged_on_a_page_cache() {
    println!("{} images", run(small(Kind::PageCache), Guards::ALL).unwrap());
}

#[test]
fn no_crash_of_upkeep_loses_what_was_acknowledged_on_persistent_memory() {
    println!("{} images", run(small(Kind::Pmem), Guards::ALL).unwrap());
}

#[test]
fn leaving_out_a_sync_of_upkeep_is_noticed() {
    let sites = [
        Site::SyncOfState,
        Site::SyncOfStateName,
        Site::SyncOfTable,
        Site::SyncOfFloorName,
        Site::SyncOfCompacted,
        Site::SyncOfCold,
        Site::SyncOfColdName,
    ];
    let mut unnoticed = Vec::new();
    for site in sites {
        let suite = Suite {
            omit: Some(site),
            ..small(Kind::PageCache)
        };
        match run(suite, Guards::ALL) {
            Ok(_) => unnoticed.push(site),
            Err(how) => println!("without {site:?}: {how}"),
        }
    }
    assert_eq!(unnoticed, []);
}

#[test]
fn leaving_out_a_guard_of_upkeep_is_noticed() {
    let all = Guards::ALL;
    let guards = [
        ("names", Guards { names: false, ..all }),
        (
            "covered",
            Guards {
                covered: false,
                ..all
            },
        ),
        ("newest", Guards { newest: false, ..all }),
    ];
    let mut unnoticed = Vec::new();
    for (name, guards) in guards {
        match run(small(Kind::PageCache), guards) {
            Ok(_) => unnoticed.push(name),
            Err(how) => println!("without {name}: {how}"),
        }
    }
    assert_eq!(unnoticed, [""; 0]);
}

/// Retention after every snapshot was damaged: what it drops then is lost.
fn damaged_snapshots(guards: Guards) -> Result<(), String> {
    let suite = small(Kind::PageCache);
    let medium = Disk::new(suite.kind, None).reborn(u64::MAX);
    let journal = open_with(suite, &medium, SEGMENT).map_err(|e| e.to_string())?;
    let mut model = Model::default();
    for _ in 0..5 {
        for entity in ENTITIES {
            model.append(&journal, entity).map_err(|()| "append")?;
        }
        model.save(&journal).map_err(|()| "save")?;
    }
    drop(journal);
    let mut disk = medium.disk();
    for name in medium.directory("snapshots").list().map_err(|e| e.to_string())? {
        disk.damage(&format!("snapshots/{name}"), 500);
    }
    let medium = disk.reborn(u64::MAX);
    let journal = open_with(suite, &medium, SEGMENT).map_err(|e| e.to_string())?;
    journal
        .retain_guarded(&Retention::new().below(u64::MAX), guards)
        .map_err(|e| e.to_string())?;
    let kept = kept(&journal, &medium).map_err(|e| e.to_string())?;
    let whole = ENTITIES
        .iter()
        .all(|e| kept.get(e).is_some_and(|events| events[0].0 == 1));
    if whole {
        Ok(())
    } else {
        Err("events went that no good snapshot covers".to_owned())
    }
}

#[test]
fn damaged_snapshots_cover_nothing() {
    damaged_snapshots(Guards::ALL).unwrap();
    let unverified = Guards {
        verified: false,
        ..Guards::ALL
    };
    assert!(damaged_snapshots(unverified).is_err(), "verifying is not needed");
}

type Work = fn(&Journal, &Model) -> crate::Result<()>;

const WORKS: [Work; 4] = [
    |journal, model| {
        let sequence = model.acknowledged[&2];
        let snapshot = Snapshot::new(
            2,
            sequence,
            journal.durable_position() - 1,
            state_after(2, sequence),
        );
        journal.save_snapshots(&[snapshot], 2)
    },
    |journal, _| journal.cool_to(COLD, SEGMENT).map(drop),
    |journal, _| {
        journal
            .compact_guarded(&Compaction::new().covered_by(1), Guards::ALL)
            .map(drop)
    },
    |journal, _| {
        let all = Retention::new().below(u64::MAX).covered_by(1);
        journal.retain_guarded(&all, Guards::ALL).map(drop)
    },
];

/// Each operation of each work fails once: an error, nothing lost, and the same handle succeeds when it tries again.
fn fail_everywhere(suite: Suite, kind: std::io::ErrorKind) -> u64 {
    let mut failures = 0;
    for (nth, work) in WORKS.iter().enumerate() {
        for skip in 0.. {
            let medium = Disk::new(suite.kind, None).reborn(u64::MAX);
            let journal = open_with(suite, &medium, SEGMENT).unwrap();
            let mut model = Model::default();
            for _ in 0..3 {
                for entity in [1, 2, 2, 1] {
                    model.append(&journal, entity).unwrap();
                }
                model.save(&journal).unwrap();
            }
            model.append(&journal, 2).unwrap();
            for before in &WORKS[..nth] {
                before(&journal, &model).unwrap();
            }
            medium.fail_after(skip, kind);
            let outcome = work(&journal, &model);
            if medium.has_yet_to_fail() {
                outcome.unwrap();
                break;
            }
            // An index that cannot be kept is made again when it is needed.
            let failed = outcome.is_err();
            failures += u64::from(failed);
            let typed = !failed
                || match kind {
                    std::io::ErrorKind::StorageFull => matches!(
                        outcome,
                        Err(crate::Error::NoRoom { .. } | crate::Error::Io { .. })
                    ),
                    _ => matches!(outcome, Err(crate::Error::Io { .. })),
                };
            assert!(typed, "work {nth}, operation {skip}: {outcome:?}");
            for disk in medium.disk().power_loss(8, skip + 1).chain([medium.disk()]) {
                check(suite, &disk, &model).unwrap_or_else(|e| panic!("work {nth}, operation {skip}: {e}"));
            }
            medium.forget_failure();
            for again in &WORKS[nth..] {
                again(&journal, &model)
                    .unwrap_or_else(|e| panic!("work {nth}, operation {skip}, again: {e}"));
            }
            model.append(&journal, 1).unwrap();
            check(suite, &medium.disk(), &model)
                .unwrap_or_else(|e| panic!("work {nth}, operation {skip}: {e}"));
        }
    }
    failures
}

#[test]
fn an_operation_that_fails_once_is_an_error_and_loses_nothing() {
    for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
        let failures = fail_everywhere(small(Kind::PageCache), kind);
        println!("{failures} operations failed with {kind:?}");
        assert!(failures > 20);
    }
}
