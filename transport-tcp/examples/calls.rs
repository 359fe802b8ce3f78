//! What a call between two tasks costs over a stream of ours and over a bare socket, both tasks on one thread, so that nothing
//! but the way itself is different: microseconds of a call, and under callgrind the instructions and the lines of code.
//!
//! `calls stream|socket [CALLS]`; `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*measured*' …` collects
//! the calls alone.

use std::error::Error;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use transport::stream::StreamOptions;
use transport::{Node, Peer};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"two ends of one process";
/// Bytes of a question, and of its answer; each behind its length, as actor runtimes send them.
const SIZE: usize = 64;

type Reader = Box<dyn AsyncRead + Unpin + Send>;
type Writer = Box<dyn AsyncWrite + Unpin + Send>;

/// One end of a way.
struct End {
    reader: Reader,
    writer: Writer,
    message: Vec<u8>,
}

impl End {
    fn new(
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
    ) -> End {
        End {
            reader: Box::new(reader),
            writer: Box::new(writer),
            message: Vec::new(),
        }
    }

    async fn say(&mut self) -> std::io::Result<()> {
        self.message.clear();
        self.message.extend_from_slice(&(SIZE as u64).to_be_bytes());
        self.message.resize(8 + SIZE, 0x5a);
        self.writer.write_all(&self.message).await?;
        self.writer.flush().await
    }

    async fn hear(&mut self) -> std::io::Result<()> {
        let len = self.reader.read_u64().await?;
        self.message.resize(len as usize, 0);
        self.reader.read_exact(&mut self.message).await?;
        Ok(())
    }

    async fn answer_for_ever(mut self) -> std::io::Result<()> {
        loop {
            self.hear().await?;
            self.say().await?;
        }
    }

    async fn call(&mut self, calls: usize) -> std::io::Result<()> {
        for _ in 0..calls {
            self.say().await?;
            self.hear().await?;
        }
        Ok(())
    }
}

async fn over_a_socket() -> Result<(End, End), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    let end = |socket: TcpStream| {
        socket.set_nodelay(true)?;
        let (reader, writer) = socket.into_split();
        std::io::Result::Ok(End::new(reader, writer))
    };
    Ok((end(near)?, end(far)?))
}

/// Nodes that live as long as the calls.
struct Nodes {
    _near: Node,
    _far: Node,
    _peer: Peer,
}

async fn over_a_stream() -> Result<(End, End, Nodes), Box<dyn Error>> {
    let node = |name| Node::builder(name).secret(SECRET).transport(Tcp::new());
    let far = node("far").listen("tcp://127.0.0.1:0").start_on_tokio()?;
    let mut listener = far.listen_streams("calls", StreamOptions::default())?;
    let near = node("near").start_on_tokio()?;
    let peer = near.connect_async(&far.addresses()[0]).await?;
    let (opened, accepted) = tokio::join!(
        peer.open_stream("calls", StreamOptions::default()),
        listener.accept_stream()
    );
    let (writer, reader) = opened?.split();
    let near_end = End::new(reader, writer);
    let (writer, reader) = accepted?.split();
    let nodes = Nodes {
        _near: near,
        _far: far,
        _peer: peer,
    };
    Ok((near_end, End::new(reader, writer), nodes))
}

#[inline(never)]
fn measured(runtime: &Runtime, end: &mut End, calls: usize) -> std::io::Result<()> {
    runtime.block_on(end.call(calls))
}

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "calls stream|socket [CALLS]";
    let mut arguments = std::env::args().skip(1);
    let way = arguments.next().ok_or(USAGE)?;
    let calls = arguments.next().map_or(Ok(20_000), |calls| calls.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut near, far, _nodes) = runtime.block_on(async {
        match way.as_str() {
            "socket" => over_a_socket().await.map(|(near, far)| (near, far, None)),
            "stream" => over_a_stream()
                .await
                .map(|(near, far, nodes)| (near, far, Some(nodes))),
            _ => Err(USAGE.into()),
        }
    })?;
    runtime.spawn(far.answer_for_ever());
    runtime.block_on(near.call(1_000))?;
    let start = Instant::now();
    measured(&runtime, &mut near, calls)?;
    let each = start.elapsed().as_secs_f64() * 1e6 / calls.max(1) as f64;
    println!("{way}: {each:.2} us a call");
    Ok(())
}
