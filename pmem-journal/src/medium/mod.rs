//! Where bytes become durable. Everything that must survive goes through these two traits, so that a simulated
//! medium can crash at every operation and see what is left.
//!
//! The contract of a file: what [`MediumFile::write_at`] wrote is durable once [`MediumFile::commit`] returned on the
//! same thread, and not before; after a failure of either nothing may be assumed. [`MediumFile::sync`] also covers
//! bytes that somebody else wrote (a writer that died). Names are durable after [`Medium::sync_dir`].

pub(crate) mod direct;
pub(crate) mod file;
pub(crate) mod in_memory;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod nt;
#[allow(unsafe_code)]
pub(crate) mod pmem;
mod probe;
#[allow(unsafe_code)]
pub(crate) mod read_map;
#[cfg(test)]
pub(crate) mod sim;
#[allow(unsafe_code)]
mod writeback;

use std::io;

pub use probe::probe;
use read_map::ReadMap;

use crate::format::Encoded;

/// How a file is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A directory of files that can be made durable.
pub(crate) trait Medium: Send + Sync {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of `len` zero bytes, all of them reserved, in place of any of that name.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn MediumFile>>;
    /// As [`Medium::create`], beside somebody who writes to the same medium: once the file has its room, and before each
    /// [`ZEROES_STEP`], `pace` is told how many bytes are done, and returns when it may go on; its error ends the making.
    fn create_step_by_step(
        &self,
        name: &str,
        len: u64,
        pace: &dyn Fn(u64) -> io::Result<()>,
    ) -> io::Result<Box<dyn MediumFile>> {
        pace(0)?;
        self.create(name, len)
    }
    /// An existing file.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn MediumFile>>;
    /// Gives a file another name, which may be in a directory of this one: then a crash leaves it under either, and it is
    /// durable once both directories were synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name; an error if that is taken. Of a link, the link itself has it.
    fn hard_link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; of a link, also what it leads to.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Writes a file of these bytes, durable before it gets its name, in place of any of that name. The name is not
    /// durable yet.
    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// As [`Medium::store`], in the space that the file `from` holds and as it gives up: for a full disk. `from` is at
    /// least as long, and is gone whatever the outcome.
    fn store_over(&self, from: &str, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Puts a symbolic link to `target` in the place of `name`. What it leads to is opened in its stead.
    fn link(&self, target: &str, name: &str) -> io::Result<()>;
    /// Where the link `name` leads; `None` if it is a file.
    fn read_link(&self, name: &str) -> io::Result<Option<String>>;
    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// A directory in this one. A name here, with a slash, is the same file as the name there.
    fn directory(&self, name: &str) -> Box<dyn Medium>;
    /// Makes that directory if it is missing, durably.
    fn make_directory(&self, name: &str) -> io::Result<()>;
}

/// Bytes of zeroes that [`Medium::create_step_by_step`] puts before the medium at a time.
pub(crate) const ZEROES_STEP: u64 = 1 << 20;

/// Ending of a name that a file has until it is whole.
pub(crate) const UNFINISHED: &str = ".new";

/// A file whose writes can be made durable.
pub(crate) trait MediumFile: Send + Sync {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Reads what is there now, at most `buf.len()` bytes; 0 at the end. Never through a mapping.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` inside the file's length.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes a record: [`MediumFile::write_at`] without a copy in between, where the medium can.
    fn write_record(&self, offset: u64, record: &Encoded<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        record.append_to(&mut bytes);
        self.write_at(offset, &bytes)
    }
    /// As [`MediumFile::write_at`], of bytes that a later commit of any thread makes durable: the medium may begin with them
    /// already.
    fn write_ahead(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }
    /// Makes this thread's writes durable, and what was written ahead before.
    fn commit(&self) -> io::Result<()>;
    /// Makes everything in the file durable, whoever wrote it.
    fn sync(&self) -> io::Result<()>;
    /// A mapping to read from without a copy; for sealed segments alone. `None` where there is no such thing.
    fn map_for_reading(&self) -> Option<ReadMap> {
        None
    }
    /// Has the next reading come from the medium, and not from a page cache that may be older.
    fn forget_cached(&self) {}
}

/// Reads as much of `buf` as the file has.
pub(crate) fn read_full(file: &dyn MediumFile, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(offset + done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
