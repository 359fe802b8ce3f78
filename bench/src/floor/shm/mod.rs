//! The floor of the shm rows: two processes and the memory that both map.
//!
//! Latency: a message is stored whose number is stored last; the other process sees the number change, loads the message and
//! answers in the same way; in one place always, or through as much memory as a ring has. Throughput: a ring with one producer
//! and one consumer, a copy in and a copy out. With `--wait park` the latency floor sleeps on a futex; adaptive
//! waiting is spinning that offers its core to others.

mod line;
mod ring;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::measure::{Laps, Side};
use crate::shared_memory::SharedMemory;
use crate::two_process::{self, Far, Near, Plan, TwoProcesses, Work};
use crate::wait::{Gone, Wait};
use line::{Line, Shape};
use ring::{Consumer, Layout, Producer};

/// What a far half needs to know to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    path: String,
    size: usize,
    through: Option<usize>,
    wait: Wait,
}

impl two_process::Role for Role {
    const KIND: &'static str = "shm floor";

    fn open(self) -> Result<Box<dyn Far>, Error> {
        Ok(Box::new(Responder::open(self)?))
    }
}

/// The two-process floor: of latency in one place, or `through` so many bytes.
pub(crate) fn side(work: Work, size: usize, through: Option<usize>, wait: Wait) -> Result<impl Side, Error> {
    let places = Places::new(size, through);
    let memory = SharedMemory::create(places.len())?;
    let role = Role {
        path: memory.path().unwrap_or_default(),
        size,
        through,
        wait,
    };
    TwoProcesses::start(role, work, size, |_| {
        Ok(Requester {
            memory,
            places,
            wait,
            exchanges: 0,
            producer: Producer::default(),
            message: vec![0x5a; size],
        })
    })
}

/// Where things lie in the shared memory: a line for each direction, then the ring.
#[derive(Debug, Clone, Copy)]
struct Places {
    line: Shape,
    ring: Layout,
}

impl Places {
    fn new(size: usize, through: Option<usize>) -> Places {
        let line = through.map_or(Shape::line(size), |memory| Shape::frames(size, memory));
        Places {
            line,
            ring: Layout::new(2 * line.len(), size),
        }
    }

    /// There and back, behind so many exchanges.
    fn lines<'a>(&self, memory: &'a SharedMemory, wait: Wait, exchanges: u32) -> [Line<'a>; 2] {
        [0, self.line.len()].map(|begin| Line::new(memory, begin, self.line, wait, exchanges))
    }

    fn len(&self) -> usize {
        self.ring.end()
    }
}

/// The near half.
struct Requester {
    memory: SharedMemory,
    places: Places,
    wait: Wait,
    exchanges: u32,
    producer: Producer,
    message: Vec<u8>,
}

impl Near for Requester {
    fn run(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error> {
        match plan.work {
            Work::PingPong => {
                let [mut ping, mut pong] = self.places.lines(&self.memory, self.wait, self.exchanges);
                laps.start();
                for _ in 0..plan.count {
                    self.exchanges = self.exchanges.wrapping_add(1);
                    ping.put(self.exchanges, &self.message);
                    pong.take(self.exchanges, &mut self.message, gone)?;
                    laps.lap();
                }
                Ok(())
            }
            Work::Stream => self.producer.put(
                &self.memory,
                &self.places.ring,
                &self.message,
                plan.count,
                self.wait,
                gone,
            ),
        }
    }
}

/// The far half.
struct Responder {
    memory: SharedMemory,
    places: Places,
    wait: Wait,
    exchanges: u32,
    consumer: Consumer,
    message: Vec<u8>,
}

impl Responder {
    fn open(role: Role) -> Result<Responder, Error> {
        let places = Places::new(role.size, role.through);
        let memory = SharedMemory::open(&role.path, places.len())?;
        let message = vec![0; role.size];
        Ok(Responder {
            memory,
            places,
            wait: role.wait,
            exchanges: 0,
            consumer: Consumer::default(),
            message,
        })
    }
}

impl Far for Responder {
    fn address(&self) -> Result<String, Error> {
        Ok("shared memory".to_owned())
    }

    fn run(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        match plan.work {
            Work::PingPong => {
                let [mut ping, mut pong] = self.places.lines(&self.memory, self.wait, self.exchanges);
                for _ in 0..plan.count {
                    self.exchanges = self.exchanges.wrapping_add(1);
                    ping.take(self.exchanges, &mut self.message, gone)?;
                    pong.put(self.exchanges, &self.message);
                }
                Ok(())
            }
            Work::Stream => self.consumer.take(
                &self.memory,
                &self.places.ring,
                &mut self.message,
                plan.count,
                self.wait,
                gone,
            ),
        }
    }
}
