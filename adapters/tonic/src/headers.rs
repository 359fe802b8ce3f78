//! Which bytes of HTTP/2 say nothing without those that follow: headers whose body is yet to come. hyper writes the headers of a
//! call and its body apart, a few microseconds one after the other.
//!
//! Looked at from outside, so whatever is no whole number of frames, such as TLS, is taken for anything else.

/// A frame's header: length (3 bytes), type, flags, stream (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
/// The type of a frame with headers (RFC 9113, 6.2), and its flags: no more headers, and nothing more of this message.
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// Whether these are whole frames, the last of which has all headers of a message and nothing of its body.
pub(crate) fn begin_a_message(mut frames: &[u8]) -> bool {
    let mut begin = false;
    while let Some((header, rest)) = frames.split_first_chunk::<FRAME_HEADER>() {
        let &[high, middle, low, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let Some(rest) = rest.get(length..) else {
            return false;
        };
        begin = kind == HEADERS && flags & (END_HEADERS | END_STREAM) == END_HEADERS;
        frames = rest;
    }
    begin && frames.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn headers_without_their_body_begin_a_message() {
        let headers = frame(HEADERS, END_HEADERS, b"headers");
        let update = frame(8, 0, &[0, 0, 1, 0]);
        assert!(begin_a_message(&headers));
        assert!(begin_a_message(&[update, headers].concat()));
    }

    #[test]
    fn what_is_whole_is_data_or_is_cut_does_not() {
        let headers = frame(HEADERS, END_HEADERS, b"headers");
        let data = frame(0, END_STREAM, b"data");
        for bytes in [
            frame(HEADERS, END_HEADERS | END_STREAM, b"trailers"),
            frame(HEADERS, 0, b"more headers follow"),
            [headers.clone(), data].concat(),
            headers[..headers.len() - 1].to_vec(),
            [&headers[..], &headers[..8]].concat(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            vec![0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5],
            Vec::new(),
        ] {
            assert!(!begin_a_message(&bytes), "{bytes:02x?}");
        }
    }
}
