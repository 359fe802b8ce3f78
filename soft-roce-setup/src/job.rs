//! What a guest is asked to do, as one file in its initramfs: entries `key=value`, each ended by a NUL byte.
//!
//! Arguments, variables and paths are bytes on Linux, and none of them can hold a NUL, so nothing needs escaping.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The command and its surroundings, for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Job {
    /// The program as the caller wrote it, and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// The program's own path, found on the host.
    pub(crate) program: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) directory: PathBuf,
    /// The host's folder that is writable, at the same path in the guest.
    pub(crate) output: Option<PathBuf>,
    /// The kernel package's `lib/modules`, as a path of the host.
    pub(crate) modules: PathBuf,
    /// This node, 1 to `nodes`.
    pub(crate) node: u32,
    pub(crate) nodes: u32,
    /// Let the kernel use its PCLMUL CRC32, which has a step between 65 and 80 bytes under TCG.
    pub(crate) pclmul_crc: bool,
    /// The persistent memory may hold a file system of an earlier run: it is mounted as it is.
    pub(crate) keep_pmem: bool,
}

/// A job file that this version does not understand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum JobError {
    #[error("entry {index} of the job has no `=`")]
    NoSeparator { index: usize },
    #[error("entry {index} of the job has the unknown key {key:?}")]
    UnknownKey { index: usize, key: String },
    #[error("entry {index} of the job, {key:?}, has a bad value")]
    BadValue { index: usize, key: &'static str },
    #[error("the job has no {key:?}")]
    Missing { key: &'static str },
}

impl Job {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |key: &str, value: &[u8]| {
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value);
            out.push(0);
        };
        put("program", self.program.as_os_str().as_bytes());
        put("directory", self.directory.as_os_str().as_bytes());
        put("modules", self.modules.as_os_str().as_bytes());
        put("node", self.node.to_string().as_bytes());
        put("nodes", self.nodes.to_string().as_bytes());
        put("pclmul_crc", if self.pclmul_crc { b"1" } else { b"0" });
        put("keep_pmem", if self.keep_pmem { b"1" } else { b"0" });
        if let Some(output) = &self.output {
            put("output", output.as_os_str().as_bytes());
        }
        for argument in &self.argv {
            put("argument", argument.as_bytes());
        }
        for (name, value) in &self.env {
            put("variable", &[name.as_bytes(), b"=", value.as_bytes()].concat());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, JobError> {
        let mut job = Self::default();
        for (index, entry) in bytes.split(|b| *b == 0).filter(|e| !e.is_empty()).enumerate() {
            let (key, value) = split_at_equals(entry).ok_or(JobError::NoSeparator { index })?;
            let text = || OsString::from_vec(value.to_vec());
            let number = |key| {
                let digits = std::str::from_utf8(value).ok();
                digits
                    .and_then(|d| d.parse().ok())
                    .ok_or(JobError::BadValue { index, key })
            };
            match key {
                b"program" => job.program = text().into(),
                b"directory" => job.directory = text().into(),
                b"modules" => job.modules = text().into(),
                b"output" => job.output = Some(text().into()),
                b"node" => job.node = number("node")?,
                b"nodes" => job.nodes = number("nodes")?,
                b"pclmul_crc" => job.pclmul_crc = number("pclmul_crc")? != 0,
                b"keep_pmem" => job.keep_pmem = number("keep_pmem")? != 0,
                b"argument" => job.argv.push(text()),
                b"variable" => {
                    let (name, value) = split_at_equals(value).ok_or(JobError::BadValue {
                        index,
                        key: "variable",
                    })?;
                    job.env
                        .push((OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into()));
                }
                other => {
                    let key = String::from_utf8_lossy(other).into_owned();
                    return Err(JobError::UnknownKey { index, key });
                }
            }
        }
        if job.argv.is_empty() {
            return Err(JobError::Missing { key: "argument" });
        }
        if job.node == 0 || job.nodes < job.node {
            return Err(JobError::Missing { key: "node" });
        }
        Ok(job)
    }
}

fn split_at_equals(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b'=')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Job {
        Job {
            argv: vec![
                "sh".into(),
                "-c".into(),
                "".into(),
                OsString::from_vec(vec![0xff, b'\n', b'=']),
            ],
            program: "/bin/sh".into(),
            env: vec![("A".into(), "b=c\nd".into()), ("EMPTY".into(), "".into())],
            directory: "/a b".into(),
            output: Some("/out,put".into()),
            modules: "/m".into(),
            node: 2,
            nodes: 3,
            pclmul_crc: true,
            keep_pmem: true,
        }
    }

    #[test]
    fn any_bytes_survive_the_round_trip() {
        assert_eq!(Job::decode(&example().encode()), Ok(example()));
    }

    #[test]
    fn a_cut_or_foreign_job_is_an_error_not_a_panic() {
        let whole = example().encode();
        for end in 0..whole.len() {
            let _ = Job::decode(&whole[..end]);
        }
        assert_eq!(
            Job::decode(b"nonsense\0"),
            Err(JobError::NoSeparator { index: 0 })
        );
        assert!(matches!(Job::decode(b"x=1\0"), Err(JobError::UnknownKey { .. })));
        assert_eq!(
            Job::decode(b"node=x\0"),
            Err(JobError::BadValue {
                index: 0,
                key: "node"
            })
        );
        assert_eq!(Job::decode(b""), Err(JobError::Missing { key: "argument" }));
    }
}
