//! `run` on this machine's own kernel.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, setrlimit};

use super::{NativeError, dax, device, is_root, kernel_has_rxe};
use crate::exit_status::{self, OWN_FAILURE};
use crate::guest::launch;
use crate::job::Job;
use crate::signals::Signals;
use crate::words::remark;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NativeRunError {
    #[error(transparent)]
    Device(#[from] NativeError),
    #[error("several nodes need guests: leave out `--native`")]
    SeveralNodes,
    #[error("cannot start {program}: {source}")]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot wait for the command: {0}")]
    Wait(#[source] std::io::Error),
    #[error("the command was not done after {seconds} s (longer: --deadline)")]
    Deadline { seconds: u64 },
    #[error("ended by signal {signal}")]
    Signal { signal: i32 },
}

/// Whether a run without `--guest` goes the native way.
pub(crate) fn is_possible(nodes: u32) -> bool {
    nodes == 1 && (!device::all().is_empty() || (is_root() && kernel_has_rxe()))
}

/// Runs the command here; its exit status. A device that was made for it is removed after it.
pub(crate) fn run(job: &Job, deadline: Duration, signals: &Signals) -> Result<i32, NativeRunError> {
    if job.nodes != 1 {
        return Err(NativeRunError::SeveralNodes);
    }
    let device = Device::find_or_make()?;
    let pmem = PmemFolder::find();
    if is_root() {
        // Registered memory is locked memory; a refusal shows in the command's own error.
        let _ = setrlimit(
            Resource::Memlock,
            Rlimit {
                current: None,
                maximum: None,
            },
        );
    }
    let start_error = |source| NativeRunError::Start {
        program: job.program.clone(),
        source,
    };
    let mut command = Command::new(std::env::current_exe().map_err(start_error)?);
    command
        .arg(launch::SUBCOMMAND)
        .arg(std::process::id().to_string())
        .arg(&job.program);
    command
        .args(job.argv.iter().skip(1))
        .current_dir(&job.directory)
        .env_clear();
    command
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .envs(variables(job, &device.name, &pmem));
    command.stdin(Stdio::null()).process_group(0);
    let child = command.spawn().map_err(start_error)?;
    Group { child }.wait(deadline, signals)
}

fn variables(job: &Job, device: &str, pmem: &PmemFolder) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = vec![
        ("SOFT_ROCE_DEVICE".into(), device.into()),
        ("NODE".into(), "1".into()),
        ("NODES".into(), "1".into()),
    ];
    if let Some((index, address)) = device::ipv4(device) {
        all.push(("SOFT_ROCE_ADDRESS".into(), address.to_string().into()));
        all.push(("SOFT_ROCE_GID_INDEX".into(), index.to_string().into()));
        all.push(("NODE1_ADDRESS".into(), address.to_string().into()));
    }
    if let Some(folder) = pmem.path() {
        all.push(("PMEM_DIR".into(), folder.into()));
    }
    if let Some(output) = &job.output {
        all.push(("OUTPUT_DIR".into(), output.clone().into()));
    }
    all
}

/// An RDMA device, and whether it goes away with us.
struct Device {
    name: String,
    made: bool,
}

impl Device {
    fn find_or_make() -> Result<Self, NativeError> {
        let all = device::all();
        let ours = all
            .iter()
            .find(|name| *name == device::DEVICE_NAME)
            .or(all.first());
        if let Some(name) = ours {
            return Ok(Self {
                name: name.clone(),
                made: false,
            });
        }
        let made = super::up(None)?.made;
        Ok(Self {
            name: device::DEVICE_NAME.into(),
            made,
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = super::down()
        {
            remark(error);
        }
    }
}

/// A folder on a DAX mount: the caller's own, or a temporary one.
enum PmemFolder {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
    None,
}

impl PmemFolder {
    fn find() -> Self {
        if let Some(given) = std::env::var_os("PMEM_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
        {
            return Self::Given(given);
        }
        let make = |mount| {
            tempfile::Builder::new()
                .prefix("soft-roce-setup-")
                .tempdir_in(mount)
                .ok()
        };
        match dax::mounts().into_iter().find_map(make) {
            Some(folder) => Self::Temporary(folder),
            None => {
                remark(
                    "no DAX mount that can be written here, so PMEM_DIR is not set (a guest has one: --guest)",
                );
                Self::None
            }
        }
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Given(path) => Some(path.clone()),
            Self::Temporary(folder) => Some(folder.path().into()),
            Self::None => None,
        }
    }
}

/// The command and what it started, in a process group of its own. Dropping it ends them.
struct Group {
    child: Child,
}

impl Group {
    fn wait(mut self, deadline: Duration, signals: &Signals) -> Result<i32, NativeRunError> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(NativeRunError::Wait)? {
                let by_signal = status.signal().map(exit_status::of_signal);
                return Ok(status.code().or(by_signal).unwrap_or(OWN_FAILURE));
            }
            if let Some(signal) = signals.received() {
                return Err(NativeRunError::Signal { signal });
            }
            if started.elapsed() > deadline {
                return Err(NativeRunError::Deadline {
                    seconds: deadline.as_secs(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
