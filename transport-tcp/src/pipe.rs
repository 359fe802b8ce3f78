//! A stream in memory that cuts what passes through it at random places: what a socket may do, done all the time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;

use crate::socket::Stream;

/// Random numbers that a seed repeats (xorshift64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to `limit - 1`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }
}

/// One direction.
struct Flow {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Most bytes that one call moves.
    cut: usize,
    closed: bool,
    random: Random,
    reads: usize,
}

impl Flow {
    fn new(random: Random, capacity: usize, cut: usize) -> Rc<RefCell<Flow>> {
        Rc::new(RefCell::new(Flow {
            bytes: VecDeque::new(),
            capacity,
            cut,
            closed: false,
            random,
            reads: 0,
        }))
    }

    /// How much of `possible` this call moves; nothing at all at times.
    fn share(&mut self, possible: usize) -> io::Result<usize> {
        let possible = possible.min(self.cut);
        if possible == 0 || (self.cut < usize::MAX && self.random.below(8) == 0) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.random.below(16) == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(if self.cut == usize::MAX {
            possible
        } else {
            1 + self.random.below(possible)
        })
    }
}

/// One end of a stream in memory.
#[derive(Clone)]
pub(crate) struct Pipe {
    input: Rc<RefCell<Flow>>,
    output: Rc<RefCell<Flow>>,
}

impl Pipe {
    /// Two ends; each direction holds `capacity` bytes and moves at most `cut` at once (`usize::MAX`: never cuts).
    pub(crate) fn pair(seed: u64, capacity: usize, cut: usize) -> (Pipe, Pipe) {
        let one = Flow::new(Random::new(seed), capacity, cut);
        let other = Flow::new(Random::new(!seed), capacity, cut);
        (
            Pipe {
                input: one.clone(),
                output: other.clone(),
            },
            Pipe {
                input: other,
                output: one,
            },
        )
    }

    /// Nothing more comes out of this end.
    pub(crate) fn close(&self) {
        self.output.borrow_mut().closed = true;
    }

    /// Puts bytes in that no sender made.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.output.borrow_mut().bytes.extend(bytes);
    }

    /// Takes out what has come.
    pub(crate) fn drain(&self) -> Vec<u8> {
        self.input.borrow_mut().bytes.drain(..).collect()
    }

    /// How many reads were made on this end.
    pub(crate) fn reads(&self) -> usize {
        self.input.borrow().reads
    }
}

impl Stream for Pipe {
    fn read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut flow = self.input.borrow_mut();
        flow.reads += 1;
        if flow.bytes.is_empty() && flow.closed {
            return Ok(0);
        }
        let wanted: usize = into.iter().map(|buffer| buffer.len()).sum();
        assert_ne!(wanted, 0, "a read into nothing looks like the end of the stream");
        let possible = wanted.min(flow.bytes.len());
        let share = flow.share(possible)?;
        let mut left = share;
        for buffer in into {
            let len = buffer.len().min(left);
            flow.bytes.read_exact(&mut buffer[..len])?;
            left -= len;
        }
        Ok(share)
    }

    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut flow = self.output.borrow_mut();
        if flow.closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = from.iter().map(|buffer| buffer.len()).sum();
        assert_ne!(offered, 0, "a write of nothing");
        let possible = offered.min(flow.capacity - flow.bytes.len());
        let share = flow.share(possible)?;
        let mut left = share;
        for buffer in from {
            let len = buffer.len().min(left);
            flow.bytes.write_all(&buffer[..len])?;
            left -= len;
        }
        Ok(share)
    }

    fn peek(&self) -> io::Result<usize> {
        let flow = self.input.borrow();
        match (flow.bytes.is_empty(), flow.closed) {
            (false, _) => Ok(1),
            (true, true) => Ok(0),
            (true, false) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}
