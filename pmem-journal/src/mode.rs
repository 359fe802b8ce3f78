//! How bytes become durable: which ways exist, and which one a directory can give and why.
//!
//! The mode is found by probing the directory itself, never assumed from a name or an environment variable, and the
//! reason is kept so that a person can read it. A caller who must have a mode requires it and gets an error instead
//! of something weaker.

use std::fmt;

/// A way for bytes to become durable (`docs/DURABILITY.md`, "Modes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Persistent memory mapped with MAP_SYNC: non-temporal stores, then a fence. No system call per append.
    Pmem,
    /// As `Pmem` where the platform's energy reserve covers the CPU caches: plain stores, then a fence.
    Eadr,
    /// A DAX file without MAP_SYNC: written and synced like an ordinary file.
    DaxNoSync,
    /// An ordinary file: pwrite and fdatasync, one sync for all who wait.
    Buffered,
    /// An ordinary file written past the page cache, each write durable when it returns (O_DIRECT, O_DSYNC).
    /// Never chosen by probing: which of the two is faster depends on the device.
    Direct,
    /// The `Pmem` code over an ordinary shared mapping. Survives the death of the process, not of the machine.
    /// Never chosen by probing: it exists for tests and for measuring the code without the medium.
    Volatile,
}

impl Mode {
    /// Whether what was appended survives power loss.
    pub fn survives_power_loss(self) -> bool {
        self != Mode::Volatile
    }

    /// The name used on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pmem => "pmem",
            Mode::Eadr => "eadr",
            Mode::DaxNoSync => "dax-no-sync",
            Mode::Buffered => "buffered",
            Mode::Direct => "direct",
            Mode::Volatile => "volatile",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Mode, String> {
        [
            Mode::Pmem,
            Mode::Eadr,
            Mode::DaxNoSync,
            Mode::Buffered,
            Mode::Direct,
            Mode::Volatile,
        ]
        .into_iter()
        .find(|mode| mode.name() == name)
        .ok_or_else(|| {
            format!("no mode is called {name:?}: use pmem, eadr, dax-no-sync, buffered, direct or volatile")
        })
    }
}

/// What probing found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The mode in force.
    pub mode: Mode,
    /// Why this one, for a person.
    pub reason: String,
}
