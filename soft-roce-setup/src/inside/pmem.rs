//! A DAX mount on the guest's nvdimm: a namespace in fsdax mode, ext4 with 4 KiB blocks, `-o dax`.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount as mount_device};

use super::InsideError;
use super::system::make_folder;
use crate::tool::output;

/// Where the command finds it, as `PMEM_DIR`.
pub(super) const FOLDER: &str = "/run/pmem";

const DEVICE: &str = "/dev/pmem0";

/// Where ext4 has its magic number, and what it is.
const EXT4_MAGIC: (u64, [u8; 2]) = (1024 + 56, [0x53, 0xef]);

/// With `keep`, a file system that is there already is mounted, its journal replayed, and never made anew.
pub(super) fn mount(keep: bool) -> Result<(), InsideError> {
    if !(keep && has_file_system()?) {
        make()?;
    }
    make_folder(Path::new(FOLDER))?;
    mount_device(DEVICE, FOLDER, "ext4", MountFlags::empty(), c"dax").map_err(|error| InsideError::Mount {
        what: DEVICE,
        path: FOLDER.into(),
        error,
    })
}

/// The kernel finds a namespace that an earlier run made by itself.
fn has_file_system() -> Result<bool, InsideError> {
    wait_for_device()?;
    let mut magic = [0; 2];
    let read = std::fs::File::open(DEVICE).and_then(|device| device.read_exact_at(&mut magic, EXT4_MAGIC.0));
    read.map(|()| magic == EXT4_MAGIC.1)
        .map_err(|source| super::path_error("read", Path::new(DEVICE), source))
}

fn make() -> Result<(), InsideError> {
    output(
        "ndctl",
        [
            "create-namespace",
            "-f",
            "-e",
            "namespace0.0",
            "-m",
            "fsdax",
            "--map=mem",
        ],
    )?;
    wait_for_device()?;
    // A block of 1 KiB, mkfs's choice for small devices, refuses DAX.
    output("mkfs.ext4", ["-q", "-F", "-b", "4096", "-E", "nodiscard", DEVICE])?;
    Ok(())
}

fn wait_for_device() -> Result<(), InsideError> {
    let started = Instant::now();
    while !Path::new(DEVICE).exists() {
        if started.elapsed() > Duration::from_secs(10) {
            return Err(InsideError::NoPmem);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
