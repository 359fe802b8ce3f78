//! What runs inside a guest: this program as process 1, which makes the devices, runs the command and says how it ended.

mod command;
mod network;
mod pmem;
mod system;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::guest::ports::{self, Message};
use crate::job::{Job, JobError};
use crate::tool::ToolError;

/// Where the initramfs left the job.
const JOB: &str = "/run/soft-roce-setup.job";

#[derive(Debug, thiserror::Error)]
pub(crate) enum InsideError {
    #[error("this subcommand is for process 1 of a guest; use `soft-roce-setup run`")]
    NotAGuest,
    #[error("cannot {what} {path}: {source}")]
    Path {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot mount {what} on {path}: {error}")]
    Mount {
        what: &'static str,
        path: PathBuf,
        error: rustix::io::Errno,
    },
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("the port {name} did not appear")]
    NoPort { name: &'static str },
    #[error("no RDMA device appeared on {netdev}")]
    NoDevice { netdev: &'static str },
    #[error("a persistent memory device did not appear")]
    NoPmem,
    #[error("{0}")]
    Thread(&'static str),
}

/// Runs as process 1 and does not return: the machine is switched off at the end.
pub(crate) fn main() -> InsideError {
    if !rustix::process::getpid().is_init() || !Path::new(JOB).exists() {
        return InsideError::NotAGuest;
    }
    let result = system::open_port(ports::CONTROL).and_then(|mut control| {
        let outcome = work(&mut control);
        if let Err(error) = &outcome {
            say(&mut control, &Message::Failed(error.to_string()));
            // The host ends the machine once it has read this.
            std::thread::sleep(std::time::Duration::from_secs(5));
        }
        outcome
    });
    if let Err(error) = result {
        let console = OpenOptions::new().write(true).open("/dev/console");
        let _ = console.and_then(|mut console| writeln!(console, "soft-roce-setup: {error}"));
    }
    rustix::fs::sync();
    let error = rustix::system::reboot(rustix::system::RebootCommand::PowerOff).err();
    let source = error.map_or(std::io::ErrorKind::Other.into(), std::io::Error::from);
    InsideError::Path {
        what: "switch off",
        path: "/".into(),
        source,
    }
}

fn work(control: &mut File) -> Result<(), InsideError> {
    say(control, &Message::Hello);
    let bytes = std::fs::read(JOB).map_err(|source| path_error("read", Path::new(JOB), source))?;
    let job = Job::decode(&bytes)?;
    system::prepare(&job)?;
    // The file system and the device take about a second each under TCG, and have nothing to do with each other.
    let network = std::thread::scope(|scope| {
        let pmem = scope.spawn(|| pmem::mount(job.keep_pmem));
        let network = network::bring_up(&job);
        pmem.join()
            .map_err(|_| InsideError::Thread("making the DAX mount failed"))??;
        network
    })?;
    say(control, &Message::Ready);
    let mut answer = String::new();
    let heard = BufReader::new(&mut *control).read_line(&mut answer);
    if heard.is_err() || answer.trim() != ports::GO {
        // The host went away while others were still starting.
        return Ok(());
    }
    let ended = command::run(&job, &network)?;
    system::flush_output(&job);
    say(control, &ended);
    // The host has all it wants when it has read this, and ends the machine.
    let _ = BufReader::new(control).read_line(&mut answer);
    Ok(())
}

/// If nobody listens any more, the machine is about to be ended anyway.
fn say(control: &mut File, message: &Message) {
    let _ = control.write_all(format!("{message}\n").as_bytes());
}

fn path_error(what: &'static str, path: &Path, source: std::io::Error) -> InsideError {
    InsideError::Path {
        what,
        path: path.into(),
        source,
    }
}
