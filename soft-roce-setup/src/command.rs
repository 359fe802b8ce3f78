//! Finding the caller's command: on the PATH, and beside this program, so that a sibling binary is found by name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::exit_status::{NOT_EXECUTABLE, NOT_FOUND};
use crate::tool::{ROOTS_FOLDERS, is_executable};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("no command {name:?} on the PATH, nor beside this program in {beside}")]
    NotFound { name: OsString, beside: PathBuf },
    #[error("{path} is not a file that may be executed")]
    NotExecutable { path: PathBuf },
}

impl CommandError {
    /// What a shell says in this case.
    pub(crate) fn exit_status(&self) -> i32 {
        match self {
            Self::NotFound { .. } => NOT_FOUND,
            Self::NotExecutable { .. } => NOT_EXECUTABLE,
        }
    }
}

/// The program's absolute path.
pub(crate) fn resolve(name: &OsStr, directory: &Path) -> Result<PathBuf, CommandError> {
    if name.as_encoded_bytes().contains(&b'/') {
        let path = directory.join(name);
        return match (is_executable(&path), path.exists()) {
            (true, _) => Ok(path),
            (false, true) => Err(CommandError::NotExecutable { path }),
            (false, false) => Err(CommandError::NotFound {
                name: name.into(),
                beside: own_folder(),
            }),
        };
    }
    let path = extended_path(std::env::var_os("PATH").as_deref());
    std::env::split_paths(&path)
        .map(|folder| directory.join(folder).join(name))
        .find(|candidate| !name.is_empty() && is_executable(candidate))
        .ok_or_else(|| CommandError::NotFound {
            name: name.into(),
            beside: own_folder(),
        })
}

/// The caller's environment, with a PATH that also holds this program's folder and root's programs.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    let path = extended_path(std::env::var_os("PATH").as_deref());
    std::env::vars_os()
        .filter(|(name, _)| name != "PATH")
        .chain([("PATH".into(), path)])
        .collect()
}

fn extended_path(path: Option<&OsStr>) -> OsString {
    let mut folders: Vec<PathBuf> = path
        .map(|path| std::env::split_paths(path).collect())
        .unwrap_or_default();
    for extra in std::iter::once(own_folder()).chain(ROOTS_FOLDERS.map(PathBuf::from)) {
        if !folders.contains(&extra) {
            folders.push(extra);
        }
    }
    // A folder with a colon in its name cannot be on a PATH at all.
    std::env::join_paths(&folders).unwrap_or_else(|_| path.unwrap_or_default().to_owned())
}

fn own_folder() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(PathBuf::from))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_folders_come_first_and_none_twice() {
        let path = extended_path(Some("/usr/sbin:/first".as_ref()));
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        assert_eq!(&folders[..2], ["/usr/sbin", "/first"].map(PathBuf::from));
        assert!(folders.contains(&own_folder()));
        assert_eq!(folders.iter().filter(|f| f.as_os_str() == "/usr/sbin").count(), 1);
    }

    #[test]
    fn no_command_and_no_permission_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "x").unwrap();
        let status = |name: &str| resolve(name.as_ref(), folder.path()).unwrap_err().exit_status();
        assert_eq!(status("./text"), 126);
        assert_eq!(status("./absent"), 127);
        assert_eq!(status("no-such-command-anywhere"), 127);
        assert_eq!(status(""), 127);
        assert_eq!(
            resolve("sh".as_ref(), folder.path()).unwrap().file_name(),
            Some("sh".as_ref())
        );
    }
}
