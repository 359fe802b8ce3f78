//! Whether a device that this process has open is still of use.
//!
//! The kernel removes a device in two steps (`ib_uverbs_remove_one` in its `drivers/infiniband/core/uverbs_main.c`). It
//! takes away the device's entry in `/sys/class/infiniband_verbs`, and its file in `/dev` with it. Then it takes the
//! device from the processes that have it open, and tells them by an event, if the driver can do that; if not, it waits
//! until they have closed it. Soft-RoCE is a driver that cannot: until the last process lets go, all queue pairs work, no
//! event comes, and whoever removes the device is stuck.
//!
//! So connections look now and then whether the entry is still there and what events have come, and end with the device.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sideway::ibverbs::device_context::DeviceContext;

use super::counts::Counts;
use super::events::{Event, Events};
use crate::limits::verbs::DEVICE_LOOKS;

const CLASS: &str = "/sys/class/infiniband_verbs";

/// A device's life, from when it was opened.
pub(super) struct Life {
    entry: Entry,
    events: Events,
    counts: Arc<Counts>,
    since: Instant,
    /// Milliseconds since then at which the next look is due.
    next_look: AtomicU64,
    over: OnceLock<&'static str>,
}

impl Life {
    pub(super) fn of(entry: Entry, context: &Arc<DeviceContext>, counts: &Arc<Counts>) -> io::Result<Life> {
        Ok(Life {
            entry,
            events: Events::of(context)?,
            counts: counts.clone(),
            since: Instant::now(),
            next_look: AtomicU64::new(0),
            over: OnceLock::new(),
        })
    }

    /// Why it is over, as far as is known. Costs two system calls once in [`DEVICE_LOOKS`], for all who ask together.
    pub(super) fn over(&self) -> Option<&'static str> {
        let now = self.since.elapsed();
        // Two threads that look at the same time do no harm.
        if self.over.get().is_none() && now.as_millis() as u64 >= self.next_look.load(Ordering::Relaxed) {
            let next = now + DEVICE_LOOKS;
            self.next_look.store(next.as_millis() as u64, Ordering::Relaxed);
            self.look();
        }
        self.over.get().copied()
    }

    fn look(&self) {
        self.events.take(|event| {
            self.counts.events.fetch_add(1, Ordering::Relaxed);
            tracing::info!(entry = %self.entry.path.display(), ?event, "event of an RDMA device");
            if event == Event::DEVICE_FATAL {
                self.over.get_or_init(|| "has failed or is taken out");
            }
        });
        if !self.entry.is_there() {
            self.over.get_or_init(|| "is being removed");
        }
    }
}

impl Drop for Life {
    /// Events are counted to the last.
    fn drop(&mut self) {
        self.look();
    }
}

/// A device's entry in sysfs, as it was before the device was opened.
pub(super) struct Entry {
    path: PathBuf,
    /// Tells the entry from that of a later device.
    inode: u64,
}

impl Entry {
    /// Of the device with this name; `NotFound` where that is being removed already.
    pub(super) fn of(device: &str) -> io::Result<Entry> {
        for entry in Path::new(CLASS).read_dir()? {
            let path = entry?.path();
            // `uverbs0`, say, has the device's name in it.
            if std::fs::read_to_string(path.join("ibdev")).is_ok_and(|name| name.trim() == device) {
                return Entry::at(path);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn at(path: PathBuf) -> io::Result<Entry> {
        let inode = path.metadata()?.ino();
        Ok(Entry { path, inode })
    }

    fn is_there(&self) -> bool {
        match self.path.metadata() {
            Ok(entry) => entry.ino() == self.inode,
            // Whatever else keeps us from looking says nothing about the device.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("device-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn an_entry_that_is_taken_away_is_not_there() {
        let path = folder("one");
        let entry = Entry::at(path.clone()).unwrap();
        assert!(entry.is_there());
        fs::remove_dir(&path).unwrap();
        assert!(!entry.is_there());
    }

    #[test]
    fn another_entry_in_its_place_is_not_the_one_that_was_opened() {
        let (path, later) = (folder("old"), folder("new"));
        let entry = Entry::at(path.clone()).unwrap();
        fs::rename(&later, &path).unwrap();
        assert!(!entry.is_there());
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn a_device_that_does_not_exist_has_no_entry() {
        let error = Entry::of("no-such-device").err().expect("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
