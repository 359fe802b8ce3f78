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

mod images;
mod machine;

use std::collections::BTreeMap;
use std::io;

pub(crate) use machine::SimMedium;

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
        SimMedium::new(disk)
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
