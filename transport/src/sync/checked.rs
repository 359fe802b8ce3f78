//! Loom's atomics, with one more property: each place in the code that asks for an ordering can be made to get a weaker
//! one, so that a test can show which orderings are needed (see `crate::models::orderings`).

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::Location;

pub(crate) use std::sync::atomic::Ordering;

/// A place in the code that asks for an ordering: file, line, ordering.
pub(crate) type Site = (&'static str, u32, &'static str);

std::thread_local! {
    // Loom runs all the threads of a model on one thread of the system.
    static SEEN: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
    static WEAKENED: Cell<Option<(Site, Ordering)>> = const { Cell::new(None) };
}

/// Runs `model` with the ordering of one place replaced, or with none; returns the places that it came by.
pub(crate) fn seen(weakened: Option<(Site, Ordering)>, model: impl FnOnce()) -> BTreeSet<Site> {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            WEAKENED.set(None);
        }
    }
    SEEN.take();
    WEAKENED.set(weakened);
    let _reset = Reset;
    model();
    SEEN.take()
}

/// Whether the model has failed: then nothing counts that is done while the stack unwinds.
pub(super) fn is_over() -> bool {
    std::thread::panicking()
}

#[track_caller]
fn at(ordering: Ordering) -> Ordering {
    let name = match ordering {
        Ordering::Relaxed => return ordering,
        Ordering::Acquire => "Acquire",
        Ordering::Release => "Release",
        Ordering::AcqRel => "AcqRel",
        _ => "SeqCst",
    };
    let place = Location::caller();
    let site = (place.file(), place.line(), name);
    SEEN.with_borrow_mut(|seen| seen.insert(site));
    match WEAKENED.get() {
        Some((weakened, to)) if weakened == site => to,
        _ => ordering,
    }
}

/// As [`std::sync::atomic::fence`]; weakened to nothing by `Relaxed`.
#[track_caller]
pub(crate) fn fence(ordering: Ordering) {
    let ordering = at(ordering);
    if ordering != Ordering::Relaxed {
        loom::sync::atomic::fence(ordering);
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty, $($operation:ident($($argument:ident),*)),*) => {
        /// As the standard library's.
        #[derive(Debug, Default)]
        #[allow(unreachable_pub)]
        pub struct $name(loom::sync::atomic::$name);

        #[allow(missing_docs, dead_code)]
        impl $name {
            pub(crate) fn new(value: $value) -> $name {
                $name(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                if is_over() {
                    return <$value>::default();
                }
                self.0.load(at(ordering))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                if !is_over() {
                    self.0.store(value, at(ordering));
                }
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange_weak(current, new, at(success), failure)
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(current, new, at(success), failure)
            }

            $(
                #[track_caller]
                pub(crate) fn $operation(&self, $($argument: $value,)* ordering: Ordering) -> $value {
                    self.0.$operation($($argument,)* at(ordering))
                }
            )*
        }
    };
}

atomic!(AtomicBool, bool, swap(value));
atomic!(AtomicU64, u64, swap(value), fetch_or(value), fetch_max(value));

impl AtomicU64 {
    /// The value, read without atomicity: whoever may write it at the same time makes the model fail.
    pub(super) fn plain_load(&self) -> u64 {
        // SAFETY: loom checks that no access is concurrent with this one.
        unsafe { self.0.unsync_load() }
    }

    /// Zeroes without atomicity.
    ///
    /// # Safety
    /// `this` is valid. Loom checks that no access is concurrent with this one.
    pub(super) unsafe fn plain_zero(this: *const AtomicU64) {
        // SAFETY: the models' threads take turns on one thread of the system, so that nobody else has the reference;
        // in the model's own terms, loom checks it.
        unsafe { (*this.cast_mut()).0.with_mut(|value| *value = 0) }
    }
}
