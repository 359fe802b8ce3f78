//! The endpoint: `/metrics` as Prometheus reads it, `/recent` for people and for `bench top`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use tiny_http::{Header, Response, Server};
use transport::Node;

use crate::publish::{Publisher, WAITED_BUCKETS, names};
use crate::recent::Recent;

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
    /// # Errors
    /// [`EndpointError`].
    pub fn open(node: &Node, address: &str) -> Result<Endpoint, EndpointError> {
        let refused = |cause: String| EndpointError::Listen {
            address: address.to_owned(),
            cause,
        };
        let server = Arc::new(Server::http(address).map_err(|error| refused(error.to_string()))?);
        let listening = server
            .server_addr()
            .to_ip()
            .ok_or_else(|| refused("not an address of the network".into()))?;
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
                    let handle = recorder.handle();
                    for request in server.incoming_requests() {
                        let (body, kind) = match request.url() {
                            "/metrics" => {
                                metrics::with_local_recorder(&recorder, || publisher.publish());
                                handle.run_upkeep();
                                (handle.render(), "text/plain; version=0.0.4")
                            }
                            "/recent" => {
                                let recent = Recent::of(publisher.observer());
                                (
                                    serde_json::to_string(&recent).unwrap_or_default(),
                                    "application/json",
                                )
                            }
                            _ => {
                                let answer = Response::from_string("there are /metrics and /recent\n");
                                let _ = request.respond(answer.with_status_code(404));
                                continue;
                            }
                        };
                        let header = Header::from_bytes("Content-Type", kind);
                        let answer = Response::from_string(body);
                        let answer = match header {
                            Ok(header) => answer.with_header(header),
                            Err(()) => answer,
                        };
                        // Whoever asked may have gone.
                        let _ = request.respond(answer);
                    }
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

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
