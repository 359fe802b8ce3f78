//! RDMA and persistent memory on this machine itself.

pub(crate) mod device;
