//! A DAX mount on the guest's nvdimm: a namespace in fsdax mode, ext4 with 4 KiB blocks, `-o dax`.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount as mount_device};

use super::InsideError;
use super::system::make_folder;
use crate::tool::output;

/// Where the command finds it, as `PMEM_DIR`.
pub(super) const FOLDER: &str = "/run/pmem";

const DEVICE: &str = "/dev/pmem0";

pub(super) fn mount() -> Result<(), InsideError> {
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
    let started = Instant::now();
    while !Path::new(DEVICE).exists() {
        if started.elapsed() > Duration::from_secs(10) {
            return Err(InsideError::NoPmem);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // A block of 1 KiB, mkfs's choice for small devices, refuses DAX.
    output("mkfs.ext4", ["-q", "-F", "-b", "4096", "-E", "nodiscard", DEVICE])?;
    make_folder(Path::new(FOLDER))?;
    mount_device(DEVICE, FOLDER, "ext4", MountFlags::empty(), c"dax").map_err(|error| InsideError::Mount {
        what: DEVICE,
        path: FOLDER.into(),
        error,
    })
}
