//! Which orderings are needed: each one that the models come by is weakened, one at a time, and some model must fail.
//! One that can be weakened unnoticed is either listed below, with the reason, or asks for more than it needs.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{dozing, gate, rings, standing, waiting};
use crate::sync::{Site, seen};

type Model = (&'static str, fn());

/// Few preemptions find what is weak: see the table that the test prints.
const MODELS: &[Model] = &[
    ("gate::passed", || gate::passed(Some(2))),
    ("gate::ended", || gate::ended(Some(2))),
    ("gate::left", || gate::left(Some(2))),
    ("rings::closed", || rings::closed(Some(2))),
    ("waiting::room", || waiting::room(Some(2))),
    ("dozing::woken", || dozing::woken(1, Some(2))),
    ("standing::woken", || standing::woken(Some(2))),
    ("standing::turned_away", || standing::turned_away(None)),
    ("rings::released_by_another", || {
        rings::released_by_another(Some(2))
    }),
    ("rings::written_together", || rings::written_together(Some(2))),
    ("waiting::woken_again", || waiting::woken_again(Some(2))),
    ("rings::shared", || rings::shared(Some(1))),
    ("rings::mirrored", || rings::mirrored(Some(1))),
    ("rings::shared_and_full", || rings::shared_and_full(Some(2))),
];

/// Orderings that no model misses: a part of the file's line, what it is weakened to, and why it stays.
const UNSEEN: &[(&str, Ordering, &str)] = &[
    (
        "self.offered.store",
        Ordering::Relaxed,
        "no memory hangs on it: what orders it is the way of the bytes to the peer and back",
    ),
    ("self.offered.load", Ordering::Relaxed, "as above"),
    (
        "send.rs: let released = self.released.load",
        Ordering::Relaxed,
        "for callers outside: who is told that bytes were consumed sees what was done before they were",
    ),
];

/// What is weaker than an ordering by one step.
fn weaker(ordering: &str) -> &'static [Ordering] {
    match ordering {
        "SeqCst" => &[Ordering::AcqRel],
        "AcqRel" => &[Ordering::Acquire, Ordering::Release],
        _ => &[Ordering::Relaxed],
    }
}

/// The statement at a place, from its first line to the place's.
fn statement((file, line, _): Site) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join(file)).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let last = line as usize - 1;
    let starts =
        |line: &str| line.ends_with([';', '{', '}', ',']) || line.starts_with("//") || line.is_empty();
    let first = (1..=last)
        .rev()
        .find(|first| starts(lines[first - 1]))
        .unwrap_or(0);
    format!(
        "{}: {}",
        file.rsplit("src/").next().unwrap(),
        lines[first..=last].concat()
    )
}

/// The first model that fails.
fn caught(weakened: (Site, Ordering)) -> Option<&'static str> {
    MODELS.iter().find_map(|(name, model)| {
        let run = catch_unwind(AssertUnwindSafe(|| seen(Some(weakened), model)));
        run.is_err().then_some(*name)
    })
}

#[test]
fn every_ordering_is_needed() {
    let sites: BTreeSet<Site> = MODELS
        .iter()
        .flat_map(|(name, model)| {
            let start = std::time::Instant::now();
            let sites = seen(None, model);
            println!("{name}: {:?}", start.elapsed());
            sites
        })
        .collect();
    assert!(sites.len() > 10, "only {} orderings were come by", sites.len());
    std::panic::set_hook(Box::new(|_| {}));
    let mut wrong = Vec::new();
    for site in sites {
        for to in weaker(site.2) {
            let statement = statement(site);
            let caught = caught((site, *to));
            let listed = UNSEEN
                .iter()
                .find(|(part, ordering, _)| statement.contains(part) && ordering == to);
            println!("{:8} -> {to:8?} {:28} {statement}", site.2, caught.unwrap_or("-"));
            if caught.is_some() == listed.is_some() {
                wrong.push(format!(
                    "{statement} -> {to:?}: caught by {caught:?}, listed: {listed:?}"
                ));
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
