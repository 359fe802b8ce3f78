//! The command `pmem-journal`: looks into journals, checks them, follows them, appends to them, keeps them small and mends them.
//!
//! Exit codes: 0 done; 1 could not be done, said on standard error; 2 wrong usage; 3 `verify` or `repair` found damage.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::run(command::Cli::parse()) {
        Ok(code) => code,
        Err(e) if command::is_broken_pipe(&*e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("pmem-journal: {e}");
            ExitCode::FAILURE
        }
    }
}
