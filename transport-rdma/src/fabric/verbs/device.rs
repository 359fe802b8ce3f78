//! The device: which one, which port, which GID; and for each thing that is missing, what mends it.
//!
//! It is open only while something needs it, because the kernel can't remove a soft-RoCE device that a process has open.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;
use sideway::ibverbs::address::{Gid, GidType};
use sideway::ibverbs::device::{DeviceInfo, DeviceList, GetDeviceListError, GetDeviceListErrorKind};
use sideway::ibverbs::device_context::{DeviceContext, LinkLayer, Mtu, PortState};
use transport::link::{LinkError, TransportError};

use super::counts::Counts;
use super::life::{Entry, Life};
use crate::limits::verbs::SEND_DEPTH;
use crate::rdma::{RdmaOptions, SCHEME, SmallFrames};

/// An open device with an active port.
pub(crate) struct Device {
    pub(crate) context: Arc<DeviceContext>,
    pub(crate) name: String,
    pub(crate) port: u8,
    pub(crate) gid_index: u8,
    pub(crate) gid: Gid,
    pub(crate) lid: u16,
    pub(crate) mtu: Mtu,
    /// Packets need a global routing header: always on Ethernet.
    pub(crate) routed: bool,
    pub(crate) max_work_requests: u32,
    pub(crate) send_depth: u32,
    pub(crate) small_frames: SmallFrames,
    pub(super) counts: Arc<Counts>,
    life: Life,
}

/// The device that the options ask for: opened when a connection needs it, shared by all that do, closed with the last.
pub(crate) struct OnDemand {
    options: RdmaOptions,
    open: Mutex<Weak<Device>>,
    /// Of all connections, on whatever device.
    pub(crate) counts: Arc<Counts>,
}

impl OnDemand {
    pub(crate) fn new(options: RdmaOptions) -> OnDemand {
        OnDemand {
            options,
            open: Mutex::default(),
            counts: Arc::default(),
        }
    }

    pub(crate) fn options(&self) -> &RdmaOptions {
        &self.options
    }

    /// The open device, which stays open while the caller keeps it.
    pub(crate) fn device(&self) -> Result<Arc<Device>, TransportError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.upgrade().filter(|device| device.life.over().is_none()) {
            return Ok(device);
        }
        let device = Arc::new(Device::open(&self.options, &self.counts)?);
        *open = Arc::downgrade(&device);
        Ok(device)
    }
}

fn unavailable(missing: String) -> TransportError {
    TransportError::Unavailable {
        scheme: SCHEME,
        missing,
    }
}

impl Device {
    /// Opens the device that the options name, or the first one with an active port.
    fn open(options: &RdmaOptions, counts: &Arc<Counts>) -> Result<Device, TransportError> {
        let list = DeviceList::new().map_err(no_list)?;
        let names: Vec<String> = list.iter().map(|device| device.name()).collect();
        if names.is_empty() {
            return Err(unavailable(
                "this machine has no RDMA device: `soft-roce-setup doctor` says what is missing, `soft-roce-setup up` \
                 makes a soft-RoCE one where the kernel can, `soft-roce-setup run -- COMMAND` runs a command where \
                 there is one"
                    .into(),
            ));
        }
        if let Some(wanted) = &options.device {
            let Some(index) = names.iter().position(|name| name == wanted) else {
                return Err(unavailable(format!(
                    "there is no RDMA device {wanted:?}; there are: {}",
                    names.join(", ")
                )));
            };
            return open_named(&list, index, wanted, options, counts).map_err(unavailable);
        }
        let mut reasons = Vec::new();
        for (index, name) in names.iter().enumerate() {
            match open_named(&list, index, name, options, counts) {
                Ok(device) => return Ok(device),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(unavailable(reasons.join("; ")))
    }

    /// Fails once the device is of no more use: whoever has it open is to close it.
    pub(crate) fn check(&self) -> Result<(), LinkError> {
        match self.life.over() {
            Some(why) => Err(LinkError::Device(format!("{} {why}", self.name))),
            None => Ok(()),
        }
    }

    /// The device, port and address, for people.
    pub(crate) fn describe(&self) -> String {
        let Device {
            name,
            port,
            gid_index,
            gid,
            ..
        } = self;
        format!("{name} port {port} GID {gid_index} ({gid})")
    }
}

fn no_list(error: GetDeviceListError) -> TransportError {
    // What the loader of the library leaves when it found none; the library itself, on a kernel without RDMA, says ENOSYS.
    let not_found = io::Error::from(Errno::OPNOTSUPP).raw_os_error();
    if matches!(&error.0, GetDeviceListErrorKind::Ibverbs(error) if error.raw_os_error() == not_found) {
        return unavailable(
            "libibverbs.so.1 is not installed: `apt-get install libibverbs1 ibverbs-providers`, or \
             `soft-roce-setup install`"
                .into(),
        );
    }
    unavailable(format!(
        "the kernel's RDMA core does not answer ({}): `modprobe ib_uverbs`, or see `soft-roce-setup doctor`",
        because(&error)
    ))
}

fn open_named(
    list: &DeviceList,
    index: usize,
    name: &str,
    options: &RdmaOptions,
    counts: &Arc<Counts>,
) -> Result<Device, String> {
    let entry = Entry::of(name).map_err(|error| format!("{name} is being removed ({error})"))?;
    let device = list.get(index).ok_or_else(|| format!("{name}: gone"))?;
    let context = device.open().map_err(|error| {
        format!(
            "{name} can't be opened ({}): check the rights on /dev/infiniband, see `soft-roce-setup doctor`",
            because(&error)
        )
    })?;
    let attributes = context
        .query_device()
        .map_err(|error| format!("{name} says nothing about itself ({})", because(&error)))?;
    let ports: Vec<u8> = match options.port {
        Some(port) => vec![port],
        None => (1..=attributes.phys_port_cnt()).collect(),
    };
    let life = Life::of(entry, &context, counts)
        .map_err(|error| format!("{name} does not tell of its events ({error})"))?;
    let mut states = Vec::new();
    for port in ports {
        let about = match context.query_port(port) {
            Ok(about) => about,
            Err(error) => {
                states.push(format!("port {port}: {}", because(&error)));
                continue;
            }
        };
        if about.port_state() != PortState::Active {
            states.push(format!("port {port} is {:?}", about.port_state()));
            continue;
        }
        let routed = about.link_layer() == LinkLayer::Ethernet;
        let (gid_index, gid) = choose_gid(&context, port, routed, options.gid_index)
            .map_err(|reason| format!("{name} port {port}: {reason}"))?;
        let max_work_requests = u32::try_from(attributes.max_qp_wr()).unwrap_or(1).max(1);
        let send_depth = options
            .send_depth
            .unwrap_or(SEND_DEPTH)
            .clamp(1, max_work_requests);
        return Ok(Device {
            name: name.to_owned(),
            port,
            gid_index,
            gid,
            lid: about.lid(),
            mtu: about.active_mtu(),
            routed,
            max_work_requests,
            send_depth,
            small_frames: options.small_frames,
            counts: counts.clone(),
            life,
            context,
        });
    }
    Err(format!(
        "{name} has no active port ({}): `ip link set dev NETDEV up`, then `rdma link` must say ACTIVE",
        states.join(", ")
    ))
}

/// The GID at the wanted index; otherwise RoCEv2 over IPv4 before RoCEv2 over IPv6 before what there is, and those
/// that are routed before the link-local ones.
fn choose_gid(
    context: &DeviceContext,
    port: u8,
    routed: bool,
    wanted: Option<u8>,
) -> Result<(u8, Gid), String> {
    if let Some(index) = wanted {
        let gid = context
            .query_gid(port, u32::from(index))
            .map_err(|error| format!("GID {index} can't be had ({})", because(&error)))?;
        if gid.is_zero() {
            return Err(format!(
                "GID {index} is empty: `rdma link` and the netdev's addresses say which are not"
            ));
        }
        return Ok((index, gid));
    }
    let table = context
        .query_gid_table()
        .map_err(|error| format!("no GID table ({})", because(&error)))?;
    let rank = |gid: &Gid, kind: GidType| {
        let over_ipv4 = gid.raw[..10] == [0; 10] && gid.raw[10..12] == [0xff; 2];
        (kind == GidType::RoceV2, over_ipv4, !gid.is_unicast_link_local())
    };
    table
        .iter()
        .filter(|entry| entry.port_num() == u32::from(port) && !entry.gid().is_zero())
        .filter_map(|entry| {
            Some((
                u8::try_from(entry.gid_index()).ok()?,
                entry.gid(),
                entry.gid_type(),
            ))
        })
        .max_by_key(|(index, gid, kind)| (routed.then(|| rank(gid, *kind)), std::cmp::Reverse(*index)))
        .map(|(index, gid, _)| (index, gid))
        .ok_or_else(|| "its GID table is empty: give the netdev an IP address".to_owned())
}

/// The innermost reason of an error.
pub(super) fn because(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
