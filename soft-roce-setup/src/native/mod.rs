//! RDMA and persistent memory on this machine itself: a device made and taken away, a DAX mount found, a command run.

pub(crate) mod dax;
pub(crate) mod device;
pub(crate) mod run;

use std::path::{Path, PathBuf};

use crate::tool::{ToolError, output};
use device::{DEVICE_NAME, MTU};

/// The network device that `up` makes when none is named.
const OWN_NETDEV: &str = "dm0";

/// Its address. The guests use the same network.
const OWN_ADDRESS: &str = "10.77.0.1/24";

#[derive(Debug, thiserror::Error)]
pub(crate) enum NativeError {
    #[error(
        "only root can make or remove an RDMA device: run this as root, or use `soft-roce-setup run --guest`"
    )]
    NotRoot,
    #[error(
        "this machine's kernel {release} cannot load rdma_rxe ({reason}): use `soft-roce-setup run --guest`"
    )]
    NoModule { release: String, reason: String },
    #[error(
        "this machine's kernel {release} cannot make a {kind} network device ({reason}): name one with --netdev, or use `soft-roce-setup run --guest`"
    )]
    NoNetdev {
        release: String,
        kind: &'static str,
        reason: String,
    },
    #[error("there is no network device {name:?} (there are: {})", .known.join(", "))]
    UnknownNetdev { name: String, known: Vec<String> },
    #[error("{DEVICE_NAME} exists already, on {current}: `soft-roce-setup down` removes it")]
    OnAnotherNetdev { current: String },
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// What `up` found or made.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) netdev: String,
    /// Whether this call made the device.
    pub(crate) made: bool,
}

/// Makes the device, on `netdev` or on a dummy of its own. Made already: nothing changes.
pub(crate) fn up(netdev: Option<&str>) -> Result<Up, NativeError> {
    if let Some(current) = netdev_of(DEVICE_NAME) {
        return match netdev {
            Some(wanted) if wanted != current => Err(NativeError::OnAnotherNetdev { current }),
            _ => Ok(Up {
                netdev: current,
                made: false,
            }),
        };
    }
    if let Some(name) = netdev
        && !netdev_folder(name).is_some_and(|folder| folder.exists())
    {
        return Err(NativeError::UnknownNetdev {
            name: name.into(),
            known: netdevs(),
        });
    }
    require_root()?;
    load_rxe()?;
    let netdev = match netdev {
        Some(name) => name.to_owned(),
        None => {
            make_own_netdev()?;
            OWN_NETDEV.to_owned()
        }
    };
    let added = output(
        "rdma",
        [
            "link",
            "add",
            DEVICE_NAME,
            "type",
            "rxe",
            "netdev",
            netdev.as_str(),
        ],
    );
    if let Err(error) = added {
        if netdev == OWN_NETDEV {
            let _ = remove_own_netdev();
        }
        return Err(error.into());
    }
    Ok(Up { netdev, made: true })
}

/// Removes what `up` made; whether there was anything.
pub(crate) fn down() -> Result<bool, NativeError> {
    let device = netdev_of(DEVICE_NAME).is_some();
    if !device && !is_own_netdev() {
        return Ok(false);
    }
    require_root()?;
    if device {
        output("rdma", ["link", "delete", DEVICE_NAME])?;
    }
    remove_own_netdev()?;
    Ok(true)
}

/// Whether this kernel has `rdma_rxe`, loaded or to be loaded. Loads nothing.
pub(crate) fn kernel_has_rxe() -> bool {
    module_is_loaded("rdma_rxe") || output("modprobe", ["-n", "-q", "rdma_rxe"]).is_ok()
}

pub(crate) fn module_is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `uname -r`.
pub(crate) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn require_root() -> Result<(), NativeError> {
    if is_root() {
        Ok(())
    } else {
        Err(NativeError::NotRoot)
    }
}

fn load_rxe() -> Result<(), NativeError> {
    if module_is_loaded("rdma_rxe") {
        return Ok(());
    }
    output("modprobe", ["-a", "rdma_rxe", "ib_uverbs", "rdma_ucm"])
        .map(drop)
        .map_err(|error| NativeError::NoModule {
            release: kernel_release(),
            reason: reason(error),
        })
}

fn make_own_netdev() -> Result<(), NativeError> {
    if !is_own_netdev() {
        output("ip", ["link", "add", OWN_NETDEV, "type", "dummy"]).map_err(|error| {
            NativeError::NoNetdev {
                release: kernel_release(),
                kind: "dummy",
                reason: reason(error),
            }
        })?;
    }
    output("ip", ["address", "replace", OWN_ADDRESS, "dev", OWN_NETDEV])?;
    output("ip", ["link", "set", OWN_NETDEV, "mtu", &MTU.to_string(), "up"])?;
    Ok(())
}

fn remove_own_netdev() -> Result<(), NativeError> {
    if is_own_netdev() {
        output("ip", ["link", "delete", OWN_NETDEV])?;
    }
    Ok(())
}

/// A dummy of our name: anything else of that name is not ours to remove.
fn is_own_netdev() -> bool {
    netdev_folder(OWN_NETDEV).is_some_and(|folder| folder.exists())
        && output("ip", ["-d", "link", "show", OWN_NETDEV]).is_ok_and(|text| text.contains("dummy"))
}

/// The network device under an rxe device.
fn netdev_of(device: &str) -> Option<String> {
    let folder = Path::new("/sys/class/infiniband").join(device);
    let parent = std::fs::read_to_string(folder.join("parent")).ok();
    folder.exists().then(|| {
        parent
            .map(|name| name.trim().to_owned())
            .unwrap_or_else(|| "an unknown device".into())
    })
}

/// Where the kernel shows a network device; none for what cannot be a name.
fn netdev_folder(name: &str) -> Option<PathBuf> {
    let is_name = !name.is_empty() && name.len() < 16 && !name.contains('/') && name != "." && name != "..";
    is_name.then(|| Path::new("/sys/class/net").join(name))
}

fn netdevs() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// A failed tool's own words, which say more than that it failed.
fn reason(error: ToolError) -> String {
    match error {
        ToolError::Failed { stderr, .. } if !stderr.is_empty() => {
            stderr.lines().next().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_no_network_device() {
        for name in ["", "..", "a/b", "sixteen-letters-"] {
            assert!(
                matches!(up(Some(name)), Err(NativeError::UnknownNetdev { .. })),
                "{name:?}"
            );
        }
    }
}
