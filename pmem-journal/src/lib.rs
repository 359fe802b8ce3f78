//! A durable event journal on DAX-mapped persistent memory or ordinary files.
