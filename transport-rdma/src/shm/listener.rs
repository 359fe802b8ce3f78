//! Listening on a Unix socket, and taking over the socket file of a process that died.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, getsockname, listen,
    socket_with,
};
use transport::link::{Listener, TransportError, Wire};

use super::SCHEME;
use super::address::Address;
use super::wire::ShmWire;
use crate::limits::BACKLOG;

/// A listening socket.
pub(super) struct ShmListener {
    socket: OwnedFd,
    address: String,
    file: Option<SocketFile>,
}

/// The file that stands for a listening socket, removed with it if it is still this one.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl ShmListener {
    pub(super) fn new(text: &str) -> Result<ShmListener, TransportError> {
        let address = Address::parse(text)?;
        let failed = |source: io::Error| TransportError::Io {
            context: format!("listen on {SCHEME}://{text}"),
            source,
        };
        let socket = new_socket().map_err(|error| failed(error.into()))?;
        let name = address.to_socket().map_err(|error| failed(error.into()))?;
        let bound = match &address {
            Address::Path(path) => bind_path(&socket, path, &name),
            Address::Abstract(_) | Address::Any => bind_and_listen(&socket, &name).map_err(io::Error::from),
        };
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => TransportError::AddressInUse {
                address: format!("{SCHEME}://{text}"),
            },
            _ => failed(error),
        })?;
        let file = match &address {
            Address::Path(path) => Some(SocketFile::at(path).map_err(failed)?),
            _ => None,
        };
        Ok(ShmListener {
            address: match address {
                Address::Any => chosen_name(&socket).map_err(failed)?,
                _ => text.to_owned(),
            },
            socket,
            file,
        })
    }
}

/// A socket that keeps messages apart, never blocks, and does not outlive an exec.
pub(super) fn new_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// The abstract name that the system gave.
fn chosen_name(socket: &OwnedFd) -> io::Result<String> {
    let name = SocketAddrUnix::try_from(getsockname(socket)?)?;
    let name = name.abstract_name().unwrap_or_default();
    Ok(format!("@{}", String::from_utf8_lossy(name)))
}

fn bind_and_listen(socket: &OwnedFd, name: &SocketAddrUnix) -> rustix::io::Result<()> {
    bind(socket, name)?;
    listen(socket, BACKLOG)
}

/// Listens on a path; a socket file there whose process is gone is replaced.
///
/// The directory is locked meanwhile, so that of two processes that find the same dead file one waits for the other,
/// and nobody takes a file for dead whose owner has bound it and does not listen yet. Where a directory can't be
/// locked, those races are open.
fn bind_path(socket: &OwnedFd, path: &Path, name: &SocketAddrUnix) -> io::Result<()> {
    let _lock = lock_directory(path);
    match bind_and_listen(socket, name) {
        Err(Errno::ADDRINUSE) => {}
        other => return Ok(other?),
    }
    if is_stale(path, name)? {
        tracing::info!(path = %path.display(), "replacing the socket file of a process that ended");
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(bind_and_listen(socket, name)?)
}

/// Whether the file is a socket that nobody listens on. A file that is no socket is never touched.
fn is_stale(path: &Path, name: &SocketAddrUnix) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    // Also a socket of another type, such as a stream, refuses or mismatches; only a refusal means that it is dead.
    Ok(connect(new_socket()?, name) == Err(Errno::CONNREFUSED))
}

fn lock_directory(path: &Path) -> Option<fs::File> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let directory = fs::File::open(path.parent()?).ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(now) = fs::symlink_metadata(&self.path)
            && (now.dev(), now.ino()) == self.identity
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener for ShmListener {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => return Ok(Some(Box::new(ShmWire::new(socket, &self.address)))),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    return Err(TransportError::Io {
                        context: format!("accept on {SCHEME}://{}", self.address),
                        source: error.into(),
                    });
                }
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ShmListener {
    fn drop(&mut self) {
        // Before the socket closes, so that nobody finds the file dead and replaces it while we remove it.
        drop(self.file.take());
    }
}
