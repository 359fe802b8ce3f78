//! DAX mounts of this machine, by their mount options.
//!
//! The option is not the last word: only a mapping with MAP_SYNC is, and that takes unsafe code. The journal asks that
//! question itself each time it opens a folder, so nothing is lost when the answer is no.

use std::path::PathBuf;

/// The mount points whose options say DAX, the later mounts first.
pub(crate) fn mounts() -> Vec<PathBuf> {
    let mut found = parse(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default());
    found.reverse();
    found
}

fn parse(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (place, options) = (fields.nth(1)?, fields.nth(1)?);
            let dax = options
                .split(',')
                .any(|option| matches!(option, "dax" | "dax=always"));
            dax.then(|| PathBuf::from(unescape(place)))
        })
        .collect()
}

/// The kernel writes a space, a tab, a line's end and a backslash as `\040` and the like.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_are_always_dax_count() {
        let mounts = "/dev/vda / ext4 rw 0 0\n/dev/pmem0 /mnt/p\\040m ext4 rw,relatime,dax=always 0 0\n\
                      /dev/pmem1 /never ext4 rw,dax=never 0 0\n/dev/pmem2 /old xfs rw,dax 0 0\nshort\n";
        assert_eq!(parse(mounts), ["/mnt/p m", "/old"].map(PathBuf::from));
    }
}
