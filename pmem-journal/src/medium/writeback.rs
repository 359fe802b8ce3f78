//! Telling the kernel when to write dirty pages of a file to its disk. Hints, both of them: nothing is durable before the sync that
//! comes later, which also reports what failed here.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write these bytes.
pub(super) fn begin(file: &File, offset: u64, len: u64) {
    sync_file_range(file, offset, len, libc::SYNC_FILE_RANGE_WRITE);
}

/// Has the kernel write these bytes, and waits until it has.
pub(super) fn finish(file: &File, offset: u64, len: u64) {
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, offset, len, flags);
}

fn sync_file_range(file: &File, offset: u64, len: u64, flags: libc::c_uint) {
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call touches no memory of this process.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset as i64, len as i64, flags) };
}
