//! Handing out what has arrived: frames from the receive rings to mailboxes, and control messages to the session.

use std::sync::Arc;
use std::time::Duration;

use crate::address::{Terms, correlation_in};
use crate::assembly::Progress;
use crate::breakage::{Breakage, is_broken};
use crate::chunk::{Chunk, ChunkError, MAX_CHUNK};
use crate::clock::Stamp;
use crate::control::Control;
use crate::dead_letter::Reason;
use crate::drive::Turn;
use crate::frame::{FrameError, Kind};
use crate::lane::{FrameEnd, Lane};
use crate::mailbox::{Direct, Lost, Message, Payload, Port};
use crate::peer::{Handles, PeerInner, Receive};
use crate::protocol::{self, Asked, Refusal};
use crate::questions::ANSWERS;
use crate::trace::{Tags, trace_in};

/// Mailboxes that one session may have resolved: one handle is kept for answers.
pub(crate) const MAX_PORTS: usize = ANSWERS as usize;

/// Hands out at most `limit` frames of each lane, and of the large lane no more than one chunk's worth. What there
/// was. The error says how the peer broke the protocol.
pub(crate) fn hand_out(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    direct: &mut Option<Direct<'_>>,
    limit: usize,
) -> Result<Turn, String> {
    receive.left_over = false;
    let mut any = hand_out_control(peer, receive, limit)?;
    if hand_out_ordinary(peer, receive, direct, limit)? {
        any = Turn::Moved;
    }
    let most = if limit == usize::MAX { limit } else { MAX_CHUNK };
    let mut handed = 0;
    while handed < most {
        let Some(size) = hand_out_chunk(peer, receive, direct)? else {
            break;
        };
        handed += size;
    }
    if !receive.closings.is_empty() {
        peer.tell_watchers(receive);
    }
    if receive.handles.any_forgetting() {
        peer.forget_handles(receive);
    }
    receive.left_over |= handed >= most;
    Ok(if handed > 0 { Turn::Moved } else { any })
}

/// Hands out at most `limit` frames of the control lane. What there was.
fn hand_out_control(peer: &Arc<PeerInner>, receive: &mut Receive, limit: usize) -> Result<Turn, String> {
    let mut any = Turn::Nothing;
    if receive.lanes.ring(Lane::Control).is_empty() {
        return Ok(any);
    }
    for handed in 0.. {
        if handed == limit {
            receive.left_over = true;
            break;
        }
        let Some(frame) = receive.lanes.ring(Lane::Control).peek().map_err(said)? else {
            break;
        };
        let size = frame.header.size();
        match frame.header.kind {
            Kind::Padding => any = Turn::Moved,
            Kind::Control => {
                let control = Control::decode(frame.body).map_err(|error| error.to_string())?;
                any = match (any, &control) {
                    (Turn::Nothing, Control::Heartbeat) => Turn::Upkeep,
                    (any, Control::Heartbeat) => any,
                    _ => Turn::Moved,
                };
                obey(peer, receive, control)?;
            }
            kind => return Err(misplaced(kind, Lane::Control)),
        }
        receive.lanes.ring(Lane::Control).consume(size);
    }
    Ok(any)
}

/// Hands out at most `limit` frames of the ordinary lane. Whether there was any.
fn hand_out_ordinary(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    direct: &mut Option<Direct<'_>>,
    limit: usize,
) -> Result<bool, String> {
    let Receive {
        lanes,
        handles,
        left_over,
        ..
    } = receive;
    let ring = lanes.ring(Lane::Ordinary);
    let (mut handed, mut at) = (0, None);
    while handed < limit {
        let Some(frame) = ring.peek().map_err(said)? else {
            break;
        };
        handed += 1;
        let size = frame.header.size();
        match frame.header.kind {
            Kind::Padding => {}
            Kind::Message => {
                let (extension, payload) = frame.parts();
                let correlation = correlation_in(frame.header.flags, extension);
                let handle = frame.header.mailbox;
                if handle == ANSWERS {
                    let number = correlation.ok_or("answer without a correlation id")?;
                    peer.node.take_answer(Some(peer), number, payload);
                } else {
                    let trace = trace_in(frame.header.flags, extension);
                    let len = payload.len();
                    let port = admit(handles, handle, len)?;
                    let tags = Tags {
                        correlation,
                        trace: trace.as_ref(),
                    };
                    let end = FrameEnd::new(Lane::Ordinary, frame.position + size as u64);
                    let arrived = Arrived { tags, end };
                    if !hand_over(peer, port, arrived, Payload::Lent(payload), direct, &mut at) {
                        let was_read = peer.reads_answer_too_late(port, payload);
                        ring.consume(size);
                        if !was_read {
                            arrived.nowhere(len, peer, port);
                        }
                        continue;
                    }
                }
            }
            kind => return Err(misplaced(kind, Lane::Ordinary)),
        }
        ring.consume(size);
    }
    *left_over |= handed == limit;
    Ok(handed > 0)
}

#[cold]
fn said(error: FrameError) -> String {
    error.to_string()
}

#[cold]
fn misplaced(kind: Kind, lane: Lane) -> String {
    format!("frame of kind {kind:?} on the {lane:?} lane")
}

/// Hands out the next frame of the large lane; `None` when there is none, or when it has to wait for the ordinary lane.
fn hand_out_chunk(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    direct: &mut Option<Direct<'_>>,
) -> Result<Option<usize>, String> {
    let Receive {
        lanes,
        handles,
        assembler,
        tell_large,
        ..
    } = receive;
    lanes.held_up = false;
    let ordinary = &lanes.rings[Lane::Ordinary.index()];
    let large = &lanes.rings[Lane::Large.index()];
    let Some(frame) = large.peek().map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let size = frame.header.size();
    let handle = frame.header.mailbox;
    match frame.header.kind {
        Kind::Padding => {}
        Kind::Chunk => {
            let end = FrameEnd::new(Lane::Large, frame.position + size as u64);
            let (extension, bytes) = frame.parts();
            let refused = |error: ChunkError| format!("mailbox handle {handle}: {error}");
            let chunk = Chunk::decode(frame.header.flags, extension, bytes.len()).map_err(refused)?;
            if chunk.is_last(bytes.len()) && chunk.after > ordinary.consumed() {
                // Further than the peer can have claimed, it would never be delivered.
                if chunk.after > ordinary.consumed() + ordinary.capacity() {
                    return Err(format!(
                        "message to be delivered after position {} of the ordinary lane, whose ring ends before",
                        chunk.after
                    ));
                }
                lanes.held_up = true;
                return Ok(None);
            }
            // Credit goes by messages: the first chunk uses it up, and an abandoned message gives it back as if it
            // had been taken.
            let port = if chunk.is_first() {
                admit(handles, handle, chunk.total as usize)?
            } else {
                known(handles, handle)?
            };
            let max = port.mailbox.options.max_message;
            let payload = match assembler.take(handle, &chunk, bytes, max).map_err(refused)? {
                Progress::Partial => None,
                Progress::Abandoned => {
                    port.give_up();
                    None
                }
                Progress::Single(bytes) => Some(Payload::Lent(bytes)),
                Progress::Whole(bytes) => Some(Payload::Whole(bytes)),
            };
            *tell_large |= chunk.tell;
            if let Some(payload) = payload {
                let len = payload.bytes().len();
                let tags = chunk.tags();
                let arrived = Arrived { tags, end };
                if !hand_over(peer, port, arrived, payload, direct, &mut None) {
                    lanes.ring(Lane::Large).consume(size);
                    arrived.nowhere(len, peer, port);
                    return Ok(Some(size));
                }
            }
        }
        kind => return Err(misplaced(kind, Lane::Large)),
    }
    lanes.ring(Lane::Large).consume(size);
    Ok(Some(size))
}

#[inline]
fn known(handles: &Handles, handle: u16) -> Result<&Arc<Port>, String> {
    handles.get(handle).ok_or_else(|| not_given_out(handle))
}

#[cold]
fn not_given_out(handle: u16) -> String {
    format!("message for handle {handle}, which is not given out")
}

/// Finds the mailbox of a message of `len` bytes and counts it against the sender's credit.
#[inline(always)]
fn admit(handles: &Handles, handle: u16, len: usize) -> Result<&Arc<Port>, String> {
    let port = known(handles, handle)?;
    if len > port.mailbox.options.max_message as usize {
        return Err(too_long(port, len));
    }
    if !port.receive() {
        return Err(beyond_credit(port));
    }
    Ok(port)
}

#[cold]
fn too_long(port: &Port, len: usize) -> String {
    format!(
        "message of {len} bytes for mailbox {:?}, which takes {}",
        port.mailbox.name, port.mailbox.options.max_message
    )
}

#[cold]
fn beyond_credit(port: &Port) -> String {
    format!(
        "message for mailbox {:?} beyond its credit of {}",
        port.mailbox.name,
        port.granted()
    )
}

/// A message that has arrived whole.
#[derive(Clone, Copy)]
struct Arrived<'t> {
    tags: Tags<'t>,
    /// Where its last frame ends.
    end: FrameEnd,
}

impl Arrived<'_> {
    /// Accounts for the message, of `len` bytes, when its mailbox did not take it and its frame has been consumed.
    #[cold]
    fn nowhere(self, len: usize, peer: &Arc<PeerInner>, port: &Arc<Port>) {
        if is_broken(Breakage::ForgetsUndelivered) {
            return;
        }
        // A dead letter here as well: the session may end before its sender is told. Of streams, both halves are told.
        let carries_stream = port.mailbox.name.starts_with(crate::stream::LISTENER);
        let lost = Lost {
            reason: Reason::MailboxClosed,
            from: port.sender(),
            correlation: self.tags.correlation,
            len,
            age: Some(Duration::ZERO),
        };
        if !carries_stream && !is_broken(Breakage::ForgetsLettersAtTheReceiver) {
            port.mailbox.report(lost);
        }
        peer.send_control(&Control::Undelivered {
            handle: port.handle,
            length: len as u32,
            waited: 0,
            correlation: self.tags.correlation.unwrap_or(0),
            lane: self.end.lane(),
            consumed: self.end.position(),
        });
    }
}

/// Hands a message to its mailbox, with the time at which it came, which is looked up where it is not known: not for one that
/// is lent, and never waits. False when the mailbox does not take it.
#[inline(always)]
fn hand_over(
    peer: &Arc<PeerInner>,
    port: &Arc<Port>,
    arrived: Arrived<'_>,
    payload: Payload<'_>,
    direct: &mut Option<Direct<'_>>,
    at: &mut Option<Stamp>,
) -> bool {
    let Arrived { tags, end } = arrived;
    if let Some(direct) = direct
        && Arc::ptr_eq(direct.mailbox, &port.mailbox)
        && direct.panic.is_none()
    {
        port.take();
        direct.lend(Message {
            payload: payload.bytes(),
            correlation: tags.correlation,
            trace: tags.trace,
            at: None,
            port: Some(port),
            node: &peer.node,
        });
        return true;
    }
    let at = *at.get_or_insert_with(Stamp::now);
    port.mailbox.deliver(port, tags, payload, at, end).is_ok()
}

fn obey(peer: &Arc<PeerInner>, receive: &mut Receive, control: Control) -> Result<(), String> {
    match control {
        Control::Resolve {
            request,
            name,
            protocol,
        } => {
            let answer = resolve(peer, receive, &name, protocol.as_ref(), request);
            let answer = answer.unwrap_or_else(|refusal| Control::Refused { request, refusal });
            peer.send_control(&answer);
        }
        Control::Resolved {
            request,
            handle,
            limit,
            overflow,
            max_message,
        } => {
            let carried = u16::try_from(handle).ok().filter(|handle| *handle != ANSWERS);
            let Some(handle) = carried else {
                return Err(format!("handle {handle}, which no message can carry"));
            };
            peer.handle_resolved(
                request,
                Ok(Terms {
                    handle,
                    limit,
                    overflow,
                    max_message,
                }),
            );
        }
        Control::Refused { request, refusal } => peer.handle_resolved(request, Err(refusal)),
        Control::Credit { handle, limit } => peer.handle_credit(handle, limit),
        Control::Closed {
            handle,
            ordinary,
            large,
        } => peer.handle_closed(receive, handle, ordinary, large),
        Control::Undelivered {
            handle,
            length,
            waited,
            correlation,
            lane,
            consumed,
        } => {
            // Acknowledged first: a message that was not delivered is a dead letter once, whatever comes of the session.
            if !is_broken(Breakage::UndeliveredAcknowledgesNothing) {
                peer.take_acknowledgement(receive, lane, consumed)?;
            }
            let waited = Duration::from_millis(u64::from(waited));
            peer.handle_undelivered(receive, handle, length, waited, correlation);
        }
        Control::Forget {
            handle,
            ordinary,
            large,
        } => {
            receive.handles.forget(handle, ordinary, large)?;
            peer.handle_forget_of_a_grant(handle);
        }
        Control::Forgotten {
            handle,
            ordinary,
            large,
        } => {
            // What is a dead letter from here on was not sent to this handle: its name is not needed.
            peer.take_acknowledgement(receive, Lane::Ordinary, ordinary)?;
            peer.take_acknowledgement(receive, Lane::Large, large)?;
            peer.handle_forgotten(handle);
        }
        Control::Heartbeat => receive.heartbeat = true,
        Control::Goodbye => peer.handle_goodbye(receive),
        Control::GoodbyeAcknowledged => peer.handle_goodbye_acknowledged(),
    }
    Ok(())
}

fn resolve(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    name: &str,
    asked: Option<&Asked>,
    request: u32,
) -> Result<Control, Refusal> {
    let mailbox = peer.node.find_mailbox(name).ok_or(Refusal::NoSuchMailbox)?;
    protocol::admit(mailbox.speaks.as_ref(), asked)?;
    let port = match mailbox.port_of(&peer.weak()) {
        Some(port) => port,
        None => {
            peer.free_handles(&mut receive.handles);
            if receive.handles.are_used_up() {
                return Err(Refusal::TooManyHandles);
            }
            receive.assembler.allow(mailbox.options.max_message);
            let open = |handle| mailbox.port(&peer.weak(), u32::from(handle));
            receive.handles.give(open).ok_or(Refusal::NoSuchMailbox)?
        }
    };
    Ok(Control::Resolved {
        request,
        handle: port.handle,
        limit: port.granted(),
        overflow: mailbox.options.overflow,
        max_message: mailbox.options.max_message,
    })
}
