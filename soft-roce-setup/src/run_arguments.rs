//! The command line of `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::guest::{Acceleration, MAX_NODES};

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// On this machine's own kernel, or fail
    #[arg(long, conflicts_with = "guest")]
    pub(crate) native: bool,
    /// In a QEMU guest, even where this machine's kernel could
    #[arg(long)]
    pub(crate) guest: bool,
    /// How many guests run the command, joined by a network
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    pub(crate) nodes: u32,
    /// A folder of this machine that the command may write to; it is made if need be
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Seconds until a run that is not done is ended, with exit status 124
    #[arg(long, value_name = "SECS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) deadline: u64,
    /// Seconds until a guest that is not up is given up
    #[arg(long, value_name = "SECS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) boot_deadline: u64,
    /// Memory of each guest
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = mebibytes)]
    pub(crate) memory: u64,
    /// Persistent memory of each guest
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = mebibytes)]
    pub(crate) pmem: u64,
    /// A file that is the persistent memory of the one guest, made if need be; what was durable there is there in the next
    /// run, however this one ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["native", "nodes"])]
    pub(crate) pmem_image: Option<PathBuf>,
    /// Processors of each guest
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// What runs the guest's instructions
    #[arg(long, value_enum, default_value_t)]
    pub(crate) accel: Acceleration,
    /// Let the guest's kernel use its PCLMUL CRC32; in software it has a step of 2 us between 65 and 80 bytes
    #[arg(long)]
    pub(crate) pclmul_crc: bool,
    /// Say what is being done, and when
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `512M`, `2G`, in whole MiB.
fn mebibytes(text: &str) -> Result<u64, String> {
    let hint = || format!("{text:?} is no size: write for example 512M or 2G");
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'M' | 'm')) => (&text[..at], 1),
        Some((at, 'G' | 'g')) => (&text[..at], 1024),
        _ => return Err(hint()),
    };
    let number: u64 = digits.parse().map_err(|_| hint())?;
    let size = number.checked_mul(factor).ok_or_else(hint)?;
    if !(256..=1024 * 1024).contains(&size) || !size.is_multiple_of(128) {
        return Err(format!("{text} is out of range: 256M to 1024G, in steps of 128M"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_and_bounded() {
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert_eq!(mebibytes("256M"), Ok(256));
        for bad in [
            "",
            "G",
            "2",
            "-1G",
            "300M",
            "99999999999999999999G",
            "18446744073709551615G",
            "1T",
            "2é",
        ] {
            assert!(mebibytes(bad).is_err(), "{bad:?}");
        }
    }
}
