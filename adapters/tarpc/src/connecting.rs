//! Connections that this node opens.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarpc::tokio_serde::{Deserializer, Serializer};
use tarpc::tokio_util::codec::{LengthDelimitedCodec, length_delimited};
use transport::Peer;
use transport::stream::StreamOptions;

use crate::{RingTransport, STREAMS};

/// How long a peer may take to answer that it takes a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a connection to whoever [listens](crate::listen) on the peer, for a generated client's `new`. `codec` makes what
/// turns messages into bytes, as for tarpc's own transports: both ends take the same.
///
/// # Errors
/// Nobody listens on the peer, its session is over, or it does not answer within 10 s.
pub async fn connect<Item, SinkItem, Codec>(
    peer: &Peer,
    codec: impl FnOnce() -> Codec,
) -> io::Result<RingTransport<Item, SinkItem, Codec>>
where
    Item: for<'de> Deserialize<'de>,
    SinkItem: Serialize,
    Codec: Serializer<SinkItem> + Deserializer<Item>,
{
    connect_with(peer, codec, &LengthDelimitedCodec::builder()).await
}

/// As [`connect`], where messages are told apart as `config` says: how long they may be, above all. Both ends take the same.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with<Item, SinkItem, Codec>(
    peer: &Peer,
    codec: impl FnOnce() -> Codec,
    config: &length_delimited::Builder,
) -> io::Result<RingTransport<Item, SinkItem, Codec>>
where
    Item: for<'de> Deserialize<'de>,
    SinkItem: Serialize,
    Codec: Serializer<SinkItem> + Deserializer<Item>,
{
    let opening = peer.open_stream(STREAMS, StreamOptions::default());
    let stream = tokio::time::timeout(PATIENCE, opening).await??;
    Ok(tarpc::serde_transport::new(config.new_framed(stream), codec()))
}
