//! A QEMU guest with this machine's file system underneath, a soft-RoCE device and a DAX mount.

pub(crate) mod cache;
mod console;
mod forward;
pub(crate) mod initramfs;
pub(crate) mod kernel;
pub(crate) mod launch;
pub(crate) mod machine;
pub(crate) mod modules;
pub(crate) mod ports;
mod session;
mod unpack;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cache::{Cache, CacheError};
use initramfs::InitramfsError;
use kernel::{Kernel, KernelError};
use machine::{Accelerator, MachineError, Size};
pub(crate) use session::SessionError;
use session::{Limits, Session};

use crate::job::Job;
use crate::signals::Signals;
use crate::words::remark;

/// QEMU's name on every distribution.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// How long KVM may take until the guest's kernel says its first word. A working one takes 1 to 2 s.
const KVM_PATIENCE: Duration = Duration::from_secs(10);

/// How long KVM may take until the guest is up, while software is there to try next.
const KVM_BOOT: Duration = Duration::from_secs(40);

/// More guests than this do not fit the switch, nor any CI machine.
pub(crate) const MAX_NODES: u32 = 8;

/// Which accelerator the caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Acceleration {
    /// KVM where it starts a guest, software otherwise; what failed once is remembered.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// Software: slower, and works everywhere.
    Tcg,
}

/// How guests are to be run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) acceleration: Acceleration,
    pub(crate) size: Size,
    /// The file that is the guest's persistent memory, as large as `size` says; none for memory of QEMU's own.
    pub(crate) pmem_image: Option<PathBuf>,
    pub(crate) boot_deadline: Duration,
    pub(crate) deadline: Duration,
    pub(crate) verbose: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error(
        "`{QEMU}` is not installed: install the package qemu-system-x86, or run `soft-roce-setup install --yes`"
    )]
    NoQemu,
    #[error("`{tool}` is not installed, and the guest needs it: run `soft-roce-setup install --yes`")]
    NoTool { tool: &'static str },
    #[error("/dev/kvm cannot be used here: leave out `--accel kvm`")]
    NoKvm,
    #[error("cannot tell where this program is: {0}")]
    OwnPath(#[source] std::io::Error),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// What the guest runs off the host's file system to set itself up.
pub(crate) const GUEST_TOOLS: [(&str, &str); 5] = [
    ("modprobe", "kmod"),
    ("ip", "iproute2"),
    ("rdma", "iproute2"),
    ("ndctl", "ndctl"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// Whether this process may use KVM at all.
pub(crate) fn kvm_can_be_opened() -> bool {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

/// Runs the job in `job.nodes` guests; the exit status of the command.
pub(crate) fn run(job: &Job, settings: &Settings, signals: &Signals) -> Result<i32, GuestError> {
    let say = |words: &str| remark(words);
    let qemu = crate::tool::find(QEMU).ok_or(GuestError::NoQemu)?;
    for (tool, _) in GUEST_TOOLS {
        crate::tool::find(tool).ok_or(GuestError::NoTool { tool })?;
    }
    initramfs::find_busybox()?;
    let cache = Cache::locate()?;
    let kernel = kernel::obtain(&cache, &say, &|| signals.received().is_some());
    // A tool that the same signal has ended says something else.
    if let Some(signal) = signals.received() {
        return Err(SessionError::Signal { signal }.into());
    }
    let kernel = kernel?;
    let attempt = Attempt {
        job,
        settings,
        signals,
        kernel: &kernel,
        qemu,
        started: Instant::now(),
    };
    let with_kvm = match settings.acceleration {
        Acceleration::Tcg => false,
        Acceleration::Kvm if !kvm_can_be_opened() => return Err(GuestError::NoKvm),
        Acceleration::Kvm => {
            return attempt.with(Accelerator::Kvm, settings.boot_deadline, settings.boot_deadline);
        }
        Acceleration::Auto => kvm_can_be_opened() && !cache.kvm_is_known_to_fail(),
    };
    if with_kvm {
        match attempt.with(
            Accelerator::Kvm,
            KVM_PATIENCE.min(settings.boot_deadline),
            KVM_BOOT.min(settings.boot_deadline),
        ) {
            Err(GuestError::Session(error)) if error.is_before_it_was_up() => {
                cache.note_that_kvm_fails();
                say(&format!(
                    "a guest does not start under this machine's KVM ({}); using software from now on (remembered in {})",
                    error.summary(),
                    cache.directory().display()
                ));
            }
            other => return other,
        }
    }
    attempt.with(Accelerator::Tcg, settings.boot_deadline, settings.boot_deadline)
}

/// What is the same for every accelerator tried.
struct Attempt<'a> {
    job: &'a Job,
    settings: &'a Settings,
    signals: &'a Signals,
    kernel: &'a Kernel,
    qemu: PathBuf,
    started: Instant,
}

impl Attempt<'_> {
    /// `first_word`: how long until the guest's kernel must have said something; `boot`: until the guest is up.
    fn with(
        &self,
        accelerator: Accelerator,
        first_word: Duration,
        boot: Duration,
    ) -> Result<i32, GuestError> {
        let limits = Limits {
            first_word,
            boot,
            whole: self.settings.deadline.saturating_sub(self.started.elapsed()),
        };
        let setup = std::env::current_exe().map_err(GuestError::OwnPath)?;
        let mut session = Session::new(accelerator, limits, self.settings.verbose);
        let mut cables = session::star(self.job.nodes).map_err(MachineError::Prepare)?;
        for node in 1..=self.job.nodes {
            let job = Job {
                node,
                modules: self
                    .kernel
                    .modules
                    .parent()
                    .map(PathBuf::from)
                    .unwrap_or_default(),
                ..self.job.clone()
            };
            let initramfs = initramfs::build(self.kernel, &setup, &job.encode())?;
            session.start(machine::Plan {
                qemu: &self.qemu,
                accelerator,
                kernel: self.kernel,
                initramfs: &initramfs,
                size: self.settings.size,
                pmem_image: self.settings.pmem_image.as_deref(),
                output: self.job.output.as_deref(),
                node,
                cables: cables.pop_front().unwrap_or_default(),
            })?;
        }
        Ok(session.drive(self.signals)?)
    }
}
