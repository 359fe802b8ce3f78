//! The accounts' process as its client sees it: started, killed, started again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::service::{Ready, Task};
use crate::error::{Error, doing};
use crate::tied;
use crate::wait::{Gone, STALLED_AFTER};

/// A process gets this long to close its journal once it is told to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// A running process that has the accounts. Dropping it kills it.
pub(super) struct HostProcess {
    child: Child,
    task: Option<ChildStdin>,
    gone: Arc<Gone>,
    pub(super) ready: Ready,
}

impl HostProcess {
    /// Starts it and waits until it has read its journal and listens.
    pub(super) fn start(task: &Task) -> Result<HostProcess, Error> {
        let mut child = tied::this_program()?
            .arg(tied::ACCOUNTS_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(doing("starting the accounts' process"))?;
        let mut pipe = child.stdin.take();
        let line = serde_json::to_string(task).map_err(doing("writing the accounts' task"))?;
        if let Some(pipe) = &mut pipe {
            writeln!(pipe, "{line}").map_err(doing("writing the accounts' task"))?;
        }
        let gone = Arc::new(Gone::new(false));
        let (words, heard) = mpsc::channel();
        let output = child.stdout.take();
        std::thread::spawn({
            let gone = Arc::clone(&gone);
            move || {
                for line in output
                    .into_iter()
                    .flat_map(|output| BufReader::new(output).lines())
                {
                    let Ok(line) = line else { break };
                    let _ = words.send(line);
                }
                gone.store(true, Ordering::Relaxed);
            }
        });
        let heard = heard.recv_timeout(STALLED_AFTER);
        let mut process = HostProcess {
            child,
            task: pipe,
            gone,
            ready: Ready {
                address: String::new(),
                mode: String::new(),
                events: 0,
            },
        };
        let line = match heard {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err(Error::Stalled(STALLED_AFTER)),
            // It has said why on its standard error.
            Err(RecvTimeoutError::Disconnected) => return Err(Error::AccountsEnded),
        };
        process.ready = serde_json::from_str(&line).map_err(doing("reading the accounts' answer"))?;
        Ok(process)
    }

    /// Set as soon as the process has ended, whoever ended it.
    pub(super) fn gone(&self) -> &Gone {
        &self.gone
    }

    /// SIGKILL, and the certainty that it runs no more.
    pub(super) fn kill(mut self) -> Result<(), Error> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(doing("killing the accounts' process"))
    }

    /// Tells it to end in good order.
    pub(super) fn end(mut self) -> Result<(), Error> {
        drop(self.task.take());
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            match self
                .child
                .try_wait()
                .map_err(doing("waiting for the accounts' process"))?
            {
                Some(status) if status.success() => return Ok(()),
                Some(ExitStatus { .. }) => return Err(Error::AccountsEnded),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(Error::Stalled(FAREWELL))
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
