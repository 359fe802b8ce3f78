//! Measurements as JSON, one object a line, written as they come.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Measurement;
use crate::error::{Error, doing, printing};

/// A file of JSON lines, or nothing where none was asked for.
pub(crate) struct JsonLines {
    file: Option<(File, PathBuf)>,
}

impl JsonLines {
    /// Opens `path` before anything is measured, so that a wrong one costs no time.
    pub(crate) fn open(path: Option<&Path>) -> Result<JsonLines, Error> {
        let Some(path) = path else {
            return Ok(JsonLines { file: None });
        };
        let opening = |source| Error::JsonPath {
            path: path.to_owned(),
            source,
        };
        // Opened anew, a file behind the standard output would lose what already stands in it.
        let file = if is_standard_output(path) {
            let own = std::io::stdout().as_fd().try_clone_to_owned();
            File::from(own.map_err(opening)?)
        } else {
            File::create(path).map_err(opening)?
        };
        Ok(JsonLines {
            file: Some((file, path.to_owned())),
        })
    }

    /// Whether the lines go where the table would go.
    pub(crate) fn to_standard_output(&self) -> bool {
        self.file
            .as_ref()
            .is_some_and(|(_, path)| is_standard_output(path))
    }

    /// Writes a line for each measurement.
    pub(crate) fn write(&mut self, measurements: &[Measurement]) -> Result<(), Error> {
        let Some((file, path)) = &mut self.file else {
            return Ok(());
        };
        let mut lines = String::new();
        for measurement in measurements {
            lines += &serde_json::to_string(measurement).map_err(doing("writing a measurement as JSON"))?;
            lines.push('\n');
        }
        file.write_all(lines.as_bytes()).map_err(printing(path.display()))
    }
}

fn is_standard_output(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .iter()
        .any(|name| Path::new(name) == path)
}
