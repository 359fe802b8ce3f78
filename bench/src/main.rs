//! Latency, throughput, journal and whole-job benches, each beside its floor.

fn main() {}
