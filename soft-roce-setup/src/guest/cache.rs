//! Where downloaded kernels are kept, and what was learnt about this machine's accelerator.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error(
        "neither XDG_CACHE_HOME nor HOME is an absolute path: set one, it is where the guest's kernel is kept"
    )]
    NoHome,
    #[error("cannot use the cache {path}: {source} (set XDG_CACHE_HOME to a folder that you can write)")]
    Unusable { path: PathBuf, source: std::io::Error },
}

/// `$XDG_CACHE_HOME/soft-roce-setup`, or `~/.cache/soft-roce-setup`.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// Held while a kernel is fetched, so that two runs at once fetch it once.
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// Finds the folder's name; creates nothing.
    pub(crate) fn locate() -> Result<Self, CacheError> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Ok(Self {
            directory: base.ok_or(CacheError::NoHome)?.join("soft-roce-setup"),
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it can be made, as far as that can be told without making it.
    pub(crate) fn can_be_created(&self) -> Result<(), CacheError> {
        let mut above = self.directory.ancestors();
        let there = above.find(|path| path.exists()).unwrap_or(Path::new("/"));
        let allowed = match there.is_dir() {
            true => access(there, Access::WRITE_OK | Access::EXEC_OK),
            false => Err(Errno::NOTDIR),
        };
        allowed.map_err(|error| self.unusable(error.into()))
    }

    pub(crate) fn create(&self) -> Result<(), CacheError> {
        std::fs::create_dir_all(&self.directory).map_err(|source| self.unusable(source))
    }

    pub(crate) fn lock(&self) -> Result<Lock, CacheError> {
        self.create()?;
        let path = self.directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.map_err(|source| self.unusable(source))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| self.unusable(error.into()))?;
        Ok(Lock { _file: file })
    }

    /// Whether a guest did not start under this machine's KVM before.
    pub(crate) fn kvm_is_known_to_fail(&self) -> bool {
        std::fs::read_to_string(self.kvm_note()).is_ok_and(|note| note == this_machine())
    }

    /// Remembers that KVM does not start a guest here. Only speed depends on it, so a failure to write is no error.
    pub(crate) fn note_that_kvm_fails(&self) {
        let _ = self.create();
        let _ = std::fs::write(self.kvm_note(), this_machine());
    }

    fn kvm_note(&self) -> PathBuf {
        self.directory.join("kvm-does-not-start")
    }

    fn unusable(&self, source: std::io::Error) -> CacheError {
        CacheError::Unusable {
            path: self.directory.clone(),
            source,
        }
    }
}

/// The kernel and processor the note is about: a cache may be restored on another machine.
fn this_machine() -> String {
    let system = rustix::system::uname();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    format!("{} {model}\n", system.release().to_string_lossy())
}
