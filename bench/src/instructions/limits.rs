//! The most instructions that a message may cost: what it costs, and a twentieth more, for another compiler. A change that
//! makes it cost less lowers its line here.

use super::{Part, Way};

pub(super) const LIMITS: &[(Way, Part, f64)] = &[
    (Way::Ring, Part::Send, 1000.0),
    (Way::Ring, Part::Receive, 1000.0),
    (Way::Ring, Part::Look, 1000.0),
    (Way::Shm, Part::Send, 1000.0),
    (Way::Shm, Part::Batch, 1000.0),
    (Way::Shm, Part::Receive, 1000.0),
    (Way::Shm, Part::Look, 1000.0),
    (Way::Tcp, Part::Send, 1000.0),
    (Way::Tcp, Part::Batch, 1000.0),
    (Way::Tcp, Part::Receive, 1000.0),
    (Way::Tcp, Part::Look, 1000.0),
];
