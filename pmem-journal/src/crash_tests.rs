//! Crash at every operation, recover, append again, crash again, recover again; and proof that each commit, sync and
//! check is needed, by leaving it out and seeing the same suite fail.
//!
//! What must hold after any crash: every acknowledged batch is there, in order; each batch is there whole or not at
//! all; nothing is there that was not sent; what an open has shown stays exactly as it was shown; recovery never
//! takes what a crash left for corruption.

use std::path::Path;
use std::sync::Arc;

use crate::event::{Event, Expected};
use crate::indexes::Indexes;
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::sim::{Disk, Kind, SimMedium, Site};
use crate::medium::{Access, Medium};
use crate::mode::{Mode, Probe};
use crate::options::Options;
use crate::publish::Publisher;
use crate::reserve::Reserve;
use crate::scan::{Checks, Scanner, Step};
use crate::sealed::drop_below;
use crate::segment;
use crate::verify::verify;

type Payload = Vec<u8>;
type Batch = Vec<Payload>;

/// What must be there, and what may be there behind it: batches in flight, of which any number from the first on.
#[derive(Clone, Default)]
struct Model {
    settled: Vec<Batch>,
    in_flight: Vec<Batch>,
    next: u8,
    /// Events below this position may have been dropped.
    dropped: u64,
}

impl Model {
    fn batch(&mut self, sizes: &[usize]) -> Batch {
        let batch = sizes.iter().map(|size| {
            self.next += 1;
            vec![self.next; *size]
        });
        batch.collect()
    }

    /// Appends the batches as one group, as several threads do.
    fn append(&mut self, journal: &Journal, group: &[&[usize]]) -> Result<(), ()> {
        let batches: Vec<Batch> = group.iter().map(|sizes| self.batch(sizes)).collect();
        self.in_flight = batches.clone();
        let events: Vec<Vec<Event<'_>>> = batches
            .iter()
            .map(|batch| batch.iter().map(|p| Event::new(1, 1, p)).collect())
            .collect();
        journal.append_group(&events).map_err(drop)?;
        self.settled.append(&mut self.in_flight);
        Ok(())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Suite {
    pub(crate) kind: Kind,
    pub(crate) omit: Option<Site>,
    pub(crate) checks: Checks,
    pub(crate) images: usize,
}

pub(crate) fn open(suite: Suite, medium: &SimMedium) -> crate::Result<Journal> {
    open_with(suite, medium, 8192)
}

pub(crate) fn open_with(suite: Suite, medium: &SimMedium, segment_size: u64) -> crate::Result<Journal> {
    let options = Options {
        segment_size,
        background: false,
        reserve: 0,
        ..Options::default()
    };
    let probe = Probe {
        mode: Mode::Volatile,
        reason: String::new(),
    };
    let mapped = suite.kind == Kind::Pmem;
    let medium: Arc<dyn Medium> = Arc::new(medium.clone());
    Journal::start(
        Path::new("sim"),
        &options,
        probe,
        mapped,
        medium,
        Publisher::Nowhere,
        None,
        suite.checks,
    )
    .map(|(journal, _)| journal)
}

/// Everything recovery shows: the first position kept, and the batches from there.
fn shown(suite: Suite, medium: &SimMedium) -> Result<(u64, Vec<Batch>), String> {
    let recovered = verify(medium, suite.checks, &|_| {}).map_err(|e| format!("recovery refused: {e}"))?;
    let mut batches: Vec<Batch> = Vec::new();
    let mut open: Batch = Vec::new();
    let first = recovered.report.first_position;
    let mut position = first;
    for index in Listing::read(medium).map_err(|e| e.to_string())?.segments {
        let file = medium
            .open(&segment::name(index), Access::Read)
            .map_err(|e| e.to_string())?;
        let header = segment::Header::read(&*file, &segment::name(index)).map_err(|e| e.to_string())?;
        let end = match &recovered.active {
            Some(active) if active.header.index == index => active.offset,
            _ => segment::Footer::read(&*file, &header)
                .map_err(|e| e.to_string())?
                .map_or(0, |footer| footer.end),
        };
        let mut scanner = Scanner::new(&header, end, suite.checks);
        while let Step::Record = scanner.step(&*file).map_err(|e| e.to_string())? {
            if let Some(event) = scanner.last_event().filter(|_| !scanner.header().is_control()) {
                if event.position != position {
                    return Err(format!("position {} where {position} follows", event.position));
                }
                position += 1;
                // All events are of one entity: dropping some must not make its sequence start anew.
                if event.sequence != position {
                    return Err(format!("sequence {} where {position} follows", event.sequence));
                }
                open.push(event.payload.to_vec());
                if event.batch_end {
                    batches.push(std::mem::take(&mut open));
                }
            }
        }
    }
    if !open.is_empty() {
        return Err("half a batch".to_owned());
    }
    Ok((first, batches))
}

/// Checks what is shown against the model, and settles it.
fn check(suite: Suite, medium: &SimMedium, model: &Model) -> Result<Model, String> {
    let (first, kept) = shown(suite, medium)?;
    if first > model.dropped {
        return Err(format!(
            "it begins at {first}, and only what is below {} was dropped",
            model.dropped
        ));
    }
    let mut shown: Vec<Batch> = Vec::new();
    let mut events = 0;
    for batch in &model.settled {
        if events >= first {
            break;
        }
        events += batch.len() as u64;
        shown.push(batch.clone());
    }
    if events != first {
        return Err(format!("it begins at {first}, in the middle of a batch"));
    }
    shown.extend(kept);
    let possible = model.settled.iter().chain(&model.in_flight);
    if shown.len() < model.settled.len() {
        return Err(format!(
            "{} acknowledged batches, {} there",
            model.settled.len(),
            shown.len()
        ));
    }
    if !shown.iter().eq(possible.take(shown.len())) {
        return Err(format!(
            "{} batches there, and not those that were sent",
            shown.len()
        ));
    }
    Ok(Model {
        settled: shown,
        in_flight: Vec::new(),
        ..model.clone()
    })
}

/// The first life: opens, appends, rotates, closes, opens again, and appends.
fn first_life(suite: Suite, medium: &SimMedium, model: &mut Model) -> Result<(), String> {
    let steps = |model: &mut Model| -> Result<(), ()> {
        let journal = open(suite, medium).map_err(drop)?;
        model.append(&journal, &[&[256]])?;
        model.append(&journal, &[&[256, 256]])?;
        model.append(&journal, &[&[256], &[256], &[256]])?;
        // Fills the segment, so that the next group rotates.
        model.append(&journal, &[&[700, 700]])?;
        model.append(&journal, &[&[256, 256], &[256]])?;
        model.dropped = 8;
        let medium: Arc<dyn Medium> = Arc::new(medium.clone());
        let reserve = Arc::new(Reserve::new(Arc::clone(&medium), 0));
        let indexes = Indexes::new(medium, Some(Arc::clone(&reserve)));
        drop_below(&reserve, &indexes, u64::MAX, |_, _| {}).map_err(drop)?;
        model.append(&journal, &[&[64]])?;
        Ok(())
    };
    // A failure is the crash; whether it was right to fail is seen by what is left.
    let _ = steps(model);
    Ok(())
}

/// Looks at every crash of the first life; how many images that were in all.
fn each_crash(
    suite: Suite,
    mut look: impl FnMut(u64, &Disk, &Model) -> Result<u64, String>,
) -> Result<u64, String> {
    let mut images = 0;
    let whole = Disk::new(suite.kind, suite.omit).reborn(u64::MAX);
    first_life(suite, &whole, &mut Model::default())?;
    for crash in 0..=whole.disk().ops() {
        let medium = Disk::new(suite.kind, suite.omit).reborn(crash);
        let mut model = Model::default();
        first_life(suite, &medium, &mut model)?;
        images += look(crash, &medium.disk(), &model)?;
    }
    Ok(images)
}

/// Every crash of the first life, and of the second one in each of its aftermaths.
fn run(suite: Suite) -> Result<u64, String> {
    each_crash(suite, |crash, dead, model| {
        let mut images = 0;
        // Death of the process alone keeps all of it visible.
        let aftermaths = dead.power_loss(suite.images, crash + 1);
        for disk in aftermaths.chain([dead.clone()]) {
            images += 1;
            let seen =
                check(suite, &disk.reborn(u64::MAX), model).map_err(|e| format!("crash {crash}: {e}"))?;
            for (second, plan) in PLANS.iter().enumerate() {
                images += second_life(suite, &disk, model, &seen, plan, crash)
                    .map_err(|e| format!("crash {crash}, then plan {second}: {e}"))?;
            }
        }
        Ok(images)
    })
}

/// Every image of every crash of the first life, without what comes after.
fn run_first(suite: Suite) -> Result<u64, String> {
    each_crash(suite, |crash, dead, model| {
        let mut images = 0;
        for disk in dead.power_loss(suite.images, crash + 1) {
            images += 1;
            check(suite, &disk.reborn(u64::MAX), model).map_err(|e| format!("crash {crash}: {e}"))?;
        }
        Ok(images)
    })
}

/// Groups that end where stale records of the first life begin, and groups that leave stale ones themselves.
const PLANS: [&[&[&[usize]]]; 2] = [&[&[&[192]], &[&[256]]], &[&[&[256], &[256], &[256]]]];

fn second_life(
    suite: Suite,
    disk: &Disk,
    before: &Model,
    seen: &Model,
    plan: &[&[&[usize]]],
    seed: u64,
) -> Result<u64, String> {
    let live = |crash: u64| -> (SimMedium, Model, bool) {
        let medium = disk.reborn(crash);
        let mut model = before.clone();
        let mut opened = false;
        if let Ok(journal) = open(suite, &medium) {
            opened = true;
            model = seen.clone();
            for group in plan {
                if model.append(&journal, group).is_err() {
                    break;
                }
            }
        }
        (medium, model, opened)
    };
    let (whole, model, opened) = live(u64::MAX);
    if !opened {
        return Err("the second open failed without a crash".to_owned());
    }
    check(suite, &whole.disk().reborn(u64::MAX), &model).map_err(|e| format!("no second crash: {e}"))?;
    let mut images = 0;
    for crash in 0..whole.disk().ops() {
        let (medium, model, _) = live(crash);
        for disk in medium.disk().power_loss(suite.images / 4, seed * 31 + crash) {
            images += 1;
            let in_what = |e: String| format!("second crash {crash}: {e}");
            let seen = check(suite, &disk.reborn(u64::MAX), &model).map_err(in_what)?;
            // A third life appends one event where the second one's stale records may stand, and dies.
            let third = disk.reborn(u64::MAX);
            let journal = open(suite, &third).map_err(|e| in_what(format!("third open: {e}")))?;
            let mut model = seen;
            model
                .append(&journal, &[&[256]])
                .map_err(|()| in_what("third append".to_owned()))?;
            let dead = third.disk();
            for disk in dead.power_loss(1, 1).take(1) {
                check(suite, &disk.reborn(u64::MAX), &model).map_err(in_what)?;
            }
        }
    }
    Ok(images)
}

/// Damage that no crash does: bad media below a durable position, and a write that went to the wrong place.
fn run_damage(suite: Suite) -> Result<(), String> {
    let medium = Disk::new(suite.kind, suite.omit).reborn(u64::MAX);
    let journal = open(suite, &medium).map_err(|e| e.to_string())?;
    let mut model = Model::default();
    for _ in 0..3 {
        model.append(&journal, &[&[256]]).map_err(|()| "append")?;
    }
    let name = segment::name(0);
    let mut damaged = medium.disk();
    damaged.damage(&name, segment::DATA + 100);
    if let Ok((_, batches)) = shown(suite, &damaged.reborn(u64::MAX)) {
        return Err(format!(
            "bad media below a durable position, and {} batches are shown",
            batches.len()
        ));
    }
    let mut misdirected = medium.disk();
    misdirected.misdirect(&name, segment::DATA, segment::DATA + 3 * 320, 320);
    check(suite, &misdirected.reborn(u64::MAX), &model)?;
    journal.close().map_err(|e| e.to_string())?;
    for mut disk in medium.disk().power_loss(suite.images, 1) {
        if !disk.contents().contains_key(&name) {
            return Err("the segment is gone".to_owned());
        }
        // The last event: behind the epoch record and two others.
        disk.damage(&name, segment::DATA + 64 + 2 * 320 + 100);
        if shown(suite, &disk.reborn(u64::MAX)).is_ok() {
            return Err("bad media below a good close is taken for a torn tail".to_owned());
        }
    }
    Ok(())
}

pub(crate) fn suite(kind: Kind) -> Suite {
    Suite {
        kind,
        omit: None,
        checks: Checks::ALL,
        images: 48,
    }
}

fn both(suite: Suite) -> Result<u64, String> {
    run_damage(suite)?;
    run(suite)
}

#[test]
fn no_crash_of_a_page_cache_loses_or_invents_anything() {
    println!("{} images", both(suite(Kind::PageCache)).unwrap());
}

#[test]
fn no_crash_of_persistent_memory_loses_or_invents_anything() {
    println!("{} images", both(suite(Kind::Pmem)).unwrap());
}

/// `JOURNAL_CRASH_IMAGES` sets up to how many images of a crash all are looked at, and of more a sample of as many.
#[test]
fn all_images_of_a_crash_that_are_not_too_many_keep_what_was_acknowledged() {
    let wanted = std::env::var("JOURNAL_CRASH_IMAGES");
    let images = wanted.map_or(5_000, |n| n.parse().expect("JOURNAL_CRASH_IMAGES is a number"));
    for kind in [Kind::PageCache, Kind::Pmem] {
        let looked_at = run_first(Suite {
            images,
            ..suite(kind)
        })
        .unwrap();
        println!("{kind:?}: {looked_at} images, at most {images} of each crash");
    }
}

#[test]
fn leaving_out_any_commit_or_sync_is_noticed() {
    let sites = [
        Site::CommitOfRecords,
        Site::CommitOfEpoch,
        Site::CommitOfClose,
        Site::CommitOfFooter,
        Site::CommitOfHeader,
        Site::SyncOfFile,
        Site::SyncOfNames,
        Site::SyncOfNamesAtOpen,
        Site::SyncOfTable,
        Site::SyncOfFloorName,
    ];
    let mut unnoticed = Vec::new();
    for kind in [Kind::PageCache, Kind::Pmem] {
        // A fence covers every file: that of the next segment's header, before its name, covers the footer too.
        let needed = |site: &Site| (kind, *site) != (Kind::Pmem, Site::CommitOfFooter);
        for site in sites.into_iter().filter(needed) {
            match both(Suite {
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

#[test]
fn leaving_out_any_check_is_noticed() {
    let skipped = [
        (
            "checksum",
            Checks {
                checksum: false,
                ..Checks::ALL
            },
        ),
        (
            "epoch",
            Checks {
                epoch: false,
                ..Checks::ALL
            },
        ),
        (
            "position",
            Checks {
                position: false,
                ..Checks::ALL
            },
        ),
        (
            "batch",
            Checks {
                batch: false,
                ..Checks::ALL
            },
        ),
        (
            "durable",
            Checks {
                durable: false,
                ..Checks::ALL
            },
        ),
    ];
    let mut unnoticed = Vec::new();
    for kind in [Kind::PageCache, Kind::Pmem] {
        for (name, checks) in skipped {
            match both(Suite {
                checks,
                ..suite(kind)
            }) {
                Ok(_) => unnoticed.push((kind, name)),
                Err(how) => println!("{kind:?} without the {name} check: {how}"),
            }
        }
    }
    assert_eq!(unnoticed, []);
}

#[test]
fn an_append_costs_one_commit_and_none_is_redundant() {
    for kind in [Kind::PageCache, Kind::Pmem] {
        let medium = Disk::new(kind, None).reborn(u64::MAX);
        let journal = open(suite(kind), &medium).unwrap();
        let before = medium.disk().sites().clone();
        for n in 0..5 {
            journal
                .append(
                    &[Event::new(1, 1, b"x"), Event::new(1, 1, b"y")],
                    Expected::Exact(2 * n),
                )
                .unwrap();
        }
        let after = medium.disk().sites().clone();
        let spent = |site| after.get(&site).unwrap_or(&0) - before.get(&site).unwrap_or(&0);
        assert_eq!(spent(Site::CommitOfRecords), 5);
        assert_eq!(spent(Site::CommitOfNothing), 0);
        assert_eq!(after.values().sum::<u64>() - before.values().sum::<u64>(), 5);
    }
}
