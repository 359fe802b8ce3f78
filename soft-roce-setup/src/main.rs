//! A soft-RoCE device and a DAX mount on any machine, natively or in a guest.

fn main() {}
