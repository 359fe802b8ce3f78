//! Fixed-width little-endian bytes of handshake and control messages.
//!
//! Reading never panics and never reads past its input; every length is checked before anything is taken.

/// The message ends before its last field, or goes on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches past the end.
    #[error("message ends {missing} bytes before the end of its fields")]
    Truncated {
        /// How many bytes are lacking.
        missing: usize,
    },
    /// Bytes follow the last field.
    #[error("{extra} bytes follow the end of the message")]
    Trailing {
        /// How many bytes are too many.
        extra: usize,
    },
    /// A field has a value that this version does not know.
    #[error("{field} has the unknown value {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// A name is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
}

/// Takes fields off the front of a message.
pub struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn bytes(&mut self, len: usize) -> Result<&'b [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(DecodeError::Truncated {
                missing: len - self.bytes.len(),
            });
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[allow(missing_docs)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes, little-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A u8 length and as many bytes of UTF-8.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]; [`DecodeError::NotText`], which names `field`.
    pub fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let len = usize::from(self.u8()?);
        // Copied before it is checked: a peer that shares the memory may write to it in between.
        let bytes = self.bytes(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| DecodeError::NotText { field })
    }

    /// A u16 length and as many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn blob(&mut self) -> Result<&'b [u8], DecodeError> {
        let len = usize::from(self.u16()?);
        self.bytes(len)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

/// Appends fields to a message.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty message.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty message that takes the memory of an earlier one.
    pub fn reusing(mut bytes: Vec<u8>) -> Writer {
        bytes.clear();
        Writer { bytes }
    }

    /// Appends bytes as they are; integers as `value.to_le_bytes()`.
    pub fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a u8 length and the text, cut to 255 bytes at a character boundary.
    pub fn text(self, text: &str) -> Writer {
        let mut len = text.len().min(255);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.bytes(&[len as u8]).bytes(&text.as_bytes()[..len])
    }

    /// Appends a u16 length and the bytes.
    ///
    /// # Panics
    /// When there are more than 65,535.
    pub fn blob(self, bytes: &[u8]) -> Writer {
        let len = u16::try_from(bytes.len()).expect("blob of at most 65,535 bytes");
        self.bytes(&len.to_le_bytes()).bytes(bytes)
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
