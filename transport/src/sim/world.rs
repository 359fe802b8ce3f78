//! The world that the nodes of a history share: its time, its chances, its network.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::connection::{Connection, Death, End, Medium};
use super::faults::Faults;
use crate::random::Random;
use crate::session::Time;
use crate::surroundings::Pending;

/// The world, as everybody in it holds it.
pub(super) type SharedWorld = Arc<Mutex<World>>;

/// Time, chance and network.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    /// Connections that wait to be accepted, by address with scheme.
    pub(super) listening: BTreeMap<String, VecDeque<(Time, usize)>>,
    /// Which host is meant by an address.
    outages: [Time; 2],
    /// Whether somebody stands between a host and an address, and refuses in its name.
    in_between: BTreeMap<(usize, String), bool>,
    /// Until when two hosts are cut off from each other.
    partitions: BTreeMap<(usize, usize), Time>,
    /// What nodes have started, by host.
    pub(super) tasks: Vec<(usize, Pending<'static, ()>)>,
    /// What happened, for people; only where it is asked for.
    trace: Option<Vec<String>>,
    digest: u64,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> World {
        let mut random = Random::new(seed);
        World {
            now: Time::ZERO,
            faults: Faults::draw(&mut random),
            random,
            connections: BTreeMap::new(),
            next_connection: 0,
            listening: BTreeMap::new(),
            outages: [Time::ZERO; 2],
            in_between: BTreeMap::new(),
            partitions: BTreeMap::new(),
            tasks: Vec::new(),
            trace: traced.then(Vec::new),
            digest: seed,
        }
    }

    /// Remembers that something happened.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String, number: u64) {
        let mixed = (self.digest ^ number ^ self.now.as_micros() as u64).wrapping_mul(0x0000_0100_0000_01b3);
        self.digest = mixed.rotate_left(23);
        if let Some(trace) = &mut self.trace {
            let now = self.now.as_micros();
            trace.push(format!("{:3}.{:03} ms  {}", now / 1000, now % 1000, what()));
        }
    }

    /// A number that tells two histories apart.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Time passes, and what is on its way arrives.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        let partitions = &self.partitions;
        self.connections.retain(|_, connection| {
            let [one, other] = &mut connection.ends;
            if connection.medium == Medium::Writes && !is_cut(partitions, one, other, now) {
                one.land_due(now);
                other.land_due(now);
            }
            !(one.left && other.left)
        });
    }

    /// Whether nothing passes between the ends of a connection.
    pub(super) fn is_cut_off(&self, connection: &Connection) -> bool {
        let [one, other] = &connection.ends;
        is_cut(&self.partitions, one, other, self.now)
    }

    /// Whether somebody stands between a host and an address, from the beginning to the end of the history.
    fn is_in_between(&mut self, host: usize, address: &str) -> bool {
        let (random, rate) = (&mut self.random, self.faults.in_between);
        let known = self.in_between.entry((host, address.to_owned()));
        *known.or_insert_with(|| random.one_in(rate))
    }

    /// Whether nothing passes between a host and the one that an address belongs to.
    fn is_cut_off_from(&self, host: usize, address: &str) -> bool {
        let named = |other: &usize| address.ends_with(&super::host::name(*other));
        self.partitions.iter().any(|((one, other), until)| {
            *until > self.now && (*one == host && named(other) || *other == host && named(one))
        })
    }

    /// A new connection, if the transport can dial. The host itself refuses where it can be reached and nobody listens; who stands in
    /// between may refuse whatever the reason.
    pub(super) fn open(&mut self, medium: Medium, host: usize, address: &str) -> Result<usize, ErrorKind> {
        let in_between = self.is_in_between(host, address);
        let is_out = self.outages[medium as usize] > self.now;
        if is_out || !self.listening.contains_key(address) {
            let refuses = match in_between {
                true => !self.random.one_in(8),
                false => !is_out && !self.is_cut_off_from(host, address),
            };
            return Err(match refuses {
                true => ErrorKind::ConnectionRefused,
                false => ErrorKind::TimedOut,
            });
        }
        let World {
            random, faults, now, ..
        } = self;
        let death = if faults.silent_deaths {
            *random.pick(&[Death::Told, Death::ToldTo(0), Death::ToldTo(1), Death::Silent])
        } else {
            Death::Told
        };
        let fuse = random
            .one_in(faults.fused)
            .then(|| (random.below(faults.longest_fuse), death));
        let latency = random.below(faults.latency + 1);
        let connection = Connection {
            medium,
            address: address.to_owned(),
            in_between,
            ends: [
                End {
                    host,
                    ..End::default()
                },
                End {
                    host: usize::MAX,
                    ..End::default()
                },
            ],
            death: None,
            fuse,
            mute: random.one_in(faults.mute),
            room: *random.pick(&[200, 2_000, 20_000]),
            latency,
        };
        let at = *now + random.micros(latency);
        let number = self.next_connection;
        self.next_connection += 1;
        let (fuse, mute) = (connection.fuse, connection.mute);
        self.connections.insert(number, connection);
        if let Some(waiting) = self.listening.get_mut(address) {
            waiting.push_back((at, number));
        }
        self.note(
            || format!("connection {number}: host {host} dials {address}, fuse {fuse:?}, mute {mute}"),
            number as u64,
        );
        Ok(number)
    }

    /// The next connection that has reached a listener.
    pub(super) fn accept(&mut self, host: usize, address: &str) -> Option<usize> {
        let waiting = self.listening.get_mut(address)?;
        let (at, number) = *waiting.front()?;
        if at > self.now {
            return None;
        }
        waiting.pop_front();
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.ends[1].host = host;
        }
        Some(number)
    }

    /// Kills one connection.
    pub(super) fn kill(&mut self, number: usize, death: Death) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.die(death, &mut self.random);
            self.note(|| format!("connection {number}: dies, {death:?}"), number as u64);
        }
    }

    fn any_death(&mut self) -> Death {
        if self.faults.silent_deaths {
            *self
                .random
                .pick(&[Death::Told, Death::ToldTo(0), Death::ToldTo(1), Death::Silent])
        } else {
            Death::Told
        }
    }

    /// The network's own faults, as they come by chance.
    pub(super) fn misbehave(&mut self, hosts: usize) {
        let faults = self.faults.clone();
        if self.random.one_in(faults.cut) && !self.connections.is_empty() {
            let nth = self.random.below(self.connections.len() as u64) as usize;
            let number = self.connections.keys().nth(nth).copied();
            let death = self.any_death();
            number.into_iter().for_each(|number| self.kill(number, death));
        }
        if self.random.one_in(faults.outage) {
            let medium = *self.random.pick(&[Medium::Stream, Medium::Writes]);
            self.outages[medium as usize] = self.now + Faults::lasting(&mut self.random);
            self.note(|| format!("{medium:?} is out"), medium as u64);
            let over_it: Vec<usize> = self
                .connections
                .iter()
                .filter(|(_, connection)| connection.medium == medium)
                .map(|(number, _)| *number)
                .collect();
            for number in over_it {
                let death = self.any_death();
                self.kill(number, death);
            }
        }
        if self.random.one_in(faults.partition) {
            let one = self.random.below(hosts as u64) as usize;
            let other = (one + 1 + self.random.below(hosts as u64 - 1) as usize) % hosts;
            let until = self.now + Faults::lasting(&mut self.random);
            self.partitions.insert((one.min(other), one.max(other)), until);
            self.note(
                || format!("hosts {one} and {other} are cut off until {until:?}"),
                one as u64,
            );
        }
    }

    /// From here on the world is without faults.
    pub(super) fn mend(&mut self) {
        self.faults.stop();
        self.outages = [Time::ZERO; 2];
        self.partitions.clear();
        for connection in self.connections.values_mut() {
            connection.fuse = None;
        }
        self.note(|| "no more faults".into(), 0);
    }
}

fn is_cut(partitions: &BTreeMap<(usize, usize), Time>, one: &End, other: &End, now: Time) -> bool {
    let pair = (one.host.min(other.host), one.host.max(other.host));
    partitions.get(&pair).is_some_and(|until| *until > now)
}
