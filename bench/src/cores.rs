//! Which core each of a bench's two processes runs on, where somebody asked for different ones.
//!
//! Left alone, the scheduler puts both on one core at times, and a round in which it did says nothing about the link.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, doing};

static PINNED: OnceLock<Cores> = OnceLock::new();
static AVAILABLE: OnceLock<usize> = OnceLock::new();

/// A core for each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) near: usize,
    pub(crate) far: usize,
}

/// Keeps this process on the first of its cores, and every far process started from now on on the last.
///
/// # Errors
/// This process may run on one core only.
pub(crate) fn pin_near_and_far() -> Result<(), Error> {
    let allowed = allowed()?;
    let cores = choose(&allowed)?;
    let _ = AVAILABLE.set(allowed.len());
    pin(cores.near)?;
    // Asked for once, at the start of a run.
    let _ = PINNED.set(cores);
    Ok(())
}

/// What was chosen; nothing where nobody asked.
pub(crate) fn pinned() -> Option<Cores> {
    PINNED.get().copied()
}

/// The cores that both processes together may use.
pub(crate) fn available() -> usize {
    *AVAILABLE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Keeps this child on the core that its parent chose for it.
pub(crate) fn obey(core: usize) -> Result<(), Error> {
    // The parent has another one.
    let _ = AVAILABLE.set(2);
    pin(core)
}

/// Keeps this process on one core; its threads and children start there too.
fn pin(core: usize) -> Result<(), Error> {
    let mut only = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(Error::NoSuchCore { core });
    }
    only.set(core);
    sched_setaffinity(None, &only).map_err(doing(format!("moving to core {core}")))
}

fn allowed() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(doing("asking for the cores of this process"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

fn choose(allowed: &[usize]) -> Result<Cores, Error> {
    match *allowed {
        [near, .., far] => Ok(Cores { near, far }),
        _ => Err(Error::OneCore),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_processes_get_different_cores_or_there_is_an_error() {
        assert_eq!(choose(&[2, 5, 9]).unwrap(), Cores { near: 2, far: 9 });
        assert!(matches!(choose(&[3]), Err(Error::OneCore)));
    }
}
