//! A service that sends back what it gets, once or as a stream; its messages and its routes by hand, so that nothing has to be
//! generated.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: tonic::codegen::Bytes,
}

impl Payload {
    pub fn of(len: usize) -> Payload {
        Payload {
            data: vec![7; len].into(),
        }
    }
}

/// The server.
#[derive(Clone, Copy, Default)]
pub struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "echo.Echo";
}

impl UnaryService<Payload> for EchoServer {
    type Response = Payload;
    type Future = std::future::Ready<Result<Response<Payload>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl StreamingService<Payload> for EchoServer {
    type Response = Payload;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Payload>>) -> Self::Future {
        let stream: Self::ResponseStream = Box::pin(request.into_inner());
        std::future::ready(Ok(Response::new(stream)))
    }
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(match request.uri().path() {
                "/echo.Echo/Once" => grpc.unary(EchoServer, request).await,
                "/echo.Echo/Stream" => grpc.streaming(EchoServer, request).await,
                _ => Status::unimplemented("Once or Stream").into_http(),
            })
        })
    }
}

/// The client.
pub struct EchoClient(tonic::client::Grpc<Channel>);

impl EchoClient {
    pub fn new(channel: Channel) -> EchoClient {
        EchoClient(tonic::client::Grpc::new(channel))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }

    pub async fn once(&mut self, payload: Payload) -> Result<Payload, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/echo.Echo/Once");
        let answer = self
            .0
            .unary(Request::new(payload), path, ProstCodec::default())
            .await?;
        Ok(answer.into_inner())
    }

    pub async fn stream(
        &mut self,
        payloads: impl Stream<Item = Payload> + Send + 'static,
    ) -> Result<Streaming<Payload>, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/echo.Echo/Stream");
        let request = payloads.into_streaming_request();
        let answer = self.0.streaming(request, path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    /// Streams `count` payloads of `len` bytes and counts the bytes that come back.
    pub async fn stream_all(&mut self, count: usize, len: usize) -> Result<usize, Status> {
        let payload = Payload::of(len);
        let payloads = tokio_stream::iter(std::iter::repeat_n(payload, count));
        let mut answers = self.stream(payloads).await?;
        let mut bytes = 0;
        while let Some(answer) = answers.next().await {
            bytes += answer?.data.len();
        }
        Ok(bytes)
    }
}
