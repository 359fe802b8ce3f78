//! A record's extension, byte by byte (`docs/FORMAT.md`, "Record"): an event's correlation id and tags.

/// Largest extension (tags and correlation id) in bytes.
pub const MAX_EXTENSION: usize = u16::MAX as usize;
/// Longest tag in bytes: its length is one byte.
pub(crate) const LONGEST_TAG: usize = u8::MAX as usize;

const TAG: u8 = 1;
const CORRELATION: u8 = 2;

/// Bytes that these take.
pub(crate) fn len(tags: &[&str], correlation: Option<u128>) -> usize {
    tags.iter().map(|tag| 2 + tag.len()).sum::<usize>() + if correlation.is_some() { 18 } else { 0 }
}

/// Appends them to `out`; no tag is longer than [`LONGEST_TAG`].
pub(crate) fn append<'t>(
    out: &mut Vec<u8>,
    tags: impl IntoIterator<Item = &'t str>,
    correlation: Option<u128>,
) {
    if let Some(id) = correlation {
        out.extend_from_slice(&[CORRELATION, 16]);
        out.extend_from_slice(&id.to_le_bytes());
    }
    for tag in tags {
        out.extend_from_slice(&[TAG, tag.len() as u8]);
        out.extend_from_slice(tag.as_bytes());
    }
}

/// The tags, in the order in which they were appended.
pub(crate) fn tags(extension: &[u8]) -> impl Iterator<Item = &str> {
    items(extension)
        .filter(|(kind, _)| *kind == TAG)
        .filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok())
}

pub(crate) fn correlation(extension: &[u8]) -> Option<u128> {
    items(extension)
        .find(|(kind, _)| *kind == CORRELATION)
        .and_then(|(_, bytes)| bytes.try_into().ok())
        .map(u128::from_le_bytes)
}

/// Stops at the first item that does not fit.
fn items(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, len, rest @ ..] = bytes else {
            return None;
        };
        let (item, rest) = rest.split_at_checked(usize::from(*len))?;
        bytes = rest;
        Some((*kind, item))
    })
}
