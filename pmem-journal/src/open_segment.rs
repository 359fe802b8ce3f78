//! A segment's file, and what its two ends say.

use crate::error::{Error, Result};
use crate::medium::{Medium, MediumFile};
use crate::segment::{self, Footer, Header};

/// A segment open for reading.
pub(crate) struct OpenSegment {
    pub(crate) name: String,
    pub(crate) file: Box<dyn MediumFile>,
    pub(crate) header: Header,
    /// `None`: it was not sealed when this was read.
    pub(crate) footer: Option<Footer>,
}

impl OpenSegment {
    /// Opens segment `index`.
    pub(crate) fn open(medium: &dyn Medium, index: u64) -> Result<OpenSegment> {
        let (name, file, header) = segment::open(medium, index)?;
        let footer = Footer::read(&*file, &header).map_err(Error::io("read", &name))?;
        Ok(OpenSegment {
            name,
            file,
            header,
            footer,
        })
    }

    pub(crate) fn corrupt(&self, offset: u64, cause: impl ToString) -> Error {
        Error::corruption(&self.name, offset, cause)
    }

    /// Whether it is sealed, and all of it durable below `limit`; or compacted since: then all of it is durable, and a log
    /// position below its end says nothing of where in it that would be.
    pub(crate) fn is_whole_below(&self, limit: u64) -> bool {
        self.footer
            .is_some_and(|footer| footer.log_end <= limit || self.header.compacted)
    }
}
