//! Our journal, appending the same events as often as its floor.

use std::path::Path;

use pmem_journal::{Event, Expected, Options};

use crate::appends::{Append, Appends, Log, Open};
use crate::error::{Error, failed};
use crate::floor::journal::{Mode, Shape};
use crate::measure::Side;

const KIND: u16 = 1;

/// The journal in `dir`, in a mode that its floor could be opened in.
pub(crate) fn journal(dir: &Path, mode: Mode, shape: Shape) -> Result<Box<dyn Side>, Error> {
    Ok(Box::new(Appends::new(dir, shape, opening(mode))?))
}

/// Opens our journal in this mode.
pub(crate) fn opening(mode: Mode) -> Open {
    Box::new(move |folder| {
        let options = match required_mode(mode) {
            Some(mode) => Options::new().require(mode),
            None => Options::new(),
        };
        pmem_journal::Journal::open_with(folder, &options)
            .map(|(journal, _)| Box::new(journal) as _)
            .map_err(failed("opening a journal"))
    })
}

/// What the command line's mode asks of the journal; nothing where the journal is to choose.
pub(crate) fn required_mode(mode: Mode) -> Option<pmem_journal::Mode> {
    Some(match mode {
        Mode::Auto => return None,
        Mode::Pmem => pmem_journal::Mode::Pmem,
        Mode::Eadr => pmem_journal::Mode::Eadr,
        Mode::Buffered => pmem_journal::Mode::Buffered,
        Mode::Volatile => pmem_journal::Mode::Volatile,
        Mode::Direct => pmem_journal::Mode::Direct,
    })
}

impl Log for pmem_journal::Journal {
    fn writer<'a>(&'a self, writer: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        let events = vec![Event::new(u128::from(writer), KIND, event); batch];
        Ok(Box::new(move || {
            self.append(&events, Expected::Any)
                .map(drop)
                .map_err(failed("appending to the journal"))
        }))
    }
}
