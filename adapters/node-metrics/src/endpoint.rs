//! The endpoint: `/metrics` as Prometheus reads it, `/recent` for people and for `bench top`.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use transport::Node;

use crate::publish::{Publisher, WAITED_BUCKETS, names};
use crate::recent::Recent;
use crate::serving::serve;

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
    /// Its thread, or what it waits with, could not be started.
    #[error("starting the thread that answers: {0}")]
    Thread(std::io::Error),
}

/// Serves one node's figures until it is dropped. Whoever can connect can read them: listen on loopback, or behind something
/// that asks who is there.
pub struct Endpoint {
    ended: Arc<Notify>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on `address`, `127.0.0.1:9900` for instance; port 0 lets the system choose. The figures have a recorder of
    /// their own, so this goes with whatever recorder the program has installed.
    ///
    /// One thread answers GET and HEAD over HTTP/1.0 and 1.1, one request a connection. It serves 64 connections at a time; one that
    /// has not asked and taken its answer within five seconds is cut off. Nobody holds up the end of this.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn open(node: &Node, address: &str) -> Result<Endpoint, EndpointError> {
        let refused = |error: std::io::Error| EndpointError::Listen {
            address: address.to_owned(),
            cause: error.to_string(),
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let listening = listener.local_addr().map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        // Buckets, because those of several nodes can be added up, and those of two scrapes subtracted.
        let waited = Matcher::Full(names::WAITED.into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(waited, &WAITED_BUCKETS)?
            .build_recorder();
        let publisher = Publisher::new(node);
        let ended = Arc::new(Notify::new());
        let (opened, opening) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn({
                let ended = ended.clone();
                // The runtime is dropped here in any case: whoever opens this may have one, where none may be dropped.
                move || match waiting_on(listener) {
                    Ok((runtime, listener)) => {
                        let _ = opened.send(Ok(()));
                        let pages = Pages { publisher, recorder };
                        runtime.spawn(serve(listener, move |request| {
                            pages.answer_to(request.method(), request.uri().path())
                        }));
                        runtime.block_on(ended.notified());
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                    }
                }
            })
            .map_err(EndpointError::Thread)?;
        opening
            .recv()
            .unwrap_or_else(|_| Err(std::io::Error::other("it panicked")))
            .map_err(EndpointError::Thread)?;
        Ok(Endpoint {
            ended,
            address: listening,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A runtime of this thread's own, and the listener as it waits on it.
fn waiting_on(listener: TcpListener) -> std::io::Result<(Runtime, tokio::net::TcpListener)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    Ok((runtime, listener))
}

/// What there is to read.
struct Pages {
    publisher: Publisher,
    recorder: PrometheusRecorder,
}

impl Pages {
    fn answer_to(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(method) {
            let mut answer = in_words(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => {
                metrics::with_local_recorder(&self.recorder, || self.publisher.publish());
                let handle = self.recorder.handle();
                handle.run_upkeep();
                page(handle.render(), "text/plain; version=0.0.4")
            }
            "/recent" => {
                let recent = Recent::of(self.publisher.observer());
                match serde_json::to_string(&recent) {
                    Ok(recent) => page(recent, "application/json"),
                    Err(error) => in_words(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            _ => in_words(StatusCode::NOT_FOUND, "there are /metrics and /recent\n"),
        }
    }
}

fn page(body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn in_words(status: StatusCode, why: impl Into<String>) -> Response<Full<Bytes>> {
    let mut answer = page(why.into(), "text/plain");
    *answer.status_mut() = status;
    answer
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.ended.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
