//! What a far half can be told to be.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::far::Far;
use crate::error::{Error, doing};

/// What a far half is to be, holding what it needs to open.
pub(crate) trait Role: Serialize + DeserializeOwned {
    /// Its name on the control pipe, no other's.
    const KIND: &'static str;

    fn open(self) -> Result<Box<dyn Far>, Error>;
}

/// A role's kind, without what it needs to open: that comes through the control pipe.
pub(crate) struct Kind {
    pub(super) name: &'static str,
    pub(super) open: fn(Value) -> Result<Box<dyn Far>, Error>,
}

impl Kind {
    pub(crate) fn of<R: Role>() -> Kind {
        Kind {
            name: R::KIND,
            open: |told| {
                serde_json::from_value::<R>(told)
                    .map_err(doing("reading what the other process is to be"))?
                    .open()
            },
        }
    }
}
