//! Handing out what has arrived: frames from the receive rings to mailboxes, and control messages to the session.

use std::sync::Arc;
use std::time::Duration;

use crate::address::{Terms, correlation_in};
use crate::breakage::{Breakage, is_broken};
use crate::chunk::{Chunk, ChunkError, MAX_CHUNK, Progress};
use crate::clock::Stamp;
use crate::control::Control;
use crate::dead_letter::Reason;
use crate::drive::Turn;
use crate::frame::Kind;
use crate::lane::{FrameEnd, Lane};
use crate::mailbox::{Direct, Lost, Message, Payload, Port};
use crate::peer::{PeerInner, Receive};
use crate::protocol::{self, Asked, Refusal};
use crate::questions::ANSWERS;

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
    let mut any = Turn::Nothing;
    let mut at = None;
    receive.left_over = false;
    for lane in [Lane::Control, Lane::Ordinary] {
        for handed in 0.. {
            if handed == limit {
                receive.left_over = true;
                break;
            }
            let Some(frame) = receive.lanes.rings[lane.index()]
                .peek()
                .map_err(|error| error.to_string())?
            else {
                break;
            };
            let mut undelivered = None;
            let size = frame.header.size();
            match frame.header.kind {
                Kind::Padding => any = Turn::Moved,
                Kind::Message if lane == Lane::Ordinary => {
                    any = Turn::Moved;
                    let (extension, payload) = frame.parts();
                    let correlation = correlation_in(frame.header.flags, extension);
                    let handle = frame.header.mailbox;
                    if handle == ANSWERS {
                        let number = correlation.ok_or("answer without a correlation id")?;
                        peer.node.take_answer(Some(peer), number, payload);
                    } else {
                        let at = *at.get_or_insert_with(Stamp::now);
                        let port = admit(&receive.ports, handle, payload.len())?;
                        let end = FrameEnd::new(lane, frame.position + size as u64);
                        undelivered =
                            hand_over(peer, port, correlation, Payload::Lent(payload), (at, end), direct);
                    }
                }
                Kind::Control if lane == Lane::Control => {
                    let control = Control::decode(frame.body).map_err(|error| error.to_string())?;
                    any = match (any, &control) {
                        (Turn::Nothing, Control::Heartbeat) => Turn::Upkeep,
                        (any, Control::Heartbeat) => any,
                        _ => Turn::Moved,
                    };
                    obey(peer, receive, control)?;
                }
                kind => return Err(format!("frame of kind {kind:?} on the {lane:?} lane")),
            }
            receive.lanes.rings[lane.index()].consume(size);
            if let Some(undelivered) = undelivered {
                peer.send_control(&undelivered);
            }
        }
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
    receive.left_over |= handed >= most;
    Ok(if handed > 0 { Turn::Moved } else { any })
}

/// Hands out the next frame of the large lane; `None` when there is none, or when it has to wait for the ordinary lane.
fn hand_out_chunk(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    direct: &mut Option<Direct<'_>>,
) -> Result<Option<usize>, String> {
    let Receive {
        lanes,
        ports,
        assembler,
        tell_large,
        ..
    } = receive;
    let ordinary = &lanes.rings[Lane::Ordinary.index()];
    let large = &lanes.rings[Lane::Large.index()];
    let Some(frame) = large.peek().map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let size = frame.header.size();
    let handle = frame.header.mailbox;
    let mut undelivered = None;
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
                return Ok(None);
            }
            // Credit goes by messages: the first chunk uses it up, and an abandoned message gives it back as if it
            // had been taken.
            let port = if chunk.is_first() {
                admit(ports, handle, chunk.total as usize)?
            } else {
                known(ports, handle)?
            };
            let max = port.mailbox.options.max_message;
            match assembler.take(handle, &chunk, bytes, max).map_err(refused)? {
                Progress::Partial => {}
                Progress::Abandoned => port.give_up(),
                Progress::Single(bytes) => {
                    undelivered = hand_over(
                        peer,
                        port,
                        chunk.correlation,
                        Payload::Lent(bytes),
                        (Stamp::now(), end),
                        direct,
                    );
                }
                Progress::Whole(bytes) => {
                    undelivered = hand_over(
                        peer,
                        port,
                        chunk.correlation,
                        Payload::Whole(bytes),
                        (Stamp::now(), end),
                        direct,
                    );
                }
            }
            *tell_large |= chunk.tell;
        }
        kind => return Err(format!("frame of kind {kind:?} on the large lane")),
    }
    lanes.ring(Lane::Large).consume(size);
    if let Some(undelivered) = undelivered {
        peer.send_control(&undelivered);
    }
    Ok(Some(size))
}

fn known(ports: &[Arc<Port>], handle: u16) -> Result<&Arc<Port>, String> {
    ports
        .get(usize::from(handle))
        .ok_or_else(|| format!("message for handle {handle}, which was never given out"))
}

/// Finds the mailbox of a message of `len` bytes and counts it against the sender's credit.
#[inline]
fn admit(ports: &[Arc<Port>], handle: u16, len: usize) -> Result<&Arc<Port>, String> {
    let port = known(ports, handle)?;
    let max = port.mailbox.options.max_message as usize;
    if len > max {
        return Err(format!(
            "message of {len} bytes for mailbox {:?}, which takes {max}",
            port.mailbox.name
        ));
    }
    if !port.receive() {
        return Err(format!(
            "message for mailbox {:?} beyond its credit of {}",
            port.mailbox.name,
            port.granted()
        ));
    }
    Ok(port)
}

/// Hands a message to its mailbox. Returns what its sender is to be told, once the frame has been consumed, if the mailbox
/// does not take it.
#[inline]
fn hand_over(
    peer: &Arc<PeerInner>,
    port: &Arc<Port>,
    correlation: Option<u64>,
    payload: Payload<'_>,
    (at, end): (Stamp, FrameEnd),
    direct: &mut Option<Direct<'_>>,
) -> Option<Control> {
    if let Some(direct) = direct
        && Arc::ptr_eq(direct.mailbox, &port.mailbox)
        && direct.panic.is_none()
    {
        port.take();
        let message = Message {
            payload: payload.bytes(),
            correlation,
            at,
            port: Some(port),
            node: &peer.node,
        };
        direct.lend(message);
        return None;
    }
    let length = payload.bytes().len() as u32;
    if port.mailbox.deliver(port, correlation, payload, at, end).is_ok() {
        return None;
    }
    if is_broken(Breakage::ForgetsUndelivered) {
        return None;
    }
    // A dead letter here as well: the session may end before its sender is told.
    let lost = Lost {
        reason: Reason::MailboxClosed,
        from: port.sender(),
        correlation,
        len: length as usize,
        age: Some(at.age()),
    };
    if !is_broken(Breakage::ForgetsLettersAtTheReceiver) {
        port.mailbox.report(lost);
    }
    Some(Control::Undelivered {
        handle: port.handle,
        length,
        waited: 0,
        correlation: correlation.unwrap_or(0),
        lane: end.lane(),
        consumed: end.position(),
    })
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
            peer.handle_undelivered(handle, length, waited, correlation);
        }
        Control::Heartbeat => {}
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
    let known = receive
        .ports
        .iter()
        .find(|port| Arc::ptr_eq(&port.mailbox, &mailbox));
    let port = match known {
        Some(port) => port.clone(),
        None if receive.ports.len() < MAX_PORTS => {
            let port = mailbox
                .port(&peer.weak(), receive.ports.len() as u32)
                .ok_or(Refusal::NoSuchMailbox)?;
            receive.ports.push(port.clone());
            receive.assembler.allow(mailbox.options.max_message);
            port
        }
        None => return Err(Refusal::TooManyHandles),
    };
    Ok(Control::Resolved {
        request,
        handle: port.handle,
        limit: port.granted(),
        overflow: mailbox.options.overflow,
        max_message: mailbox.options.max_message,
    })
}
