//! A soft-RoCE device and a DAX mount on any machine, natively or in a guest.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod doctor;
mod exit_status;
mod guest;
mod inside;
mod install;
mod job;
mod native;
mod run;
mod run_arguments;
mod signals;
mod tool;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
