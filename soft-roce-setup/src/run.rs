//! `run`: the command where a soft-RoCE device and a DAX mount exist.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{CommandError, environment, resolve};
use crate::exit_status::{self, DEADLINE_PASSED, OWN_FAILURE};
use crate::guest::machine::Size;
use crate::guest::{self, GuestError, SessionError, Settings};
use crate::job::Job;
use crate::native::{self, run::NativeRunError};
use crate::run_arguments::RunArguments;
use crate::signals::Signals;

/// A guest has its own of these, and runs programs and libraries out of others.
const OF_THE_SYSTEM: [&str; 9] = [
    "/", "/dev", "/etc", "/lib", "/proc", "/run", "/sys", "/usr", "/usr/lib",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot tell the current directory: {0}")]
    Directory(#[source] std::io::Error),
    #[error("cannot use the output folder {path}: {source}")]
    Output { path: PathBuf, source: std::io::Error },
    #[error("{path} is no output folder: a guest's own files would be hidden under it; name a folder in it")]
    SystemFolder { path: PathBuf },
    #[error("cannot use {path} as persistent memory: {source}")]
    PmemImage { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} has {found} MiB, where --pmem says {wanted}: give the size that it was made with, or another file"
    )]
    PmemImageSize { path: PathBuf, found: u64, wanted: u64 },
    #[error("cannot watch for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Native(#[from] NativeRunError),
}

impl RunError {
    pub(crate) fn exit_status(&self) -> i32 {
        match self {
            Self::Command(error) => error.exit_status(),
            Self::Guest(GuestError::Session(error)) => match error {
                SessionError::Deadline { .. } => DEADLINE_PASSED,
                SessionError::Signal { signal } => exit_status::of_signal(*signal),
                SessionError::OutputClosed => exit_status::of_signal(signal_hook::consts::SIGPIPE),
                _ => OWN_FAILURE,
            },
            Self::Native(NativeRunError::Deadline { .. }) => DEADLINE_PASSED,
            Self::Native(NativeRunError::Signal { signal }) => exit_status::of_signal(*signal),
            _ => OWN_FAILURE,
        }
    }
}

pub(crate) fn run(arguments: &RunArguments) -> Result<i32, RunError> {
    let directory = std::env::current_dir().map_err(RunError::Directory)?;
    let name = arguments
        .command
        .first()
        .map(std::ffi::OsString::as_os_str)
        .unwrap_or_default();
    let program = resolve(name, &directory)?;
    let output = arguments.output.as_ref().map(prepare_output).transpose()?;
    let pmem_image = arguments
        .pmem_image
        .as_ref()
        .map(|path| prepare_image(path, arguments.pmem))
        .transpose()?;
    let job = Job {
        argv: arguments.command.clone(),
        program,
        env: environment(),
        directory,
        output,
        modules: PathBuf::new(),
        node: 1,
        nodes: arguments.nodes,
        pclmul_crc: arguments.pclmul_crc,
        keep_pmem: pmem_image.is_some(),
    };
    let signals = Signals::watch().map_err(RunError::Signals)?;
    let in_a_guest = arguments.guest || pmem_image.is_some();
    let settings = settings(arguments, pmem_image);
    if arguments.native || (!in_a_guest && native::run::is_possible(arguments.nodes)) {
        return Ok(native::run::run(&job, settings.deadline, &signals)?);
    }
    Ok(guest::run(&job, &settings, &signals)?)
}

fn settings(arguments: &RunArguments, pmem_image: Option<PathBuf>) -> Settings {
    Settings {
        pmem_image,
        acceleration: arguments.accel,
        size: Size {
            cpus: arguments.cpus,
            memory_mib: arguments.memory,
            pmem_mib: arguments.pmem,
        },
        boot_deadline: Duration::from_secs(arguments.boot_deadline),
        deadline: Duration::from_secs(arguments.deadline),
        verbose: arguments.verbose,
    }
}

/// Makes the file, full of holes, unless it is there; its absolute path.
fn prepare_image(path: &Path, mebibytes: u64) -> Result<PathBuf, RunError> {
    let unusable = |source| RunError::PmemImage {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(unusable)?;
    let (len, wanted) = (file.metadata().map_err(unusable)?.len(), mebibytes << 20);
    if len == 0 {
        file.set_len(wanted).map_err(unusable)?;
    } else if len != wanted {
        return Err(RunError::PmemImageSize {
            path: path.to_owned(),
            found: len >> 20,
            wanted: mebibytes,
        });
    }
    path.canonicalize().map_err(unusable)
}

/// Makes the folder; its absolute path without links, which is the same in a guest.
fn prepare_output(path: &PathBuf) -> Result<PathBuf, RunError> {
    let unusable = |source| RunError::Output {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(path).map_err(unusable)?;
    let folder = path.canonicalize().map_err(unusable)?;
    let is_the_systems = OF_THE_SYSTEM.iter().any(|system| folder == Path::new(system));
    if is_the_systems {
        Err(RunError::SystemFolder { path: folder })
    } else {
        Ok(folder)
    }
}
