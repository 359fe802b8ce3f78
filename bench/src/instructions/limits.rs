//! The most instructions that a message may cost: what it costs, and a tenth more, for another compiler. A change that
//! makes it cost less lowers its line here.

use super::{Part, Way};

pub(super) const LIMITS: &[(Way, Part, f64)] = &[
    (Way::Ring, Part::Send, 240.0),
    (Way::Ring, Part::Many, 232.0),
    (Way::Ring, Part::Receive, 243.0),
    (Way::Ring, Part::Look, 7.0),
    (Way::Shm, Part::Send, 200.0),
    (Way::Shm, Part::Batch, 114.0),
    (Way::Shm, Part::Many, 83.0),
    (Way::Shm, Part::Receive, 230.0),
    // A look at memory that finds nothing is followed by 32 more, at the words alone where frames would show, and at the line
    // behind: more than half of this.
    (Way::Shm, Part::Look, 864.0),
    (Way::Tcp, Part::Send, 700.0),
    (Way::Tcp, Part::Batch, 148.0),
    (Way::Tcp, Part::Many, 119.0),
    (Way::Tcp, Part::Receive, 375.0),
    (Way::Tcp, Part::Look, 410.0),
    // What the runtime and the socket take of a call, and what that is with a stream: both sides, on one thread.
    (Way::Socket, Part::Call, 4660.0),
    (Way::Tcp, Part::Call, 11330.0),
    (Way::Shm, Part::Call, 10260.0),
    (Way::Rdma, Part::Send, 1128.0),
    (Way::Rdma, Part::Receive, 401.0),
    // With the looks at the words alone, as over shared memory.
    (Way::Rdma, Part::Look, 956.0),
];
