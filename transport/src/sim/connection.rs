//! A connection between two nodes: what is under way on it, and how it dies.

use std::collections::VecDeque;

use crate::lane::{LANES, Lane};
use crate::link::LaneMemory;
use crate::random::Random;
use crate::ring::Position;
use crate::session::Time;

/// How a connection carries ring bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// In order, as a byte stream: the receiver is told how much has come.
    Stream,
    /// As one-sided writes into the receiver's memory.
    Writes,
}

/// Who is told that a connection has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Told,
    ToldTo(usize),
    Silent,
}

impl Death {
    fn is_told_to(self, end: usize) -> bool {
        self == Death::Told || self == Death::ToldTo(end)
    }
}

/// Something on its way to one end, in order.
pub(super) struct Parcel {
    pub(super) at: Time,
    pub(super) cargo: Cargo,
}

pub(super) enum Cargo {
    Message(Vec<u8>),
    Bytes {
        lane: usize,
        position: Position,
        bytes: Vec<u8>,
    },
    Credit {
        lane: usize,
        position: Position,
    },
}

/// A piece of a one-sided write, or an acknowledgement, on its way into one end's memory.
pub(super) struct Landing {
    pub(super) at: Time,
    pub(super) lane: usize,
    pub(super) what: Landed,
}

pub(super) enum Landed {
    Piece {
        position: Position,
        bytes: Vec<u8>,
    },
    /// The lane has arrived up to there. Comes after all that was written before.
    Notice(Position),
    Credit(Position),
}

/// One end of a connection.
#[derive(Default)]
pub(super) struct End {
    pub(super) host: usize,
    pub(super) incoming: VecDeque<Parcel>,
    pub(super) landing: Vec<Landing>,
    /// Where writes land; none before there is a link, and none after it was dropped.
    pub(super) rings: Option<LaneMemory>,
    /// The link has been here and is gone: what comes finds no ring.
    pub(super) unmapped: bool,
    pub(super) credit: [Position; LANES],
    /// How far the large lane has arrived, where writes land.
    pub(super) noticed: Position,
    /// Something has landed since the last look.
    pub(super) moved: bool,
    /// This end has let go of the connection.
    pub(super) left: bool,
}

/// A connection. End 0 dialled.
pub(super) struct Connection {
    pub(super) medium: Medium,
    /// Where it was dialled, with scheme.
    pub(super) address: String,
    /// Somebody in between ends it, and begins another to the listener.
    pub(super) in_between: bool,
    pub(super) ends: [End; 2],
    pub(super) death: Option<Death>,
    /// The death that this connection will die once so many bytes were carried.
    pub(super) fuse: Option<(u64, Death)>,
    /// Carries nothing but the handshake.
    pub(super) mute: bool,
    /// Bytes that may be under way to one end.
    pub(super) room: usize,
    pub(super) latency: u64,
}

impl Connection {
    /// Whether this end finds the connection at its end, apart from what it may still receive.
    pub(super) fn is_over_for(&self, end: usize) -> bool {
        match self.death {
            Some(death) => death.is_told_to(end),
            None => self.ends[1 - end].left,
        }
    }

    /// Kills the connection; of what is under way any part may be lost.
    pub(super) fn die(&mut self, death: Death, random: &mut Random) {
        if self.death.is_some() {
            return;
        }
        self.death = Some(death);
        for end in &mut self.ends {
            let kept = random.below(end.incoming.len() as u64 + 1) as usize;
            end.incoming.truncate(kept);
            if let Some(Parcel {
                cargo: Cargo::Bytes { bytes, .. },
                ..
            }) = end.incoming.back_mut()
            {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            }
            end.lose_landings(random);
        }
    }

    /// Whether the connection is still alive when so many bytes more have gone off; if not, they are lost.
    pub(super) fn carries(&mut self, len: usize) -> bool {
        match &mut self.fuse {
            Some((left, _)) => {
                *left = left.saturating_sub(len as u64);
                self.death.is_none()
            }
            None => self.death.is_none(),
        }
    }

    /// Dies if its fuse has burnt down.
    pub(super) fn die_of_fuse(&mut self, random: &mut Random) {
        if let Some((0, death)) = self.fuse {
            self.die(death, random);
        }
    }

    /// Something goes off towards the other end, after all that went before.
    pub(super) fn dispatch(&mut self, from: usize, now: Time, cargo: Cargo, random: &mut Random) {
        let incoming = &mut self.ends[1 - from].incoming;
        let earliest = incoming.back().map_or(now, |last| last.at);
        let at = earliest.max(now + random.micros(self.latency));
        incoming.push_back(Parcel { at, cargo });
    }

    /// Bytes under way to the other end.
    pub(super) fn under_way(&self, from: usize) -> usize {
        let end = &self.ends[1 - from];
        let bytes = |parcel: &Parcel| match &parcel.cargo {
            Cargo::Bytes { bytes, .. } => bytes.len(),
            Cargo::Message(_) | Cargo::Credit { .. } => 0,
        };
        let landing = |landing: &Landing| match &landing.what {
            Landed::Piece { bytes, .. } => bytes.len(),
            Landed::Notice(_) | Landed::Credit(_) => 0,
        };
        end.incoming.iter().map(bytes).sum::<usize>() + end.landing.iter().map(landing).sum::<usize>()
    }

    /// A one-sided write of all from `position` to `frontier` goes off: in pieces, each in its own time; `bytes` may end
    /// before, where only zeroes follow. `capacity` is that of the ring written to. In the large lane, a notice follows.
    pub(super) fn write(
        &mut self,
        from: usize,
        now: Time,
        (lane, capacity): (usize, u64),
        (mut position, frontier): (Position, Position),
        mut bytes: &[u8],
        random: &mut Random,
    ) {
        let end = &mut self.ends[1 - from];
        // Two writes to the same place stay in order: what is still to land there lands first.
        let (start, stop) = (position, position + bytes.len() as u64);
        let mut due = Vec::new();
        let mut place = 0;
        while place < end.landing.len() {
            let overlaps = end.landing[place].lane == lane
                && match &end.landing[place].what {
                    Landed::Piece { position, bytes } => {
                        position + (bytes.len() as u64) + capacity > start && position + capacity < stop
                    }
                    Landed::Notice(_) | Landed::Credit(_) => false,
                };
            if overlaps {
                due.push(end.landing.remove(place));
            } else {
                place += 1;
            }
        }
        for landing in due {
            end.land(landing);
        }
        while !bytes.is_empty() {
            let len = random.between(1, 64).min(bytes.len() as u64) as usize;
            let (piece, rest) = bytes.split_at(len);
            // Of data, some is very late.
            let late = if lane > 0 && random.one_in(40) { 10 } else { 1 };
            end.landing.push(Landing {
                at: now + random.micros(self.latency * late),
                lane,
                what: Landed::Piece {
                    position,
                    bytes: piece.to_vec(),
                },
            });
            (position, bytes) = (position + len as u64, rest);
        }
        if lane == Lane::Large.index() {
            end.landing.push(Landing {
                at: now + random.micros(self.latency),
                lane,
                what: Landed::Notice(frontier),
            });
        }
    }
}

impl End {
    /// Everything whose time has come lands, in any order.
    pub(super) fn land_due(&mut self, now: Time) {
        if self.rings.is_none() && !self.unmapped {
            return;
        }
        let mut place = 0;
        while place < self.landing.len() {
            let is_notice = matches!(self.landing[place].what, Landed::Notice(_));
            if self.landing[place].at <= now && !is_notice {
                let landing = self.landing.swap_remove(place);
                self.land(landing);
            } else {
                place += 1;
            }
        }
        let earliest = first_missing(&self.landing);
        let mut place = 0;
        while place < self.landing.len() {
            let landing = &self.landing[place];
            if landing.at <= now && landing.is_notice_within(earliest) {
                let landing = self.landing.swap_remove(place);
                self.land(landing);
            } else {
                place += 1;
            }
        }
    }

    /// Any part of what was under way is lost. A notice is, where something before it is.
    fn lose_landings(&mut self, random: &mut Random) {
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.landing)
            .into_iter()
            .partition(|_| random.one_in(2));
        let earliest = first_missing(&lost);
        let stays = |landing: &Landing| {
            !matches!(landing.what, Landed::Notice(_)) || landing.is_notice_within(earliest)
        };
        self.landing = kept.into_iter().filter(stays).collect();
        // What is not lost may stay under way for long, and find another link in the place of this one.
        let dallies = *random.pick(&[0, 0, 20_000, 60_000]);
        for landing in &mut self.landing {
            landing.at += random.micros(dallies);
        }
    }

    fn land(&mut self, landing: Landing) {
        let Some(rings) = &self.rings else { return };
        self.moved = true;
        match landing.what {
            // Two writes to the same place stay in order: the later of two acknowledgements stands.
            Landed::Credit(position) => {
                let credit = &mut self.credit[landing.lane];
                *credit = position.max(*credit);
            }
            Landed::Notice(position) => self.noticed = self.noticed.max(position),
            Landed::Piece { position, bytes } => store(&rings[landing.lane], position, &bytes),
        }
    }
}

impl Landing {
    /// Whether it is a notice of nothing beyond `limit`.
    fn is_notice_within(&self, limit: Position) -> bool {
        matches!(self.what, Landed::Notice(position) if position <= limit)
    }
}

/// Where the first of these pieces of the large lane begins.
fn first_missing(landing: &[Landing]) -> Position {
    let begins = |landing: &Landing| match &landing.what {
        Landed::Piece { position, .. } if landing.lane == Lane::Large.index() => Some(*position),
        _ => None,
    };
    landing.iter().filter_map(begins).min().unwrap_or(Position::MAX)
}

/// Stores bytes at a position of a ring as a device does: word by word, nothing else ordered.
fn store(ring: &crate::memory::RingMemory, position: Position, bytes: &[u8]) {
    use crate::sync::atomic::Ordering::Relaxed;
    for (at, byte) in (position..).zip(bytes) {
        let offset = (at & (ring.len() as u64 - 1)) as usize;
        let (word, shift) = (ring.word(offset & !7), (offset & 7) * 8);
        let value = word.load(Relaxed) & !(0xff << shift) | u64::from(*byte) << shift;
        word.store(value, Relaxed);
    }
}
