//! The first file system of a guest: busybox, the modules that reach the host's root, the job, and a script.
//!
//! Written here as a `newc` archive, because it is small and it spares a temporary tree.

use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::modules::{ModuleError, load_order};
use super::unpack::{UnpackError, read_plain};

/// What the script prints on the console once the kernel has started it.
pub(crate) const STARTED: &str = "soft-roce-setup: kernel started";

/// What the host's root is reached with, and the ports that output goes through.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum InitramfsError {
    #[error("no static busybox at {}: install the package busybox-static", .tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoBusybox { tried: Vec<PathBuf> },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// A static busybox of this machine, if there is one.
pub(crate) fn find_busybox() -> Result<PathBuf, InitramfsError> {
    let tried: Vec<PathBuf> = [
        "/bin/busybox",
        "/usr/bin/busybox",
        "/usr/lib/busybox/busybox-static",
    ]
    .map(Into::into)
    .to_vec();
    for path in &tried {
        if std::fs::read(path).is_ok_and(|elf| !names_an_interpreter(&elf)) {
            return Ok(path.clone());
        }
    }
    Err(InitramfsError::NoBusybox { tried })
}

/// The archive. `setup` is this program, as a path of the host, which becomes the guest's process 1.
pub(crate) fn build(kernel: &Kernel, setup: &Path, job: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let busybox = find_busybox()?;
    let busybox = std::fs::read(&busybox).map_err(|source| InitramfsError::Read {
        path: busybox.clone(),
        source,
    })?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "modules", "lower", "upper", "root"] {
        archive.directory(directory);
    }
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("init", 0o755, SCRIPT.as_bytes());
    archive.file("job", 0o600, job);
    archive.file(
        "setup",
        0o600,
        &[setup.as_os_str().as_encoded_bytes(), b"\n"].concat(),
    );
    let mut order = String::new();
    for (index, path) in load_order(&kernel.modules, &MODULES)?.into_iter().enumerate() {
        let name = format!("modules/{index:03}.ko");
        archive.file(&name, 0o600, &read_plain(&path)?);
        order.push_str(&format!("/{name}\n"));
    }
    archive.file("order", 0o600, order.as_bytes());
    Ok(archive.finish())
}

/// Mounts the host's root under a throw-away layer and hands over. A failure ends the machine; its words are on the
/// console, which the host shows.
const SCRIPT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
fail() { echo "soft-roce-setup: $1" >/dev/console; $b sleep 0.2; $b poweroff -f; }
$b mount -t devtmpfs dev /dev
echo "soft-roce-setup: kernel started" >/dev/console
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do
    $b insmod "$module" || fail "cannot load $module"
done </order
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower ||
    fail "cannot mount the host's root"
$b mount -t tmpfs -o size=75%,mode=755 upper /upper
$b mkdir /upper/data /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work,volatile root /root ||
    fail "cannot lay a writable layer over the host's root"
$b mkdir -p /root/run /root/dev /root/proc /root/sys
$b mount -t tmpfs -o mode=755 run /root/run
$b cp /job /root/run/soft-roce-setup.job
read -r setup </setup
for directory in dev proc sys; do $b mount --move "/$directory" "/root/$directory"; done
exec $b switch_root /root "$setup" inside
"#;

/// An archive in the kernel's `newc` format (its `Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | permissions, content);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(b"070701");
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Whether an ELF file asks for a dynamic loader: it could not run before the host's root is there.
fn names_an_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| {
        elf.get(at..at + 2)
            .map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))
    };
    let Some((table, size, count)) = elf
        .get(32..40)
        .and_then(|b| usize::try_from(u64::from_le_bytes(b.try_into().ok()?)).ok())
        .zip(u16_at(54))
        .zip(u16_at(56))
        .map(|((table, size), count)| (table, size, count))
    else {
        return true;
    };
    (0..count).any(|i| {
        let at = i.checked_mul(size).and_then(|offset| offset.checked_add(table));
        let kind = at.and_then(|at| elf.get(at..at.checked_add(4)?));
        kind.is_none_or(|kind| kind == PT_INTERP.to_le_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::default();
        archive.directory("d");
        archive.file("d/f", 0o600, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        for header in bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701")
            .map(|(at, _)| at)
        {
            assert_eq!(header % 4, 0);
        }
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }

    #[test]
    fn garbage_is_no_static_program() {
        for length in 0..200 {
            assert!(names_an_interpreter(&vec![0xff; length]));
        }
    }

    #[test]
    fn the_script_says_what_the_host_waits_for() {
        assert!(SCRIPT.contains(STARTED));
    }
}
