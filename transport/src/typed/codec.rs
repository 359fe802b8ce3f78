//! How a message becomes bytes, and bytes a message: `postcard` over `serde`, bytes as they are, or a view in place.
//!
//! Bytes come from a peer: decoding checks everything, never panics, and an error says what is wrong.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The message can't be written as bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message can't be encoded: {0}")]
pub struct EncodeError(pub String);

/// The bytes are no message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are no message of {protocol}: {cause}")]
pub struct Undecodable {
    /// The protocol's name.
    pub protocol: &'static str,
    /// How many bytes there were.
    pub len: usize,
    /// What is wrong with them.
    pub cause: String,
}

/// How messages of type `M` become bytes, and what a receiver is given of them.
pub trait Codec<M> {
    /// What a receiver is given: the message itself, or a view of the bytes where they lie.
    type View<'b>
    where
        M: 'b;

    /// Whether [`Codec::decode`] is sound on bytes that somebody may write to meanwhile, as those are that are lent from
    /// a ring that the peer's process maps. Otherwise they are copied first.
    const IN_PLACE: bool;

    /// How many bytes [`Codec::encode`] will write.
    ///
    /// # Errors
    /// [`EncodeError`] for a message that has no bytes.
    fn len(message: &M) -> Result<usize, EncodeError>;

    /// Writes the message into `slot`, which has as many bytes as [`Codec::len`] said, all zero.
    ///
    /// # Errors
    /// [`EncodeError`] when it does not fill the slot.
    fn encode(message: &M, slot: &mut [u8]) -> Result<(), EncodeError>;

    /// The message in `bytes`, or the reason why there is none.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn decode(bytes: &[u8]) -> Result<Self::View<'_>, String>;
}

/// [`postcard`](https://postcard.jamesmunns.com/wire-format) over `serde`: compact, self-delimiting, for any type that
/// derives `Serialize` and `Deserialize`. Receivers own what they get.
#[derive(Clone, Copy, Debug)]
pub struct Postcard;

impl<M: Serialize + DeserializeOwned> Codec<M> for Postcard {
    type View<'b>
        = M
    where
        M: 'b;

    // A `str` is checked and then copied: what is written in between would not have been checked.
    const IN_PLACE: bool = false;

    fn len(message: &M) -> Result<usize, EncodeError> {
        postcard::experimental::serialized_size(message).map_err(|error| EncodeError(error.to_string()))
    }

    fn encode(message: &M, slot: &mut [u8]) -> Result<(), EncodeError> {
        let len = slot.len();
        let written = postcard::to_slice(message, slot).map_err(|error| EncodeError(error.to_string()))?;
        if written.len() == len {
            Ok(())
        } else {
            Err(EncodeError(format!(
                "serialized twice, it took {len} bytes and then {}",
                written.len()
            )))
        }
    }

    fn decode(bytes: &[u8]) -> Result<M, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Ok(message),
            Ok((_, rest)) => Err(format!("{} bytes follow its end", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Bytes as they are, for types that are bytes already. Receivers get a slice.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl<M: AsRef<[u8]>> Codec<M> for Raw {
    type View<'b>
        = &'b [u8]
    where
        M: 'b;

    const IN_PLACE: bool = true;

    fn len(message: &M) -> Result<usize, EncodeError> {
        Ok(message.as_ref().len())
    }

    fn encode(message: &M, slot: &mut [u8]) -> Result<(), EncodeError> {
        let bytes = message.as_ref();
        if bytes.len() != slot.len() {
            return Err(EncodeError("its length changed while it was sent".into()));
        }
        slot.copy_from_slice(bytes);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<&[u8], String> {
        Ok(bytes)
    }
}

/// The bytes of a type of fixed layout, for which any bytes of the right number are a value: `zerocopy`'s `FromBytes`,
/// with fields from `zerocopy::byteorder` so that it needs no alignment. Receivers get a reference to where the bytes lie.
#[derive(Clone, Copy, Debug)]
pub struct InPlace;

impl<M: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Codec<M> for InPlace {
    type View<'b>
        = &'b M
    where
        M: 'b;

    const IN_PLACE: bool = true;

    fn len(_: &M) -> Result<usize, EncodeError> {
        Ok(size_of::<M>())
    }

    fn encode(message: &M, slot: &mut [u8]) -> Result<(), EncodeError> {
        slot.copy_from_slice(message.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<&M, String> {
        M::ref_from_bytes(bytes).map_err(|_| format!("it has {} bytes", size_of::<M>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Word {
        Said { who: String, times: Vec<u32> },
        Silence,
    }

    #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    #[repr(C)]
    struct Tick {
        at: zerocopy::byteorder::little_endian::U64,
        price: zerocopy::byteorder::little_endian::U32,
    }

    fn round_trip<M, C: Codec<M>>(message: &M) -> Vec<u8> {
        let mut slot = vec![0; C::len(message).unwrap()];
        C::encode(message, &mut slot).unwrap();
        slot
    }

    #[test]
    fn what_was_encoded_is_decoded_and_every_truncation_and_extra_byte_is_an_error() {
        let word = Word::Said {
            who: "Ada".into(),
            times: vec![1, 70_000],
        };
        let mut bytes = round_trip::<_, Postcard>(&word);
        for len in 0..bytes.len() {
            assert!(<Postcard as Codec<Word>>::decode(&bytes[..len]).is_err());
        }
        assert_eq!(<Postcard as Codec<Word>>::decode(&bytes), Ok(word));
        bytes.push(0);
        assert_eq!(
            <Postcard as Codec<Word>>::decode(&bytes),
            Err("1 bytes follow its end".into())
        );
    }

    #[test]
    fn a_length_that_the_bytes_do_not_hold_allocates_nothing_of_that_size() {
        // Variant 0, a text of 2^63 bytes.
        let hostile = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(<Postcard as Codec<Word>>::decode(&hostile).is_err());
    }

    #[test]
    fn a_view_is_the_bytes_themselves_wherever_they_lie() {
        let tick = Tick {
            at: 7.into(),
            price: 9.into(),
        };
        let mut bytes = vec![0xee];
        bytes.extend(round_trip::<_, InPlace>(&tick));
        let view = <InPlace as Codec<Tick>>::decode(&bytes[1..]).unwrap();
        assert!(*view == tick && std::ptr::eq(std::ptr::from_ref(view).cast(), &raw const bytes[1]));
        assert!(<InPlace as Codec<Tick>>::decode(&bytes).is_err());
    }
}
