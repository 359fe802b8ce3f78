//! What the programs share: a node that speaks every transport of this build, and how they begin and end.

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;

use transport::{Node, NodeBuilder, Timing};
use transport_rdma::Shm;
use transport_tcp::Tcp;

/// A node of the examples' cluster. Its peers are taken for dead soon, so that one sees it happen.
///
/// # Errors
/// Where RDMA was built in: that there is no device is no error, the node runs without.
pub fn node(name: &str) -> NodeBuilder {
    let timing = Timing {
        resume_window: std::time::Duration::from_secs(2),
        ..Timing::default()
    };
    let builder = Node::builder(name)
        .secret(b"the examples' shared secret")
        .timing(timing)
        .transport(Tcp::new())
        .transport(Shm::new());
    #[cfg(feature = "verbs")]
    let builder = match transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()) {
        Ok(rdma) => builder.transport(rdma),
        Err(error) => {
            eprintln!("without rdma: {error}");
            builder
        }
    };
    builder
}

/// What a program ends with.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Hands a program its arguments, and says in words what it fails with.
pub fn main(run: impl FnOnce(&[&str]) -> Outcome) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The number that an argument is.
///
/// # Errors
/// It is none, or too large.
pub fn number<N: FromStr<Err: Display>>(argument: &str) -> Result<N, String> {
    argument.parse().map_err(|error| format!("{argument}: {error}"))
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
