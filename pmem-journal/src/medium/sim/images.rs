//! What a power loss may leave of a simulated disk (its fault model: `sim.rs`).

use std::collections::BTreeMap;

use super::{Disk, SimFile, Write, apply};

/// A part of a file that has reached the medium in one of its versions or not at all.
struct Unit {
    file: usize,
    at: u64,
    versions: usize,
    group: (usize, usize),
}

impl Disk {
    /// What a power loss now may leave: all images if there are at most `limit`, else those one step away from
    /// nothing, everything and whole writes, and then random ones.
    pub(crate) fn power_loss(&self, limit: usize, seed: u64) -> impl Iterator<Item = Disk> + use<'_> {
        let units = self.units();
        let mut choices: Vec<Vec<usize>> = Vec::new();
        let all = units
            .iter()
            .try_fold(1usize, |n, unit| n.checked_mul(unit.versions + 1))
            .unwrap_or(usize::MAX);
        if all <= limit {
            let mut choice = vec![0; units.len()];
            for _ in 0..all {
                choices.push(choice.clone());
                for (digit, unit) in choice.iter_mut().zip(&units) {
                    *digit = (*digit + 1) % (unit.versions + 1);
                    if *digit != 0 {
                        break;
                    }
                }
            }
        } else {
            let full: Vec<usize> = units.iter().map(|unit| unit.versions).collect();
            let empty = vec![0; units.len()];
            choices.push(empty.clone());
            choices.push(full.clone());
            let mut dice = seed | 1;
            let mut roll = |n: usize| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                (dice >> 11) as usize % n
            };
            // Whole writes missing, or alone there.
            let groups: std::collections::BTreeSet<_> = units.iter().map(|unit| unit.group).collect();
            for group in groups {
                for (base, value) in [(&full, 0), (&empty, 1)] {
                    let mut choice = base.clone();
                    for (n, unit) in units.iter().enumerate().filter(|(_, unit)| unit.group == group) {
                        choice[n] = value * unit.versions;
                    }
                    choices.push(choice);
                }
            }
            let rest = limit.saturating_sub(choices.len());
            for n in 0..rest {
                let mut choice = if n % 3 == 0 { empty.clone() } else { full.clone() };
                let changes = if n % 4 == 3 { units.len() } else { 1 };
                for _ in 0..changes {
                    let unit = roll(units.len());
                    choice[unit] = roll(units[unit].versions + 1);
                }
                choices.push(choice);
            }
        }
        // Names in every image of few, and in turn in many.
        let states = self.naming_states();
        let all_names = choices.len() * states.len() <= limit;
        let count = choices.len() * if all_names { states.len() } else { 1 };
        (0..count).map(move |n| {
            let choice = if all_names { n / states.len() } else { n };
            self.image(&units, &choices[choice], &states[n % states.len()])
        })
    }

    /// Which of the changes of names since the last directory sync may have happened: any, where they are few;
    /// else each prefix, each alone, and all but each.
    fn naming_states(&self) -> Vec<Vec<bool>> {
        let n = self.pending_names.len();
        if n <= 4 {
            return (0..1u32 << n)
                .rev()
                .map(|bits| (0..n).map(|at| bits & (1 << at) != 0).collect())
                .collect();
        }
        let mut states: Vec<Vec<bool>> = (0..=n).map(|kept| (0..n).map(|at| at < kept).collect()).collect();
        for one in 0..n {
            states.push((0..n).map(|at| at == one).collect());
            states.push((0..n).map(|at| at != one).collect());
        }
        states
    }

    fn units(&self) -> Vec<Unit> {
        let mut units: BTreeMap<(usize, u64), Unit> = BTreeMap::new();
        let size = self.kind.unit();
        for (file, sim) in self.files.iter().enumerate() {
            for (nth, write) in sim.pending.iter().enumerate() {
                let end = write.offset + write.bytes.len() as u64;
                for at in (write.offset / size..end.div_ceil(size)).map(|n| n * size) {
                    let unit = units.entry((file, at)).or_insert(Unit {
                        file,
                        at,
                        versions: 0,
                        group: (file, nth),
                    });
                    unit.versions += 1;
                }
            }
        }
        units.into_values().collect()
    }

    fn image(&self, units: &[Unit], choice: &[usize], names: &[bool]) -> Disk {
        let mut disk = self.clone();
        let size = self.kind.unit();
        for (unit, versions) in units.iter().zip(choice) {
            let SimFile { durable, pending, .. } = &mut disk.files[unit.file];
            let covers = |w: &&Write| w.offset < unit.at + size && unit.at < w.offset + w.bytes.len() as u64;
            for write in pending.iter().filter(covers).take(*versions) {
                let from = unit.at.max(write.offset);
                let to = (unit.at + size).min(write.offset + write.bytes.len() as u64);
                durable[from as usize..to as usize].copy_from_slice(
                    &write.bytes[(from - write.offset) as usize..(to - write.offset) as usize],
                );
            }
        }
        for file in &mut disk.files {
            file.pending.clear();
            // Two files' lengths are as independent as their bytes: the choice of names stands in for a coin.
            if let Some(len) = file
                .cut
                .take()
                .filter(|_| names.first().is_some_and(|kept| *kept))
            {
                file.durable.truncate(len);
            }
        }
        for (naming, _) in disk.pending_names.drain(..).zip(names).filter(|(_, kept)| **kept) {
            apply(&mut disk.names, &naming);
        }
        disk
    }
}
