//! A directory of files, written with pwrite and fdatasync unless a mode knows better. A full disk is an error here, never a signal, because segments are reserved
//! and filled with zeroes before anything is written into them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::read_map::ReadMap;
use super::{Access, Medium, MediumFile, UNFINISHED, ZEROES_STEP, writeback};

static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Makes, of a file at a path that is open for reading and writing, one that is written in the way of a mode.
pub(crate) type Writing = Box<dyn Fn(&Path, File) -> io::Result<Box<dyn MediumFile>> + Send + Sync>;

/// Is told how many bytes are done, and returns when more may follow.
type Pace<'a> = &'a dyn Fn(u64) -> io::Result<()>;

/// A directory on any file system. Reading, names and whole small files are the same in every mode; only how a segment is
/// written differs.
pub(crate) struct FileMedium {
    dir: PathBuf,
    writing: Writing,
}

impl FileMedium {
    /// Written through the page cache.
    pub(crate) fn new(dir: &Path) -> FileMedium {
        FileMedium::written_by(dir, Box::new(|_, file| Ok(Box::new(OrdinaryFile(file)))))
    }

    /// Written in another way.
    pub(crate) fn written_by(dir: &Path, writing: Writing) -> FileMedium {
        FileMedium {
            dir: dir.to_owned(),
            writing,
        }
    }

    fn create_at(&self, name: &str, len: u64, pace: Option<Pace<'_>>) -> io::Result<Box<dyn MediumFile>> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        reserve_and_zero(&file, len, pace).inspect_err(|_| drop(fs::remove_file(&path)))?;
        (self.writing)(&path, file)
    }
}

/// With a pace it is asked before each step, and the step is on the medium before the next.
fn reserve_and_zero(file: &File, len: u64, pace: Option<Pace<'_>>) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // A file system without fallocate: writing the zeroes reserves the space as well.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    let Some(pace) = pace else {
        zero(file, 0..len)?;
        return file.sync_all();
    };
    for start in (0..len).step_by(ZEROES_STEP as usize) {
        let end = len.min(start + ZEROES_STEP);
        pace(start)?;
        zero(file, start..end)?;
        writeback::finish(file, start, end - start)?;
    }
    file.sync_all()
}

fn zero(file: &File, bytes: Range<u64>) -> io::Result<()> {
    for at in bytes.clone().step_by(ZEROES.len()) {
        let n = (bytes.end - at).min(ZEROES.len() as u64);
        file.write_all_at(&ZEROES[..n as usize], at)?;
    }
    Ok(())
}

impl Medium for FileMedium {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn MediumFile>> {
        self.create_at(name, len, None)
    }

    fn create_step_by_step(&self, name: &str, len: u64, pace: Pace<'_>) -> io::Result<Box<dyn MediumFile>> {
        self.create_at(name, len, Some(pace))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn MediumFile>> {
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => Ok(Box::new(OrdinaryFile(options.open(path)?))),
            Access::Write => (self.writing)(&path, options.write(true).open(&path)?),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        // What a link leads to first: a dangling link is found again, a file that nothing leads to is not.
        if let Ok(target) = fs::read_link(&path) {
            match fs::remove_file(self.dir.join(target)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::remove_file(path)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.dir.join(format!("{name}{UNFINISHED}"));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&unfinished, self.dir.join(name)))
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn store_over(&self, from: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.dir.join(format!("{name}{UNFINISHED}"));
        fs::rename(self.dir.join(from), &unfinished)?;
        let written = OpenOptions::new().write(true).open(&unfinished).and_then(|file| {
            // Its blocks are written over where they are; only then does it give up the rest.
            file.write_all_at(bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&unfinished, self.dir.join(name)))
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn link(&self, target: &str, name: &str) -> io::Result<()> {
        let unfinished = self.dir.join(format!("{name}{UNFINISHED}"));
        match fs::remove_file(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::os::unix::fs::symlink(target, &unfinished)?;
        fs::rename(&unfinished, self.dir.join(name)).inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn read_link(&self, name: &str) -> io::Result<Option<String>> {
        let path = self.dir.join(name);
        if !fs::symlink_metadata(&path)?.is_symlink() {
            return Ok(None);
        }
        let target = fs::read_link(path)?;
        let text = target.to_str().map(str::to_owned);
        text.map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the link leads to a name that is not UTF-8",
            )
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// What is in it is written through the page cache.
    fn directory(&self, name: &str) -> Box<dyn Medium> {
        Box::new(FileMedium::new(&self.dir.join(name)))
    }

    fn make_directory(&self, name: &str) -> io::Result<()> {
        match fs::create_dir(self.dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.sync_dir(),
        }
    }
}

struct OrdinaryFile(File);

impl MediumFile for OrdinaryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn write_ahead(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        writeback::begin(&self.0, offset, bytes.len() as u64);
        Ok(())
    }

    fn commit(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map_for_reading(&self) -> Option<ReadMap> {
        ReadMap::new(&self.0).ok()
    }

    fn forget_cached(&self) {
        let _ = rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed);
    }
}
