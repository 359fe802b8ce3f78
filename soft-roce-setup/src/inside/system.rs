//! The guest as a system: mounts, modules, names, limits, ports.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{InsideError, path_error};
use crate::job::Job;
use crate::tool::output;

/// Loaded at once; what they depend on comes with them.
const MODULES: [&str; 8] = [
    "nfit",
    "nd_pmem",
    "ext4",
    "dummy",
    "virtio_net",
    "ib_uverbs",
    "rdma_ucm",
    "rdma_rxe",
];

/// Mounts, modules, limits and names; the devices come after.
pub(super) fn prepare(job: &Job) -> Result<(), InsideError> {
    mount_at("tmpfs", "/dev/shm", "tmpfs", c"mode=1777")?;
    mount_at("devpts", "/dev/pts", "devpts", c"ptmxmode=0666")?;
    // The host's root may hold other machines' sockets under /run; the guest's is empty but for what programs need.
    for folder in ["/run/lock", "/run/modprobe.d"] {
        make_folder(Path::new(folder))?;
    }
    if !job.pclmul_crc {
        write_file(
            Path::new("/run/modprobe.d/soft-roce-setup.conf"),
            b"install crc32_pclmul /bin/false\n",
        )?;
    }
    let modules = Path::new("/lib/modules");
    make_folder(modules)?;
    mount_bind(&job.modules, modules).map_err(|error| InsideError::Mount {
        what: "the kernel's modules",
        path: modules.into(),
        error,
    })?;
    output("modprobe", ["-a"].into_iter().chain(MODULES))?;
    if let Some(folder) = &job.output {
        make_folder(folder)?;
        let options = c"trans=virtio,version=9p2000.L,msize=512000,cache=mmap";
        mount("output", folder, "9p", MountFlags::empty(), options).map_err(|error| InsideError::Mount {
            what: "the output folder",
            path: folder.clone(),
            error,
        })?;
    }
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    let _ = setrlimit(Resource::Core, unlimited);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(65_536),
            maximum: Some(1_048_576),
        },
    );
    let _ = rustix::system::sethostname(format!("node{}", job.node).as_bytes());
    Ok(())
}

/// What the command wrote must be on the host before its end is told.
pub(super) fn flush_output(job: &Job) {
    if let Some(folder) = &job.output
        && let Ok(folder) = File::open(folder)
    {
        let _ = rustix::fs::syncfs(folder);
    }
}

/// Opens the virtio port of this name, waiting for it to appear.
pub(super) fn open_port(name: &'static str) -> Result<File, InsideError> {
    let started = Instant::now();
    loop {
        for entry in std::fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
            .flatten()
        {
            let found = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if found.trim() == name {
                let path = Path::new("/dev").join(entry.file_name());
                let port = OpenOptions::new().read(true).write(true).open(&path);
                return port.map_err(|source| path_error("open", &path, source));
            }
        }
        if started.elapsed() > Duration::from_secs(20) {
            return Err(InsideError::NoPort { name });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), InsideError> {
    std::fs::create_dir_all(path).map_err(|source| path_error("create", path, source))
}

pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), InsideError> {
    std::fs::write(path, content).map_err(|source| path_error("write", path, source))
}

/// Adds to a file of the host's root; the change stays in the guest.
pub(super) fn append_file(path: &Path, content: &[u8]) -> Result<(), InsideError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(content))
        .map_err(|source| path_error("write", path, source))
}

fn mount_at(what: &'static str, path: &str, kind: &str, options: &CStr) -> Result<(), InsideError> {
    let path = Path::new(path);
    make_folder(path)?;
    mount(what, path, kind, MountFlags::empty(), options).map_err(|error| InsideError::Mount {
        what,
        path: path.into(),
        error,
    })
}
