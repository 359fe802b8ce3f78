//! What a far half can be told to be, and what it does then.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::control::{FarReport, Plan};
use crate::error::{Error, doing};
use crate::wait::Gone;

/// What a far half is to be, holding what it needs to open.
pub(crate) trait Role: Serialize + DeserializeOwned {
    /// Its name on the control pipe, no other's.
    const KIND: &'static str;

    fn open(self) -> Result<Box<dyn Far>, Error>;
}

/// The half of a side that runs in the child process.
pub(crate) trait Far {
    /// Where the near half finds this one.
    fn address(&self) -> Result<String, Error>;

    /// Waits for the near half to connect, where it takes both to do so. Called once, before the first round.
    fn meet(&mut self, _gone: &Gone) -> Result<(), Error> {
        Ok(())
    }

    /// Does the far part of a round: answers `plan.count` messages, or takes as many. `gone` is never set here:
    /// a child whose parent is gone ends.
    fn run(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error>;

    /// What it measured of the round itself; times and CPU are filled in by who asks.
    fn report(&mut self) -> FarReport {
        FarReport::default()
    }
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
