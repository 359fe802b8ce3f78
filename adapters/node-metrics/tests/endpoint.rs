//! What is served, over a real connection, while two nodes talk.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use node_metrics::recent::Recent;
use node_metrics::{Endpoint, names};
use transport::{MailboxOptions, Node, Overflow};
use transport_tcp::Tcp;

/// Longer than anything here takes, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The value of the figure with this name and all of these labels.
fn figure(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .find(|line| labels.iter().all(|label| line.contains(label)))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

#[test]
fn a_scrape_shows_links_mailboxes_waiting_times_dead_letters_and_events() {
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"node metrics, a shared secret")
            .transport(Tcp::new())
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start().unwrap();
    let a = node("a").start().unwrap();
    let (endpoint, at_sender) = (
        Endpoint::open(&b, "127.0.0.1:0").unwrap(),
        Endpoint::open(&a, "127.0.0.1:0").unwrap(),
    );
    let options = MailboxOptions {
        capacity: 4,
        overflow: Overflow::DropOldest,
        ..MailboxOptions::default()
    };
    let mut inbox = b.mailbox("inbox", options).unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let address = to_b.address("inbox").unwrap();
    let _other = b.mailbox("other", MailboxOptions::default()).unwrap();
    let _to_other = to_b.address("other").unwrap();
    for _ in 0..6 {
        address.try_send(b"a secret message").unwrap();
    }
    let start = Instant::now();
    let (metrics, recent) = loop {
        let (_, metrics) = get(endpoint.address(), "/metrics");
        let (head, recent) = get(endpoint.address(), "/recent");
        assert!(
            head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"),
            "{head}"
        );
        if figure(&metrics, names::DEPTH, &[r#"mailbox="inbox""#]) == Some(4.0) {
            break (metrics, recent);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{metrics}");
    };
    let is =
        |name, labels: &[&str], value| assert_eq!(figure(&metrics, name, labels), Some(value), "{metrics}");
    is(names::LINK, &[r#"peer="a""#, r#"transport="tcp""#], 1.0);
    is(names::LINK, &[r#"peer="a""#, r#"transport="rdma""#], 0.0);
    is(
        names::RECEIVED_MESSAGES,
        &[r#"mailbox="inbox""#, r#"protocol="raw bytes""#],
        6.0,
    );
    is(
        names::DEAD_LETTERS,
        &[r#"reason="mailbox full, oldest dropped""#],
        2.0,
    );
    is(names::EVENTS, &[r#"event="connected""#], 1.0);
    is(names::EVENTS, &[r#"event="resumed""#], 0.0);
    is(names::RECEIVED_FROM_PEER, &[r#"peer="a""#], 6.0);
    for name in [
        names::UPTIME,
        names::RECEIVED_BYTES,
        names::RING_FILL,
        names::HEARTBEATS,
        names::TAKEN_MESSAGES,
    ] {
        assert!(
            figure(&metrics, name, &[r#"node="b""#]).is_some(),
            "{name} in {metrics}"
        );
    }
    // Credits are known to who sends; without credit, where the oldest is dropped.
    let (_, sender) = get(at_sender.address(), "/metrics");
    let to_inbox = [r#"peer="b""#, r#"mailbox="inbox""#];
    assert_eq!(
        figure(&sender, names::SENT_MESSAGES, &to_inbox),
        Some(6.0),
        "{sender}"
    );
    let to_other = [r#"peer="b""#, r#"mailbox="other""#];
    assert_eq!(
        figure(&sender, names::CREDIT, &to_other),
        Some(1024.0),
        "{sender}"
    );
    assert!(figure(&metrics, names::SENT_BYTES, &[r#"lane="control""#]) > Some(0.0));
    let recent: Recent = serde_json::from_str(&recent).unwrap();
    assert_eq!(recent.dead_letters.len(), 2);
    assert_eq!(recent.dead_letters[0].from.as_deref(), Some("a"));
    assert!(recent.events[0].what.starts_with("a connected over tcp"));
    assert!(!metrics.contains("secret message"));

    // One message is timed for each tick of the coarse clock, and the first of these six was dropped.
    std::thread::sleep(Duration::from_millis(50));
    address.try_send(b"a secret message").unwrap();
    let received = || b.observer().observe().expect("it runs").peers[0].received;
    while received() < 7 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{} received",
            received()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    while inbox.try_recv().unwrap().is_some() {}
    let (_, metrics) = get(endpoint.address(), "/metrics");
    // It waited for 50 ms at least, as did any other that was timed.
    let below = |bound: &str| {
        let bound = format!(r#"le="{bound}""#);
        figure(
            &metrics,
            &format!("{}_bucket", names::WAITED),
            &[r#"mailbox="inbox""#, r#"protocol="raw bytes""#, &bound],
        )
    };
    assert!(
        below("0.02") == Some(0.0) && below("50") >= Some(1.0) && below("+Inf") == below("50"),
        "{metrics}"
    );
    assert!(get(endpoint.address(), "/elsewhere").0.contains("404"));
}

#[test]
fn a_name_with_quotes_line_breaks_and_escapes_does_no_harm_to_what_is_served() {
    let strange = "x\"} 1\ninjected 7\\\u{1b}[2J";
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"node metrics, a shared secret")
            .transport(Tcp::new())
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start().unwrap();
    let a = node(strange).start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let start = Instant::now();
    while b.peers().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1));
    }
    let endpoint = Endpoint::open(&b, "127.0.0.1:0").unwrap();
    let (_, metrics) = get(endpoint.address(), "/metrics");
    let of_peer: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{}{{", names::HEARTBEATS)))
        .collect();
    let [line] = of_peer[..] else {
        panic!("{of_peer:?}");
    };
    assert!(line.contains(r#"peer="x\"} 1\ninjected 7\\"#), "{line}");
    assert!(
        !metrics.lines().any(|line| line.starts_with("injected")),
        "{metrics}"
    );
    let (_, recent) = get(endpoint.address(), "/recent");
    let recent: Recent = serde_json::from_str(&recent).unwrap();
    assert!(recent.events[0].what.starts_with("x"), "{recent:?}");
    assert!(!recent.events[0].what.contains(char::is_control), "{recent:?}");
    drop(to_b);
}

/// An endpoint that is asked by strangers, and its node.
fn asked() -> (Node, Endpoint) {
    let node = Node::builder("asked")
        .secret(b"node metrics, a shared secret")
        .transport(Tcp::new());
    let node = node.start().unwrap();
    let endpoint = Endpoint::open(&node, "127.0.0.1:0").unwrap();
    (node, endpoint)
}

/// What `work` returns; it must not take forever.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result.recv_timeout(PATIENCE).expect(what)
}

#[test]
fn who_connects_and_asks_nothing_holds_up_nobody_for_long() {
    let (_node, endpoint) = asked();
    let address = endpoint.address();
    // As many as there are places, and more.
    let silent = || -> Vec<TcpStream> {
        let connections = (0..100).map(|_| TcpStream::connect(address));
        connections.collect::<Result<_, _>>().unwrap()
    };
    let first = silent();
    let (head, _) = in_time("others are answered", move || get(address, "/recent"));
    assert!(head.contains(" 200 "), "{head}");
    let more = silent();
    in_time("the endpoint ends", move || drop(endpoint));
    drop((first, more));
}

#[test]
fn a_connection_has_one_answer_however_much_it_asks() {
    let (_node, endpoint) = asked();
    let mut glutton = connect(endpoint.address());
    let requests = "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n".repeat(10_000);
    // Reset soon, as there is more to read.
    let _ = glutton.write_all(requests.as_bytes());
    let mut taken = Vec::new();
    let ended = glutton.read_to_end(&mut taken);
    let patient = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(!ended.is_err_and(patient), "it is still open");
    let taken = String::from_utf8_lossy(&taken);
    assert!(taken.matches("HTTP/1.1 200").count() <= 1, "{taken}");
    let address = endpoint.address();
    let (head, _) = in_time("others are answered", move || get(address, "/recent"));
    assert!(head.contains(" 200 "), "{head}");
    in_time("the endpoint ends", move || drop(endpoint));
}

#[test]
fn what_is_no_question_is_told_so() {
    let (_node, endpoint) = asked();
    let ask = |request: &str| {
        let mut stream = connect(endpoint.address());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    assert!(ask("no HTTP\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let head = ask("HEAD /recent?since=1 HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}
