//! The floor of the rdma rows: `ib_write_lat` and `ib_write_bw` of the perftest suite, server and client on the
//! same device.
//!
//! Their latency is one way already (half of a round trip). They report no CPU time that set-up is not part of, so
//! these rows have no such floor.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::cores;
use crate::error::{Error, doing};
use crate::measure::{Figures, Metric, RoundResult, Side};
use crate::tied;
use crate::two_process::Work;

/// What starting, connecting and ending may take on a slow machine.
const OVERHEAD: Duration = Duration::from_secs(40);
/// What a message may take at worst: one core, where every message waits for a tick of the scheduler, twice.
const WORST_MESSAGE: Duration = Duration::from_millis(10);
const WORST_BYTES_PER_SECOND: f64 = 10e6;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The programs refuse to do less.
const FEWEST: u64 = 5;
/// What the programs print where other work on the machine kept them from learning the length of a tick: all of their
/// figures are zero then, and the next try has better luck.
const CLOCK_UNKNOWN: &str = "Correlation coefficient";
const ATTEMPTS: u32 = 5;
/// perftest says megabytes (or MiB, of late) and counts 2^20 bytes each.
const PERFTEST_MEGABYTE: f64 = 1_048_576.0;

/// One of the two programs on one device.
#[derive(Debug)]
pub(crate) struct Perftest {
    program: &'static str,
    device: String,
    work: Work,
    size: usize,
}

impl Perftest {
    /// # Errors
    /// The program is not installed.
    pub(crate) fn new(device: &str, work: Work, size: usize) -> Result<Perftest, Error> {
        let program = match work {
            Work::PingPong => "ib_write_lat",
            Work::Stream => "ib_write_bw",
        };
        if !installed(program) {
            return Err(Error::PerftestMissing { program });
        }
        Ok(Perftest {
            program,
            device: device.to_owned(),
            work,
            size,
        })
    }

    fn failed(&self, why: impl Into<String>, output: String) -> Error {
        Error::Perftest {
            program: self.program,
            why: why.into(),
            output: output.trim().to_owned(),
        }
    }

    fn start(&self, port: u16, count: u64, host: Option<&str>) -> Result<Running, Error> {
        let (port, count, size) = (port.to_string(), count.to_string(), self.size.to_string());
        let mut arguments = vec!["-F", "-d", &self.device, "-p", &port, "-s", &size, "-n", &count];
        arguments.extend(host);
        let core = cores::pinned().map(|cores| if host.is_some() { cores.near } else { cores.far });
        Running::start(self.program, &arguments, core)
    }
}

impl Side for Perftest {
    fn first_count(&self) -> u64 {
        200
    }

    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
        let count = count.max(FEWEST);
        let mut output = String::new();
        for _ in 0..ATTEMPTS {
            output = self.output_of_a_run(count)?;
            let parsed = match self.work {
                Work::PingPong => latency(&output, count),
                Work::Stream => throughput(&output, count, self.size),
            };
            match parsed {
                Some(result) => return Ok(result),
                None if output.contains(CLOCK_UNKNOWN) => {}
                None => break,
            }
        }
        Err(self.failed("its figures are not where they were expected", output))
    }
}

impl Perftest {
    /// What the client prints in a run with a server of its own.
    fn output_of_a_run(&self, count: u64) -> Result<String, Error> {
        let bytes = Duration::from_secs_f64(self.size as f64 * count as f64 / WORST_BYTES_PER_SECOND);
        let deadline =
            Instant::now() + OVERHEAD + bytes + WORST_MESSAGE * u32::try_from(count).unwrap_or(u32::MAX);

        let port = free_port()?;
        let mut server = self.start(port, count, None)?;
        while !listening(port) {
            if server.ended()?.is_some() || Instant::now() > deadline {
                return Err(self.failed("as a server", server.output()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let mut client = self.start(port, count, Some("127.0.0.1"))?;
        for running in [&mut client, &mut server] {
            match running.wait(deadline)? {
                Some(status) if status.success() => {}
                Some(status) => return Err(self.failed(status.to_string(), running.output())),
                None => return Err(self.failed("it did not end in time", running.output())),
            }
        }
        Ok(client.output())
    }
}

/// The figures of `ib_write_lat`: bytes, iterations, min, max, typical, average, deviation, 99 %, 99.9 %.
fn latency(output: &str, count: u64) -> Option<RoundResult> {
    let row = figures_row(output)?;
    let (typical, average) = (*row.get(4)?, *row.get(5)?);
    if !(typical > 0.0 && typical.is_finite()) {
        return None;
    }
    let figures = Figures::from([
        (Metric::P50, typical),
        (Metric::P99, *row.get(7)?),
        (Metric::P999, *row.get(8)?),
    ]);
    Some(RoundResult {
        elapsed: Duration::from_secs_f64(average * 2.0 * count as f64 / 1e6),
        figures,
    })
}

/// The figures of `ib_write_bw`: bytes, iterations, peak, average, million messages a second.
///
/// The message rate has six decimals only, so it is worked out from the bandwidth.
fn throughput(output: &str, count: u64, size: usize) -> Option<RoundResult> {
    let row = figures_row(output)?;
    let (average, rate) = (*row.get(3)?, *row.get(4)?);
    let bytes_per_second = average * PERFTEST_MEGABYTE;
    let from_bandwidth = bytes_per_second / size as f64;
    // Which of the two has more digits left depends on the size.
    let messages_per_second = if rate >= 0.01 { rate * 1e6 } else { from_bandwidth };
    if messages_per_second <= 0.0 {
        return None;
    }
    let figures = Figures::from([
        (Metric::MessagesPerSecond, messages_per_second),
        (
            Metric::MegabytesPerSecond,
            messages_per_second * size as f64 / 1e6,
        ),
    ]);
    Some(RoundResult {
        elapsed: Duration::from_secs_f64(count as f64 / messages_per_second),
        figures,
    })
}

/// The numbers of the line below the one that names the columns.
fn figures_row(output: &str) -> Option<Vec<f64>> {
    let mut lines = output
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("#bytes"));
    lines.next()?;
    lines
        .next()?
        .split_whitespace()
        .map(|number| number.parse().ok())
        .collect()
}

/// Whether `program` is on the PATH.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(doing("finding a free port for perftest"))
}

/// Whether something listens on `port`: the kernel's tables say so without the connection that a server
/// of perftest would take for its client.
fn listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .any(|table| table.lines().any(|line| is_listener(line, port)))
}

fn is_listener(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next(), fields.nth(1));
    state == Some(LISTEN) && local.is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
}

/// A program in the background, its output in a file. Dropping it ends it; so does this process's death.
struct Running {
    child: Child,
    output: File,
}

impl Running {
    fn start(program: &str, arguments: &[&str], core: Option<usize>) -> Result<Running, Error> {
        let output = tempfile::tempfile().map_err(doing("making a temporary file for perftest's output"))?;
        let handle = || {
            output
                .try_clone()
                .map(Stdio::from)
                .map_err(doing("sharing a temporary file"))
        };
        let child = tied::this_program()?
            .arg(tied::TIED_COMMAND)
            .args(core.map(|core| format!("--core={core}")))
            .args(["--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(handle()?)
            .stderr(handle()?)
            .spawn()
            .map_err(doing(format!("starting {program}")))?;
        Ok(Running { child, output })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(doing("waiting for perftest"))
    }

    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, Error> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn output(&mut self) -> String {
        let mut bytes = Vec::new();
        // What cannot be read back is missing from an error message, no more.
        let _ = self
            .output
            .rewind()
            .and_then(|()| self.output.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: &str = "
 local address: LID 0000 QPN 0x0011 PSN 0x3a2a3b RKey 0x0001a1 VAddr 0x005581
---------------------------------------------------------------------------------------
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec]
 64      1000          11.00          90.00        12.50              13.00          2.00            20.25                   80.50
---------------------------------------------------------------------------------------
";
    const THROUGHPUT: &str = "
 #bytes     #iterations    BW peak[MiB/sec]    BW average[MiB/sec]   MsgRate[Mpps]
 65536      1000             70.00              60.00                0.000960
";

    #[test]
    fn latency_is_read_from_the_columns() {
        let round = latency(LATENCY, 1000).unwrap();
        assert_eq!(round.figures[&Metric::P50], 12.5);
        assert_eq!(round.figures[&Metric::P99], 20.25);
        assert_eq!(round.figures[&Metric::P999], 80.5);
        assert_eq!(round.elapsed, Duration::from_millis(26));
    }

    #[test]
    fn megabytes_are_a_million_bytes() {
        let round = throughput(THROUGHPUT, 960, 65536).unwrap();
        assert_eq!(round.figures[&Metric::MessagesPerSecond], 960.0);
        assert_eq!(round.figures[&Metric::MegabytesPerSecond], 62.91456);
        assert_eq!(round.elapsed, Duration::from_secs(1));
    }

    #[test]
    fn other_output_is_not_taken_for_figures() {
        assert!(latency("Couldn't connect to 127.0.0.1:18515\n", 5).is_none());
        assert!(latency(" #bytes #iterations\n Completion with error at client\n", 5).is_none());
        assert!(throughput("", 5, 64).is_none());
        let zeroes = LATENCY.replace("12.50", "0.00").replace("13.00", "0.00");
        assert!(latency(&zeroes, 1000).is_none());
        let zeroes = THROUGHPUT
            .replace("60.00", "0.00")
            .replace("0.000960", "0.000000");
        assert!(throughput(&zeroes, 1000, 65536).is_none());
    }

    #[test]
    fn a_listener_is_seen_without_connecting() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening(port));
        drop(listener);
        assert!(!listening(port));
    }
}
