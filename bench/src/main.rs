//! Latency, throughput, journal and whole-job benches, each beside its floor.
//!
//! A floor is the barest program that does the same work on the same machine. Both take turns in one run, so what
//! counts is the ratio; the figures themselves are the machine's. See `bench --help`.

mod accounts;
mod appends;
mod carrier;
mod cli;
mod clock;
#[cfg(feature = "clusters")]
mod clusters;
mod cores;
mod error;
mod floor;
mod instructions;
mod load;
mod machine;
mod measure;
mod observed;
mod ours;
#[cfg(feature = "journal-peers")]
mod peers;
mod report;
mod run;
mod scratch;
mod shared_memory;
mod tied;
mod top;
mod two_process;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use error::Error;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ran = match cli.command {
        Some(command) => run::run(command),
        None => run::everything(&cli.everything),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::NobodyReads) {
                report::remark(&format!("bench: {error}\n"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}
