//! Crash at every operation of saving snapshots, recover, save again, crash again; and proof that each sync and check
//! is needed.
//!
//! What must hold after any crash: the newest snapshot that was acknowledged, or a later one that was sent, is found
//! and is what was sent; a crash leaves no bad snapshot behind a good name; none is ahead of the journal. Damage to the
//! newest falls back to the one before it, and is said.

use crate::crash_tests::{Suite, open, suite};
use crate::event::{EntityId, Event, Expected};
use crate::journal::Journal;
use crate::medium::Medium;
use crate::medium::sim::{Disk, Kind, SimMedium, Site};
use crate::snapshot::{FoundSnapshot, Snapshot};
use crate::snapshot_format::SnapshotChecks;
use crate::snapshot_slots::{self, DIRECTORY};

const ENTITY: EntityId = EntityId(7);
const KEEP: usize = 2;

/// Sequences of the snapshots that were acknowledged and sent last.
#[derive(Clone, Copy, Default)]
struct Model {
    acknowledged: u64,
    sent: u64,
}

fn state_after(sequence: u64) -> Vec<u8> {
    vec![sequence as u8; 700 + sequence as usize]
}

fn append_and_save(journal: &Journal, model: &mut Model) -> Result<(), ()> {
    let event = Event::new(ENTITY, 1, &[1; 700]);
    let done = journal.append(&[event], Expected::Any).map_err(drop)?;
    model.sent = done.sequence;
    let state = state_after(done.sequence);
    let snapshot = Snapshot {
        timestamp: 1,
        ..Snapshot::new(ENTITY, done.sequence, done.last_position, state)
    };
    journal.save_snapshots(&[snapshot], KEEP).map_err(drop)?;
    model.acknowledged = done.sequence;
    Ok(())
}

fn life(suite: Suite, medium: &SimMedium, model: &mut Model) {
    let Ok(journal) = open(suite, medium) else { return };
    for _ in 0..5 {
        if append_and_save(&journal, model).is_err() {
            return;
        }
    }
}

fn found(journal: &Journal, medium: &SimMedium, checks: SnapshotChecks) -> Result<FoundSnapshot, String> {
    let (id, end) = {
        let state = journal.lock();
        (state.segment.header.journal, state.durable_events())
    };
    snapshot_slots::find(medium, &id, ENTITY, end, checks).map_err(|e| e.to_string())
}

fn check(suite: Suite, disk: &Disk, model: &Model) -> Result<Model, String> {
    let medium = disk.reborn(u64::MAX);
    let journal = open(suite, &medium).map_err(|e| format!("recovery refused: {e}"))?;
    let found = found(&journal, &medium, SnapshotChecks::ALL)?;
    if let Some(refused) = found.refused.first() {
        return Err(format!("a crash left a bad snapshot: {refused:?}"));
    }
    let at = match &found.snapshot {
        None => 0,
        Some(snapshot) if snapshot.payload == state_after(snapshot.sequence) => snapshot.sequence,
        Some(snapshot) => return Err(format!("snapshot {} is not what was sent", snapshot.sequence)),
    };
    if !(model.acknowledged..=model.sent).contains(&at) {
        return Err(format!(
            "snapshot {at} found, {} acknowledged",
            model.acknowledged
        ));
    }
    if at > journal.sequence(ENTITY).map_err(|e| e.to_string())? {
        return Err("a snapshot ahead of the journal".to_owned());
    }
    Ok(Model {
        acknowledged: at,
        sent: at,
    })
}

fn run(suite: Suite) -> Result<u64, String> {
    let mut images = 0;
    let whole = Disk::new(suite.kind, suite.omit).reborn(u64::MAX);
    let mut model = Model::default();
    life(suite, &whole, &mut model);
    if model.acknowledged != 5 {
        return Err("saving failed without a crash".to_owned());
    }
    for crash in 0..=whole.disk().ops() {
        let medium = Disk::new(suite.kind, suite.omit).reborn(crash);
        let mut model = Model::default();
        life(suite, &medium, &mut model);
        let dead = medium.disk();
        for disk in dead.power_loss(suite.images, crash + 1).chain([dead.clone()]) {
            images += 1;
            let seen = check(suite, &disk, &model).map_err(|e| format!("crash {crash}: {e}"))?;
            images += second_life(suite, &disk, seen, &model, crash)
                .map_err(|e| format!("crash {crash}, second life: {e}"))?;
        }
    }
    Ok(images)
}

/// Opens, saves once more, and crashes at every operation of that.
fn second_life(suite: Suite, disk: &Disk, seen: Model, before: &Model, seed: u64) -> Result<u64, String> {
    let live = |crash: u64| {
        let medium = disk.reborn(crash);
        // What was found and never acknowledged may go again: only its name, and only with the machine.
        let mut model = Model {
            acknowledged: before.acknowledged,
            sent: before.sent.max(seen.sent),
        };
        if let Ok(journal) = open(suite, &medium) {
            let _ = append_and_save(&journal, &mut model);
        }
        (medium, model)
    };
    let (whole, _) = live(u64::MAX);
    let mut images = 0;
    for crash in 0..=whole.disk().ops() {
        let (medium, model) = live(crash);
        for disk in medium.disk().power_loss(suite.images / 8, seed * 37 + crash) {
            images += 1;
            check(suite, &disk, &model).map_err(|e| format!("crash {crash}: {e}"))?;
        }
    }
    Ok(images)
}

#[test]
fn no_crash_while_saving_loses_a_snapshot_or_leaves_a_bad_one() {
    for kind in [Kind::PageCache, Kind::Pmem] {
        println!("{kind:?}: {} images", run(suite(kind)).unwrap());
    }
}

#[test]
fn leaving_out_a_sync_of_saving_is_noticed() {
    let mut unnoticed = Vec::new();
    for kind in [Kind::PageCache, Kind::Pmem] {
        for site in [Site::SyncOfState, Site::SyncOfStateName] {
            match run(Suite {
                omit: Some(site),
                ..suite(kind)
            }) {
                Ok(_) => unnoticed.push((kind, site)),
                Err(how) => println!("{kind:?} without {site:?}: {how}"),
            }
        }
    }
    assert_eq!(unnoticed, []);
}

/// Every byte of the newest snapshot damaged in turn; `Err` if one of them is believed.
fn damage_every_byte(checks: SnapshotChecks) -> Result<(), String> {
    let suite = suite(Kind::PageCache);
    let medium = Disk::new(suite.kind, None).reborn(u64::MAX);
    life(suite, &medium, &mut Model::default());
    let disk = medium.disk();
    let medium = disk.reborn(u64::MAX);
    let newest = medium
        .directory(DIRECTORY)
        .list()
        .unwrap()
        .into_iter()
        .map(|name| format!("{DIRECTORY}/{name}"))
        .find(|name| {
            let file = medium.open(name, crate::medium::Access::Read).unwrap();
            file.len().unwrap() == 128 + state_after(5).len() as u64
        })
        .unwrap();
    for at in 0..128 + state_after(5).len() as u64 {
        let mut damaged = disk.clone();
        damaged.damage(&newest, at);
        let medium = damaged.reborn(u64::MAX);
        let journal = open(suite, &medium).unwrap();
        let found = found(&journal, &medium, checks)?;
        let fell_back = found.snapshot.as_ref().map(|snapshot| snapshot.sequence) == Some(4);
        let right = found
            .snapshot
            .as_ref()
            .is_some_and(|s| s.payload == state_after(4));
        if !fell_back || !right || found.refused.len() != 1 || found.refused[0].file != newest {
            return Err(format!("byte {at}: {:?}", found.refused));
        }
    }
    Ok(())
}

#[test]
fn a_damaged_newest_snapshot_falls_back_to_the_one_before_and_says_so() {
    damage_every_byte(SnapshotChecks::ALL).unwrap();
    for (header, payload) in [(false, true), (true, false)] {
        let checks = SnapshotChecks { header, payload };
        assert!(damage_every_byte(checks).is_err(), "{checks:?} suffices");
    }
}
