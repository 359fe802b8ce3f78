//! What is to be written, in pieces that lie apart: copied straight into the ring, however it is cut into messages.

use std::io::IoSlice;

/// The rest of several pieces of bytes.
pub(super) struct Pieces<'b> {
    pieces: &'b [IoSlice<'b>],
    /// Bytes of the first piece that are done with.
    done: usize,
    len: usize,
}

impl<'b> Pieces<'b> {
    pub(super) fn new(pieces: &'b [IoSlice<'b>]) -> Pieces<'b> {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        Pieces { pieces, done: 0, len }
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies the first bytes that are left to `room`, which is no longer than they are.
    pub(super) fn copy_to(&self, mut room: &mut [u8]) {
        let mut done = self.done;
        for piece in self.pieces {
            let len = (piece.len() - done).min(room.len());
            let (now, later) = room.split_at_mut(len);
            now.copy_from_slice(&piece[done..done + len]);
            (room, done) = (later, 0);
        }
        debug_assert!(room.is_empty());
    }

    /// Moves on by `len` bytes, which are left.
    pub(super) fn advance(&mut self, len: usize) {
        self.len -= len;
        self.done += len;
        while let [first, later @ ..] = self.pieces
            && self.done >= first.len()
        {
            self.done -= first.len();
            self.pieces = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cut_anywhere_are_copied_in_order_and_once() {
        let bytes: Vec<u8> = (0..40).collect();
        let cut = |at: &[usize]| {
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for &len in at {
                let (piece, later) = rest.split_at(len);
                pieces.push(IoSlice::new(piece));
                rest = later;
            }
            pieces.push(IoSlice::new(rest));
            pieces
        };
        for at in [&[][..], &[0, 40], &[9, 0, 0, 11], &[1, 1, 1, 36], &[13, 13, 13]] {
            let pieces = cut(at);
            for step in 1..=41 {
                let mut rest = Pieces::new(&pieces);
                let mut copied = Vec::new();
                while rest.len() > 0 {
                    let mut room = vec![0xff; step.min(rest.len())];
                    rest.copy_to(&mut room);
                    rest.advance(room.len());
                    copied.extend(room);
                }
                assert_eq!(copied, bytes, "pieces of {at:?}, {step} at a time");
            }
        }
    }
}
