//! Floors: the barest program that moves the same bytes over the same kind of link, or makes them as durable.
//!
//! A floor has no frames, no flow control and nobody to serve; what our own sides cost beyond it is what they
//! add. Each is a [`Side`](crate::measure::Side), so it can take turns with ours in one run.

pub(crate) mod journal;
pub(crate) mod perftest;
pub(crate) mod shm;
pub(crate) mod tcp;
