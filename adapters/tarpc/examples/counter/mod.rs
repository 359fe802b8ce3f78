//! A service: what it promises, who keeps it, and how it is served and called on a node.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use tarpc::client::Config;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use transport::{Node, NodeError, Peer};

#[tarpc::service]
pub trait Counter {
    /// Adds to the count; answers what it is then.
    async fn add(amount: u64) -> u64;
    /// Answers the same.
    async fn echo(bytes: Vec<u8>) -> Vec<u8>;
    /// Never answers.
    async fn never();
}

#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Counter for Count {
    async fn add(self, _: Context, amount: u64) -> u64 {
        self.0.fetch_add(amount, Ordering::Relaxed) + amount
    }

    async fn echo(self, _: Context, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn never(self, _: Context) {
        std::future::pending().await
    }
}

/// Listens, and gives what serves one count to whoever connects, until the node is closed.
pub fn serve(node: &Node) -> Result<impl Future<Output = io::Result<()>> + use<>, NodeError> {
    let mut incoming = tarpc_transport::listen(node, Bincode::default)?;
    Ok(async move {
        let count = Count::default();
        while let Some(transport) = incoming.next().await {
            let requests = BaseChannel::with_defaults(transport?).execute(count.clone().serve());
            tokio::spawn(requests.for_each(|answer| async {
                tokio::spawn(answer);
            }));
        }
        Ok(())
    })
}

pub async fn client(peer: &Peer) -> io::Result<CounterClient> {
    let transport = tarpc_transport::connect(peer, Bincode::default).await?;
    Ok(CounterClient::new(Config::default(), transport).spawn())
}
