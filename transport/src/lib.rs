//! Mirrored rings, sessions and mailboxes: what every link of the cluster transport shares.
