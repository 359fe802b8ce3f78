//! Compressed files, unpacked by the distribution's own tools, and the plain kernel inside a `vmlinuz`.
//!
//! A plain kernel is booted by QEMU at its PVH entry. That spares the guest unpacking itself, which takes 3 of the
//! 5 s of a boot in software.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot unpack {path} with `{tool}`: {reason} (install the package that has `{tool}`)")]
    Tool {
        path: PathBuf,
        tool: &'static str,
        reason: String,
    },
    #[error("{path} is no compressed x86 kernel with a PVH entry")]
    NoKernel { path: PathBuf },
}

/// The first bytes of a compressed stream, the tool for it, and how many bytes of its own a kernel build appends.
const FORMATS: [(&[u8], &str, usize); 3] = [
    (b"\xfd7zXZ\0", "xz", 4),
    (b"\x28\xb5\x2f\xfd", "zstd", 4),
    (b"\x1f\x8b\x08", "gzip", 0),
];

/// A file's content, uncompressed if its first bytes say that it is compressed.
pub(crate) fn read_plain(path: &Path) -> Result<Vec<u8>, UnpackError> {
    let bytes = read(path)?;
    match FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        None => Ok(bytes),
        Some((_, tool, _)) => decompress(path, tool),
    }
}

/// Writes the ELF kernel inside `vmlinuz` to `to`: whole or not at all.
pub(crate) fn extract_kernel(vmlinuz: &Path, to: &Path) -> Result<(), UnpackError> {
    let image = read(vmlinuz)?;
    let (payload, tool) = payload(&image).ok_or_else(|| UnpackError::NoKernel { path: vmlinuz.into() })?;
    let write_error = |source| UnpackError::Write {
        path: to.into(),
        source,
    };
    let folder = to.parent().unwrap_or(Path::new("."));
    let compressed = tempfile::NamedTempFile::new_in(folder).map_err(write_error)?;
    std::fs::write(&compressed, payload).map_err(write_error)?;
    let kernel = decompress(compressed.path(), tool)?;
    if !kernel.starts_with(b"\x7fELF") || !has_pvh_entry(&kernel) {
        return Err(UnpackError::NoKernel { path: vmlinuz.into() });
    }
    let plain = tempfile::NamedTempFile::new_in(folder).map_err(write_error)?;
    std::fs::write(&plain, kernel).map_err(write_error)?;
    plain.persist(to).map_err(|error| write_error(error.error))?;
    Ok(())
}

/// The compressed kernel in a `bzImage`, by the fields `setup_sects`, `header`, `payload_offset` and
/// `payload_length` of the kernel's `Documentation/x86/boot.rst`.
fn payload(image: &[u8]) -> Option<(&[u8], &'static str)> {
    let u32_at = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1).checked_mul(512)?.checked_add(u32_at(0x248)?)?;
    let payload = image.get(start..start.checked_add(u32_at(0x24c)?)?)?;
    let (_, tool, appended) = FORMATS.iter().find(|(magic, ..)| payload.starts_with(magic))?;
    Some((payload.get(..payload.len().checked_sub(*appended)?)?, tool))
}

/// Whether an ELF kernel carries the note that tells QEMU where to enter it: `XEN_ELFNOTE_PHYS32_ENTRY`, 18.
fn has_pvh_entry(kernel: &[u8]) -> bool {
    kernel.windows(16).step_by(4).any(|note| {
        note[..4] == [4, 0, 0, 0]
            && matches!(note[4..8], [4 | 8, 0, 0, 0])
            && note[8..12] == [18, 0, 0, 0]
            && &note[12..] == b"Xen\0"
    })
}

fn decompress(path: &Path, tool: &'static str) -> Result<Vec<u8>, UnpackError> {
    let fail = |reason: String| UnpackError::Tool {
        path: path.into(),
        tool,
        reason,
    };
    let unpacked = Command::new(tool)
        .args(["-d", "-c"])
        .stdin(std::fs::File::open(path).map_err(|source| UnpackError::Read {
            path: path.into(),
            source,
        })?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    if !unpacked.status.success() {
        return Err(fail(String::from_utf8_lossy(&unpacked.stderr).trim().to_owned()));
    }
    Ok(unpacked.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>, UnpackError> {
    std::fs::read(path).map_err(|source| UnpackError::Read {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_outside_the_image_is_refused() {
        let mut image = vec![0; 4096];
        assert_eq!(payload(&image), None);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x250].fill(0xff);
        assert_eq!(payload(&image), None);
        for length in 0..image.len() {
            assert_eq!(payload(&image[..length]), None);
        }
        image[0x248..0x24c].copy_from_slice(&0_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&16_u32.to_le_bytes());
        image[5 * 512..5 * 512 + 6].copy_from_slice(b"\xfd7zXZ\0");
        assert_eq!(
            payload(&image).map(|(bytes, tool)| (bytes.len(), tool)),
            Some((12, "xz"))
        );
    }

    #[test]
    fn only_the_note_of_an_entry_counts() {
        let note = |kind: u8| {
            [
                &[0; 8][..],
                &[4, 0, 0, 0, 8, 0, 0, 0, kind, 0, 0, 0],
                b"Xen\0",
                &[0; 8],
            ]
            .concat()
        };
        assert!(has_pvh_entry(&note(18)));
        assert!(!has_pvh_entry(&note(6)));
        assert!(!has_pvh_entry(b"\x7fELF"));
    }

    #[test]
    fn a_plain_file_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.ko");
        std::fs::write(&path, b"\x7fELF").unwrap();
        assert_eq!(read_plain(&path).unwrap(), b"\x7fELF");
        std::fs::write(&path, b"\x1f\x8b\x08broken").unwrap();
        assert!(matches!(read_plain(&path), Err(UnpackError::Tool { .. })));
    }
}
