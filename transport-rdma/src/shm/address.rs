//! Addresses of shared memory: a socket path, `/run/node.sock`, or an abstract name, `@node`.

use std::path::PathBuf;

use rustix::net::SocketAddrUnix;
use transport::link::TransportError;

use super::SCHEME;

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A file that the listener makes and removes.
    Path(PathBuf),
    /// A name that ends with its listener.
    Abstract(Vec<u8>),
    /// A name that the system chooses: `@`.
    Any,
}

impl Address {
    pub(super) fn parse(address: &str) -> Result<Address, TransportError> {
        let bad = |reason: &str| TransportError::BadAddress {
            scheme: SCHEME,
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        if address.contains('\0') {
            return Err(bad("it contains a NUL byte"));
        }
        let parsed = match address.as_bytes() {
            b"@" => Address::Any,
            [b'@', name @ ..] => Address::Abstract(name.to_vec()),
            [b'/', ..] if !address.ends_with('/') => Address::Path(PathBuf::from(address)),
            _ => {
                return Err(bad(
                    "write an absolute path to a socket, as in shm:///run/node.sock, or an abstract name, as in shm://@node",
                ));
            }
        };
        if parsed.to_socket().is_err() {
            return Err(bad("it is longer than the 107 bytes that a socket address holds"));
        }
        Ok(parsed)
    }

    pub(super) fn to_socket(&self) -> rustix::io::Result<SocketAddrUnix> {
        match self {
            Address::Path(path) => SocketAddrUnix::new(path),
            Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            Address::Any => Ok(SocketAddrUnix::new_unnamed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_told_apart() {
        assert_eq!(
            Address::parse("/run/x.sock").unwrap(),
            Address::Path("/run/x.sock".into())
        );
        assert_eq!(Address::parse("@x").unwrap(), Address::Abstract(b"x".to_vec()));
        assert_eq!(Address::parse("@").unwrap(), Address::Any);
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_it_should_look_like() {
        let long = format!("/{}", "x".repeat(200));
        for wrong in ["", "x.sock", "127.0.0.1:80", "/run/", "/a\0b", &long] {
            assert!(
                matches!(
                    Address::parse(wrong),
                    Err(TransportError::BadAddress { scheme: "shm", .. })
                ),
                "{wrong:?}"
            );
        }
    }
}
