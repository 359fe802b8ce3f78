//! A guest's output on its way to ours: byte for byte from one guest, line by line with `[n] ` from several.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// One line at a time, so that lines of two guests do not mix. A longer "line" is cut.
const LONGEST_LINE: usize = 64 * 1024;

static WHOLE_LINES: Mutex<()> = Mutex::new(());

/// Our standard output or error, without the buffer that would hold bytes back.
pub(crate) fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// Carries everything; `carried` is told after each piece how many bytes have arrived at `to`.
/// The error is of writing: a reader that fails has merely ended.
pub(crate) fn forward(
    mut from: impl Read,
    mut to: impl Write,
    prefix: Option<&str>,
    mut carried: impl FnMut(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut line = Vec::new();
    let mut count = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        match prefix {
            None => to.write_all(&buffer[..read])?,
            Some(prefix) => {
                line.extend_from_slice(&buffer[..read]);
                write_whole_lines(&mut line, prefix, &mut to)?;
            }
        }
        count += read as u64;
        carried(count);
    }
    match prefix {
        Some(prefix) if !line.is_empty() => {
            line.push(b'\n');
            write_whole_lines(&mut line, prefix, &mut to)
        }
        _ => Ok(()),
    }
}

/// Writes all whole lines of `pending` with the prefix, and keeps the rest there.
fn write_whole_lines(pending: &mut Vec<u8>, prefix: &str, to: &mut impl Write) -> io::Result<()> {
    let end = match pending.iter().rposition(|b| *b == b'\n') {
        Some(last) => last + 1,
        None if pending.len() >= LONGEST_LINE => {
            pending.push(b'\n');
            pending.len()
        }
        None => return Ok(()),
    };
    let mut text = Vec::with_capacity(end + 64);
    for line in pending[..end].split_inclusive(|b| *b == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    pending.drain(..end);
    let _together = WHOLE_LINES.lock().unwrap_or_else(PoisonError::into_inner);
    to.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one, as a socket would.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn carry(pieces: &[&'static [u8]], prefix: Option<&str>) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        let mut total = 0;
        forward(Pieces(pieces.to_vec()), &mut out, prefix, |count| total = count).unwrap();
        (out, total)
    }

    #[test]
    fn one_guest_is_carried_byte_for_byte() {
        assert_eq!(
            carry(&[b"a\0", b"\xff\n", b"b"], None),
            (b"a\0\xff\nb".to_vec(), 5)
        );
    }

    #[test]
    fn lines_of_several_guests_keep_whole_and_get_their_number() {
        let (out, total) = carry(&[b"he", b"llo\nwo", b"rld\n\n", b"end"], Some("[2] "));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "[2] hello\n[2] world\n[2] \n[2] end\n"
        );
        assert_eq!(total, 16);
    }
}
