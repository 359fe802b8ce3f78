//! The command line: what can be asked for, and how each answer is told.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit_status::OWN_FAILURE;
use crate::guest::launch;
use crate::native::{self, device::DEVICE_NAME};
use crate::run::run;
use crate::run_arguments::RunArguments;
use crate::words::{print, remark};

/// A soft-RoCE device and a DAX mount on any machine, natively or in a guest.
#[derive(Parser)]
#[command(name = "soft-roce-setup", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// What this machine has and lacks; exit status 0 if `run` can work, 1 if not
    Doctor {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Say which packages are needed (Debian, Ubuntu), and install them with --yes
    Install {
        /// Do it: apt-get, and the download of the guest's kernel
        #[arg(long)]
        yes: bool,
        /// Leave the guest's kernel to the first `run`, which keeps it in its own user's cache
        #[arg(long)]
        packages_only: bool,
    },
    /// Make a native soft-RoCE device, rxe0
    Up {
        /// On this network device instead of a dummy of its own
        #[arg(long, value_name = "NAME")]
        netdev: Option<String>,
    },
    /// Remove what `up` made
    Down,
    /// Run a command where a soft-RoCE device and a DAX mount exist
    Run(RunArguments),
    /// Process 1 of a guest
    #[command(hide = true)]
    Inside,
    /// Become a program that ends with its parent
    #[command(hide = true, name = launch::SUBCOMMAND)]
    Launch {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

pub(crate) fn main() -> ExitCode {
    match Arguments::parse().action {
        Action::Run(arguments) => match run(&arguments) {
            Ok(status) => exit_code(status),
            Err(error) => {
                remark(&error);
                exit_code(error.exit_status())
            }
        },
        Action::Doctor { json } => ExitCode::from(u8::from(!crate::doctor::doctor(json))),
        Action::Install { yes, packages_only } => report(crate::install::install(yes, !packages_only)),
        Action::Up { netdev } => report(native::up(netdev.as_deref()).map(|up| {
            let state = if up.made { "made" } else { "there already" };
            print(format_args!("{DEVICE_NAME} on {}: {state}", up.netdev));
        })),
        Action::Down => report(native::down().map(|was_there| {
            print(format_args!(
                "{DEVICE_NAME}: {}",
                if was_there { "removed" } else { "was not there" }
            ));
        })),
        Action::Inside => fail(&crate::inside::main()),
        Action::Launch {
            parent,
            program,
            arguments,
        } => fail(&launch::launch(parent, program, arguments)),
    }
}

fn report<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    remark(error);
    exit_code(OWN_FAILURE)
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(OWN_FAILURE as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
