//! gRPC between two processes: unary and streaming calls, the standard services, TLS on top, a server that is killed and one
//! that takes its place.

#[path = "../examples/echo/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the example")]
mod echo;

use std::sync::Arc;
use std::time::{Duration, Instant};

use echo::{EchoClient, EchoServer, Payload};
use tests::over::Over;
use tests::process::{OtherProcess, Role};
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_transport::{RingConnectInfo, RingConnector};

/// How long is waited for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn reflection()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap()
}

/// The other process: serves, and tells where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let over = Over::of(role.argument());
    let node = over
        .builder("server")
        .listen(role.argument())
        .start_on_tokio()
        .unwrap();
    let incoming = tonic_transport::incoming(&node).unwrap();
    let (health, service) = tonic_health::server::health_reporter();
    health.set_serving::<EchoServer>().await;
    role.tell(&node.addresses()[0]);
    Server::builder()
        .add_service(EchoServer)
        .add_service(service)
        .add_service(reflection())
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

fn channel(over: Over, address: &str) -> Channel {
    let node = Arc::new(
        over.builder("client")
            .wait(transport::Wait::default())
            .start_on_tokio()
            .unwrap(),
    );
    let connector = RingConnector::new(node, [address.to_owned()]);
    Endpoint::from_static("http://echo").connect_with_connector_lazy(connector)
}

async fn the_standard_services_answer(channel: Channel) {
    let service = || HealthCheckRequest {
        service: "echo.Echo".into(),
    };
    let mut health = HealthClient::new(channel.clone());
    let status = health.check(service()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let mut watch = health.watch(service()).await.unwrap().into_inner();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    assert!(
        services
            .service
            .iter()
            .any(|service| service.name == "grpc.health.v1.Health")
    );
}

async fn calls_streams_and_a_killed_server(over: Over) {
    let mut other = OtherProcess::start("serve_as_the_other_process", &over.free_address());
    let address = other.told();
    let channel = channel(over, &address);
    let mut client = EchoClient::new(channel.clone());
    for len in [0, 1, 1_000, 100_000, 3 << 20] {
        assert_eq!(client.once(Payload::of(len)).await.unwrap(), Payload::of(len));
    }
    let (count, len) = (1_000, 10_000);
    assert_eq!(client.stream_all(count, len).await.unwrap(), count * len);
    the_standard_services_answer(channel).await;
    let killed = Instant::now();
    other.kill();
    let error = client.once(Payload::of(1)).await.unwrap_err();
    println!("{}: {:?} after {:?}", over.name(), error.code(), killed.elapsed());
    assert!(killed.elapsed() < PATIENCE, "{error}");
    let _other = OtherProcess::start("serve_as_the_other_process", &address);
    assert_eq!(_other.told(), address);
    let back = Instant::now();
    while client.once(Payload::of(1)).await.is_err() {
        assert!(back.elapsed() < PATIENCE, "the channel stays broken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

tests::over_each_transport! { async calls_streams_and_a_killed_server }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_goes_on_top_and_a_client_that_trusts_nobody_is_refused() {
    // Another crate of the same build may bring another provider; then rustls wants to be told which.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let over = Over::Tcp;
    let certified = rcgen::generate_simple_self_signed(vec!["echo".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let node = over
        .builder("server")
        .listen(&over.free_address())
        .start_on_tokio()
        .unwrap();
    let incoming = tonic_transport::incoming(&node).unwrap();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&certificate, key));
    let server = Server::builder().tls_config(tls).unwrap().add_service(EchoServer);
    let serving = tokio::spawn(server.serve_with_incoming(incoming));
    let client_node = Arc::new(over.builder("client").start_on_tokio().unwrap());
    let connector = RingConnector::new(client_node, [node.addresses()[0].clone()]);
    let trusting = ClientTlsConfig::new()
        .domain_name("echo")
        .ca_certificate(Certificate::from_pem(&certificate));
    for (tls, trusted) in [
        (trusting, true),
        (ClientTlsConfig::new().domain_name("echo"), false),
    ] {
        let endpoint = Endpoint::from_static("https://echo").tls_config(tls).unwrap();
        let channel = endpoint.connect_with_connector_lazy(connector.clone());
        let answer = EchoClient::new(channel).once(Payload::of(100_000)).await;
        assert_eq!(answer.is_ok(), trusted, "{answer:?}");
    }
    serving.abort();
}

#[tokio::test]
async fn whoever_connects_to_a_server_that_says_nothing_holds_up_nobody_else() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let node = Arc::new(Over::Tcp.builder("client").start_on_tokio().unwrap());
    let connector = RingConnector::new(node, [address]);
    let start = Instant::now();
    // The first of them dials; each gives up long before the handshake does.
    for _ in 0..2 {
        let connecting = tokio::time::timeout(Duration::from_millis(100), connector.connect());
        assert!(connecting.await.is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_request_says_which_node_it_came_from() {
    let over = Over::Shm;
    let node = over
        .builder("server")
        .listen(&over.free_address())
        .start_on_tokio()
        .unwrap();
    let mut incoming = tonic_transport::incoming(&node).unwrap();
    let client = Arc::new(over.builder("client").start_on_tokio().unwrap());
    let connector = RingConnector::new(client, [node.addresses()[0].clone()]);
    let (connected, accepted) = tokio::join!(connector.connect(), incoming.next());
    connected.unwrap();
    let info = tonic::transport::server::Connected::connect_info(&accepted.unwrap().unwrap());
    let RingConnectInfo { node, link } = info;
    assert_eq!(node, "client");
    assert!(link.unwrap().starts_with("shm"));
}
