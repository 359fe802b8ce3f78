//! A medium that crashes at any operation, and everything that may be left after it.
//!
//! The fault model:
//! - A write is visible at once and durable never, until a commit or sync. At a crash each unit of it (512-byte sector
//!   of a page cache, 8-byte word of non-temporal stores) has independently reached the medium or not; where a
//!   unit was written several times, any of the versions may be there.
//! - A page cache's commit makes the whole file durable, whoever wrote. A fence makes durable what this writer's
//!   life wrote, in all files; what a dead writer left pending stays pending until a sync of the file.
//! - At a crash each change of a name since the last directory sync has independently happened or not. A name that moves
//!   from one directory to another has done so wholly or not at all, and is durable once both were synced.
//! - New files are zero and durable, as creation fills and syncs them. Their names are not.
//! - At the chosen operation the crash happens instead of it, and every operation after it fails.
//! - Death of the process keeps everything visible, and nothing more durable than it was.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Access, Medium, MediumFile, UNFINISHED};
use crate::floor;
use crate::format::{self, CONTROL_CLOSE, CONTROL_EPOCH};
use crate::segment::FOOTER;

/// The directory that segments move to.
pub(crate) const COLD: &str = "cold";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PageCache,
    Pmem,
}

impl Kind {
    fn unit(self) -> u64 {
        match self {
            Kind::PageCache => 512,
            Kind::Pmem => 8,
        }
    }
}

/// Which durability operation this is, told from what it makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    CommitOfRecords,
    CommitOfEpoch,
    CommitOfClose,
    CommitOfFooter,
    CommitOfHeader,
    /// Nothing was pending: it cost time for nothing.
    CommitOfNothing,
    SyncOfFile,
    /// Of a table, before it gets its name.
    SyncOfTable,
    SyncOfNames,
    SyncOfNamesAtOpen,
    SyncOfFloorName,
    /// Of a snapshot or cursor, before it gets its name.
    SyncOfState,
    SyncOfStateName,
    /// Of a compacted segment, before it gets its name.
    SyncOfCompacted,
    /// Of a segment's copy in the directory `cold`, before it gets its name there.
    SyncOfCold,
    SyncOfColdName,
    /// Of the directory that something was set aside in.
    SyncOfAside,
    /// Of the directory that something was moved out of.
    SyncOfMoved,
}

#[derive(Clone)]
struct Write {
    life: u32,
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct SimFile {
    durable: Vec<u8>,
    pending: Vec<Write>,
    /// It was cut to this length, and no sync has made that durable.
    cut: Option<usize>,
    /// A link to this name.
    link: Option<String>,
}

impl SimFile {
    fn visible(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for write in &self.pending {
            bytes[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }

    /// A sync: everything, its length included.
    fn sync(&mut self) {
        self.settle(|_| true);
        self.durable.truncate(self.cut.take().unwrap_or(usize::MAX));
    }

    fn settle(&mut self, which: impl Fn(&Write) -> bool) {
        for write in self.pending.extract_if(.., |write| which(write)) {
            self.durable[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
    }
}

#[derive(Clone)]
enum Naming {
    Name(String, usize),
    Rename(String, String, usize),
    Remove(String),
    /// From one directory to another, with those that have yet to be synced.
    Move(String, String, usize, Vec<String>),
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Naming {
    /// Whether a sync of the directory helps to make it durable.
    fn waits_for(&self, directory: &str) -> bool {
        match self {
            Naming::Name(name, _) | Naming::Remove(name) | Naming::Rename(_, name, _) => {
                directory_of(name) == directory
            }
            Naming::Move(_, _, _, unsynced) => unsynced.iter().any(|other| other == directory),
        }
    }

    /// The directory is synced: whether that makes it durable.
    fn synced(&mut self, directory: &str) -> bool {
        match self {
            Naming::Move(_, _, _, unsynced) => {
                unsynced.retain(|other| other != directory);
                unsynced.is_empty()
            }
            _ => self.waits_for(directory),
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Name(name, file) => drop(names.insert(name.clone(), *file)),
        Naming::Rename(from, to, file) | Naming::Move(from, to, file, _) => {
            if names.get(from) == Some(file) {
                names.remove(from);
            }
            names.insert(to.clone(), *file);
        }
        Naming::Remove(name) => drop(names.remove(name)),
    }
}

#[derive(Clone)]
pub(crate) struct Disk {
    kind: Kind,
    life: u32,
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
    ops: u64,
    crash_at: u64,
    /// This operation fails with this, and those after it do not.
    fail_once: Option<(u64, io::ErrorKind)>,
    omit: Option<Site>,
    sites: BTreeMap<Site, u64>,
}

impl Disk {
    pub(crate) fn new(kind: Kind, omit: Option<Site>) -> Disk {
        Disk {
            kind,
            life: 0,
            files: Vec::new(),
            names: BTreeMap::new(),
            pending_names: Vec::new(),
            ops: 0,
            crash_at: u64::MAX,
            fail_once: None,
            omit,
            sites: BTreeMap::new(),
        }
    }

    /// The same bytes in the hands of the next process, which crashes at operation `crash_at`.
    pub(crate) fn reborn(&self, crash_at: u64) -> SimMedium {
        let mut disk = self.clone();
        disk.life += 1;
        disk.ops = 0;
        disk.crash_at = crash_at;
        SimMedium {
            disk: Arc::new(Mutex::new(disk)),
            directory: String::new(),
        }
    }

    pub(crate) fn ops(&self) -> u64 {
        self.ops
    }

    pub(crate) fn sites(&self) -> &BTreeMap<Site, u64> {
        &self.sites
    }

    /// The same disk, with another operation left out.
    pub(crate) fn without(self, omit: Option<Site>) -> Disk {
        Disk { omit, ..self }
    }

    /// Everything visible is durable.
    pub(crate) fn settled(mut self) -> Disk {
        self.names = self.visible_names();
        self.pending_names.clear();
        self.files.iter_mut().for_each(SimFile::sync);
        self
    }

    /// All files, by their visible names.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let visible = |(name, file): (String, usize)| (name, self.files[file].visible());
        self.visible_names().into_iter().map(visible).collect()
    }

    /// Flips a visible bit, as bad media does.
    pub(crate) fn damage(&mut self, name: &str, offset: u64) {
        let file = self.visible_names()[name];
        let file = &mut self.files[file];
        file.settle(|_| true);
        file.durable[offset as usize] ^= 0x40;
    }

    /// Copies bytes inside a file, as a misdirected write does.
    pub(crate) fn misdirect(&mut self, name: &str, from: u64, to: u64, len: usize) {
        let file = self.visible_names()[name];
        let file = &mut self.files[file];
        file.settle(|_| true);
        file.durable
            .copy_within(from as usize..from as usize + len, to as usize);
    }

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

    fn visible_names(&self) -> BTreeMap<String, usize> {
        let mut names = self.names.clone();
        self.pending_names
            .iter()
            .for_each(|naming| apply(&mut names, naming));
        names
    }

    fn step(&mut self) -> io::Result<()> {
        if self.ops >= self.crash_at {
            return Err(io::Error::other("the simulated machine has crashed"));
        }
        self.ops += 1;
        match self.fail_once.take_if(|(at, _)| *at < self.ops) {
            Some((_, kind)) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn note(&mut self, site: Site) -> bool {
        *self.sites.entry(site).or_default() += 1;
        self.omit == Some(site)
    }
}

struct Unit {
    file: usize,
    at: u64,
    versions: usize,
    group: (usize, usize),
}

#[derive(Clone)]
pub(crate) struct SimMedium {
    disk: Arc<Mutex<Disk>>,
    /// Names are those of this directory.
    directory: String,
}

impl SimMedium {
    pub(crate) fn disk(&self) -> Disk {
        self.lock().clone()
    }

    /// The operation after the next `skip` fails once.
    pub(crate) fn fail_after(&self, skip: u64, kind: io::ErrorKind) {
        let mut disk = self.lock();
        disk.fail_once = Some((disk.ops + skip, kind));
    }

    /// Whether that operation is still to come.
    pub(crate) fn has_yet_to_fail(&self) -> bool {
        self.lock().fail_once.is_some()
    }

    pub(crate) fn forget_failure(&self) {
        self.lock().fail_once = None;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, name: &str) -> String {
        match self.directory.as_str() {
            "" => name.to_owned(),
            directory => format!("{directory}/{name}"),
        }
    }

    fn sync_of_stored(&self, file: usize, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        let site = match name.rsplit_once('.') {
            Some((_, "snap" | "cursor")) => Site::SyncOfState,
            Some((_, "seg")) if name.starts_with(COLD) => Site::SyncOfCold,
            Some((_, "seg")) => Site::SyncOfCompacted,
            _ => Site::SyncOfTable,
        };
        if !disk.note(site) {
            disk.files[file].sync();
        }
        Ok(())
    }

    fn file(&self, file: usize) -> Box<dyn MediumFile> {
        Box::new(SimHandle {
            medium: self.clone(),
            file,
        })
    }
}

impl Medium for SimMedium {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.lock().visible_names().into_keys();
        let own = |name: String| {
            let (directory, name) = name.rsplit_once('/').unwrap_or(("", &name));
            (directory == self.directory).then(|| name.to_owned())
        };
        Ok(names.filter_map(own).collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn MediumFile>> {
        let mut disk = self.lock();
        disk.step()?;
        disk.files.push(SimFile {
            durable: vec![0; len as usize],
            ..SimFile::default()
        });
        let file = disk.files.len() - 1;
        disk.pending_names.push(Naming::Name(self.full(name), file));
        Ok(self.file(file))
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Box<dyn MediumFile>> {
        let disk = self.lock();
        let names = disk.visible_names();
        let file = *names.get(&self.full(name)).ok_or(io::ErrorKind::NotFound)?;
        let file = match &disk.files[file].link {
            None => file,
            Some(target) => *names.get(target).ok_or(io::ErrorKind::NotFound)?,
        };
        drop(disk);
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        let (from, to) = (self.full(from), self.full(to));
        let file = disk.visible_names().get(&from).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let (left, entered) = (directory_of(&from).to_owned(), directory_of(&to).to_owned());
        let naming = if left == entered {
            Naming::Rename(from, to, file)
        } else {
            Naming::Move(from, to, file, vec![left, entered])
        };
        disk.pending_names.push(naming);
        Ok(())
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        let names = disk.visible_names();
        let file = *names.get(&self.full(from)).ok_or(io::ErrorKind::NotFound)?;
        if names.contains_key(&self.full(to)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.pending_names.push(Naming::Name(self.full(to), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if let Some(target) = self.read_link(name)? {
            let mut disk = self.lock();
            disk.step()?;
            disk.pending_names.push(Naming::Remove(target));
        }
        let mut disk = self.lock();
        disk.step()?;
        disk.pending_names.push(Naming::Remove(self.full(name)));
        Ok(())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        self.create(&unfinished, bytes.len() as u64)?.write_at(0, bytes)?;
        let file = self.lock().visible_names()[&self.full(&unfinished)];
        self.sync_of_stored(file, name)?;
        self.rename(&unfinished, name)
    }

    fn store_over(&self, from: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        self.rename(from, &unfinished)?;
        self.open(&unfinished, Access::Write)?.write_at(0, bytes)?;
        let file = {
            let mut disk = self.lock();
            disk.step()?;
            let file = disk.visible_names()[&self.full(&unfinished)];
            disk.files[file].cut = Some(bytes.len());
            file
        };
        self.sync_of_stored(file, name)?;
        self.rename(&unfinished, name)
    }

    fn link(&self, target: &str, name: &str) -> io::Result<()> {
        let unfinished = format!("{name}{UNFINISHED}");
        self.create(&unfinished, 0)?;
        let mut disk = self.lock();
        let file = disk.visible_names()[&self.full(&unfinished)];
        disk.files[file].link = Some(target.to_owned());
        drop(disk);
        self.rename(&unfinished, name)
    }

    fn read_link(&self, name: &str) -> io::Result<Option<String>> {
        let disk = self.lock();
        let file = disk.visible_names().get(&self.full(name)).copied();
        Ok(disk.files[file.ok_or(io::ErrorKind::NotFound)?].link.clone())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.step()?;
        let mut newest = disk.pending_names.iter().rev();
        let own = newest.find(|naming| naming.waits_for(&self.directory));
        // An open syncs names before it makes any; its own renames come at least three operations later.
        let site = match own {
            Some(_) if self.directory.starts_with("set-aside") => Site::SyncOfAside,
            Some(Naming::Move(..)) => Site::SyncOfMoved,
            Some(Naming::Rename(_, to, _)) if to.ends_with(".snap") || to.ends_with(".cursor") => {
                Site::SyncOfStateName
            }
            Some(Naming::Rename(..)) if self.directory == COLD => Site::SyncOfColdName,
            Some(Naming::Rename(_, to, _)) if disk.ops > 3 && floor::index_of(to).is_some() => {
                Site::SyncOfFloorName
            }
            Some(Naming::Rename(..)) if disk.ops > 3 => Site::SyncOfNames,
            _ => Site::SyncOfNamesAtOpen,
        };
        if !disk.note(site) {
            for mut naming in std::mem::take(&mut disk.pending_names) {
                if naming.synced(&self.directory) {
                    apply(&mut disk.names, &naming);
                } else {
                    disk.pending_names.push(naming);
                }
            }
        }
        Ok(())
    }

    fn directory(&self, name: &str) -> Box<dyn Medium> {
        Box::new(SimMedium {
            directory: self.full(name),
            ..self.clone()
        })
    }

    fn make_directory(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

struct SimHandle {
    medium: SimMedium,
    file: usize,
}

impl MediumFile for SimHandle {
    fn len(&self) -> io::Result<u64> {
        let disk = self.medium.lock();
        let file = &disk.files[self.file];
        Ok(file.cut.unwrap_or(file.durable.len()) as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.medium.lock().files[self.file].visible();
        let from = bytes.get(offset as usize..).unwrap_or(&[]);
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.medium.lock();
        disk.step()?;
        let life = disk.life;
        disk.files[self.file].pending.push(Write {
            life,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn commit(&self) -> io::Result<()> {
        let mut disk = self.medium.lock();
        disk.step()?;
        let file = &disk.files[self.file];
        let size = file.durable.len() as u64;
        let site = match file.pending.last() {
            None => Site::CommitOfNothing,
            Some(write) if write.offset == 0 => Site::CommitOfHeader,
            Some(write) if write.offset == size - FOOTER => Site::CommitOfFooter,
            Some(write) => match control_kind(&write.bytes) {
                Some(CONTROL_EPOCH) => Site::CommitOfEpoch,
                Some(CONTROL_CLOSE) => Site::CommitOfClose,
                _ => Site::CommitOfRecords,
            },
        };
        if disk.note(site) {
            return Ok(());
        }
        let life = disk.life;
        match disk.kind {
            Kind::PageCache => disk.files[self.file].settle(|_| true),
            Kind::Pmem => disk
                .files
                .iter_mut()
                .for_each(|file| file.settle(|write| write.life == life)),
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.medium.lock();
        disk.step()?;
        if !disk.note(Site::SyncOfFile) {
            disk.files[self.file].sync();
        }
        Ok(())
    }
}

fn control_kind(bytes: &[u8]) -> Option<u16> {
    let header = bytes.get(..format::HEADER)?.try_into().ok()?;
    let header = format::Header::decode(header, bytes.len() as u64).ok()??;
    header.is_control().then_some(header.kind)
}
