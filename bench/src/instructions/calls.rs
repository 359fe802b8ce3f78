//! Calls between two tasks on one thread, over a stream of ours and over a bare socket: a question and its answer, each a message
//! behind its length, as actor runtimes send them.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use transport::stream::StreamOptions;
use transport::{Node, NodeBuilder, Peer};
use transport_rdma::Shm;
use transport_tcp::Tcp;

use super::SIZE;
use super::work::{SECRET, TIMES, Way, without_deadlines};
use crate::error::{Error, doing, failed};

/// Calls before those that are counted.
const BEFORE: usize = 1_000;

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

/// Who asks, who answers, and what has to live as long as they do.
struct Ends {
    near: End,
    far: End,
    nodes: Option<(Node, Node, Peer)>,
}

async fn over_a_socket() -> std::io::Result<Ends> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    let end = |socket: TcpStream| {
        socket.set_nodelay(true)?;
        let (reader, writer) = socket.into_split();
        std::io::Result::Ok(End::new(reader, writer))
    };
    Ok(Ends {
        near: end(near)?,
        far: end(far)?,
        nodes: None,
    })
}

async fn over_a_stream(node: impl Fn(&str) -> NodeBuilder, listen: &str) -> Result<Ends, Error> {
    let far = node("far").listen(listen).start_on_tokio();
    let far = far.map_err(failed("starting the far node"))?;
    let mut listener = far
        .listen_streams("calls", StreamOptions::default())
        .map_err(failed("listening for streams"))?;
    let near = node("near").start_on_tokio();
    let near = near.map_err(failed("starting the near node"))?;
    let peer = near.connect_async(&far.addresses()[0]).await;
    let peer = peer.map_err(failed("connecting"))?;
    let (opened, accepted) = tokio::join!(
        peer.open_stream("calls", StreamOptions::default()),
        listener.accept_stream()
    );
    let (writer, reader) = opened.map_err(failed("opening a stream"))?.split();
    let near_end = End::new(reader, writer);
    let (writer, reader) = accepted.map_err(failed("accepting a stream"))?.split();
    Ok(Ends {
        near: near_end,
        far: End::new(reader, writer),
        nodes: Some((near, far, peer)),
    })
}

/// Calls [`TIMES`] times, and some times before.
pub(super) fn run(way: Way) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(doing("making a runtime"))?;
    let node = |name: &str| Node::builder(name).secret(SECRET).timing(without_deadlines());
    let ends = runtime.block_on(async {
        match way {
            Way::Socket => over_a_socket()
                .await
                .map_err(doing("making two ends of a socket")),
            Way::Tcp => over_a_stream(|name| node(name).transport(Tcp::new()), "tcp://127.0.0.1:0").await,
            Way::Shm => over_a_stream(|name| node(name).transport(Shm::new()), "shm://@").await,
            Way::Ring | Way::Rdma => Err(failed("calling")("calls are counted over socket, shm and tcp")),
        }
    })?;
    let Ends { mut near, far, nodes } = ends;
    runtime.spawn(far.answer_for_ever());
    runtime
        .block_on(near.call(BEFORE))
        .and_then(|()| counted_call(&runtime, &mut near))
        .map_err(doing("calling"))?;
    drop(nodes);
    Ok(())
}

#[inline(never)]
fn counted_call(runtime: &Runtime, near: &mut End) -> std::io::Result<()> {
    runtime.block_on(near.call(TIMES))
}
