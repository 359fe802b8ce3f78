//! Crash at every operation of truncating and of repairing, do it again, and crash again; and proof that each of their syncs
//! is needed.
//!
//! What must hold after any crash: no segment is gone (each is in the journal or set aside, byte for byte), `published` says
//! no more than the journal holds, and doing it again completes it. Of truncating also: the journal opens and verifies, holds
//! the events up to a batch at or after the cut and no snapshot of any beyond, and goes on. What has returned is durable.

use crate::crash_tests::{Suite, open_with, suite};
use crate::event::{EntityId, Event, Expected};
use crate::medium::sim::{Disk, Kind, Site};
use crate::medium::{Access, Medium};
use crate::publish;
use crate::repair::repair_on;
use crate::scan::Checks;
use crate::segment::{self, DATA, FOOTER};
use crate::snapshot::Snapshot;
use crate::snapshot_format::SnapshotChecks;
use crate::snapshot_slots;
use crate::truncate::truncate_on;
use crate::upkeep_crash_tests::kept;
use crate::verify::verify;

const SEGMENT: u64 = 8192;
const BATCHES: u64 = 6;
const EVENTS: u64 = 2 * BATCHES;

fn payload(sequence: u64) -> Vec<u8> {
    vec![sequence as u8; 700]
}

/// Three segments of two batches of two events, a snapshot after every other batch, closed, all of it durable.
fn journal_of(suite: Suite) -> Disk {
    let medium = Disk::new(suite.kind, None).reborn(u64::MAX);
    let journal = open_with(suite, &medium, SEGMENT).unwrap();
    for batch in 0..BATCHES {
        let sequence = 2 * batch;
        let payloads = [payload(sequence + 1), payload(sequence + 2)];
        let events: Vec<_> = payloads.iter().map(|bytes| Event::new(1, 1, bytes)).collect();
        let done = journal.append(&events, Expected::Exact(sequence)).unwrap();
        if batch % 2 == 1 {
            let snapshot = Snapshot::new(1, done.sequence, done.last_position, done.sequence.to_le_bytes());
            journal.save_snapshots(&[snapshot], 8).unwrap();
        }
    }
    let end = journal.lock().log_end();
    journal.close().unwrap();
    let published = medium.create(publish::NAME, 4096).unwrap();
    published.write_at(0, &end.to_le_bytes()).unwrap();
    medium.disk().settled()
}

/// Opens it, and answers where it ends.
fn check_journal(suite: Suite, disk: &Disk) -> Result<u64, String> {
    let medium = disk.reborn(u64::MAX);
    let found = verify(&medium, Checks::ALL, &|_| {}).map_err(|e| format!("verify: {e}"))?;
    let end = found.report.next_position;
    let journal = open_with(suite, &medium, SEGMENT).map_err(|e| format!("recovery refused: {e}"))?;
    let id = journal.lock().segment.header.journal;
    let all = kept(&journal, &medium).map_err(|e| e.to_string())?;
    let sent = (1..=end).map(|sequence| (sequence, payload(sequence)));
    if !all.get(&1).into_iter().flatten().cloned().eq(sent) {
        return Err(format!("not the first {end} events"));
    }
    let newest = snapshot_slots::find(&medium, &id, EntityId(1), end, SnapshotChecks::ALL)
        .map_err(|e| e.to_string())?;
    if let Some(refused) = newest.refused.first() {
        return Err(format!("a snapshot that cannot be used: {refused:?}"));
    }
    journal
        .append(&[Event::new(1, 1, b"on")], Expected::Exact(end))
        .map_err(|e| format!("it does not go on: {e}"))?;
    Ok(end)
}

/// What holds of any state between: nothing is gone, and nothing is published that is not there.
fn check_between(before: &Disk, untouched: u64, disk: &Disk) -> Result<(), String> {
    let now = disk.contents();
    for index in untouched.. {
        let Some(bytes) = before.contents().remove(&segment::name(index)) else {
            break;
        };
        if !now
            .iter()
            .any(|(name, there)| name.ends_with(&segment::name(index)) && *there == bytes)
        {
            return Err(format!("segment {index} is gone"));
        }
    }
    let medium = disk.reborn(u64::MAX);
    let mut published = [0; 8];
    let file = medium
        .open(publish::NAME, Access::Read)
        .map_err(|e| e.to_string())?;
    file.read_at(0, &mut published).map_err(|e| e.to_string())?;
    // A journal that is still damaged says nothing about its end.
    if let Ok(found) = verify(&medium, Checks::ALL, &|_| {})
        && found
            .active
            .is_none_or(|active| active.log_end < u64::from_le_bytes(published))
    {
        return Err("more is published than is there".to_owned());
    }
    Ok(())
}

/// A piece of work that must survive every crash.
#[derive(Clone, Copy)]
struct Work {
    /// What it begins with.
    before: fn(Suite) -> Disk,
    apply: fn(&dyn Medium) -> crate::Result<()>,
    /// Where the journal ends afterwards.
    end: u64,
    /// Segments from here on are never written to.
    untouched: u64,
    /// The journal is a good one all the time.
    good: bool,
}

fn truncating<const TO: u64>(end: u64) -> Work {
    Work {
        before: journal_of,
        apply: |medium| truncate_on(medium, TO, true).map(drop),
        end,
        untouched: 0,
        good: true,
    }
}

/// The footer of segment 0, a record of segment 1, and a snapshot are damaged.
fn damaged(suite: Suite) -> Disk {
    let mut disk = journal_of(suite);
    disk.damage(&segment::name(0), SEGMENT - FOOTER + 20);
    disk.damage(&segment::name(1), DATA + 100);
    let snapshot = disk.contents().into_keys().find(|name| name.ends_with("-0.snap"));
    disk.damage(&snapshot.unwrap(), 130);
    disk
}

fn works() -> [Work; 5] {
    [
        truncating::<0>(0),
        truncating::<3>(2),
        truncating::<4>(4),
        truncating::<10>(10),
        Work {
            before: damaged,
            apply: |medium| repair_on(medium, true).map(drop),
            end: 4,
            untouched: 1,
            good: false,
        },
    ]
}

fn run(suite: Suite, work: Work) -> Result<u64, String> {
    let before = (work.before)(suite).without(suite.omit);
    let mut images = 0;
    let whole = before.reborn(u64::MAX);
    (work.apply)(&whole).map_err(|e| format!("without a crash: {e}"))?;
    for crash in 0..=whole.disk().ops() {
        let medium = before.reborn(crash);
        let done = (work.apply)(&medium).is_ok();
        let dead = medium.disk();
        let left = dead.power_loss(suite.images, crash + 1);
        for (nth, disk) in [dead.clone()].into_iter().chain(left).enumerate() {
            images += 1;
            let at = |e: String| format!("crash {crash}: {e}");
            check_between(&before, work.untouched, &disk).map_err(at)?;
            if work.good || done {
                let end = check_journal(suite, &disk).map_err(at)?;
                if !(work.end..=EVENTS).contains(&end) || end % 2 != 0 || (done && end != work.end) {
                    return Err(at(format!("it ends at {end}")));
                }
            }
            let every = nth == 0 || nth as u64 == 1 + crash % suite.images as u64;
            images += again(suite, work, &before, &disk, every)
                .map_err(|e| format!("crash {crash}, image {nth}: {e}"))?;
        }
    }
    Ok(images)
}

/// Does it again, and with `every` crashes again at each operation.
fn again(suite: Suite, work: Work, before: &Disk, disk: &Disk, every: bool) -> Result<u64, String> {
    let complete = |disk: &Disk| -> Result<u64, String> {
        let medium = disk.reborn(u64::MAX);
        (work.apply)(&medium).map_err(|e| format!("again: {e}"))?;
        let mut images = 0;
        for disk in medium.disk().power_loss(if every { 4 } else { 1 }, 7) {
            images += 1;
            check_between(before, work.untouched, &disk)?;
            match check_journal(suite, &disk)? {
                end if end == work.end => {}
                end => return Err(format!("done again, and it ends at {end}")),
            }
        }
        Ok(images)
    };
    let mut images = complete(disk)?;
    if every {
        let whole = disk.reborn(u64::MAX);
        (work.apply)(&whole).map_err(|e| e.to_string())?;
        for crash in 0..whole.disk().ops() {
            let medium = disk.reborn(crash);
            let _ = (work.apply)(&medium);
            for left in medium.disk().power_loss(4, crash + 3) {
                images += 1;
                check_between(before, work.untouched, &left)
                    .map_err(|e| format!("second crash {crash}: {e}"))?;
                let third = left.reborn(u64::MAX);
                (work.apply)(&third).map_err(|e| format!("second crash {crash}, third time: {e}"))?;
                let end =
                    check_journal(suite, &third.disk()).map_err(|e| format!("second crash {crash}: {e}"))?;
                if end != work.end {
                    return Err(format!("second crash {crash}: the third time it ends at {end}"));
                }
            }
        }
    }
    Ok(images)
}

fn small() -> Suite {
    Suite {
        images: 16,
        ..suite(Kind::PageCache)
    }
}

#[test]
fn no_crash_of_truncating_or_repairing_loses_more_than_was_to_go() {
    let images: u64 = works().into_iter().map(|work| run(small(), work).unwrap()).sum();
    println!("{images} images");
}

#[test]
fn leaving_out_a_sync_of_truncating_or_repairing_is_noticed() {
    let sites = [
        Site::SyncOfAside,
        Site::SyncOfMoved,
        Site::SyncOfFile,
        Site::SyncOfCompacted,
        Site::SyncOfNames,
        Site::SyncOfNamesAtOpen,
    ];
    let mut unnoticed = Vec::new();
    for site in sites {
        let suite = Suite {
            omit: Some(site),
            ..small()
        };
        match works().into_iter().find_map(|work| run(suite, work).err()) {
            None => unnoticed.push(site),
            Some(how) => println!("without {site:?}: {how}"),
        }
    }
    assert_eq!(unnoticed, []);
}
