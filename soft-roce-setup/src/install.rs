//! `install`: the packages that a guest, the RDMA libraries and the build of the verbs feature need.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use crate::guest::cache::{Cache, CacheError};
use crate::guest::kernel::{self, KernelError};
use crate::tool::{self, ToolError};
use crate::words::print;

/// A package and what it is for.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
}

const fn package(name: &'static str, purpose: &'static str) -> Package {
    Package { name, purpose }
}

/// Debian's and Ubuntu's names.
pub(crate) const PACKAGES: [Package; 19] = [
    package("qemu-system-x86", "the guest"),
    package("busybox-static", "the guest's first program"),
    package("kmod", "kernel modules, here and in the guest"),
    package("iproute2", "network and RDMA devices (ip, rdma, tc)"),
    package("xz-utils", "unpacking kernels and modules"),
    package("zstd", "unpacking kernels and modules"),
    package("rdma-core", "RDMA's configuration"),
    package("ibverbs-providers", "the rxe driver of libibverbs"),
    package("libibverbs1", "RDMA programs"),
    package(
        "perftest",
        "ib_write_lat and ib_write_bw, the floor of every figure",
    ),
    package("ndctl", "persistent memory in the guest"),
    package("e2fsprogs", "the DAX file system"),
    package("dmsetup", "disks that fail, in the journal's tests"),
    package("valgrind", "counting the instructions of a message"),
    package("cmake", "building with the feature `verbs`"),
    package("libclang-dev", "building with the feature `verbs`"),
    package("gcc", "building with the feature `verbs`"),
    package("libc6-dev", "building with the feature `verbs`"),
    package("pkg-config", "building with the feature `verbs`"),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(
        "this is {system}, and only Debian, Ubuntu and their like are known: install by hand what has \
         qemu-system-x86_64, a static busybox, modprobe, ip, rdma, ndctl, mkfs.ext4, libibverbs with its rxe \
         driver, perftest, cmake, libclang and gcc"
    )]
    UnknownSystem { system: String },
    #[error("only root can install packages: run `sudo soft-roce-setup install --yes`")]
    NotRoot,
    #[error("`{command}` ended with {status}")]
    Apt {
        command: String,
        status: std::process::ExitStatus,
    },
    #[error("cannot run `{command}`: {source}")]
    Start { command: String, source: std::io::Error },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Says what is missing; with `yes`, installs it and, `with_kernel`, fetches the guest's kernel.
pub(crate) fn install(yes: bool, with_kernel: bool) -> Result<(), InstallError> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_like_debian(&release) || tool::find("apt-get").is_none() {
        return Err(InstallError::UnknownSystem {
            system: value(&release, "PRETTY_NAME").unwrap_or("no known Linux").into(),
        });
    }
    let cache = Cache::locate()?;
    let installed = installed()?;
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| !installed.contains(package.name))
        .collect();
    let kernel = kernel::cached(&cache);
    if missing.is_empty() {
        print(format_args!("All {} packages are installed.", PACKAGES.len()));
    } else {
        print("To be installed with apt-get:");
        for Package { name, purpose } in &missing {
            print(format_args!("  {name:<18} {purpose}"));
        }
    }
    match &kernel {
        Some(kernel) => print(format_args!(
            "The guest's kernel is here: {} in {}.",
            kernel.version,
            cache.directory().display()
        )),
        None if !with_kernel => {}
        None => print(format_args!(
            "To be downloaded, not installed: a generic kernel for the guest (about 70 MB, 300 MB unpacked), into {}.",
            cache.directory().display()
        )),
    }
    let is_complete = missing.is_empty() && (kernel.is_some() || !with_kernel);
    if is_complete {
        return Ok(());
    }
    if !yes {
        print("Nothing was changed. `soft-roce-setup install --yes` does it.");
        return Ok(());
    }
    if !missing.is_empty() {
        if !rustix::process::geteuid().is_root() {
            return Err(InstallError::NotRoot);
        }
        apt(&["update"])?;
        let names = missing.iter().map(|package| package.name);
        let arguments: Vec<&str> = ["install", "-y", "--no-install-recommends"]
            .into_iter()
            .chain(names)
            .collect();
        apt(&arguments)?;
    }
    if with_kernel {
        let kernel = kernel::obtain(&cache, &|words| print(words), &|| false)?;
        print(format_args!("The guest's kernel is {}.", kernel.version));
    }
    print("Done.");
    Ok(())
}

/// The names of all packages that dpkg says are installed.
fn installed() -> Result<HashSet<String>, ToolError> {
    let all = tool::output("dpkg-query", ["-W", "-f", "${db:Status-Status} ${Package}\n"])?;
    Ok(all
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect())
}

/// apt's own output is the user's to see.
fn apt(arguments: &[&str]) -> Result<(), InstallError> {
    let command = format!("apt-get {}", arguments.join(" "));
    print(format_args!("+ {command}"));
    let path = tool::find("apt-get").ok_or_else(|| ToolError::Missing {
        tool: "apt-get".into(),
    })?;
    let ended = Command::new(path)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(InstallError::Apt { command, status }),
        Err(source) => Err(InstallError::Start { command, source }),
    }
}

fn is_like_debian(release: &str) -> bool {
    ["ID", "ID_LIKE"]
        .iter()
        .filter_map(|key| value(release, key))
        .any(|names| names.split(' ').any(|name| matches!(name, "debian" | "ubuntu")))
}

/// A value of `/etc/os-release`.
fn value<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_like_are_known_by_their_release_file() {
        assert!(is_like_debian("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"));
        assert!(is_like_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_like_debian("ID=fedora\nID_LIKE=\"rhel centos\"\n"));
        assert!(!is_like_debian(""));
    }
}
