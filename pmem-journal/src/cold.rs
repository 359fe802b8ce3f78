//! A hot and a cold directory: sealed segments move to the cold one, and links stand in their place.
//!
//! The journal's own directory, where appends go, may be small and fast (persistent memory); readers follow the links
//! and see one journal. The copy is durable, and its name is, before the link takes the segment's name: a crash leaves
//! the one or the other.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::{Access, Medium, read_full};
use crate::retention::Held;
use crate::sealed_records::Sealed;
use crate::segment::{self, Header};
use crate::upkeep::Upkeep;

/// What moving to a cold directory did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cooled {
    /// Segments moved.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What kept it from going on.
    pub held: Option<Held>,
}

impl Journal {
    /// Moves the oldest sealed segments to `cold` until those left in the journal's directory have at most `keep_hot` bytes
    /// in all, the one being written included.
    ///
    /// `cold` is a directory of this journal alone; it is made if it is missing. Each segment is verified as it is moved.
    /// If `cold` is full, or gone, the answer is an error and the segment stays where it is. It needs as much memory as a
    /// segment has bytes.
    pub fn cool(&self, cold: impl AsRef<Path>, keep_hot: u64) -> Result<Cooled> {
        let cold = cold.as_ref();
        let refused = |cause: &str| Error::ColdDirectory {
            dir: cold.to_owned(),
            cause: cause.to_owned(),
        };
        let Some(_upkeep) = Upkeep::to_change(self.dir())? else {
            return Ok(Cooled {
                held: Some(Held::Backup),
                ..Cooled::default()
            });
        };
        std::fs::create_dir_all(cold).map_err(Error::io("create", cold))?;
        let cold = cold.canonicalize().map_err(Error::io("find", cold))?;
        let hot = self.dir().canonicalize().map_err(Error::io("find", self.dir()))?;
        if hot == cold {
            return Err(refused("it is the journal's own directory"));
        }
        let Some(cold) = cold.to_str() else {
            return Err(refused("its name is not UTF-8"));
        };
        self.cool_to(cold, keep_hot)
    }

    /// `cold` is a directory's name as the medium knows it.
    pub(crate) fn cool_to(&self, cold: &str, keep_hot: u64) -> Result<Cooled> {
        let _one = self.dropping.lock().unwrap_or_else(PoisonError::into_inner);
        let medium = {
            let state = self.lock();
            state.refuse_if_poisoned()?;
            Arc::clone(&state.medium)
        };
        let mut hot = Vec::new();
        let mut hot_bytes = 0;
        let listed = Listing::read(&*medium)?.segments;
        for index in &listed {
            let name = segment::name(*index);
            if medium
                .read_link(&name)
                .map_err(Error::io("read the link", &name))?
                .is_none()
            {
                let file = medium
                    .open(&name, Access::Read)
                    .map_err(Error::io("open", &name))?;
                hot_bytes += file.len().map_err(Error::io("read the length of", &name))?;
                hot.push(*index);
            }
        }
        let mut out = Cooled::default();
        for index in hot {
            if hot_bytes <= keep_hot || Some(&index) == listed.last() {
                break;
            }
            let Some(sealed) = Sealed::open(&*medium, index)? else {
                break;
            };
            let bytes = sealed.header.size;
            move_to(&*medium, cold, sealed)?;
            hot_bytes -= bytes;
            out.segments += 1;
            out.bytes += bytes;
        }
        Ok(out)
    }
}

fn move_to(medium: &dyn Medium, cold: &str, sealed: Sealed) -> Result<()> {
    let name = &sealed.name;
    let target = format!("{cold}/{name}");
    if let Ok(there) = medium.open(&target, Access::Read)
        && Header::read(&*there, name).is_ok_and(|header| header.journal != sealed.header.journal)
    {
        return Err(Error::ColdDirectory {
            dir: cold.into(),
            cause: format!("its {name} is another journal's"),
        });
    }
    sealed.for_each(|_, _, _| {})?;
    let mut bytes = vec![0; sealed.header.size as usize];
    let n = read_full(&*sealed.file, 0, &mut bytes).map_err(Error::io("read", name))?;
    if n < bytes.len() {
        return Err(sealed.corrupt(n as u64, "the file ends here"));
    }
    medium
        .store(&target, &bytes)
        .and_then(|()| medium.directory(cold).sync_dir())
        .map_err(Error::writing(&target, bytes.len() as u64))?;
    medium
        .link(&target, name)
        .map_err(Error::io("put a link in the place of", name))
}
