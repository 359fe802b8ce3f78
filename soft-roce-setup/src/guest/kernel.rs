//! The guest's kernel: the distribution's generic one, taken out of its packages and kept in the cache.
//!
//! It is not installed: `apt-get download`, `dpkg -x`, `depmod`. A kernel is in the cache whole or not at all.

use std::path::{Path, PathBuf};

use super::cache::{Cache, CacheError};
use super::modules::has_module;
use super::unpack::extract_kernel;
use crate::tool::{ToolError, output};

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) version: String,
    /// What QEMU is given: plain if possible.
    pub(crate) image: PathBuf,
    /// The `vmlinuz` of the package.
    packed: PathBuf,
    /// `lib/modules/VERSION` of it.
    pub(crate) modules: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("apt knows none of the packages {names}, or not what they depend on: run `apt-get update`")]
    NoPackage { names: String },
    #[error("the packages {packages} hold no kernel with the modules {wanted}")]
    Incomplete { packages: String, wanted: String },
    #[error("interrupted while the guest's kernel was fetched")]
    Interrupted,
    #[error("cannot unpack into {path}: {source}")]
    Unpack { path: PathBuf, source: std::io::Error },
}

/// The packages that depend on the newest generic kernel: Debian's name, then Ubuntu's.
const META_PACKAGES: [&str; 2] = ["linux-image-amd64", "linux-image-generic"];

/// What must be in a kernel for a guest to be of use.
const WANTED: [&str; 7] = [
    "rdma_rxe",
    "ib_uverbs",
    "nfit",
    "nd_pmem",
    "9p",
    "overlay",
    "dummy",
];

/// The start of a half-fetched kernel's name.
const FETCHING: &str = ".fetching-";

/// Not needed in a guest, and three quarters of the package.
const UNNEEDED: [&str; 7] = [
    "kernel/sound",
    "kernel/drivers/gpu",
    "kernel/drivers/media",
    "kernel/drivers/staging",
    "kernel/drivers/usb",
    "kernel/drivers/iio",
    "kernel/drivers/net/wireless",
];

/// The kernel in the cache, if one is there.
pub(crate) fn cached(cache: &Cache) -> Option<Kernel> {
    let mut found: Vec<Kernel> = std::fs::read_dir(cache.directory().join("kernels"))
        .ok()?
        .filter_map(|entry| kernel_in(&entry.ok()?.path()))
        .collect();
    found.sort_by_key(|kernel| numbers(&kernel.version));
    found.pop()
}

/// The kernel in the cache, fetched first when there is none. `say` is told what is being done, and `is_over` asked between
/// the steps whether to go on.
pub(crate) fn obtain(
    cache: &Cache,
    say: &dyn Fn(&str),
    is_over: &dyn Fn() -> bool,
) -> Result<Kernel, KernelError> {
    if let Some(kernel) = cached(cache).filter(Kernel::is_prepared) {
        return Ok(kernel);
    }
    let _lock = cache.lock()?;
    // Another run may have fetched it while this one waited for the lock.
    if let Some(kernel) = cached(cache) {
        return Ok(prepare(kernel, say));
    }
    let packages = match packages() {
        _ if is_over() => return Err(KernelError::Interrupted),
        Err(KernelError::NoPackage { .. }) if rustix::process::geteuid().is_root() => {
            say("apt knows no kernel package yet: apt-get update");
            output("apt-get", ["update", "-q"])?;
            packages()?
        }
        packages => packages?,
    };
    say(&format!(
        "fetching the guest's kernel ({}) into {}",
        packages.join(", "),
        cache.directory().display()
    ));
    fetch(cache, &packages, is_over).map(|kernel| prepare(kernel, say))
}

impl Kernel {
    /// Whether a plain kernel was made of the compressed one, or it was found that none can be.
    fn is_prepared(&self) -> bool {
        plain_image(&self.packed).exists()
    }
}

/// Makes the plain kernel, once. Without it a guest starts all the same, 3 s later.
fn prepare(mut kernel: Kernel, say: &dyn Fn(&str)) -> Kernel {
    let plain = plain_image(&kernel.packed);
    if !plain.exists()
        && let Err(error) = extract_kernel(&kernel.packed, &plain)
    {
        say(&format!("guests start slower than they could: {error}"));
        // An empty file: do not try again.
        let _ = std::fs::write(&plain, []);
    }
    kernel.image = best_image(&kernel.packed);
    kernel
}

/// `boot/vmlinux-6.1` beside `boot/vmlinuz-6.1`.
fn plain_image(packed: &Path) -> PathBuf {
    let name = packed
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replacen("vmlinuz", "vmlinux", 1);
    packed.with_file_name(name)
}

fn best_image(packed: &Path) -> PathBuf {
    let plain = plain_image(packed);
    let usable = plain.metadata().is_ok_and(|data| data.len() > 0);
    if usable { plain } else { packed.into() }
}

/// The packages to download, by asking apt what the meta package depends on.
pub(crate) fn packages() -> Result<Vec<String>, KernelError> {
    for meta in META_PACKAGES {
        let Ok(depends) = output("apt-cache", ["depends", "--important", meta]) else {
            continue;
        };
        let images = kernel_packages(&depends);
        if images.is_empty() {
            continue;
        }
        // Ubuntu keeps the modules in packages of their own; Debian's image depends on none.
        let mut all = images.clone();
        for image in &images {
            let more = output("apt-cache", ["depends", "--important", image.as_str()])?;
            all.extend(kernel_packages(&more));
            let extra = image.replacen("linux-image-", "linux-modules-extra-", 1);
            if output("apt-cache", ["show", extra.as_str()]).is_ok_and(|text| !text.is_empty()) {
                all.push(extra);
            }
        }
        all.sort();
        all.dedup();
        return Ok(all);
    }
    Err(KernelError::NoPackage {
        names: META_PACKAGES.join(", "),
    })
}

fn fetch(cache: &Cache, packages: &[String], is_over: &dyn Fn() -> bool) -> Result<Kernel, KernelError> {
    let kernels = cache.directory().join("kernels");
    // What an interrupted run left; nobody else fetches while the lock is held.
    for entry in std::fs::read_dir(&kernels).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FETCHING) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let unpack_error = |path: &Path, source| KernelError::Unpack {
        path: path.into(),
        source,
    };
    std::fs::create_dir_all(&kernels).map_err(|source| unpack_error(&kernels, source))?;
    let work = tempfile::Builder::new()
        .prefix(FETCHING)
        .tempdir_in(&kernels)
        .map_err(|source| unpack_error(&kernels, source))?;
    crate::tool::download(work.path(), packages)?;
    let tree = work.path().join("tree");
    let entries = std::fs::read_dir(work.path()).map_err(|source| unpack_error(work.path(), source))?;
    for archive in entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
    {
        if is_over() {
            return Err(KernelError::Interrupted);
        }
        output("dpkg-deb", ["-x".as_ref(), archive.as_os_str(), tree.as_os_str()])?;
    }
    // Newer packages ship usr/lib only; depmod and we look under lib.
    if !tree.join("lib").exists() && tree.join("usr/lib/modules").exists() {
        std::os::unix::fs::symlink("usr/lib", tree.join("lib"))
            .map_err(|source| unpack_error(&tree, source))?;
    }
    let incomplete = || KernelError::Incomplete {
        packages: packages.join(", "),
        wanted: WANTED.join(", "),
    };
    let version = only_entry(&tree.join("lib/modules")).ok_or_else(incomplete)?;
    let modules = tree.join("lib/modules").join(&version);
    for directory in UNNEEDED {
        let _ = std::fs::remove_dir_all(modules.join(directory));
    }
    output("depmod", ["-b".as_ref(), tree.as_os_str(), version.as_ref()])?;
    kernel_in(&tree).ok_or_else(incomplete)?;
    if is_over() {
        return Err(KernelError::Interrupted);
    }
    let place = kernels.join(&version);
    std::fs::rename(&tree, &place).map_err(|source| unpack_error(&place, source))?;
    kernel_in(&place).ok_or_else(incomplete)
}

/// The kernel of an unpacked tree, if all that is wanted is there.
fn kernel_in(tree: &Path) -> Option<Kernel> {
    let version = only_entry(&tree.join("lib/modules"))?;
    let packed = tree.join("boot").join(format!("vmlinuz-{version}"));
    let modules = tree.join("lib/modules").join(&version);
    let usable = packed.is_file() && WANTED.iter().all(|name| has_module(&modules, name));
    usable.then(|| Kernel {
        version,
        image: best_image(&packed),
        packed,
        modules,
    })
}

fn only_entry(directory: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_by_key(|name| numbers(name));
    names.pop()
}

/// `linux-image-6.1.0-56-amd64` and the like, out of what `apt-cache depends` prints.
fn kernel_packages(depends: &str) -> Vec<String> {
    depends
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "))
        .filter(|name| {
            ["linux-image-", "linux-modules-"].iter().any(|prefix| {
                name.strip_prefix(prefix)
                    .map(|rest| rest.trim_start_matches("extra-"))
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        })
        .map(str::to_owned)
        .collect()
}

/// The numbers in a version, so that 6.1.0-9 sorts before 6.1.0-56.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versioned_kernel_packages_are_taken() {
        let debian = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(kernel_packages(debian), ["linux-image-6.1.0-56-amd64"]);
        let ubuntu = "x\n Depends: linux-image-6.8.0-1-generic\n Depends: linux-modules-extra-6.8.0-1-generic\n \
                      Depends: linux-firmware\n |Depends: linux-image-generic\n";
        let expected = [
            "linux-image-6.8.0-1-generic",
            "linux-modules-extra-6.8.0-1-generic",
        ];
        assert_eq!(kernel_packages(ubuntu), expected);
    }

    #[test]
    fn versions_sort_by_number() {
        assert!(numbers("6.1.0-9-amd64") < numbers("6.1.0-56-amd64"));
    }

    #[test]
    fn a_half_unpacked_kernel_is_not_one() {
        let tree = tempfile::tempdir().unwrap();
        assert!(kernel_in(tree.path()).is_none());
        std::fs::create_dir_all(tree.path().join("lib/modules/1.0")).unwrap();
        assert!(kernel_in(tree.path()).is_none());
    }
}
