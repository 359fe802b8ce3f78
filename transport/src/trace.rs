//! Trace context: which span of a distributed trace a message was sent in. See `docs/PROTOCOL.md`, "Trace context".
//!
//! The identifiers are those of [W3C Trace Context](https://www.w3.org/TR/trace-context/). The transport carries them in the
//! frame and hands them to the receiver; it makes no spans and no traces. A message without one costs nothing for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::address::{Address, FLAG_CORRELATION, SendError};
use crate::questions::AskError;

/// Flag of a message frame whose extension holds a trace context, behind the correlation id if there is one.
pub const FLAG_TRACE: u8 = 2;
/// Bytes of a trace context in an extension.
pub const ENCODED: usize = 25;

/// Byte ranges of an encoded trace context.
mod field {
    use std::ops::Range;

    pub(super) const TRACE_ID: Range<usize> = 0..16;
    pub(super) const SPAN_ID: Range<usize> = 16..24;
    pub(super) const FLAGS: usize = 24;
}

/// A span of a distributed trace, as W3C Trace Context identifies it. Neither id is all zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// The flag of a trace that is recorded.
    pub const SAMPLED: u8 = 1;

    /// The span `span_id` of the trace `trace_id`, with the trace's flags. `None` when either id is all zeroes, which W3C
    /// calls invalid.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<TraceContext> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(TraceContext {
            trace_id,
            span_id,
            flags,
        })
    }

    /// The trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span of the trace.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The trace's flags; [`TraceContext::SAMPLED`] is the one that W3C defines.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & TraceContext::SAMPLED != 0
    }

    #[cold]
    fn encode(&self, bytes: &mut [u8]) {
        bytes[field::TRACE_ID].copy_from_slice(&self.trace_id);
        bytes[field::SPAN_ID].copy_from_slice(&self.span_id);
        bytes[field::FLAGS] = self.flags;
    }

    fn decode(bytes: &[u8; ENCODED]) -> Option<TraceContext> {
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        TraceContext::new(*trace_id, *span_id, *rest.first()?)
    }
}

/// The trace context behind the correlation id in a message's extension, if `flags` announce one, it is whole, and neither of
/// its ids is all zeroes.
#[inline]
pub(crate) fn trace_in(flags: u8, extension: &[u8]) -> Option<TraceContext> {
    if flags & FLAG_TRACE == 0 {
        return None;
    }
    let before = if flags & FLAG_CORRELATION == 0 { 0 } else { 8 };
    read(extension, before)
}

/// The trace context at `start` of an extension.
#[cold]
pub(crate) fn read(extension: &[u8], start: usize) -> Option<TraceContext> {
    TraceContext::decode(extension.get(start..)?.first_chunk()?)
}

/// Text of W3C's `traceparent`: `00-trace id-span id-flags`, in hexadecimal.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (
            u128::from_be_bytes(self.trace_id),
            u64::from_be_bytes(self.span_id),
        );
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

/// The text is no `traceparent` of version 00: two hexadecimal digits, 32, 16 and 2, in lower case, with `-` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no traceparent: write 00-<32 digits>-<16 digits>-<2 digits>, in hexadecimal, the ids not all zeroes"
)]
pub struct NoTraceParent;

impl FromStr for TraceContext {
    type Err = NoTraceParent;

    /// # Errors
    /// [`NoTraceParent`] for text that is none, or of another version than 00.
    fn from_str(text: &str) -> Result<TraceContext, NoTraceParent> {
        fn number(text: &str, digits: usize) -> Option<u128> {
            let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if text.len() != digits || !text.bytes().all(hexadecimal) {
                return None;
            }
            u128::from_str_radix(text, 16).ok()
        }
        let parse = || {
            let mut parts = text.split('-');
            if parts.next()? != "00" {
                return None;
            }
            let trace_id = number(parts.next()?, 32)?;
            let span_id = number(parts.next()?, 16)? as u64;
            let flags = number(parts.next()?, 2)? as u8;
            if parts.next().is_some() {
                return None;
            }
            TraceContext::new(trace_id.to_be_bytes(), span_id.to_be_bytes(), flags)
        };
        parse().ok_or(NoTraceParent)
    }
}

/// What a message is sent with. As a type, so that the way of a message without a trace context is compiled for itself.
pub(crate) trait Tagged: Copy {
    fn tags(&self) -> Tags<'_>;

    /// What of it a peer can read, which does or does not read trace contexts.
    fn understood(self, reads_traces: impl FnOnce() -> bool) -> Self;
}

/// A correlation id, if any, and no trace context.
impl Tagged for Option<u64> {
    #[inline]
    fn tags(&self) -> Tags<'_> {
        Tags {
            correlation: *self,
            trace: None,
        }
    }

    #[inline]
    fn understood(self, _reads_traces: impl FnOnce() -> bool) -> Option<u64> {
        self
    }
}

impl Tagged for Tags<'_> {
    fn tags(&self) -> Tags<'_> {
        *self
    }

    fn understood(self, reads_traces: impl FnOnce() -> bool) -> Self {
        Tags {
            trace: self.trace.filter(|_| reads_traces()),
            ..self
        }
    }
}

/// What travels with a message beside its bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tags<'t> {
    pub(crate) correlation: Option<u64>,
    pub(crate) trace: Option<&'t TraceContext>,
}

impl Tags<'_> {
    /// The most that tags take in an extension.
    pub(crate) const LONGEST: usize = 8 + ENCODED;

    /// Whether there are none.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take in an extension.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        (if self.correlation.is_some() { 8 } else { 0 }) + if self.trace.is_some() { ENCODED } else { 0 }
    }

    /// The flags of a message frame with them.
    #[inline]
    pub(crate) const fn flags(&self) -> u8 {
        (if self.correlation.is_some() {
            FLAG_CORRELATION
        } else {
            0
        }) | if self.trace.is_some() { FLAG_TRACE } else { 0 }
    }

    /// Writes them into their [`Tags::len`] bytes of an extension.
    #[inline]
    pub(crate) fn encode(&self, mut extension: &mut [u8]) {
        if let Some(correlation) = self.correlation {
            extension[..8].copy_from_slice(&correlation.to_le_bytes());
            extension = &mut extension[8..];
        }
        if let Some(trace) = self.trace {
            trace.encode(extension);
        }
    }
}

/// An address through which messages are sent in a span: [`Address::traced`].
#[derive(Clone, Copy, Debug)]
pub struct Traced<'a> {
    address: &'a Address,
    context: Option<TraceContext>,
}

impl Address {
    /// This address, for messages that carry a trace context; with `None`, for ordinary ones. A peer that does not know
    /// trace contexts is sent none.
    pub fn traced(&self, context: impl Into<Option<TraceContext>>) -> Traced<'_> {
        Traced {
            address: self,
            context: context.into(),
        }
    }
}

impl Traced<'_> {
    fn tags(&self, correlation: Option<u64>) -> Tags<'_> {
        Tags {
            correlation,
            trace: self.context.as_ref(),
        }
    }

    /// As [`Address::try_send`].
    ///
    /// # Errors
    /// As [`Address::try_send`].
    pub fn try_send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.try_send_with(payload, None)
    }

    /// As [`Address::try_send_with`].
    ///
    /// # Errors
    /// As [`Address::try_send`].
    pub fn try_send_with(&self, payload: &[u8], correlation: Option<u64>) -> Result<(), SendError> {
        self.address.try_send_tagged(payload, self.tags(correlation))
    }

    /// As [`Address::send`].
    ///
    /// # Errors
    /// As [`Address::send`].
    pub fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.address.send_until(payload, self.tags(None), None)
    }

    /// As [`Address::send_timeout`].
    ///
    /// # Errors
    /// As [`Address::send_timeout`].
    pub fn send_timeout(
        &self,
        payload: &[u8],
        correlation: Option<u64>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        let tags = self.tags(correlation);
        self.address.send_until(payload, tags, Some(timeout))
    }

    /// As [`Address::send_async`].
    ///
    /// # Errors
    /// As [`Address::send_async`].
    pub async fn send_async(&self, payload: &[u8]) -> Result<(), SendError> {
        self.address.send_tagged(payload, self.tags(None)).await
    }

    /// As [`Address::ask`]: the question carries the context.
    ///
    /// # Errors
    /// As [`Address::ask`].
    pub fn ask(&self, question: &[u8], timeout: Duration) -> Result<Vec<u8>, AskError> {
        self.address
            .ask_with(timeout, |number| self.try_send_with(question, Some(number)))
    }

    /// As [`Address::ask_async`]: the question carries the context.
    ///
    /// # Errors
    /// As [`Address::ask_async`].
    pub async fn ask_async(&self, question: &[u8], timeout: Duration) -> Result<Vec<u8>, AskError> {
        self.address
            .ask_with_async(timeout, |number| self.try_send_with(question, Some(number)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_it_was_and_anything_else_is_refused() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert!(context.to_string() == PARENT && context.is_sampled());
        for wrong in [
            "",
            "00",
            &PARENT.replace("00-4", "01-4"),
            &PARENT.to_uppercase(),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("00f0", "+0f0"),
            &format!("{PARENT}-"),
            &PARENT[..PARENT.len() - 1],
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(NoTraceParent), "{wrong}");
        }
    }

    #[test]
    fn tags_are_found_in_the_extension_and_one_that_is_cut_short_is_none() {
        let context: TraceContext = PARENT.parse().unwrap();
        for correlation in [None, Some(7)] {
            let tags = Tags {
                correlation,
                trace: Some(&context),
            };
            let mut extension = vec![0; tags.len()];
            tags.encode(&mut extension);
            assert_eq!(trace_in(tags.flags(), &extension), Some(context));
            assert_eq!(
                crate::address::correlation_in(tags.flags(), &extension),
                correlation
            );
            for len in 0..extension.len() {
                assert_eq!(trace_in(tags.flags(), &extension[..len]), None);
            }
            assert_eq!(trace_in(tags.flags() & !FLAG_TRACE, &extension), None);
        }
        assert_eq!(trace_in(FLAG_TRACE, &[0; ENCODED]), None);
    }

    #[test]
    fn a_message_with_a_trace_context_is_the_golden_bytes_of_the_document() {
        use crate::frame::{Integrity, Kind, golden};
        use crate::memory::RingMemory;
        use crate::ring::SendRing;

        let integrity = Integrity::salted(0x0102_0304_0506_0708);
        let ring = SendRing::new(RingMemory::anonymous(4096).unwrap(), integrity);
        let context: TraceContext = PARENT.parse().unwrap();
        let tags = Tags {
            correlation: Some(0x1122_3344_5566_7788),
            trace: Some(&context),
        };
        let mut claim = ring.claim(tags.len() + 5).unwrap();
        let (extension, payload) = claim.body().split_at_mut(tags.len());
        tags.encode(extension);
        payload.copy_from_slice(b"hello");
        claim.commit(Kind::Message, tags.flags(), tags.len() as u8, 7);
        let bytes = ring.span(0, ring.claimed())[0];
        assert!(golden::is_in_the_document(bytes), "{bytes:02x?}");
    }
}
