//! HTTP connections, one request each: bounded in number and in time, so that nobody holds up the others for long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at a time; others wait until one of these ends.
pub(crate) const MOST_CONNECTIONS: usize = 64;

/// From a connection's beginning until it has asked and taken its answer, or it is cut off.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A request's line and headers, in bytes.
const LONGEST_REQUEST: usize = 16 << 10;

/// How long to wait where no connection can be accepted, for want of files for instance.
const BREATH: Duration = Duration::from_millis(100);

/// Answers whoever connects, until it is dropped.
pub(crate) async fn serve<Answer>(listener: TcpListener, answer: Answer)
where
    Answer: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _place = place;
            // Whoever asked wrongly has been told, and whoever took no answer has gone or is cut off.
            let _ = tokio::time::timeout(ANSWERED_WITHIN, serve_one(stream, &*answer)).await;
        });
    }
}

async fn serve_one(
    stream: TcpStream,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
) -> hyper::Result<()> {
    let answering = service_fn(|request| {
        let answer = answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(LONGEST_REQUEST)
        // The whole has a deadline.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), answering)
        .await
}
