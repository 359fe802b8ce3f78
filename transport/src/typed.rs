//! Typed mailboxes and addresses: a message type with a versioned protocol name and a codec, over the raw bytes of
//! [`crate::Mailbox`] and [`crate::Address`].
//!
//! The type is checked where the name is resolved, once for each peer, not at each message: a mailbox of another
//! protocol or version refuses, and the error names both. Sending encodes in place, into the slot claimed in the send ring.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use transport::typed::{Postcard, Protocol};
//! use transport::{MailboxOptions, Node};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! enum Greeting {
//!     Hello { name: String },
//!     Goodbye,
//! }
//!
//! impl Protocol for Greeting {
//!     const NAME: &'static str = "greeting";
//!     const VERSION: u16 = 1;
//!     type Codec = Postcard;
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder("alone").secret(b"at least sixteen bytes").start()?;
//! let mut greeter = node.typed_mailbox::<Greeting>("greeter", MailboxOptions::default())?;
//! let address = node.typed_address::<Greeting>("greeter")?; // or peer.typed_address, or node.resolve_typed(&reference)
//! address.send(&Greeting::Hello { name: "Ada".into() })?;
//! assert_eq!(greeter.recv()?.body, Greeting::Hello { name: "Ada".into() });
//! # Ok(())
//! # }
//! ```

mod address;
mod ask;
mod codec;
mod mailbox;
mod protocol;
mod reference;
mod traced;

pub use address::Address;
pub use ask::{Asker, Question};
pub use codec::{Codec, EncodeError, InPlace, Postcard, Raw, Undecodable};
pub use mailbox::{Mailbox, Message, RecvError};
pub use protocol::Protocol;
pub use reference::Reference;
pub use traced::Traced;
