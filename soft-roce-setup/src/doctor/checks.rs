//! The single checks of `doctor`.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Check, Topic};
use crate::guest::cache::Cache;
use crate::guest::{GUEST_TOOLS, QEMU, initramfs, kernel, kvm_can_be_opened};
use crate::native::{dax, device, is_root, kernel_has_rxe, kernel_release, module_is_loaded};
use crate::tool;

const INSTALL: &str = "soft-roce-setup install --yes";

/// Less locked memory than this does not hold one pair of rings and the queues.
const ENOUGH_MEMLOCK: u64 = 64 << 20;

pub(super) fn all() -> Vec<Check> {
    let mut all = vec![
        rdma_device(),
        uverbs(),
        libibverbs(),
        rxe_provider("native"),
        memlock(),
    ];
    all.extend([qemu(), busybox()]);
    all.extend(GUEST_TOOLS.map(|(tool, package)| guest_tool(tool, package)));
    all.extend([
        guest_kernel(),
        kvm(),
        dax_mount(),
        rxe_provider("guest"),
        perftest(),
        rxe_module(),
    ]);
    all.extend(["cmake", "gcc"].map(build_tool));
    all.push(libclang());
    all
}

fn check(topic: Topic, name: &'static str, found: Result<String, (String, String)>) -> Check {
    match found {
        Ok(found) => Check {
            name,
            topic,
            good: true,
            found,
            mend: None,
        },
        Err((found, mend)) => Check {
            name,
            topic,
            good: false,
            found,
            mend: Some(mend),
        },
    }
}

fn lack<T>(found: impl Into<String>, mend: impl Into<String>) -> Result<T, (String, String)> {
    Err((found.into(), mend.into()))
}

fn rdma_device() -> Check {
    let devices = device::all();
    let found = match (devices.is_empty(), kernel_has_rxe(), is_root()) {
        (false, ..) => Ok(devices.join(", ")),
        (true, true, true) => Ok("none yet; `run` makes one".into()),
        (true, true, false) => lack("none, and only root can make one", "sudo soft-roce-setup up"),
        (true, false, _) => lack(
            format!("none, and the kernel {} has no rdma_rxe", kernel_release()),
            "soft-roce-setup run --guest",
        ),
    };
    check(Topic::Native, "RDMA device", found)
}

fn uverbs() -> Check {
    let found = if module_is_loaded("ib_uverbs") || Path::new("/dev/infiniband").exists() {
        Ok("ib_uverbs is there".into())
    } else if is_root() && kernel_has_rxe() {
        Ok("ib_uverbs is loaded with rdma_rxe".into())
    } else {
        lack(
            "no ib_uverbs: programs cannot reach an RDMA device",
            "modprobe ib_uverbs, or soft-roce-setup run --guest",
        )
    };
    check(Topic::Native, "ib_uverbs", found)
}

fn rxe_module() -> Check {
    let found = if module_is_loaded("rdma_rxe") {
        Ok("loaded".into())
    } else if kernel_has_rxe() {
        Ok("can be loaded".into())
    } else {
        lack(
            format!("not in the kernel {}", kernel_release()),
            "a generic kernel has it (a cloud kernel does not); a guest brings its own",
        )
    };
    check(Topic::Extra, "rdma_rxe", found)
}

fn libibverbs() -> Check {
    let found = library("libibverbs.so.1").map(|path| path.display().to_string());
    check(
        Topic::Native,
        "libibverbs.so.1",
        found.ok_or_else(|| ("not found".into(), INSTALL.into())),
    )
}

/// The same library serves both ways of running; a guest starts without it, so there it is no condition.
fn rxe_provider(way: &'static str) -> Check {
    let found = library("libibverbs").and_then(|folder| {
        std::fs::read_dir(folder)
            .ok()?
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("librxe-rdmav"))
            })
    });
    let (topic, name) = if way == "native" {
        (Topic::Native, "rxe driver")
    } else {
        (Topic::Extra, "rxe driver in a guest")
    };
    let found = found.map(|path| path.display().to_string());
    check(
        topic,
        name,
        found.ok_or_else(|| ("no librxe of libibverbs".into(), INSTALL.into())),
    )
}

fn memlock() -> Check {
    let found = match getrlimit(Resource::Memlock).current {
        None => Ok("unlimited".into()),
        Some(bytes) if bytes >= ENOUGH_MEMLOCK => Ok(format!("{} MiB", bytes >> 20)),
        Some(bytes) if is_root() => Ok(format!("{} KiB; `run` as root raises it", bytes >> 10)),
        Some(bytes) => lack(
            format!(
                "{} KiB is less than the {} MiB that registered memory takes",
                bytes >> 10,
                ENOUGH_MEMLOCK >> 20
            ),
            "ulimit -l unlimited as root, or `memlock unlimited` in /etc/security/limits.conf",
        ),
    };
    check(Topic::Native, "locked memory", found)
}

fn qemu() -> Check {
    let found = if cfg!(target_arch = "x86_64") {
        tool::find(QEMU)
            .map(|path| path.display().to_string())
            .ok_or_else(|| ("not installed".into(), INSTALL.into()))
    } else {
        lack(
            "guests run this machine's own programs, and only x86_64 is known",
            "use an x86_64 machine",
        )
    };
    check(Topic::Guest, QEMU, found)
}

fn busybox() -> Check {
    let found = initramfs::find_busybox().map(|path| path.display().to_string());
    check(
        Topic::Guest,
        "static busybox",
        found.map_err(|error| (error.to_string(), INSTALL.into())),
    )
}

fn guest_tool(tool: &'static str, package: &str) -> Check {
    let found = tool::find(tool).map(|path| path.display().to_string());
    let found = found.ok_or_else(|| (format!("not installed (package {package})"), INSTALL.into()));
    check(Topic::Guest, tool, found)
}

fn guest_kernel() -> Check {
    let found = match Cache::locate() {
        Err(error) => lack("nowhere to keep it", error.to_string()),
        Ok(cache) => match kernel::cached(&cache) {
            Some(kernel) => Ok(format!("{} in {}", kernel.version, cache.directory().display())),
            None => cache
                .can_be_created()
                .or_else(|error| lack("not downloaded, and nowhere to keep it", error.to_string()))
                .and_then(|()| kernel_to_fetch()),
        },
    };
    check(Topic::Guest, "the guest's kernel", found)
}

fn kernel_to_fetch() -> Result<String, (String, String)> {
    match kernel::packages() {
        Ok(packages) => Ok(format!("not downloaded; `run` fetches {}", packages.join(", "))),
        Err(_) if is_root() && tool::find("apt-get").is_some() => {
            Ok("not downloaded; `run` asks apt for it".into())
        }
        Err(error) => lack(error.to_string(), format!("sudo apt-get update; {INSTALL}")),
    }
}

fn kvm() -> Check {
    let known_to_fail = Cache::locate().is_ok_and(|cache| cache.kvm_is_known_to_fail());
    let found = if !kvm_can_be_opened() {
        lack(
            "/dev/kvm cannot be opened: guests run in software, slower",
            "load kvm_intel or kvm_amd, and join the group kvm",
        )
    } else if known_to_fail {
        lack(
            "/dev/kvm is there but did not start a guest: they run in software",
            "`run --accel kvm` tries again",
        )
    } else {
        Ok("/dev/kvm can be opened; `run` tries it first".into())
    };
    check(Topic::Extra, "KVM", found)
}

fn dax_mount() -> Check {
    let mounts = dax::mounts();
    let found = if mounts.is_empty() {
        lack(
            "none here",
            "soft-roce-setup run --guest has one; or ndctl create-namespace -m fsdax, mkfs.ext4 -b 4096, mount -o dax",
        )
    } else {
        let places: Vec<String> = mounts.iter().map(|path| path.display().to_string()).collect();
        Ok(format!(
            "{} (by mount option; the journal probes MAP_SYNC itself)",
            places.join(", ")
        ))
    };
    check(Topic::Extra, "DAX mount", found)
}

fn perftest() -> Check {
    let found = tool::find("ib_write_lat").map(|path| path.display().to_string());
    check(
        Topic::Extra,
        "perftest",
        found.ok_or_else(|| {
            (
                "no ib_write_lat: no floor beside RDMA figures".into(),
                INSTALL.into(),
            )
        }),
    )
}

fn build_tool(tool: &'static str) -> Check {
    let found = tool::find(tool).map(|path| path.display().to_string());
    let lacking = || {
        (
            "not installed; building with the feature `verbs` needs it".into(),
            INSTALL.into(),
        )
    };
    check(Topic::Extra, tool, found.ok_or_else(lacking))
}

fn libclang() -> Check {
    let in_llvm = || {
        let versions = std::fs::read_dir("/usr/lib")
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()));
        versions
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("llvm"))
            })
            .flat_map(|path| ["lib/libclang.so", "lib/libclang.so.1"].map(|name| path.join(name)))
            .find(|path| path.exists())
    };
    let found = library("libclang.so")
        .or_else(in_llvm)
        .map(|path| path.display().to_string());
    let lacking = || {
        (
            "not found; building with the feature `verbs` needs it".into(),
            INSTALL.into(),
        )
    };
    check(Topic::Extra, "libclang", found.ok_or_else(lacking))
}

/// A library, or a folder of plug-ins, where distributions keep them.
fn library(name: &str) -> Option<PathBuf> {
    const FOLDERS: [&str; 6] = [
        "/usr/lib/x86_64-linux-gnu",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ];
    FOLDERS
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
}
