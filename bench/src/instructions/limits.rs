//! The most instructions that a message may cost: what it costs, and a tenth more, for another compiler. A change that
//! makes it cost less lowers its line here.

use super::{Part, Way};

pub(super) const LIMITS: &[(Way, Part, f64)] = &[
    (Way::Ring, Part::Send, 302.0),
    (Way::Ring, Part::Receive, 310.0),
    (Way::Ring, Part::Look, 6.0),
    (Way::Shm, Part::Send, 309.0),
    (Way::Shm, Part::Batch, 258.0),
    (Way::Shm, Part::Receive, 348.0),
    (Way::Shm, Part::Look, 348.0),
    (Way::Tcp, Part::Send, 1136.0),
    (Way::Tcp, Part::Batch, 295.0),
    (Way::Tcp, Part::Receive, 444.0),
    (Way::Tcp, Part::Look, 319.0),
];
