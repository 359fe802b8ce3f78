//! Applications of actor runtimes and of gRPC, the same on the runtime's own transport and on ours: only what
//! constructs the transport differs.
//!
//! Each side is two processes of its own besides this one: an endpoint of `tellus` is one for a process, so the client
//! has to be a child as well. A side costs nothing while it is another's turn but its heartbeats.

mod grpc;
mod over;
mod ractor;
mod side;
mod tellus;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::error::{Error, doing};
use crate::measure::Laps;
use crate::two_process::{self, Far, FarReport, Plan, Work};
use crate::wait::Gone;

pub(crate) use over::Over;
pub(crate) use side::side;

/// Messages sent one way between two answers that are waited for, so that no queue grows beyond them.
const BURST: u64 = 1_000;
/// Threads of the runtime in each process.
const WORKERS: usize = 2;

/// An application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum App {
    /// An actor of `ractor`, cast to and called across `ractor_cluster`.
    Ractor,
    /// An actor of `tellus`, told and asked across its cluster.
    Tellus,
    /// A gRPC service of `tonic`: unary calls, and a stream both ways.
    #[value(name = "tonic")]
    Grpc,
}

impl App {
    /// The names of its rows.
    pub(crate) fn bench(self, work: Work) -> &'static str {
        match (self, work) {
            (App::Ractor, Work::PingPong) => "ractor call",
            (App::Ractor, Work::Stream) => "ractor cast",
            (App::Tellus, Work::PingPong) => "tellus ask",
            (App::Tellus, Work::Stream) => "tellus tell",
            (App::Grpc, Work::PingPong) => "tonic unary",
            (App::Grpc, Work::Stream) => "tonic stream",
        }
    }
}

/// One end of an application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) app: App,
    pub(crate) over: Over,
    /// Where the server is; `None` for the server itself.
    pub(crate) server: Option<String>,
}

impl two_process::Role for End {
    const KIND: &'static str = "application";

    fn open(self) -> Result<Box<dyn Far>, Error> {
        Ok(Box::new(Process::open(&self)?))
    }
}

/// The client of an application, connected.
trait Client {
    /// Sends a message of `size` bytes and waits for one of the same size.
    async fn call(&mut self, size: usize) -> Result<(), Error>;

    /// Sends `count` messages one way, and waits until the last has been taken.
    async fn stream(&mut self, count: u64, size: usize) -> Result<(), Error>;
}

/// A process of an application.
struct Process {
    runtime: Runtime,
    role: Role,
    laps: Laps,
    report: FarReport,
}

enum Role {
    /// Serves by itself as long as this lives.
    Server {
        address: String,
        _keep: Box<dyn std::any::Any>,
    },
    Ractor(ractor::Caller),
    Tellus(tellus::Asker),
    Grpc(grpc::Caller),
}

impl Process {
    fn open(end: &End) -> Result<Process, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .map_err(doing("starting a runtime"))?;
        let role = runtime.block_on(async {
            Ok::<Role, Error>(match (&end.server, end.app) {
                (None, app) => {
                    let (address, keep) = match app {
                        App::Ractor => ractor::serve(end.over).await?,
                        App::Tellus => tellus::serve(end.over).await?,
                        App::Grpc => grpc::serve(end.over).await?,
                    };
                    Role::Server { address, _keep: keep }
                }
                (Some(server), App::Ractor) => Role::Ractor(ractor::Caller::connect(end.over, server).await?),
                (Some(server), App::Tellus) => Role::Tellus(tellus::Asker::connect(end.over, server).await?),
                (Some(server), App::Grpc) => Role::Grpc(grpc::Caller::connect(end.over, server).await?),
            })
        })?;
        Ok(Process {
            runtime,
            role,
            laps: Laps::new(),
            report: FarReport::default(),
        })
    }
}

async fn run(client: &mut impl Client, plan: &Plan, laps: &mut Laps) -> Result<(), Error> {
    match plan.work {
        Work::PingPong => {
            laps.start();
            for _ in 0..plan.count {
                client.call(plan.size).await?;
                laps.lap();
            }
            Ok(())
        }
        Work::Stream => client.stream(plan.count, plan.size).await,
    }
}

impl Far for Process {
    fn address(&self) -> Result<String, Error> {
        Ok(match &self.role {
            Role::Server { address, .. } => address.clone(),
            _ => String::new(),
        })
    }

    fn run(&mut self, plan: &Plan, _: &Gone) -> Result<(), Error> {
        let (runtime, laps) = (&self.runtime, &mut self.laps);
        match &mut self.role {
            // Only asked how much processor time it has used.
            Role::Server { .. } => Ok(()),
            Role::Ractor(client) => runtime.block_on(run(client, plan, laps)),
            Role::Tellus(client) => runtime.block_on(run(client, plan, laps)),
            Role::Grpc(client) => runtime.block_on(run(client, plan, laps)),
        }
    }

    fn report(&mut self) -> FarReport {
        FarReport {
            figures: self.laps.percentiles(1),
            ..self.report.clone()
        }
    }
}

/// What went wrong in an application.
fn went_wrong(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Cluster(format!("{what}: {error}"))
}
