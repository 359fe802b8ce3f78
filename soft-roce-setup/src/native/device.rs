//! RDMA devices as the kernel shows them under `/sys/class/infiniband`.

use std::net::Ipv4Addr;
use std::path::Path;

/// The device that `up` and the guest make.
pub(crate) const DEVICE_NAME: &str = "rxe0";

/// Room for an RDMA packet of 4 KiB and its headers.
pub(crate) const MTU: u32 = 4200;

const CLASS: &str = "/sys/class/infiniband";

/// The names of all RDMA devices, sorted.
pub(crate) fn all() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(CLASS)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The first IPv4 address among a device's GIDs, and that GID's index.
pub(crate) fn ipv4(device: &str) -> Option<(usize, Ipv4Addr)> {
    (0..256).find_map(|index| Some((index, mapped_ipv4(&gid(device, index)?)?)))
}

/// The index of the GID that stands for an IPv4 address.
pub(crate) fn gid_index(device: &str, address: Ipv4Addr) -> Option<usize> {
    (0..256).find(|index| gid(device, *index).as_deref().and_then(mapped_ipv4) == Some(address))
}

fn gid(device: &str, index: usize) -> Option<String> {
    let path = Path::new(CLASS)
        .join(device)
        .join("ports/1/gids")
        .join(index.to_string());
    std::fs::read_to_string(path).ok()
}

/// `0000:…:ffff:0a4d:0001` is 10.77.0.1.
fn mapped_ipv4(gid: &str) -> Option<Ipv4Addr> {
    gid.trim().parse::<std::net::Ipv6Addr>().ok()?.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_gids_are_ipv4() {
        let mapped = "0000:0000:0000:0000:0000:ffff:0a4d:0001\n";
        assert_eq!(mapped_ipv4(mapped), Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!(mapped_ipv4("fe80:0000:0000:0000:0000:0000:0000:0001"), None);
        assert_eq!(mapped_ipv4("garbage"), None);
    }
}
