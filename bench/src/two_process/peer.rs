//! The near process's end of the control pipe, and the child behind it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::{FarReport, Plan, ToFar, ToNear};
use super::role::Role;
use crate::cores;
use crate::error::{Error, doing};
use crate::tied;
use crate::wait::{Gone, STALLED_AFTER};

/// A child gets this long to end by itself once its pipe is closed.
const FAREWELL: Duration = Duration::from_millis(300);

/// The far process. Dropping it ends the process.
pub(crate) struct Peer {
    child: Child,
    orders: Option<ChildStdin>,
    words: Receiver<ToNear>,
    gone: Arc<Gone>,
}

impl Peer {
    /// Starts this very program again as a far half without a role yet.
    pub(crate) fn spawn() -> Result<Peer, Error> {
        Peer::spawn_on(cores::pinned().map(|cores| cores.far))
    }

    /// As [`Peer::spawn`], on one core if one is given.
    pub(crate) fn spawn_on(core: Option<usize>) -> Result<Peer, Error> {
        let mut command = tied::this_program()?;
        command.arg(tied::FAR_COMMAND);
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(doing("starting the other process of the bench"))?;
        let orders = child.stdin.take();
        let gone = Arc::new(Gone::new(false));
        let words = read_words(child.stdout.take(), Arc::clone(&gone));
        Ok(Peer {
            child,
            orders,
            words,
            gone,
        })
    }

    /// Gives the child its role and returns the address it is found at.
    pub(crate) fn open<R: Role>(&mut self, role: R) -> Result<String, Error> {
        self.tell(&ToFar::Open {
            kind: R::KIND.to_string(),
            role: serde_json::to_value(role).map_err(doing("writing a control line"))?,
        })?;
        match self.hear()? {
            ToNear::Ready { address } => Ok(address),
            other => Err(unexpected(other, "Ready")),
        }
    }

    /// Announces a round and waits until the child is about to begin it.
    pub(crate) fn begin(&mut self, plan: &Plan) -> Result<(), Error> {
        self.tell(&ToFar::Begin(plan.clone()))?;
        match self.hear()? {
            ToNear::Begun => Ok(()),
            other => Err(unexpected(other, "Begun")),
        }
    }

    /// Waits for the end of the round on the other side.
    pub(crate) fn finish(&mut self) -> Result<FarReport, Error> {
        match self.hear()? {
            ToNear::Finished(report) => Ok(report),
            other => Err(unexpected(other, "Finished")),
        }
    }

    /// Set as soon as the child's pipe has closed.
    pub(crate) fn gone(&self) -> &Gone {
        &self.gone
    }

    /// The reason the child gave for failing, if it gave one.
    pub(crate) fn reason(&mut self) -> Option<Error> {
        match self.words.recv_timeout(FAREWELL) {
            Ok(ToNear::Failed { reason }) => Some(Error::Peer { reason }),
            _ => None,
        }
    }

    fn tell(&mut self, order: &ToFar) -> Result<(), Error> {
        let line = serde_json::to_string(order).map_err(doing("writing a control line"))?;
        let Some(pipe) = self.orders.as_mut() else {
            return Err(Error::PeerGone);
        };
        if writeln!(pipe, "{line}").and_then(|()| pipe.flush()).is_err() {
            return Err(self.reason().unwrap_or(Error::PeerGone));
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<ToNear, Error> {
        match self.words.recv_timeout(STALLED_AFTER) {
            Ok(ToNear::Failed { reason }) => Err(Error::Peer { reason }),
            Ok(word) => Ok(word),
            Err(RecvTimeoutError::Timeout) => Err(Error::Stalled(STALLED_AFTER)),
            Err(RecvTimeoutError::Disconnected) => Err(Error::PeerGone),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.orders.take());
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Both fail only for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_words(pipe: Option<ChildStdout>, gone: Arc<Gone>) -> Receiver<ToNear> {
    let (words, received) = mpsc::channel();
    std::thread::spawn(move || {
        for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            let Some(word) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else {
                break;
            };
            if words.send(word).is_err() {
                break;
            }
        }
        gone.store(true, Ordering::Relaxed);
    });
    received
}

fn unexpected(word: ToNear, wanted: &'static str) -> Error {
    Error::Protocol {
        said: format!("{word:?}"),
        wanted,
    }
}
