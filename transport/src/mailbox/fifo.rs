//! What goes in at the back and out at the front, and lies in one piece.

/// Items in the order in which they came, as one slice.
pub(super) struct Fifo<T> {
    items: Vec<T>,
    /// So many at the front have gone out.
    gone: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Fifo<T> {
        Fifo {
            items: Vec::new(),
            gone: 0,
        }
    }
}

impl<T: Copy> Fifo<T> {
    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        &self.items[self.gone..]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.gone
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        self.items.push(item);
    }

    #[inline]
    pub(super) fn extend(&mut self, items: &[T]) {
        self.items.extend_from_slice(items);
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.gone = 0;
    }

    /// The first `count` go out. What is left moves to the front once as many have gone, so that each moves once on average.
    pub(super) fn skip(&mut self, count: usize) {
        self.gone += count.min(self.len());
        if self.gone >= self.len() {
            self.items.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// The first goes out.
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = *self.as_slice().first()?;
        self.skip(1);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::Fifo;
    use crate::random::Random;

    #[test]
    fn is_a_queue_that_takes_no_more_than_twice_its_room() {
        let (mut fifo, mut queue) = (Fifo::default(), VecDeque::new());
        let mut random = Random::new(1);
        for step in 0..100_000 {
            let (came, gone) = (random.below(9), random.below(11));
            let items: Vec<u64> = (step..step + came).collect();
            fifo.extend(&items);
            queue.extend(items);
            if gone == 1 {
                assert_eq!(fifo.pop(), queue.pop_front());
            } else {
                fifo.skip(gone as usize);
                queue.drain(..queue.len().min(gone as usize));
            }
            assert_eq!(fifo.as_slice(), queue.make_contiguous());
            assert_eq!((fifo.len(), fifo.is_empty()), (queue.len(), queue.is_empty()));
            assert!(fifo.items.len() <= 2 * queue.len());
        }
    }
}
