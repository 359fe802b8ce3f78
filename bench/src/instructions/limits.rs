//! The most instructions that a message may cost: what it costs, and a tenth more, for another compiler. A change that
//! makes it cost less lowers its line here.

use super::{Part, Way};

pub(super) const LIMITS: &[(Way, Part, f64)] = &[
    (Way::Ring, Part::Send, 242.0),
    (Way::Ring, Part::Receive, 250.0),
    (Way::Ring, Part::Look, 6.0),
    (Way::Shm, Part::Send, 312.0),
    (Way::Shm, Part::Batch, 228.0),
    (Way::Shm, Part::Receive, 258.0),
    (Way::Shm, Part::Look, 387.0),
    (Way::Tcp, Part::Send, 1139.0),
    (Way::Tcp, Part::Batch, 266.0),
    (Way::Tcp, Part::Receive, 400.0),
    (Way::Tcp, Part::Look, 356.0),
];
