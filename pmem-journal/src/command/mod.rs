//! The commands, one function each, over the library's public face alone.

mod append;
mod json;
mod read;

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
        /// Only this entity (32 hex digits, or a name)
        #[arg(long)]
        entity: Option<String>,
        /// Only events with this tag
        #[arg(long)]
        tag: Option<String>,
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
        /// Refuse to run in any other mode: pmem, eadr, dax-no-sync, buffered, volatile
        #[arg(long)]
        mode: Option<Mode>,
        /// Bytes of a new segment
        #[arg(long, default_value_t = 64 << 20)]
        segment_size: u64,
    },
}

pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

pub(crate) fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Info { dir } => read::info(&dir),
        Command::Dump {
            dir,
            from,
            entity,
            tag,
        } => read::dump(&dir, from, entity.as_deref(), tag.as_deref()),
        Command::Verify { dir } => read::verify(&dir),
        Command::Tail { dir, follow, lines } => read::tail(&dir, follow, lines),
        Command::Append {
            dir,
            entity,
            kind,
            tag,
            mode,
            segment_size,
        } => append::append(&dir, &entity, kind, &tag, mode, segment_size),
    }
}

/// The reader of our output went away: that is its right.
pub(crate) fn is_broken_pipe(e: &(dyn Error + 'static)) -> bool {
    e.downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
