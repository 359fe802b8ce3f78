//! What the machine itself does to the figures: cores that sleep too deeply, and others who use them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use crate::cores;
use crate::error::Error;

/// Keeps cores from deep sleep while it lives, where this process may ask for that.
///
/// A halted core takes tens of microseconds to wake, which any exchange that sleeps would measure instead of the link.
pub(crate) struct AwakeCores {
    request: Option<File>,
}

impl AwakeCores {
    /// Asks for wake-ups without delay; the request holds until it is dropped.
    pub(crate) fn request() -> AwakeCores {
        let request = File::options().write(true).open("/dev/cpu_dma_latency").ok();
        let request = request.and_then(|mut file| file.write_all(&0i32.to_ne_bytes()).ok().map(|()| file));
        AwakeCores { request }
    }

    fn describe(&self) -> &'static str {
        match self.request {
            Some(_) => "cores held awake (/dev/cpu_dma_latency at 0)",
            None => "cores may sleep deeply (/dev/cpu_dma_latency cannot be opened here)",
        }
    }
}

/// Watches how much of the machine went elsewhere.
pub(crate) struct Watch {
    awake: AwakeCores,
    began: Option<Ticks>,
    own_began: f64,
    /// Cores that this process may use, or might before it was pinned to one.
    cores: usize,
}

/// Machine-wide CPU time, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    busy: u64,
    stolen: u64,
    total: u64,
}

impl Watch {
    /// Begins to watch, and holds the cores awake meanwhile.
    pub(crate) fn begin() -> Watch {
        Watch {
            awake: AwakeCores::request(),
            began: Ticks::now(),
            own_began: own_seconds(),
            cores: cores::available(),
        }
    }

    /// One line about the time since.
    pub(crate) fn describe(&self) -> String {
        let cores = self.cores;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut line = format!(
            "{cores} cores, Linux {}, {}",
            kernel.trim(),
            self.awake.describe()
        );
        if let Some(cores) = cores::pinned() {
            line += &format!("; processes pinned to cores {} and {}", cores.near, cores.far);
        }
        if let (Some(began), Some(now)) = (self.began, Ticks::now()) {
            let total = now.total.saturating_sub(began.total).max(1) as f64;
            let own = (own_seconds() - self.own_began) * ticks_per_second();
            let busy = now.busy.saturating_sub(began.busy) as f64;
            let others = ((busy - own) / total * 100.0).max(0.0);
            let stolen = now.stolen.saturating_sub(began.stolen) as f64 / total * 100.0;
            line += &format!("; others took {others:.0} % of the machine, the host {stolen:.0} %");
        }
        line
    }
}

impl Ticks {
    fn now() -> Option<Ticks> {
        Ticks::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (the guests' time, which
    /// follows, is within user's).
    fn parse(stat: &str) -> Option<Ticks> {
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        let fields: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = fields[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Ticks {
            busy,
            stolen,
            total: busy + idle + iowait + stolen,
        })
    }
}

/// CPU seconds of this process and of its children, those that still run included.
fn own_seconds() -> f64 {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
    let (ended, running) = (ended_children_ticks(), running_children_ticks());
    own + (ended + running) as f64 / ticks_per_second()
}

/// CPU time of the children that have been waited for.
fn ended_children_ticks() -> u64 {
    stat_fields(Path::new("/proc/self/stat")).map_or(0, |fields| fields.get(13..15).map_or(0, sum))
}

/// CPU time of the children that still run.
fn running_children_ticks() -> u64 {
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    children
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| stat_fields(Path::new(&format!("/proc/{pid}/stat"))))
        .map(|fields| fields.get(11..13).map_or(0, sum))
        .sum()
}

fn sum(fields: &[u64]) -> u64 {
    fields.iter().sum()
}

/// The fields of a process's stat file from the third on (its state, which reads as 0); the second, its name,
/// may hold anything but ends with the last bracket.
fn stat_fields(path: &Path) -> Option<Vec<u64>> {
    let stat = std::fs::read_to_string(path).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    Some(
        after_name
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect(),
    )
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Whether `folder` is on a file system that is lost with the machine's memory.
pub(crate) fn in_memory(folder: &Path) -> bool {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|file_system| file_system.f_type == TMPFS)
}

/// The RDMA devices of this machine.
pub(crate) fn rdma_devices() -> Vec<String> {
    let mut devices: Vec<String> = std::fs::read_dir("/sys/class/infiniband")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    devices.sort();
    devices
}

/// The device to measure: the named one, or the only one there is.
pub(crate) fn rdma_device(named: Option<&str>) -> Result<String, Error> {
    let devices = rdma_devices();
    let present = || match devices.as_slice() {
        [] => "there is none here".to_owned(),
        devices => format!("there are: {}", devices.join(", ")),
    };
    match (named, devices.as_slice()) {
        (Some(name), devices) if devices.iter().any(|device| device == name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Error::DeviceUnknown {
            name: name.to_owned(),
            present: present(),
        }),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Error::DeviceNotNamed { present: present() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_time_is_read_from_the_first_line() {
        let stat = "cpu  100 20 30 400 50 6 7 80 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(
            Ticks::parse(stat),
            Some(Ticks {
                busy: 163,
                stolen: 80,
                total: 693
            })
        );
        assert_eq!(Ticks::parse("intr 1 2 3\n"), None);
    }

    #[test]
    fn an_unknown_device_is_named_in_the_error() {
        let error = rdma_device(Some("no-such-device")).unwrap_err();
        assert!(error.to_string().contains("no-such-device"));
        assert_eq!(error.exit_code(), 2);
    }
}
