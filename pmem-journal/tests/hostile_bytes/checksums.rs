//! Makes every checksum of a file right, whatever the file holds, as somebody would who forges a journal
//! (`docs/FORMAT.md`).

use std::ops::Range;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

pub(crate) fn make_right(name: &Path, bytes: &mut [u8]) {
    match name.extension().and_then(|ending| ending.to_str()) {
        Some("seg") => segment(bytes),
        Some("idx" | "floor") => table(bytes),
        Some("snap" | "cursor") => whole(bytes),
        _ => {}
    }
}

/// Writes the checksum of `over` behind it.
fn seal(bytes: &mut [u8], from: u32, over: Range<usize>) {
    if over.end + 4 <= bytes.len() {
        let crc = crc32c_append(from, &bytes[over.clone()]);
        bytes[over.end..over.end + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn segment(bytes: &mut [u8]) {
    seal(bytes, 0, 0..124);
    let Some(footer) = bytes.len().checked_sub(64).filter(|at| *at >= 4096) else {
        return;
    };
    if bytes[footer..].iter().any(|byte| *byte != 0) {
        seal(bytes, 0, footer..footer + 60);
    }
    let journal = crc32c(&bytes[16..32]);
    let mut at = 4096;
    while at + 64 <= footer {
        let number = |range: Range<usize>| -> [u8; 4] { bytes[range].try_into().expect("four bytes") };
        let len = u32::from_le_bytes(number(at + 4..at + 8)) as usize;
        if len < 64 || len > footer - at {
            return;
        }
        let salt = crc32c_append(journal, &number(at + 24..at + 28));
        let crc = crc32c_append(salt, &bytes[at + 4..at + len]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += len.next_multiple_of(16);
    }
}

fn table(bytes: &mut [u8]) {
    if bytes.len() < 4096 {
        return;
    }
    let salt = crc32c(&bytes[16..32]);
    let salt = crc32c_append(salt, &bytes[10..12]);
    let salt = crc32c_append(salt, &bytes[32..40]);
    for page in 0..bytes.len() / 4096 {
        let salt = crc32c_append(salt, &(page as u64).to_le_bytes());
        seal(bytes, salt, page * 4096..page * 4096 + 4092);
    }
}

/// A snapshot or a cursor.
fn whole(bytes: &mut [u8]) {
    if bytes.len() >= 128 {
        let crc = crc32c(&bytes[128..]);
        bytes[120..124].copy_from_slice(&crc.to_le_bytes());
        seal(bytes, 0, 0..124);
    }
}
