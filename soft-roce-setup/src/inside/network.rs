//! The guest's network and the soft-RoCE device on it.

use std::net::Ipv4Addr;
use std::path::Path;

use super::InsideError;
use super::system::append_file;
use crate::job::Job;
use crate::native::device::{DEVICE_NAME, MTU, gid_index};
use crate::tool::output;

/// What the command is told of the network.
pub(super) struct Network {
    pub(super) device: &'static str,
    pub(super) gid_index: Option<usize>,
    /// The address of each node, the first node first.
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) address: Ipv4Addr,
}

pub(super) fn bring_up(job: &Job) -> Result<Network, InsideError> {
    let ip = |arguments: &str| output("ip", arguments.split(' '));
    ip("link set lo up")?;
    let netdev = if job.nodes == 1 {
        ip("link add dm0 type dummy")?;
        "dm0"
    } else {
        "eth0"
    };
    let address = address_of(job.node);
    ip(&format!("address add {address}/24 dev {netdev}"))?;
    ip(&format!("link set {netdev} mtu {MTU} up"))?;
    output(
        "rdma",
        ["link", "add", DEVICE_NAME, "type", "rxe", "netdev", netdev],
    )?;
    if !Path::new("/sys/class/infiniband").join(DEVICE_NAME).exists() {
        return Err(InsideError::NoDevice { netdev });
    }
    let addresses: Vec<_> = (1..=job.nodes).map(address_of).collect();
    let mut names = String::from("\n");
    for (index, address) in addresses.iter().enumerate() {
        names.push_str(&format!("{address} node{}\n", index + 1));
    }
    append_file(Path::new("/etc/hosts"), names.as_bytes())?;
    Ok(Network {
        device: DEVICE_NAME,
        gid_index: gid_index(DEVICE_NAME, address),
        addresses,
        address,
    })
}

fn address_of(node: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(node).unwrap_or(u8::MAX))
}
