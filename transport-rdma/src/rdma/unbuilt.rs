//! What stands for RDMA in a build without it: a constructor that says how to build with it.

use std::convert::Infallible;
use std::time::Instant;

use transport::link::{Listener, Transport, TransportError, Wire};

use super::{RdmaOptions, SCHEME};

/// Links over RDMA. This build has none: [`Rdma::new`] says how to get it.
#[derive(Clone, Debug)]
pub struct Rdma(Infallible);

impl Rdma {
    /// Always an error in a build without the feature `verbs`.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] with the command that builds it.
    pub fn new(options: RdmaOptions) -> Result<Rdma, TransportError> {
        drop(options);
        Err(TransportError::Unavailable {
            scheme: SCHEME,
            missing:
                "this program was built without RDMA: build it with `--features verbs` (needs cmake and \
                      libclang-dev), and run it where libibverbs and a device are"
                    .into(),
        })
    }

    /// The device, port and address in use, for people.
    pub fn device(&self) -> String {
        match self.0 {}
    }
}

impl Transport for Rdma {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn needs_checksums(&self) -> bool {
        true
    }

    fn listen(&self, _: &str) -> Result<Box<dyn Listener>, TransportError> {
        match self.0 {}
    }

    fn dial(&self, _: &str, _: Instant) -> Result<Box<dyn Wire>, TransportError> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_rdma_says_how_to_build_with_it() {
        let error = Rdma::new(RdmaOptions::default()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("--features verbs"), "{error}");
    }
}
