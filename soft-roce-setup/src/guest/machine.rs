//! One QEMU process: its command line, the sockets that tie it to us, and its end.
//!
//! Nothing is left behind: ports are socket pairs, the initramfs is a memory file, and QEMU dies with this process
//! (a parent-death signal) or when its `Machine` is dropped. `start` must be called on the thread that outlives it,
//! because the kernel sends that signal when the *thread* which started the child ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::FdFlags;

use super::kernel::Kernel;
use super::ports;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG (software)",
        })
    }
}

/// The size of a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) pmem_mib: u64,
}

/// Everything a guest is started with.
pub(crate) struct Plan<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) accelerator: Accelerator,
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a [u8],
    pub(crate) size: Size,
    pub(crate) pmem_image: Option<&'a Path>,
    pub(crate) output: Option<&'a Path>,
    pub(crate) node: u32,
    /// This guest's ends of the cables to other guests. More than one makes this guest the switch.
    pub(crate) cables: Vec<UnixStream>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("cannot prepare the guest: {0}")]
    Prepare(#[source] std::io::Error),
    #[error("cannot start {qemu}: {source}")]
    Start { qemu: PathBuf, source: std::io::Error },
}

/// Our ends of a guest's ports.
pub(crate) struct Ports {
    pub(crate) control: UnixStream,
    pub(crate) stdout: UnixStream,
    pub(crate) stderr: UnixStream,
    pub(crate) console: UnixStream,
}

/// A running QEMU. Dropping it ends it.
pub(crate) struct Machine {
    child: Child,
}

impl Machine {
    pub(crate) fn start(plan: Plan<'_>) -> Result<(Self, Ports), MachineError> {
        let prepare = |error: rustix::io::Errno| MachineError::Prepare(error.into());
        let pair = || UnixStream::pair().map_err(MachineError::Prepare);
        let (control, control_end) = pair()?;
        let (stdout, stdout_end) = pair()?;
        let (stderr, stderr_end) = pair()?;
        let (console, console_end) = pair()?;
        let memory_file = rustix::fs::memfd_create("initramfs", rustix::fs::MemfdFlags::CLOEXEC);
        let mut initramfs = File::from(memory_file.map_err(prepare)?);
        initramfs
            .write_all(plan.initramfs)
            .map_err(MachineError::Prepare)?;

        let ends = Ends {
            initramfs: &initramfs,
            control: &control_end,
            stdout: &stdout_end,
            stderr: &stderr_end,
        };
        let arguments = arguments(&plan, &ends, &console_end);
        let this_program = std::env::current_exe().map_err(MachineError::Prepare)?;
        let mut command = Command::new(this_program);
        command
            .arg(super::launch::SUBCOMMAND)
            .arg(std::process::id().to_string())
            .arg(plan.qemu);
        command.args(arguments).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(to_console(&console_end)?)
            .stderr(to_console(&console_end)?);

        let mut inherited = vec![
            initramfs.as_fd(),
            control_end.as_fd(),
            stdout_end.as_fd(),
            stderr_end.as_fd(),
        ];
        inherited.push(console_end.as_fd());
        inherited.extend(plan.cables.iter().map(AsFd::as_fd));
        for end in inherited {
            rustix::io::fcntl_setfd(end, FdFlags::empty()).map_err(prepare)?;
        }
        let started = command.spawn();
        let child = started.map_err(|source| MachineError::Start {
            qemu: plan.qemu.into(),
            source,
        })?;
        Ok((
            Self { child },
            Ports {
                control,
                stdout,
                stderr,
                console,
            },
        ))
    }

    /// How QEMU ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What QEMU says itself goes the way of the guest's console: it is shown when something fails.
fn to_console(end: &UnixStream) -> Result<Stdio, MachineError> {
    let copy = end.try_clone().map_err(MachineError::Prepare)?;
    Ok(Stdio::from(OwnedFd::from(copy)))
}

struct Ends<'a> {
    initramfs: &'a File,
    control: &'a UnixStream,
    stdout: &'a UnixStream,
    stderr: &'a UnixStream,
}

fn arguments(plan: &Plan<'_>, ends: &Ends<'_>, console: &UnixStream) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| all.extend([option.into(), value]);
    let Size {
        cpus,
        memory_mib,
        pmem_mib,
    } = plan.size;
    let (accelerator, processor) = match plan.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // ERMS says that `rep movsb` is the fastest way to copy. Emulated, it copies byte by byte: without the promise,
        // the kernel and libc take wider moves.
        Accelerator::Tcg => ("tcg,thread=multi", "max,-erms"),
    };
    add("-accel", accelerator.into());
    add("-cpu", processor.into());
    add("-machine", "q35,nvdimm=on".into());
    add("-smp", cpus.to_string().into());
    add(
        "-m",
        format!("{memory_mib}M,slots=2,maxmem={}M", memory_mib + pmem_mib + 1024).into(),
    );
    let mut pmem = OsString::from(match plan.pmem_image {
        // Shared: what the guest stores is in the file at once, and stays there when QEMU is killed.
        Some(_) => format!("memory-backend-file,id=pmem,size={pmem_mib}M,share=on,mem-path="),
        None => format!("memory-backend-ram,id=pmem,size={pmem_mib}M"),
    });
    if let Some(image) = plan.pmem_image {
        pmem.push(with_commas_doubled(image));
    }
    add("-object", pmem);
    add("-device", "nvdimm,id=nvdimm0,memdev=pmem".into());
    add("-kernel", plan.kernel.image.clone().into());
    add(
        "-initrd",
        format!("/proc/self/fd/{}", ends.initramfs.as_raw_fd()).into(),
    );
    add("-append", COMMAND_LINE.into());
    add(
        "-chardev",
        format!("socket,id=console,fd={}", console.as_raw_fd()).into(),
    );
    add("-serial", "chardev:console".into());
    add("-device", "virtio-serial-pci".into());
    for (name, end) in [
        (ports::CONTROL, ends.control),
        (ports::STDOUT, ends.stdout),
        (ports::STDERR, ends.stderr),
    ] {
        add(
            "-chardev",
            format!("socket,id={name},fd={}", end.as_raw_fd()).into(),
        );
        add(
            "-device",
            format!("virtserialport,chardev={name},name={name}").into(),
        );
    }
    share(&mut add, "root", Path::new("/"), true);
    if let Some(output) = plan.output {
        share(&mut add, "output", output, false);
    }
    add("-device", "virtio-rng-pci".into());
    let card = format!("virtio-net-pci,romfile=,mac=52:54:00:77:00:{:02x}", plan.node);
    match plan.cables.as_slice() {
        [] => {}
        [cable] => {
            add(
                "-netdev",
                format!("socket,id=cable,fd={}", cable.as_raw_fd()).into(),
            );
            add("-device", format!("{card},netdev=cable").into());
        }
        cables => {
            for (index, cable) in cables.iter().enumerate() {
                add(
                    "-netdev",
                    format!("socket,id=cable{index},fd={}", cable.as_raw_fd()).into(),
                );
                add(
                    "-netdev",
                    format!("hubport,id=hub{index},hubid=0,netdev=cable{index}").into(),
                );
            }
            add("-netdev", "hubport,id=card,hubid=0".into());
            add("-device", format!("{card},netdev=card").into());
        }
    }
    let switches = ["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from);
    all.extend(switches);
    all.extend(["-display", "none", "-vga", "none"].map(OsString::from));
    all
}

/// `tsc`: the default clock of a guest costs a trip out of it per reading. `panic=-1` with `-no-reboot`: a kernel
/// that fails ends QEMU at once. `mitigations=off`: nothing in the guest is more private than the host's own files.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic clocksource=tsc tsc=reliable no_timer_check \
                            random.trust_cpu=on mitigations=off";

/// A path as QEMU's options want it: a comma is written twice.
fn with_commas_doubled(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut option = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        option.push(*byte);
        if *byte == b',' {
            option.push(*byte);
        }
    }
    OsString::from_vec(option)
}

/// A folder of the host, over 9p.
fn share(add: &mut impl FnMut(&str, OsString), tag: &str, folder: &Path, read_only: bool) {
    let access = if read_only { "readonly=on," } else { "" };
    let mut option = OsString::from(format!(
        "local,id={tag},security_model=none,multidevs=remap,{access}path="
    ));
    option.push(with_commas_doubled(folder));
    add("-fsdev", option);
    add(
        "-device",
        format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}").into(),
    );
}
