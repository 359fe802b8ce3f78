//! Finds how bytes can become durable in a directory, by trying it on a file there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::pmem;
use crate::error::{Error, Result};
use crate::mode::{Mode, Probe};

/// Finds the strongest mode that `dir` can give, by trying it on a file there.
pub fn probe(dir: impl AsRef<Path>) -> Result<Probe> {
    let dir = dir.as_ref();
    strongest(dir).map_err(Error::io("probe", dir))
}

fn strongest(dir: &Path) -> io::Result<Probe> {
    if !cfg!(target_arch = "x86_64") {
        let reason = "persistent memory is written by x86_64 instructions only in this version".to_owned();
        return Ok(Probe {
            mode: Mode::Buffered,
            reason,
        });
    }
    let name = format!("probe-{}.tmp", std::process::id());
    let path = dir.join(&name);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let _ = std::fs::remove_file(&path);
    // A hole will do: a journal on a full disk still opens.
    file.set_len(4096)?;
    match pmem::try_map_sync(&file) {
        Ok(()) => Ok(match persistence_domain(&file) {
            Some(domain) if domain == "cpu_cache" => Probe {
                mode: Mode::Eadr,
                reason:
                    "MAP_SYNC granted, and the platform flushes CPU caches on power loss (persistence_domain \
                         is cpu_cache)"
                        .to_owned(),
            },
            domain => Probe {
                mode: Mode::Pmem,
                reason: format!(
                    "MAP_SYNC granted; persistence_domain is {}, so stores go around the cache",
                    domain.as_deref().unwrap_or("not stated")
                ),
            },
        }),
        Err(refusal) => {
            let dax = rustix::fs::statx(
                &file,
                "",
                rustix::fs::AtFlags::EMPTY_PATH,
                rustix::fs::StatxFlags::empty(),
            )
            .is_ok_and(|s| s.stx_attributes.contains(rustix::fs::StatxAttributes::DAX));
            Ok(if dax {
                Probe {
                    mode: Mode::DaxNoSync,
                    reason: format!("a DAX file, but MAP_SYNC was refused ({refusal}): pwrite and fdatasync"),
                }
            } else {
                Probe {
                    mode: Mode::Buffered,
                    reason: format!(
                        "not a DAX mount, MAP_SYNC was refused ({refusal}): pwrite and fdatasync. For pmem use a \
                         directory on ext4 or xfs over an fsdax namespace, mounted with -o dax"
                    ),
                }
            })
        }
    }
}

/// What the platform says about the region under the file: `memory_controller`, `cpu_cache`, or nothing.
fn persistence_domain(file: &File) -> Option<String> {
    let device = file.metadata().ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    path.ancestors()
        .find_map(|dir| std::fs::read_to_string(dir.join("persistence_domain")).ok())
        .map(|domain| domain.trim().to_owned())
        .filter(|domain| !domain.is_empty())
}
