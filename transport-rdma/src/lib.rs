//! The one-sided link: RDMA writes into the peer's ring through libibverbs, or shared memory between processes of one host.
