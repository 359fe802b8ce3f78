//! Folders that go away however this process ends, by Ctrl-C and by SIGKILL too.
//!
//! A [`Scratch`] removes its folder when it is dropped, which a killed process never comes to. So a child is told of every
//! folder, waits for the end of its pipe, and removes those that are left.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{Error, doing};
use crate::tied;

/// What the child is told of a path: that it is to go away, or that it is to stay after all.
const GOES: u8 = b'-';
const STAYS: u8 = b'+';
/// Between two words: no path has it.
const END: u8 = 0;

/// How often a folder is tried that processes still write to, which end with the one that was killed.
const ATTEMPTS: u32 = 100;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// The child's pipe, once there is a folder.
static SWEEPER: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// A new folder that goes away with its handle.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// # Errors
    /// Where nothing can be made in `dir`.
    pub(crate) fn make_in(dir: &Path) -> Result<Scratch, Error> {
        let folder = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(dir)
            .map_err(|error| Error::NoFolder {
                dir: dir.to_owned(),
                // Without the path that was tried, whose name is nobody's choice.
                source: error.kind().into(),
            })?;
        tell(GOES, folder.path())?;
        Ok(Scratch { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves it where it is.
    pub(crate) fn keep(self) -> PathBuf {
        let path = self.folder.keep();
        // A child that cannot be told is gone, and removes nothing.
        let _ = tell(STAYS, &path);
        path
    }
}

fn tell(word: u8, path: &Path) -> Result<(), Error> {
    let mut sweeper = SWEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = match &mut *sweeper {
        Some(pipe) => pipe,
        none => none.insert(start()?),
    };
    let words = [&[word], path.as_os_str().as_bytes(), &[END]].concat();
    pipe.write_all(&words)
        .map_err(doing("telling the child that removes temporary folders"))
}

/// In a process group of its own, which Ctrl-C is not sent to.
fn start() -> Result<ChildStdin, Error> {
    let starting = || doing("starting the child that removes temporary folders");
    let child = tied::this_program()?
        .arg(tied::SWEEP_COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(starting())?;
    child
        .stdin
        .ok_or_else(|| starting()(std::io::Error::from(std::io::ErrorKind::BrokenPipe)))
}

/// The whole life of the child.
pub(crate) fn sweep() -> Result<(), Error> {
    for path in left_behind(std::io::stdin().lock()) {
        for _ in 0..ATTEMPTS {
            if std::fs::remove_dir_all(&path).is_ok() || !path.exists() {
                break;
            }
            std::thread::sleep(BETWEEN_ATTEMPTS);
        }
    }
    Ok(())
}

/// Paths that were to go away when there are no more words.
fn left_behind(words: impl BufRead) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for word in words.split(END).map_while(Result::ok) {
        match word.split_first() {
            Some((&GOES, path)) => paths.insert(OsStr::from_bytes(path).into()),
            Some((&STAYS, path)) => paths.remove(Path::new(OsStr::from_bytes(path))),
            _ => break,
        };
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_stay_and_what_is_no_word_is_left_alone() {
        let left = |words: &[u8]| left_behind(words).into_iter().collect::<Vec<_>>();
        assert_eq!(left(b"-/a\0-/b\nb\0+/a\0"), [Path::new("/b\nb")]);
        assert!(left(b"").is_empty());
        assert!(left(b"typed by a person\n").is_empty());
    }
}
