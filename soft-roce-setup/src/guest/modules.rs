//! Kernel modules out of a package: what depends on what, and in which order to load.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "the kernel in {directory} has no module {name} (is it a cloud kernel? the generic one is needed)"
    )]
    Missing { name: String, directory: PathBuf },
}

/// The files to load for `wanted`, what each depends on before it. `directory` is `lib/modules/VERSION`.
/// A module that is built in needs no file.
pub(crate) fn load_order(directory: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>, ModuleError> {
    let dependencies = read(&directory.join("modules.dep"))?;
    let built_in = read(&directory.join("modules.builtin")).unwrap_or_default();
    let built_in: Vec<String> = built_in.lines().map(module_name).collect();
    let table: HashMap<String, (&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (module_name(file), (file, needs.split_whitespace().collect())))
        .collect();
    let mut order: Vec<&str> = Vec::new();
    for name in wanted {
        match table.get(&name.replace('-', "_")) {
            // modules.dep lists what a module needs, nearest first and complete.
            Some((file, needs)) => {
                for path in needs.iter().rev().chain([file]) {
                    if !order.contains(path) {
                        order.push(path);
                    }
                }
            }
            None if built_in.iter().any(|b| b == name) => {}
            None => {
                return Err(ModuleError::Missing {
                    name: (*name).into(),
                    directory: directory.into(),
                });
            }
        }
    }
    Ok(order.into_iter().map(|path| directory.join(path)).collect())
}

/// Whether the kernel has this module, as a file or built in.
pub(crate) fn has_module(directory: &Path, name: &str) -> bool {
    load_order(directory, &[name]).is_ok()
}

fn read(path: &Path) -> Result<String, ModuleError> {
    std::fs::read_to_string(path).map_err(|source| ModuleError::Read {
        path: path.into(),
        source,
    })
}

/// `kernel/fs/9p/9p.ko.xz` is the module `9p`; `-` and `_` are the same in these names.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let dep = "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/d-e.ko.xz: k/c.ko\n";
        std::fs::write(directory.path().join("modules.dep"), dep).unwrap();
        std::fs::write(
            directory.path().join("modules.builtin"),
            "kernel/built/in-side.ko\n",
        )
        .unwrap();
        let order = load_order(directory.path(), &["a", "d_e", "in_side"]).unwrap();
        let expected = ["k/c.ko", "k/b.ko", "k/a.ko", "k/d-e.ko.xz"].map(|p| directory.path().join(p));
        assert_eq!(order, expected);
        assert!(matches!(
            load_order(directory.path(), &["zzz"]),
            Err(ModuleError::Missing { .. })
        ));
    }
}
