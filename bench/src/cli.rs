//! The command line.

mod messages;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
pub(crate) use messages::{Latency, Messages, Throughput};

use crate::carrier::Transport;
use crate::floor::journal::{Mode, Shape};
use crate::instructions::{Part, Way};
use crate::measure::{Amount, Schedule};
use crate::tied;
use crate::wait::Wait;

/// The smallest message: its first eight bytes are a number that the receiver checks.
const SMALLEST: usize = 8;
const LARGEST: usize = 16 << 20;
pub(crate) const RING: usize = 1 << 20;
const SMALLEST_RING: usize = 4 << 10;
const LARGEST_RING: usize = 1 << 30;
/// Time for one side of one bench, where neither --count nor --seconds is given.
const SECONDS: f64 = 2.0;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Latency, throughput, journal and whole-job benches, each beside its floor.
///
/// Without a command: everything that this machine can run, in less than a minute.
#[derive(Debug, Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) everything: Everything,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How long a message is on its way: half of a round trip between two processes
    Latency(Latency),
    /// How many messages go one way between two processes
    Throughput(Throughput),
    /// How fast events become durable
    Journal(Journal),
    /// The whole job: commands through mailboxes to event-sourced accounts in another process
    Accounts(Accounts),
    /// A running node in the terminal: links, mailboxes, waiting times, dead letters and events
    Top(Top),
    /// What it costs to be observed: two nodes with and without metrics endpoints that are scraped, in turns
    Observed(Observed),
    /// How many instructions a message costs, counted by valgrind and held against limits
    Instructions(Instructions),
    /// Applications of actor runtimes and of gRPC, on their own transport and on ours
    #[cfg(feature = "clusters")]
    Clusters(Clusters),
    /// Not in this build: applications of actor runtimes and of gRPC, on their own transport and on ours
    #[cfg(not(feature = "clusters"))]
    Clusters {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// What this machine can do at best: the floors alone
    #[command(subcommand)]
    Floor(Floor),

    /// The other process of a bench
    #[command(name = tied::FAR_COMMAND, hide = true)]
    FarHalf {
        #[arg(long)]
        core: Option<usize>,
    },
    /// What is counted, under valgrind
    #[command(name = tied::INSTRUCTIONS_COMMAND, hide = true)]
    Counted {
        #[arg(value_enum)]
        way: Way,
        #[arg(value_enum)]
        part: Part,
    },
    /// A log whose syncs are counted, under strace
    #[cfg(feature = "journal-peers")]
    #[command(name = tied::PEER_COMMAND, hide = true)]
    PeerAppends {
        #[arg(value_enum)]
        peer: crate::peers::Peer,
        dir: PathBuf,
        size: usize,
        batch: usize,
        threads: usize,
        commits: u64,
    },
    /// The process with the accounts
    #[command(name = tied::ACCOUNTS_COMMAND, hide = true)]
    AccountsHost,
    /// The process that removes what a killed one leaves
    #[command(name = tied::SWEEP_COMMAND, hide = true)]
    Sweep,
    /// A program that ends with this process's parent
    #[command(name = tied::TIED_COMMAND, hide = true)]
    Tied {
        #[arg(long)]
        core: Option<usize>,
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Options of the live view.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The node's metrics endpoint, as `node_metrics::Endpoint` serves it: http://127.0.0.1:9900
    pub(crate) url: String,

    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_parser = seconds_between_looks)]
    pub(crate) every: f64,

    /// Two looks, printed once; also where the output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}

/// Options of the comparison with and without being observed.
#[derive(Debug, Args)]
pub(crate) struct Observed {
    /// Pairs of rounds, one observed and one not
    #[arg(long, default_value_t = 15, value_parser = pairs)]
    pub(crate) pairs: usize,

    /// Seconds for each figure of a round, of which there are two
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Seconds between two scrapes of each node
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) scraped_every: f64,
}

fn pairs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pairs) if (1..=10_000).contains(&pairs) => Ok(pairs),
        _ => Err("1 to 10000 pairs".into()),
    }
}

fn seconds_between_looks(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 3600 seconds".into()),
    }
}

/// The floors, each as the bench beside which it stands runs it
#[derive(Debug, Subcommand)]
pub(crate) enum Floor {
    /// A bare loopback socket
    Tcp(FloorMessages),
    /// Two processes and a cache line, or a bare ring
    Shm(FloorMessages),
    /// ib_write_lat and ib_write_bw of the perftest suite
    Rdma(FloorMessages),
    /// Checksum, store, make durable
    Journal(Journal),
}

/// Options of the run without a command.
#[derive(Debug, Args)]
pub(crate) struct Everything {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) device: Device,
    /// Folder for the journal's rows [default: PMEM_DIR if set, and a temporary folder]
    #[arg(long, value_name = "FOLDER", env = "PMEM_DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) placement: Placement,
}

/// Options of the count of instructions.
#[derive(Debug, Args)]
pub(crate) struct Instructions {
    /// Which ways to count; rdma needs a device
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "ring,shm,tcp,socket"
    )]
    pub(crate) way: Vec<Way>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Options of the floors of messages.
#[derive(Debug, Args)]
pub(crate) struct FloorMessages {
    #[command(flatten)]
    pub(crate) traffic: Traffic,
}

/// What to send, for how long, and how to wait for it.
#[derive(Debug, Args)]
pub(crate) struct Traffic {
    /// Bytes of a message's payload; several sizes with commas
    #[arg(long, value_name = "BYTES", value_parser = message_size, value_delimiter = ',', default_value = "64")]
    pub(crate) size: Vec<usize>,
    /// How to wait where there is nothing to read, on our side and on the floor's
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) placement: Placement,
    #[command(flatten)]
    pub(crate) extent: Extent,
    #[command(flatten)]
    pub(crate) device: Device,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Where the two processes run.
#[derive(Debug, Args)]
pub(crate) struct Placement {
    /// Keep the two processes on two different cores, the first and the last that this one may use
    #[arg(long)]
    pub(crate) pin: bool,
}

/// How much is measured.
#[derive(Debug, Args)]
pub(crate) struct Extent {
    /// Messages (round trips, events) in all rounds together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "seconds")]
    count: Option<u64>,
    /// Time for all rounds together, for each of the two sides [default: 2]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Rounds in which our side and its floor take turns; figures are medians over them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "5")]
    rounds: u32,
}

impl Extent {
    pub(crate) fn schedule(&self) -> Schedule {
        let amount = match (self.count, self.seconds) {
            (Some(count), _) => Amount::Count(count),
            (None, seconds) => Amount::Seconds(seconds.unwrap_or(SECONDS)),
        };
        Schedule {
            rounds: self.rounds,
            amount,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Device {
    /// RDMA device [default: the only one there is]
    #[arg(long = "device", value_name = "NAME", env = "SOFT_ROCE_DEVICE")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Also write the figures there, one JSON object a line; /dev/stdout will do
    #[arg(long, value_name = "PATH")]
    pub(crate) json: Option<PathBuf>,
}

/// Options of the journal's bench and of its floor.
#[derive(Debug, Args)]
pub(crate) struct Journal {
    /// Folder for the journal [default: a temporary one]
    #[arg(long, value_name = "FOLDER", env = "PMEM_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How events become durable
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) mode: Mode,
    /// Bytes of an event; several sizes with commas
    #[arg(long, value_name = "BYTES", value_parser = message_size, value_delimiter = ',', default_value = "256")]
    pub(crate) size: Vec<usize>,
    /// Events appended at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096), default_value = "1")]
    batch: u32,
    /// Threads that append
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), default_value = "1")]
    threads: u32,
    /// Beside other durable logs, in rows of their own for writers and batches; built with --features journal-peers
    #[arg(long, conflicts_with_all = ["mode", "batch", "threads"])]
    pub(crate) peers: bool,
    #[command(flatten)]
    pub(crate) extent: Extent,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Journal {
    pub(crate) fn shape(&self, size: usize) -> Shape {
        Shape {
            size,
            batch: self.batch as usize,
            threads: self.threads as usize,
        }
    }
}

/// Options of the accounts.
#[derive(Debug, Args)]
pub(crate) struct Accounts {
    /// What carries the commands
    #[arg(long, value_enum)]
    pub(crate) transport: Transport,
    /// SIGKILL the node with the accounts so often in mid-run, and start it again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000), default_value = "0")]
    pub(crate) kill: u32,
    /// Accounts that commands go to
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000), default_value = "100")]
    pub(crate) accounts: u32,
    /// Commands in the whole run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), default_value = "20000")]
    pub(crate) count: u64,
    /// Commands that are on their way at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096), default_value = "16")]
    pub(crate) in_flight: u32,
    /// Folder for the journal [default: a temporary one]
    #[arg(long, value_name = "FOLDER", env = "PMEM_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How events become durable
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) mode: Mode,
    /// How to wait where there is nothing to read
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) device: Device,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Options of the bench of clusters.
#[cfg(feature = "clusters")]
#[derive(Debug, Args)]
pub(crate) struct Clusters {
    /// Which runtimes; several with commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "ractor,tellus,tonic"
    )]
    pub(crate) runtime: Vec<crate::clusters::App>,
    /// Which of ours; several with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp,shm")]
    pub(crate) transport: Vec<Transport>,
    /// Bytes of a message's payload; several sizes with commas
    #[arg(long, value_name = "BYTES", value_parser = message_size, value_delimiter = ',', default_value = "64,1024")]
    pub(crate) size: Vec<usize>,
    /// How often each side is started anew, which share the seconds: how its threads fall into step differs from start to start
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100), default_value = "3")]
    pub(crate) starts: u32,
    #[command(flatten)]
    pub(crate) placement: Placement,
    #[command(flatten)]
    pub(crate) extent: Extent,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Bytes of a message.
fn message_size(text: &str) -> Result<usize, String> {
    bytes(text, SMALLEST, LARGEST)
}

/// Bytes of a ring.
fn ring_size(text: &str) -> Result<usize, String> {
    bytes(text, SMALLEST_RING, LARGEST_RING)
}

/// A number of bytes, such as `64`, `4KiB` or `1MiB`.
fn bytes(text: &str, smallest: usize, largest: usize) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        other => return Err(format!("unknown unit `{other}`: use none, KiB or MiB")),
    };
    digits
        .parse()
        .ok()
        .and_then(|number: usize| number.checked_mul(unit))
        .filter(|size| (smallest..=largest).contains(size))
        .ok_or_else(|| format!("not a number of bytes from {smallest} to {largest}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let longest = LONGEST.as_secs_f64();
    text.parse()
        .ok()
        .filter(|seconds: &f64| *seconds > 0.0 && *seconds <= longest)
        .ok_or_else(|| format!("not a number of seconds above 0, up to {longest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_take_units_and_have_limits() {
        assert_eq!(message_size("64"), Ok(64));
        assert_eq!(message_size("4KiB"), Ok(4096));
        assert_eq!(message_size("1m"), Ok(1 << 20));
        for wrong in [
            "",
            "0",
            "7",
            "-1",
            "1GiB",
            "17MiB",
            "64.5",
            "KiB",
            "99999999999999999999",
            "é",
        ] {
            assert!(message_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
