//! The endpoint: `/metrics` as Prometheus reads it, `/recent` for people and for `bench top`.

use std::io::Cursor;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use rustix::net::sockopt;
use tiny_http::{Header, Response, Server};
use transport::Node;

use crate::publish::{Publisher, WAITED_BUCKETS, names};
use crate::recent::Recent;

/// Who takes nothing of an answer for so long is cut off: one thread answers everybody.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The address can't be listened on.
    #[error("listening on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        cause: String,
    },
    /// The exporter could not be built.
    #[error(transparent)]
    Exporter(#[from] BuildError),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

/// Serves one node's figures until it is dropped. Whoever can connect can read them: listen on loopback, or behind something
/// that asks who is there.
pub struct Endpoint {
    server: Arc<Server>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on `address`, `127.0.0.1:9900` for instance; port 0 lets the system choose. The figures have a recorder of
    /// their own, so this goes with whatever recorder the program has installed.
    ///
    /// Requests are answered one after the other. A client that asks and does not take the answer holds up the others, and the end
    /// of this, for three seconds at most; then its connection is cut.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn open(node: &Node, address: &str) -> Result<Endpoint, EndpointError> {
        let refused = |cause: String| EndpointError::Listen {
            address: address.to_owned(),
            cause,
        };
        let listener = TcpListener::bind(address).map_err(|error| refused(error.to_string()))?;
        let listening = listener
            .local_addr()
            .map_err(|error| refused(error.to_string()))?;
        // Connections have it of their listener: see tcp(7).
        sockopt::set_tcp_user_timeout(&listener, TAKEN_WITHIN.as_millis() as u32)
            .map_err(|error| refused(error.to_string()))?;
        let server = Server::from_listener(listener, None).map_err(|error| refused(error.to_string()))?;
        let server = Arc::new(server);
        // Buckets, because those of several nodes can be added up, and those of two scrapes subtracted.
        let waited = Matcher::Full(names::WAITED.into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(waited, &WAITED_BUCKETS)?
            .build_recorder();
        let publisher = Publisher::new(node);
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn({
                let server = server.clone();
                move || {
                    let pages = Pages { publisher, recorder };
                    answer_each(&server, &pages);
                }
            })
            .map_err(EndpointError::Thread)?;
        Ok(Endpoint {
            server,
            address: listening,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers one request after the other until the server is unblocked.
fn answer_each(server: &Server, pages: &Pages) {
    let mut cut_off = None;
    for request in server.incoming_requests() {
        let from = request.remote_addr().copied();
        if cut_off.is_some() && from == cut_off {
            // It had asked more already.
            continue;
        }
        let answer = pages.answer_to(request.url());
        // Whoever asked may have gone, or was cut off.
        cut_off = request.respond(answer).err().and(from);
    }
}

/// What there is to read.
struct Pages {
    publisher: Publisher,
    recorder: PrometheusRecorder,
}

impl Pages {
    fn answer_to(&self, url: &str) -> Response<Cursor<Vec<u8>>> {
        let (body, kind) = match url {
            "/metrics" => {
                metrics::with_local_recorder(&self.recorder, || self.publisher.publish());
                let handle = self.recorder.handle();
                handle.run_upkeep();
                (handle.render(), "text/plain; version=0.0.4")
            }
            "/recent" => {
                let recent = Recent::of(self.publisher.observer());
                (
                    serde_json::to_string(&recent).unwrap_or_default(),
                    "application/json",
                )
            }
            _ => {
                let none = Response::from_string("there are /metrics and /recent\n");
                return none.with_status_code(404);
            }
        };
        let answer = Response::from_string(body);
        match Header::from_bytes("Content-Type", kind) {
            Ok(header) => answer.with_header(header),
            Err(()) => answer,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
