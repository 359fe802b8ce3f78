//! The simulated disk as a journal uses it: a medium and its files, until the crash.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{COLD, Disk, Kind, Naming, SimFile, Site, Write, apply, directory_of};
use crate::floor;
use crate::format::{self, CONTROL_CLOSE, CONTROL_EPOCH};
use crate::medium::{Access, Medium, MediumFile, UNFINISHED};
use crate::segment::FOOTER;

#[derive(Clone)]
pub(crate) struct SimMedium {
    disk: Arc<Mutex<Disk>>,
    /// Names are those of this directory.
    directory: String,
}

impl SimMedium {
    pub(super) fn new(disk: Disk) -> SimMedium {
        SimMedium {
            disk: Arc::new(Mutex::new(disk)),
            directory: String::new(),
        }
    }

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
