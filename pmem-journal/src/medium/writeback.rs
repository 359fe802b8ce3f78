//! Telling the kernel when to write dirty pages of a file to its disk. Nothing is durable before the sync that comes later.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write these bytes. A hint: what fails is reported by the sync that comes later.
pub(super) fn begin(file: &File, offset: u64, len: u64) {
    let _ = sync_file_range(file, offset, len, libc::SYNC_FILE_RANGE_WRITE);
}

/// Has the kernel write these bytes, and waits until it has.
///
/// An error of the disk is reported here and not by a later sync of the same open file: waiting takes note of it
/// (`file_check_and_advance_wb_err` in the kernel's `mm/filemap.c`). A file system that can't wait leaves it to the sync.
pub(super) fn finish(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    match sync_file_range(file, offset, len, flags) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EIO | libc::ENOSPC | libc::EDQUOT)
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn sync_file_range(file: &File, offset: u64, len: u64, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call touches no memory of this process.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset as i64, len as i64, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
