//! The commands, one function each, over the library's public face alone.

mod append;
mod bench;
mod json;
mod mend;
mod progress;
mod read;
mod transfer;
mod upkeep;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pmem_journal::Mode;

#[derive(Parser)]
#[command(
    version,
    about = "Looks into event journals, checks them, follows them, appends to them"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the journal holds, and how it would be written here
    Info { dir: PathBuf },
    /// Events as JSON lines
    Dump {
        dir: PathBuf,
        /// Position to start at; without it, the first event kept
        #[arg(long)]
        from: Option<u64>,
        #[command(flatten)]
        wanted: read::Wanted,
    },
    /// Checks every record; prints a JSON report; exit code 3 on corruption
    Verify { dir: PathBuf },
    /// Follows the journal: the last events, and with -f each new one as it becomes durable
    Tail {
        dir: PathBuf,
        /// Go on following
        #[arg(short, long)]
        follow: bool,
        /// How many of the last events to begin with
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: u64,
        #[command(flatten)]
        wanted: read::Wanted,
    },
    /// Appends each line of standard input as an event; prints its position once it is durable
    Append {
        dir: PathBuf,
        /// Whose events these are (32 hex digits, or a name)
        #[arg(long, default_value = "default")]
        entity: String,
        /// The application's number for this type of event
        #[arg(long, default_value_t = 0)]
        kind: u16,
        /// Label each event with this tag (may be repeated)
        #[arg(long)]
        tag: Vec<String>,
        /// Refuse to run in any other mode: pmem, eadr, dax-no-sync, buffered, direct, volatile
        #[arg(long)]
        mode: Option<Mode>,
        /// Bytes of a new segment
        #[arg(long, default_value_t = 64 << 20)]
        segment_size: u64,
    },
    /// Sets aside the events from a position on; refuses while a writer lives; only says so without --apply
    Truncate {
        dir: PathBuf,
        /// Position of the first event that goes, with the rest of its batch
        #[arg(long)]
        to: u64,
        /// Do it
        #[arg(long)]
        apply: bool,
    },
    /// Finds what is damaged and how the journal can be used again; only says so without --apply
    Repair {
        dir: PathBuf,
        /// Do it
        #[arg(long)]
        apply: bool,
    },
    /// Snapshots of entities
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Events as JSON lines that `import` understands
    Export {
        dir: PathBuf,
        /// Position to start at; without it, the first event kept
        #[arg(long)]
        from: Option<u64>,
    },
    /// Appends what `export` printed, from standard input
    Import {
        dir: PathBuf,
        /// Bytes of a new segment
        #[arg(long, default_value_t = 64 << 20)]
        segment_size: u64,
        /// Let sequences follow from what is in the journal, whatever the lines say
        #[arg(long)]
        renumber: bool,
        /// Pass over batches that an earlier import has brought
        #[arg(long, conflicts_with = "renumber")]
        resume: bool,
    },
    /// Copies a consistent prefix to a directory that does not exist yet, beside a writer or without one
    Backup { dir: PathBuf, to: PathBuf },
    /// Drops the oldest segments, as far as snapshots cover them; only says so without --apply
    Retain {
        dir: PathBuf,
        #[command(flatten)]
        rules: upkeep::Rules,
    },
    /// Takes what snapshots cover out of sealed segments; only says so without --apply
    Compact {
        dir: PathBuf,
        /// How many good snapshots of its entity must cover an event before it goes
        #[arg(long, default_value_t = 2)]
        covered_by: usize,
        /// Keep only the newest batch of each entity, whatever snapshots there are
        #[arg(long, conflicts_with = "covered_by")]
        newest_only: bool,
        /// Do it
        #[arg(long)]
        apply: bool,
    },
    /// Moves the oldest sealed segments to a colder directory, with links in their place
    Cool {
        dir: PathBuf,
        cold: PathBuf,
        /// Bytes of segments to leave where they are
        #[arg(long, default_value_t = 0)]
        keep_hot: u64,
    },
    /// Appends to a journal of its own in the directory, and says how fast that was
    Bench {
        dir: PathBuf,
        #[command(flatten)]
        load: bench::Load,
    },
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Every snapshot as a JSON line, damaged ones with what is wrong
    Ls { dir: PathBuf },
}

pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

pub(crate) fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Info { dir } => read::info(&dir),
        Command::Dump { dir, from, wanted } => read::dump(&dir, from, &wanted),
        Command::Verify { dir } => read::verify(&dir),
        Command::Tail {
            dir,
            follow,
            lines,
            wanted,
        } => read::tail(&dir, follow, lines, &wanted),
        Command::Append {
            dir,
            entity,
            kind,
            tag,
            mode,
            segment_size,
        } => append::append(&dir, &entity, kind, &tag, mode, segment_size),
        Command::Truncate { dir, to, apply } => mend::truncate(&dir, to, apply),
        Command::Repair { dir, apply } => mend::repair(&dir, apply),
        Command::Snapshot {
            command: SnapshotCommand::Ls { dir },
        } => upkeep::list_snapshots(&dir),
        Command::Export { dir, from } => transfer::export(&dir, from),
        Command::Import {
            dir,
            segment_size,
            renumber,
            resume,
        } => transfer::import(&dir, segment_size, renumber, resume),
        Command::Backup { dir, to } => upkeep::backup(&dir, &to),
        Command::Retain { dir, rules } => upkeep::retain(&dir, &rules),
        Command::Compact {
            dir,
            covered_by,
            newest_only,
            apply,
        } => upkeep::compact(&dir, covered_by, newest_only, apply),
        Command::Cool { dir, cold, keep_hot } => upkeep::cool(&dir, &cold, keep_hot),
        Command::Bench { dir, load } => bench::bench(&dir, &load),
    }
}

/// The reader of our output went away: that is its right.
pub(crate) fn is_broken_pipe(e: &(dyn Error + 'static)) -> bool {
    e.downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
