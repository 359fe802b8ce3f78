//! How the receiver puts messages together that come in several chunks.
//!
//! Sans-IO: frames of the large lane go in, in their order; whole messages come out. Of each mailbox at most one message
//! is in assembly, and all of them together never exceed the allowance that both sides know. Whatever a peer
//! writes, nothing panics, and nothing is allocated that its mailbox would not take.
//!
//! A message that has been put together stands in memory of its node's [`AssemblyPool`], which has it back when the message is
//! done with: new memory for each would cost more than the copy, since the system hands it out page by page.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::chunk::{Chunk, ChunkError, MAX_CHUNK};
use crate::wait::lock;

/// Bytes that a node keeps for messages in assembly while there are none.
const KEPT: usize = 16 << 20;
/// Shorter memory is not worth keeping.
const LEAST_KEPT: usize = MAX_CHUNK / 2;
/// Memory is used again for messages that fill this part of it, so that what peers declare bounds what is held.
const FILLED: usize = 2;

/// Memory of a node for messages in assembly that none of them uses.
#[derive(Default)]
pub(crate) struct AssemblyPool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    memory: Vec<Vec<u8>>,
    bytes: usize,
}

impl AssemblyPool {
    /// Empty memory for `total` bytes, and for no more than [`FILLED`] times as many. `None` when there is none.
    fn take(self: &Arc<Self>, total: usize) -> Option<Assembled> {
        let mut bytes = self.reuse(total).unwrap_or_default();
        bytes.try_reserve_exact(total).ok()?;
        Some(Assembled {
            bytes,
            pool: self.clone(),
        })
    }

    /// What was given back last of those that fit: the caches know it best.
    fn reuse(&self, total: usize) -> Option<Vec<u8>> {
        let fits = |memory: &Vec<u8>| (total..=total.saturating_mul(FILLED)).contains(&memory.capacity());
        let mut kept = lock(&self.kept);
        let at = kept.memory.iter().rposition(fits)?;
        let memory = kept.memory.remove(at);
        kept.bytes -= memory.capacity();
        Some(memory)
    }

    /// Keeps it in the place of what was idle for longest, if there is too much.
    fn keep(&self, mut memory: Vec<u8>) {
        let len = memory.capacity();
        if !(LEAST_KEPT..=KEPT).contains(&len) {
            return;
        }
        memory.clear();
        let mut kept = lock(&self.kept);
        while kept.bytes + len > KEPT {
            kept.bytes -= kept.memory.remove(0).capacity();
        }
        kept.bytes += len;
        kept.memory.push(memory);
    }
}

/// A message that is put together, or was. Its memory goes back to the pool.
pub(crate) struct Assembled {
    bytes: Vec<u8>,
    pool: Arc<AssemblyPool>,
}

impl Deref for Assembled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        self.pool.keep(std::mem::take(&mut self.bytes));
    }
}

impl PartialEq for Assembled {
    fn eq(&self, other: &Assembled) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Assembled {}

impl std::fmt::Debug for Assembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes.fmt(f)
    }
}

/// What has become of the message of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<'c> {
    /// More of it is to come.
    Partial,
    /// The chunk was the whole of it: here it is, where it arrived.
    Single(&'c [u8]),
    /// It is complete.
    Whole(Assembled),
    /// Its sender has given it up.
    Abandoned,
}

struct Assembly {
    message: Assembled,
    total: u32,
}

/// The messages of one session that have begun and are not complete.
pub(crate) struct Assembler {
    open: HashMap<u16, Assembly>,
    /// Sum of the lengths of the messages that are open.
    declared: u64,
    /// The most that it may be.
    allowance: u64,
    pool: Arc<AssemblyPool>,
}

impl Assembler {
    /// Messages of `allowance` bytes in all may be open at once, in memory of `pool`.
    pub(crate) fn new(allowance: u64, pool: Arc<AssemblyPool>) -> Assembler {
        Assembler {
            open: HashMap::new(),
            declared: 0,
            allowance,
            pool,
        }
    }

    /// A mailbox takes messages of `max` bytes: at least one such message may be open.
    pub(crate) fn allow(&mut self, max: u32) {
        self.allowance = self.allowance.max(u64::from(max));
    }

    /// Takes a chunk for the mailbox `handle`, which takes messages of at most `max` bytes. A chunk that is a whole
    /// message may come at any time; of those in several, one at a time for each mailbox.
    ///
    /// # Errors
    /// [`ChunkError`]: the peer has broken the protocol (or there is no memory): end the session.
    pub(crate) fn take<'c>(
        &mut self,
        handle: u16,
        chunk: &Chunk,
        bytes: &'c [u8],
        max: u32,
    ) -> Result<Progress<'c>, ChunkError> {
        let &Chunk { total, offset, .. } = chunk;
        if total > max {
            return Err(ChunkError::TooLarge { total, max });
        }
        if chunk.is_first() && chunk.is_last(bytes.len()) && !chunk.abandoned {
            return Ok(Progress::Single(bytes));
        }
        if let Some(assembly) = self.open.get_mut(&handle) {
            if total != assembly.total || offset as usize != assembly.message.len() {
                return Err(ChunkError::OutOfOrder {
                    total,
                    offset,
                    open: assembly.total,
                    expected: assembly.message.len(),
                });
            }
            // Within what was reserved at the first chunk: `decode` has checked the end against the total.
            assembly.message.bytes.extend_from_slice(bytes);
            if !chunk.abandoned && !chunk.is_last(bytes.len()) {
                return Ok(Progress::Partial);
            }
            self.declared -= u64::from(total);
            let done = self.open.remove(&handle);
            return Ok(match done {
                Some(done) if !chunk.abandoned => Progress::Whole(done.message),
                _ => Progress::Abandoned,
            });
        }
        if !chunk.is_first() {
            return Err(ChunkError::NeverBegan { total, offset });
        }
        if chunk.abandoned {
            return Ok(Progress::Abandoned);
        }
        let (declared, allowance) = (self.declared + u64::from(total), self.allowance);
        if declared > allowance {
            return Err(ChunkError::BeyondAllowance { declared, allowance });
        }
        let memory = self.pool.take(total as usize);
        let mut message = memory.ok_or(ChunkError::NoMemory(total))?;
        message.bytes.extend_from_slice(bytes);
        self.declared = declared;
        self.open.insert(handle, Assembly { message, total });
        Ok(Progress::Partial)
    }

    /// Forgets everything, because the session is over. Returns the mailboxes whose messages are not complete.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = u16> + use<> {
        (self.declared, self.allowance) = (0, 0);
        std::mem::take(&mut self.open).into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::EXTENSION;
    use crate::chunk::tests::chunk;
    use crate::random::Random;

    fn take<'c>(
        assembler: &mut Assembler,
        handle: u16,
        total: u32,
        offset: u32,
        bytes: &'c [u8],
    ) -> Result<Progress<'c>, ChunkError> {
        assembler.take(handle, &chunk(total, offset), bytes, 100)
    }

    fn whole<'c>(bytes: &[u8]) -> Progress<'c> {
        Progress::Whole(Assembled {
            bytes: bytes.to_vec(),
            pool: Arc::default(),
        })
    }

    #[test]
    fn memory_is_used_again_for_messages_that_fill_it_and_what_is_kept_is_bounded() {
        let pool = Arc::new(AssemblyPool::default());
        let mut message = pool.take(100_000).unwrap();
        message.bytes.extend_from_slice(b"of one peer");
        let memory = message.bytes.as_ptr();
        drop(message);
        let short = pool.take(100_000 / FILLED - 1).unwrap();
        assert_ne!(short.bytes.as_ptr(), memory, "it would fill too little");
        let again = pool.take(90_000).unwrap();
        assert_eq!((again.bytes.as_ptr(), again.len()), (memory, 0));
        let other = pool.take(90_000).unwrap();
        assert_ne!(other.bytes.as_ptr(), memory, "it is in use");
        drop((short, again, other));
        drop(pool.take(LEAST_KEPT - 1));
        drop(pool.take(KEPT + 1));
        assert_eq!(lock(&pool.kept).memory.len(), 3);
        let many: Vec<_> = (0..20).map(|_| pool.take(1 << 20).unwrap()).collect();
        drop(many);
        assert_eq!(lock(&pool.kept).bytes, KEPT, "the oldest made room");
        assert!(pool.take(usize::MAX).is_none());
    }

    #[test]
    fn messages_for_two_mailboxes_are_put_together_side_by_side() {
        let mut assembler = Assembler::new(150, Arc::default());
        assert_eq!(take(&mut assembler, 1, 5, 0, b"ab"), Ok(Progress::Partial));
        assert_eq!(take(&mut assembler, 2, 4, 0, b"123"), Ok(Progress::Partial));
        assert_eq!(
            take(&mut assembler, 3, 4, 0, b"once"),
            Ok(Progress::Single(b"once"))
        );
        assert_eq!(take(&mut assembler, 1, 5, 2, b"cd"), Ok(Progress::Partial));
        assert_eq!(take(&mut assembler, 2, 4, 3, b"4"), Ok(whole(b"1234")));
        assert_eq!(take(&mut assembler, 1, 5, 4, b"e"), Ok(whole(b"abcde")));
        assert_eq!(assembler.declared, 0);
    }

    #[test]
    fn an_abandoned_message_gives_its_memory_back_and_the_next_begins_anew() {
        let mut assembler = Assembler::new(150, Arc::default());
        take(&mut assembler, 1, 90, 0, b"ab").unwrap();
        let give_up = Chunk {
            abandoned: true,
            ..chunk(90, 2)
        };
        assert_eq!(assembler.take(1, &give_up, b"", 100), Ok(Progress::Abandoned));
        assert_eq!((assembler.declared, assembler.open.len()), (0, 0));
        assert_eq!(take(&mut assembler, 1, 2, 0, b"ok"), Ok(Progress::Single(b"ok")));
    }

    #[test]
    fn lies_about_lengths_and_order_are_refused() {
        let mut assembler = Assembler::new(150, Arc::default());
        assert!(matches!(
            take(&mut assembler, 1, 101, 0, b"x"),
            Err(ChunkError::TooLarge { .. })
        ));
        assert!(matches!(
            take(&mut assembler, 1, 9, 3, b"x"),
            Err(ChunkError::NeverBegan { .. })
        ));
        take(&mut assembler, 1, 90, 0, b"ab").unwrap();
        assert_eq!(
            take(&mut assembler, 1, 1, 0, b"x"),
            Ok(Progress::Single(b"x")),
            "a whole message may come in between"
        );
        for (total, offset) in [(90, 3), (90, 1), (90, 0), (91, 2), (7, 2)] {
            assert!(
                matches!(
                    take(&mut assembler, 1, total, offset, b"x"),
                    Err(ChunkError::OutOfOrder { .. })
                ),
                "{offset} of {total}"
            );
        }
        assert!(matches!(
            take(&mut assembler, 2, 61, 0, b"x"),
            Err(ChunkError::BeyondAllowance {
                declared: 151,
                allowance: 150
            })
        ));
        assert_eq!(take(&mut assembler, 2, 60, 0, b"x"), Ok(Progress::Partial));
    }

    /// Random chunks, most of them wrong: never a panic, never more memory than the allowance, and what is delivered
    /// is what a plain model says.
    #[test]
    fn whatever_comes_memory_stays_within_the_allowance() {
        const MAX: u32 = 64;
        const ALLOWANCE: u64 = 100;
        let mut random = Random::new(1);
        let pool: Arc<AssemblyPool> = Arc::default();
        let (mut whole, mut refused) = (0, 0);
        for _ in 0..2_000 {
            let mut assembler = Assembler::new(ALLOWANCE, pool.clone());
            let mut model: HashMap<u16, (u32, Vec<u8>)> = HashMap::new();
            for step in 0..200_u64 {
                let handle = random.below(3) as u16;
                let (total, offset) = match model.get(&handle) {
                    // Mostly what is due.
                    Some((total, bytes)) if random.below(30) > 0 => (*total, bytes.len() as u32),
                    _ => (
                        random.below(80) as u32,
                        if random.below(10) > 0 {
                            0
                        } else {
                            random.below(80) as u32
                        },
                    ),
                };
                let left = u64::from(total.saturating_sub(offset));
                let bytes = vec![step as u8; random.below(left.min(20) + 1) as usize];
                let abandoned = random.below(20) == 0;
                let mut sent = chunk(total, offset);
                sent.abandoned = abandoned;
                let mut extension = [0; EXTENSION];
                sent.encode(&mut extension);
                let Ok(sent) = Chunk::decode(sent.flags(), &extension, bytes.len()) else {
                    refused += 1;
                    continue;
                };
                match assembler.take(handle, &sent, &bytes, MAX) {
                    Ok(Progress::Partial) => {
                        let (_, known) = model.entry(handle).or_insert((total, Vec::new()));
                        known.extend_from_slice(&bytes);
                    }
                    Ok(Progress::Single(single)) => {
                        assert_eq!((single, offset, total as usize), (&bytes[..], 0, bytes.len()));
                    }
                    Ok(Progress::Whole(message)) => {
                        whole += 1;
                        let (total, mut known) = model.remove(&handle).unwrap();
                        known.extend_from_slice(&bytes);
                        assert_eq!((message.len(), &message[..]), (total as usize, &known[..]));
                    }
                    Ok(Progress::Abandoned) => {
                        model.remove(&handle);
                    }
                    Err(_) => {
                        // A session would end here.
                        refused += 1;
                        break;
                    }
                }
                let held: usize = assembler
                    .open
                    .values()
                    .map(|assembly| assembly.message.bytes.capacity())
                    .sum();
                assert!(held as u64 <= ALLOWANCE, "{held} bytes held");
            }
        }
        assert!(whole > 500 && refused > 1_000, "{whole} whole, {refused} refused");
    }
}
