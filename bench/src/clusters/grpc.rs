//! `tonic`: a service that sends back what it gets, called once or through a stream both ways.

#[path = "../../../adapters/tonic/examples/echo/mod.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the service of the adapter's example"
)]
mod echo;

use std::any::Any;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic_transport::RingConnector;

use super::{Client, Over, went_wrong};
use crate::error::Error;
use echo::{EchoClient, EchoServer, Payload};

pub(super) async fn serve(over: Over) -> Result<(String, Box<dyn Any>), Error> {
    let server = Server::builder().add_service(EchoServer);
    if over == Over::Own {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| went_wrong("listening", error))?;
        let addr = listener
            .local_addr()
            .map_err(|error| went_wrong("listening", error))?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = tokio::spawn(server.serve_with_incoming(incoming));
        return Ok((format!("http://{addr}"), Box::new(serving)));
    }
    let node = over.node("server", Some(&over.listen()))?;
    let incoming = tonic_transport::incoming(&node).map_err(|error| went_wrong("accepting", error))?;
    let serving = tokio::spawn(server.serve_with_incoming(incoming));
    Ok((node.addresses()[0].clone(), Box::new((node, serving))))
}

/// The client.
pub(super) struct Caller(EchoClient);

impl Caller {
    pub(super) async fn connect(over: Over, server: &str) -> Result<Caller, Error> {
        let failed = |error: tonic::transport::Error| went_wrong("connecting", error);
        let channel = if over == Over::Own {
            let endpoint = Endpoint::from_shared(server.to_owned()).map_err(failed)?;
            endpoint.tcp_nodelay(true).connect().await.map_err(failed)?
        } else {
            let node = Arc::new(over.node("client", None)?);
            let connector = RingConnector::new(node, [server.to_owned()]);
            let endpoint = Endpoint::from_static("http://bench");
            endpoint.connect_with_connector(connector).await.map_err(failed)?
        };
        Ok(Caller(EchoClient::new(channel)))
    }
}

impl Client for Caller {
    async fn call(&mut self, size: usize) -> Result<(), Error> {
        let answer = self.0.once(Payload::of(size)).await;
        let answer = answer.map_err(|error| went_wrong("a call", error))?;
        match answer.data.len() == size {
            true => Ok(()),
            false => Err(went_wrong("a call", "its answer has another length")),
        }
    }

    async fn stream(&mut self, count: u64, size: usize) -> Result<(), Error> {
        let bytes = self.0.stream_all(count as usize, size).await;
        let bytes = bytes.map_err(|error| went_wrong("a stream", error))?;
        match bytes as u64 == count * size as u64 {
            true => Ok(()),
            false => Err(Error::Miscounted {
                sent: count,
                taken: Some(bytes as u64 / size.max(1) as u64),
            }),
        }
    }
}
