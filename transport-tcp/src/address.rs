//! Addresses: `host:port`, where the host is an IPv4 address, an IPv6 address in brackets, or a name.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use transport::host;
use transport::link::TransportError;

/// The scheme of this transport's addresses.
pub(crate) const SCHEME: &str = "tcp";
/// The longest name that the domain name system has.
const MAX_NAME: usize = 253;

/// A host and a port, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Address, TransportError> {
        let bad = |reason: &str| bad_address(text, reason);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest
                    .split_once(']')
                    .ok_or_else(|| bad("the bracket is not closed; write [::1]:7000"))?;
                let port = after
                    .strip_prefix(':')
                    .ok_or_else(|| bad("the port is missing; write [::1]:7000"))?;
                let ip = host
                    .parse::<Ipv6Addr>()
                    .map_err(|_| bad("only an IPv6 address stands in brackets; write [::1]:7000"))?;
                (Host::Ip(IpAddr::V6(ip)), port)
            }
            None => {
                let (host, port) = text
                    .rsplit_once(':')
                    .ok_or_else(|| bad("the port is missing; write host:port, as in 127.0.0.1:7000"))?;
                if host.contains(':') {
                    return Err(bad("an IPv6 address stands in brackets; write [::1]:7000"));
                }
                let host = match host.parse::<IpAddr>() {
                    Ok(ip) => Host::Ip(ip),
                    Err(_) if is_name(host) => Host::Name(host.to_owned()),
                    Err(_) => {
                        return Err(bad(
                            "the host is neither an IP address nor a name; write host:port",
                        ));
                    }
                };
                (host, port)
            }
        };
        // `u16::from_str` alone would take "+7".
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("the port is not a number"));
        }
        let port = port
            .parse::<u16>()
            .map_err(|_| bad("the port is not a number from 0 to 65535"))?;
        Ok(Address { host, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The socket addresses that this stands for, never none; gives up at the deadline.
    pub(crate) fn resolve(&self, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name.clone(),
        };
        host::resolve((name, self.port), deadline)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The address does not say what it should.
pub(crate) fn bad_address(address: &str, reason: &str) -> TransportError {
    TransportError::BadAddress {
        scheme: SCHEME,
        address: address.to_owned(),
        reason: reason.to_owned(),
    }
}

fn is_name(host: &str) -> bool {
    (1..=MAX_NAME).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        // Digits and dots alone are an IPv4 address that did not parse.
        && host.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ipv4_ipv6_and_names_are_addresses_and_print_as_they_were_written() {
        for text in ["127.0.0.1:7000", "[::1]:0", "localhost:65535", "a-b.example_1:80"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "port is missing"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:", "port is not a number"),
            ("127.0.0.1:+7", "port is not a number"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("::1:7000", "brackets"),
            ("[::1:7000", "not closed"),
            ("[::1]7000", "port is missing"),
            ("[localhost]:7000", "only an IPv6"),
            (":7000", "neither"),
            ("256.0.0.1:7000", "neither"),
            ("tcp//host:7000", "neither"),
            ("ho st:7000", "neither"),
        ] {
            match Address::parse(text) {
                Err(TransportError::BadAddress { reason: given, .. }) => {
                    assert!(given.contains(reason), "{text:?}: {given}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_name_resolves_before_the_deadline() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = Address::parse("localhost:7000")
            .unwrap()
            .resolve(deadline)
            .unwrap();
        assert!(
            found
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 7000)
        );
    }
}
