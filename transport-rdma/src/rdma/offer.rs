//! What one end tells the other so that its writes arrive: fixed width, little-endian, checked.

use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::LinkError;

use super::SmallFrames;

/// Byte ranges of an offer.
mod field {
    use std::ops::Range;

    pub(super) const VERSION: usize = 0;
    /// The largest payload of a packet: 1 to 5 for 256 to 4096 bytes.
    pub(super) const MTU: usize = 1;
    pub(super) const LID: Range<usize> = 2..4;
    pub(super) const QUEUE_PAIR: Range<usize> = 4..8;
    pub(super) const PACKET_NUMBER: Range<usize> = 8..12;
    /// How small frames are to be written: 0 plainly, 1 with a notice each.
    pub(super) const SMALL_FRAMES: usize = 12;
    pub(super) const GID: Range<usize> = 16..32;
    /// The cell page, then the rings by lane: address (8), rkey (4), bytes (4).
    pub(super) const REGIONS: usize = 32;
    pub(super) const REGION: usize = 16;
}

/// Since 2, an end that sleeps is woken by what its peer asks an event for, and by nothing else.
const VERSION: u8 = 2;
/// Bytes of an offer.
const SIZE: usize = field::REGIONS + (1 + LANES) * field::REGION;
/// Queue pair numbers and packet numbers have 24 bits.
const BITS_24: u32 = 0xff_ffff;

/// A region of the sender of the offer that its peer may write to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteRegion {
    pub(crate) address: u64,
    pub(crate) key: u32,
    pub(crate) len: u32,
}

/// One end of a reliable connection, as the other one needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) mtu: u8,
    pub(crate) lid: u16,
    pub(crate) queue_pair: u32,
    pub(crate) packet_number: u32,
    /// How it wants to learn of small frames.
    pub(crate) small_frames: SmallFrames,
    pub(crate) gid: [u8; 16],
    pub(crate) cells: RemoteRegion,
    pub(crate) rings: [RemoteRegion; LANES],
}

impl Offer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        bytes[field::VERSION] = VERSION;
        bytes[field::MTU] = self.mtu;
        bytes[field::LID].copy_from_slice(&self.lid.to_le_bytes());
        bytes[field::QUEUE_PAIR].copy_from_slice(&self.queue_pair.to_le_bytes());
        bytes[field::PACKET_NUMBER].copy_from_slice(&self.packet_number.to_le_bytes());
        bytes[field::SMALL_FRAMES] = match self.small_frames {
            SmallFrames::Polled => 0,
            SmallFrames::Announced => 1,
        };
        bytes[field::GID].copy_from_slice(&self.gid);
        let regions = std::iter::once(&self.cells).chain(&self.rings);
        for (region, bytes) in regions.zip(bytes[field::REGIONS..].chunks_exact_mut(field::REGION)) {
            bytes[..8].copy_from_slice(&region.address.to_le_bytes());
            bytes[8..12].copy_from_slice(&region.key.to_le_bytes());
            bytes[12..].copy_from_slice(&region.len.to_le_bytes());
        }
        bytes
    }

    /// Takes an offer apart. Whether its rings have the agreed sizes is asked by [`Offer::check_sizes`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Offer, LinkError> {
        let protocol = |what: String| Err(LinkError::Protocol(format!("the peer's offer {what}")));
        if bytes.len() != SIZE {
            return protocol(format!(
                "has {} bytes, an RDMA one has {SIZE}: the peer offers another transport or version",
                bytes.len()
            ));
        }
        if bytes[field::VERSION] != VERSION {
            return protocol(format!(
                "is of version {}, known is {VERSION}",
                bytes[field::VERSION]
            ));
        }
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let region = |index: usize| {
            let at = field::REGIONS + index * field::REGION;
            RemoteRegion {
                address: u64::from(number(at)) | u64::from(number(at + 4)) << 32,
                key: number(at + 8),
                len: number(at + 12),
            }
        };
        let small_frames = match bytes[field::SMALL_FRAMES] {
            0 => SmallFrames::Polled,
            1 => SmallFrames::Announced,
            other => return protocol(format!("wants small frames in way {other}, known are 0 and 1")),
        };
        let mut gid = [0; 16];
        gid.copy_from_slice(&bytes[field::GID]);
        let offer = Offer {
            mtu: bytes[field::MTU],
            lid: u16::from_le_bytes([bytes[field::LID.start], bytes[field::LID.start + 1]]),
            queue_pair: number(field::QUEUE_PAIR.start),
            packet_number: number(field::PACKET_NUMBER.start),
            small_frames,
            gid,
            cells: region(0),
            rings: std::array::from_fn(|lane| region(1 + lane)),
        };
        if !(1..=5).contains(&offer.mtu) {
            return protocol(format!("says MTU {}, 1 to 5 are possible", offer.mtu));
        }
        if offer.queue_pair == 0 || offer.queue_pair > BITS_24 || offer.packet_number > BITS_24 {
            return protocol(format!(
                "says queue pair {:#x} and packet number {:#x}, which have 24 bits",
                offer.queue_pair, offer.packet_number
            ));
        }
        for region in std::iter::once(&offer.cells).chain(&offer.rings) {
            if region.address.checked_add(u64::from(region.len)).is_none() {
                return protocol(format!("has a region that wraps: {region:?}"));
            }
        }
        Ok(offer)
    }

    /// Whether the peer's regions have room for what this side writes.
    pub(crate) fn check_sizes(&self, sizes: &LaneSizes, cells: usize) -> Result<(), LinkError> {
        for lane in Lane::ALL {
            let (offered, agreed) = (self.rings[lane.index()].len, sizes.of(lane));
            if offered != agreed {
                return Err(LinkError::Protocol(format!(
                    "the peer offers a {lane:?} ring of {offered} bytes, agreed were {agreed}"
                )));
            }
        }
        if (self.cells.len as usize) < cells {
            return Err(LinkError::Protocol(format!(
                "the peer offers {} bytes of cells, needed are {cells}",
                self.cells.len
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Offer {
        let region = |n: u32| RemoteRegion {
            address: 0x7f00_1234_5000 + u64::from(n),
            key: 0xabc0 + n,
            len: 4096 << n,
        };
        Offer {
            mtu: 5,
            lid: 0x1234,
            queue_pair: 0x11,
            packet_number: 0xfe_dcba,
            small_frames: SmallFrames::Announced,
            gid: std::array::from_fn(|n| n as u8),
            cells: region(0),
            rings: [region(1), region(2), region(3)],
        }
    }

    #[test]
    fn an_offer_survives_the_way() {
        assert_eq!(Offer::decode(&example().encode()).unwrap(), example());
    }

    #[test]
    fn an_offer_is_the_golden_bytes() {
        let bytes = example().encode();
        assert_eq!(bytes.len(), 96);
        assert_eq!(
            bytes[..16],
            [2, 5, 0x34, 0x12, 0x11, 0, 0, 0, 0xba, 0xdc, 0xfe, 0, 1, 0, 0, 0]
        );
        assert_eq!(bytes[16..20], [0, 1, 2, 3]);
        assert_eq!(
            bytes[32..48],
            [
                0, 0x50, 0x34, 0x12, 0, 0x7f, 0, 0, 0xc0, 0xab, 0, 0, 0, 0x10, 0, 0
            ]
        );
    }

    #[test]
    fn offers_of_other_lengths_versions_and_impossible_numbers_are_refused() {
        let good = example().encode();
        for len in 0..good.len() {
            assert!(Offer::decode(&good[..len]).is_err());
        }
        let broken = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Offer::decode(&bytes)
        };
        for (at, value) in [(0, 1), (0, 3), (1, 0), (1, 6), (7, 1), (11, 1), (12, 2)] {
            assert!(broken(at, value).is_err(), "byte {at} = {value}");
        }
        let mut wraps = example();
        wraps.rings[1].address = u64::MAX - 10;
        assert!(Offer::decode(&wraps.encode()).is_err());
    }

    #[test]
    fn rings_of_other_sizes_than_agreed_are_refused() {
        let sizes = LaneSizes {
            control: 8192,
            ordinary: 16384,
            large: 32768,
        };
        example().check_sizes(&sizes, 4096).unwrap();
        assert!(example().check_sizes(&sizes, 4097).is_err());
        assert!(
            example()
                .check_sizes(
                    &LaneSizes {
                        large: 65536,
                        ..sizes
                    },
                    4096
                )
                .is_err()
        );
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let mut state = 1u64;
        for _ in 0..10_000 {
            let mut bytes = example().encode();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            let _ = Offer::decode(&bytes);
        }
    }
}
