//! Handing out what has arrived: frames from the receive rings to mailboxes, and control messages to the session.

use std::sync::Arc;

use crate::address::{Terms, correlation_in};
use crate::control::Control;
use crate::frame::Kind;
use crate::lane::Lane;
use crate::mailbox::{Direct, Message};
use crate::peer::{PeerInner, Receive};
use crate::protocol::{self, Asked, Refusal};

/// Mailboxes that one session may have resolved.
const MAX_PORTS: usize = 64 << 10;

/// Hands out at most `limit` frames of each lane. Whether there were any. The error says how the peer broke the
/// protocol.
pub(crate) fn hand_out(
    peer: &Arc<PeerInner>,
    receive: &mut Receive,
    direct: &mut Option<Direct<'_>>,
    limit: usize,
) -> Result<bool, String> {
    let mut any = false;
    for lane in Lane::ALL {
        for _ in 0..limit {
            let Some(frame) = receive.lanes.rings[lane.index()]
                .peek()
                .map_err(|error| error.to_string())?
            else {
                break;
            };
            any = true;
            let size = frame.header.size();
            match frame.header.kind {
                Kind::Padding => {}
                Kind::Message => {
                    let (extension, payload) = frame.parts();
                    let correlation = correlation_in(frame.header.flags, extension);
                    deliver(
                        peer,
                        &receive.ports,
                        u32::from(frame.header.mailbox),
                        correlation,
                        payload,
                        direct,
                    )?;
                }
                Kind::Control if lane == Lane::Control => {
                    let control = Control::decode(frame.body).map_err(|error| error.to_string())?;
                    obey(peer, receive, control)?;
                }
                Kind::Control | Kind::Chunk => {
                    return Err(format!(
                        "frame of kind {:?} on the {lane:?} lane",
                        frame.header.kind
                    ));
                }
            }
            receive.lanes.rings[lane.index()].consume(size);
        }
    }
    Ok(any)
}

fn deliver(
    peer: &Arc<PeerInner>,
    ports: &[Arc<crate::mailbox::Port>],
    handle: u32,
    correlation: Option<u64>,
    payload: &[u8],
    direct: &mut Option<Direct<'_>>,
) -> Result<(), String> {
    let Some(port) = ports.get(handle as usize) else {
        return Err(format!("message for handle {handle}, which was never given out"));
    };
    let max = port.mailbox.options.max_message as usize;
    if payload.len() > max {
        return Err(format!(
            "message of {} bytes for mailbox {:?}, which takes {max}",
            payload.len(),
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
    if let Some(direct) = direct
        && Arc::ptr_eq(direct.mailbox, &port.mailbox)
    {
        port.take();
        (direct.handle)(Message {
            payload,
            correlation,
            port: Some(port),
        });
        return Ok(());
    }
    if port.mailbox.deliver(port, correlation, payload).is_err() {
        let length = payload.len() as u32;
        peer.send_control(&Control::Undelivered {
            handle,
            length,
            correlation: correlation.unwrap_or(0),
        });
    }
    Ok(())
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
            let Ok(handle) = u16::try_from(handle) else {
                return Err(format!("handle {handle}, which no frame can carry"));
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
        Control::Closed { handle } => peer.handle_closed(handle),
        Control::Undelivered {
            handle,
            length,
            correlation,
        } => peer.handle_undelivered(handle, length, correlation),
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
