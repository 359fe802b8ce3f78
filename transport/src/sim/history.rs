//! One history: hosts that are started, faults that come and go, and what must hold at its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::actors::Turn;
use super::books::Books;
use super::connection::{Death, Medium};
use super::faults::Faults;
use super::host::{Dial, Host, name, poll};
use super::links::scheme;
use super::world::{SharedWorld, World};
use crate::random::Random;
use crate::session::Time;
use crate::wait::lock;

/// Steps in which faults happen.
const STEPS_WITH_FAULTS: u64 = 60;
/// Longest step while they do, in microseconds.
const LONGEST_STEP: u64 = 4_000;
/// The length of a step afterwards.
const QUIET_STEP: Duration = Duration::from_millis(2);
/// How long after the last fault everything has to be well again.
const RECOVERY: Duration = Duration::from_millis(1_500);

/// What a history came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Messages sent.
    pub sent: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Dead letters, at senders and receivers.
    pub dead_letters: u64,
    /// Sessions that ended because the peer's process was gone.
    pub gone: u64,
    /// What happened to sessions.
    pub events: u64,
    /// Simulated time, in microseconds.
    pub micros: u64,
    /// Two histories with the same digest were the same.
    pub digest: u64,
}

/// A history in which something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that makes it again.
    pub seed: u64,
    /// What did not hold.
    pub violations: Vec<String>,
    /// What happened, where [`run_traced`] was asked for it.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.violations.join("; "))
    }
}

/// Runs the history of a seed.
///
/// # Errors
/// [`Failure`] when something did not hold.
pub fn run(seed: u64) -> Result<Outcome, Box<Failure>> {
    History::new(seed, false).run()
}

/// As [`run`], and remembers what happened.
///
/// # Errors
/// As [`run`].
pub fn run_traced(seed: u64) -> Result<Outcome, Box<Failure>> {
    History::new(seed, true).run()
}

struct History {
    seed: u64,
    world: SharedWorld,
    random: Random,
    hosts: Vec<Host>,
    inboxes: Vec<usize>,
    books: Books,
    lives: u32,
    /// The transports by which hosts dial each other, best first.
    media: Vec<Medium>,
    burst: u64,
    eagerness: u64,
    events: u64,
    /// Nothing ever happens to links, so none is to be given up.
    spares_links: bool,
    /// What was last noted of deliveries and dead letters.
    told: (u64, u64),
}

impl History {
    fn new(seed: u64, traced: bool) -> History {
        let mut random = Random::new(!seed);
        let hosts: Vec<Host> = (0..random.between(2, 3) as usize)
            .map(|index| Host::draw(index, &mut random))
            .collect();
        let media: &[&[Medium]] = &[
            &[Medium::Writes, Medium::Stream],
            &[Medium::Writes, Medium::Stream],
            &[Medium::Stream, Medium::Writes],
            &[Medium::Writes],
            &[Medium::Stream],
        ];
        let world = World::new(seed, traced);
        History {
            seed,
            spares_links: world.faults.spare_links(),
            told: (0, 0),
            world: Arc::new(Mutex::new(world)),
            inboxes: hosts.iter().map(Host::inboxes).collect(),
            hosts,
            books: Books::new(),
            lives: 0,
            media: random.pick(media).to_vec(),
            burst: *random.pick(&[2, 4, 12]),
            eagerness: *random.pick(&[1, 3, 10]),
            events: 0,
            random,
        }
    }

    fn run(mut self) -> Result<Outcome, Box<Failure>> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.play()));
        if let Err(panic) = ran {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            self.books.wrong(format!("panic: {}", said.unwrap_or("?")));
            // What the world's threads of thought hold may be in any state: it is left alone.
            std::mem::forget(std::mem::take(&mut self.hosts));
        }
        self.tidy_up();
        let mut world = lock(&self.world);
        if !self.books.violations.is_empty() {
            return Err(Box::new(Failure {
                seed: self.seed,
                violations: std::mem::take(&mut self.books.violations),
                trace: world.take_trace(),
            }));
        }
        Ok(Outcome {
            sent: self.books.next_id() - 1,
            delivered: self.books.delivered,
            dead_letters: self.books.letters,
            gone: self.books.gone,
            events: self.events,
            micros: world.now.as_micros() as u64,
            digest: world.digest(),
        })
    }

    /// Tasks hold their nodes, and nodes the world that holds the tasks.
    fn tidy_up(&mut self) {
        loop {
            let tasks = std::mem::take(&mut lock(&self.world).tasks);
            if tasks.is_empty() {
                return;
            }
        }
    }

    fn play(&mut self) {
        for _ in 0..STEPS_WITH_FAULTS {
            let time = self.random.micros(LONGEST_STEP);
            lock(&self.world).misbehave(self.hosts.len());
            self.step(time);
            if !self.books.violations.is_empty() {
                return;
            }
        }
        self.recover();
        self.finish();
    }

    fn now(&self) -> Time {
        lock(&self.world).now
    }

    fn step(&mut self, time: Duration) {
        lock(&self.world).pass(time);
        for host in 0..self.hosts.len() {
            self.turn(host);
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.now();
        let faults = lock(&self.world).faults.clone();
        if self.hosts[index].life.is_none() {
            if self.hosts[index].back_at <= now {
                self.start(index);
            }
            return;
        }
        if self.hosts[index].still_until > now {
            return;
        }
        if self.random.one_in(faults.standstill) {
            self.hosts[index].still_until = now + Faults::lasting(&mut self.random);
            lock(&self.world).note(|| format!("host {index} stands still"), index as u64);
            return;
        }
        if self.random.one_in(faults.crash) {
            self.crash(index);
            return;
        }
        self.poll_tasks(index);
        let History {
            world,
            random,
            hosts,
            books,
            inboxes,
            burst,
            eagerness,
            spares_links,
            told,
            ..
        } = self;
        let Some(life) = &mut hosts[index].life else {
            return;
        };
        life.node.inner.step();
        let mut turn = Turn {
            host: index,
            now,
            random,
            books,
            faults: &faults,
            inboxes,
            burst: *burst,
            eagerness: *eagerness,
        };
        turn.run(life);
        let events = &mut self.events;
        turn.read_events(life, *spares_links, |event| {
            *events += 1;
            lock(world).note(|| format!("host {index}: {event:?}"), index as u64);
        });
        let (delivered, letters) = (books.delivered, books.letters);
        if (delivered, letters) != *told {
            *told = (delivered, letters);
            lock(world).note(
                || format!("host {index}: {delivered} delivered and {letters} dead letters in all"),
                delivered << 20 | letters,
            );
        }
    }

    fn poll_tasks(&mut self, index: usize) {
        let all = std::mem::take(&mut lock(&self.world).tasks);
        let mut left = Vec::new();
        for (host, mut task) in all {
            if host != index || poll(&mut task) == Poll::Pending {
                left.push((host, task));
            }
        }
        // Those that were started meanwhile come after.
        let mut world = lock(&self.world);
        left.append(&mut world.tasks);
        world.tasks = left;
    }

    fn start(&mut self, index: usize) {
        let others = index + 1..self.hosts.len();
        let addresses = |host| {
            let at = |medium: &Medium| format!("{}://{}", scheme(*medium), name(host));
            self.media.iter().map(at).collect()
        };
        let dials = others.map(|host| Dial::new(host, addresses(host))).collect();
        self.lives += 1;
        self.hosts[index].start(self.lives, &self.world, dials);
        if let Some(life) = &self.hosts[index].life {
            self.books.started(life.node.inner.identity.incarnation);
        }
        lock(&self.world).note(|| format!("host {index} starts"), index as u64);
    }

    fn crash(&mut self, index: usize) {
        let death = *self.random.pick(&[Death::Told, Death::Silent]);
        {
            let mut world = lock(&self.world);
            world.note(|| format!("host {index} crashes"), index as u64);
            let of_the_host: Vec<usize> = world
                .connections
                .iter()
                .filter(|(_, connection)| connection.ends.iter().any(|end| end.host == index))
                .map(|(number, _)| *number)
                .collect();
            for number in of_the_host {
                world.kill(number, death);
            }
        }
        let dead_tasks: Vec<_> = {
            let mut world = lock(&self.world);
            let (dead, left) = std::mem::take(&mut world.tasks)
                .into_iter()
                .partition(|(host, _)| *host == index);
            world.tasks = left;
            dead
        };
        self.leave(index);
        drop(dead_tasks);
        let now = self.now();
        self.hosts[index].back_at = now + Faults::lasting(&mut self.random);
    }

    /// A node ends without a word. What its mailboxes hold was delivered; what it sent, nobody knows.
    fn leave(&mut self, index: usize) {
        let Some(mut life) = self.hosts[index].life.take() else {
            return;
        };
        let now = self.now();
        let faults = lock(&self.world).faults.clone();
        let mut turn = Turn {
            host: index,
            now,
            random: &mut self.random,
            books: &mut self.books,
            faults: &faults,
            inboxes: &self.inboxes,
            burst: 0,
            eagerness: 1,
        };
        turn.take_all(&mut life);
        turn.read_letters(&mut life);
        self.books
            .crashed(life.number, life.node.inner.identity.incarnation);
    }

    /// Once faults have stopped, everything comes well within a bounded time.
    fn recover(&mut self) {
        lock(&self.world).mend();
        let now = self.now();
        for host in &mut self.hosts {
            host.still_until = now;
            host.back_at = now;
        }
        // Senders rest until old business is settled; then each sends again.
        let (burst, eagerness) = (self.burst, self.eagerness);
        self.burst = 0;
        let deadline = self.now() + RECOVERY;
        while !self.is_well() {
            if self.now() > deadline {
                return self.books.wrong(self.what_is_not_well());
            }
            self.step(QUIET_STEP);
            if !self.books.violations.is_empty() {
                return;
            }
        }
        (self.burst, self.eagerness) = (burst, eagerness.min(2));
        let first = self.books.next_id();
        let everywhere = |history: &History| {
            (0..history.hosts.len()).all(|host| history.books.delivered_since(first, host) > 0)
        };
        while !everywhere(self) {
            if self.now() > deadline + RECOVERY {
                return self
                    .books
                    .wrong("no message is delivered although nothing is in the way".into());
            }
            self.step(QUIET_STEP);
        }
        self.burst = 0;
        while !self.is_well() {
            if self.now() > deadline + 2 * RECOVERY {
                return self.books.wrong(self.what_is_not_well());
            }
            self.step(QUIET_STEP);
        }
    }

    /// Messages that nobody has accounted for.
    fn open(&self) -> Vec<u64> {
        let lives = self.hosts.iter().filter_map(|host| host.life.as_ref());
        let sessions = lives.flat_map(|life| life.node.peers());
        self.books.open(&sessions.map(|peer| peer.0.session_id).collect())
    }

    fn is_well(&self) -> bool {
        self.are_connected() && self.open().is_empty()
    }

    /// Whether every pair has a session that both believe in.
    fn are_connected(&self) -> bool {
        self.hosts.iter().all(|host| {
            host.life.as_ref().is_some_and(|life| {
                life.dials.iter().all(|dial| {
                    let on_their_side = |number| {
                        self.hosts[dial.host].life.as_ref().is_some_and(|other| {
                            other
                                .node
                                .peers()
                                .iter()
                                .any(|peer| peer.0.session_id == number && peer.0.is_proven())
                        })
                    };
                    dial.peer
                        .as_ref()
                        .is_some_and(|peer| peer.0.is_proven() && on_their_side(peer.0.session_id))
                })
            })
        })
    }

    fn what_is_not_well(&self) -> String {
        let open = self.open();
        let connected = self.are_connected();
        format!(
            "{:?} after the last fault, connected: {connected}, messages neither delivered nor dead: {open:?}",
            RECOVERY
        )
    }

    /// The end: all nodes leave, and the books must balance.
    fn finish(&mut self) {
        let open = self.open();
        if !open.is_empty() && self.books.violations.is_empty() {
            self.books.wrong(format!("messages lost: {open:?}"));
        }
        for index in 0..self.hosts.len() {
            self.leave(index);
        }
    }
}
