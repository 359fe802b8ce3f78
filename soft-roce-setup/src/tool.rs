//! Other programs: found on the PATH (and where root's programs are), run, and their words kept when they fail.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("`{tool}` is not installed (`soft-roce-setup install` says what is needed)")]
    Missing { tool: String },
    #[error("cannot run `{tool}`: {source}")]
    Start { tool: String, source: std::io::Error },
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        stderr: String,
    },
}

/// The folders of root's programs, which a user's PATH often lacks.
pub(crate) const ROOTS_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// An executable file of this name, on the PATH or where root's programs are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ROOTS_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs a tool to its end; its standard output, or an error with what it said.
pub(crate) fn output<A: AsRef<OsStr>>(
    tool: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String, ToolError> {
    let path = find(tool).ok_or_else(|| ToolError::Missing { tool: tool.into() })?;
    finish(tool, Command::new(path).args(arguments).env("LC_ALL", "C"))
}

/// `apt-get download` into a folder.
pub(crate) fn download(folder: &Path, packages: &[String]) -> Result<(), ToolError> {
    let path = find("apt-get").ok_or_else(|| ToolError::Missing {
        tool: "apt-get".into(),
    })?;
    // Without this, apt as root downloads as another user, who cannot write into root's cache.
    let own_user = format!(
        "APT::Sandbox::User={}",
        if rustix::process::geteuid().is_root() {
            "root"
        } else {
            ""
        }
    );
    let mut command = Command::new(path);
    command
        .current_dir(folder)
        .args(["download", "-q", "-o", &own_user])
        .args(packages);
    finish("apt-get", &mut command).map(drop)
}

fn finish(tool: &str, command: &mut Command) -> Result<String, ToolError> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ToolError::Start {
            tool: tool.into(),
            source,
        })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let words = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned());
    Err(ToolError::Failed {
        command: std::iter::once(tool.to_owned())
            .chain(words)
            .collect::<Vec<_>>()
            .join(" "),
        status: done.status,
        stderr: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
    })
}
