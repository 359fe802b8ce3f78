//! Hosts, for transports over IP: their names, each of their addresses in turn, and what counts as one of them.
//!
//! Nothing here outlasts the caller's deadline, whatever a name server or a network that swallows packets does.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::link::Ends;

/// The socket addresses that a name stands for, never none; gives up at the deadline.
///
/// # Errors
/// The resolver's; `NotFound` for a name without an address, `TimedOut` at the deadline.
pub fn resolve(
    name: impl ToSocketAddrs<Iter: Iterator> + Send + 'static,
    deadline: Instant,
) -> io::Result<Vec<SocketAddr>> {
    // The system's resolver has no deadline, so it runs beside us; it ends by itself when it gives up.
    let (answer, answered) = mpsc::channel();
    thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let found = name.to_socket_addrs();
        // Nobody listens any more when the deadline has passed.
        let _ = answer.send(found.map(Iterator::collect::<Vec<_>>));
    })?;
    match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(found)) if found.is_empty() => {
            Err(io::Error::new(ErrorKind::NotFound, "the name has no address"))
        }
        Ok(found) => found,
        Err(_) => Err(io::Error::new(
            ErrorKind::TimedOut,
            "the name was not resolved in time",
        )),
    }
}

/// Has `dial` try each address until one answers, within the deadline. Each is given its share of the time that is left: an
/// address that swallows packets must not eat the time of those after it.
///
/// # Errors
/// That of the last address; `TimedOut` where there was no time for any.
pub fn dial_each<T>(
    addresses: &[SocketAddr],
    deadline: Instant,
    mut dial: impl FnMut(SocketAddr, Duration) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::from(ErrorKind::TimedOut);
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        if share < Duration::from_millis(1) {
            break;
        }
        match dial(*address, share) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How a transport over IP names a host in [`crate::link::Wire::source`]: an IPv4 address, also one in the clothes of IPv6, or
/// the /64 of an IPv6 address, of which one host has as many as it likes.
pub fn source_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from(network))
        }
    }
}

/// A connection's ends, as a transport over IP tells them in [`crate::link::Wire::ends`]. None where an address means something on
/// its own host alone, as IPv6 addresses of one link do.
pub fn ends(own: SocketAddr, peer: SocketAddr) -> Option<Ends> {
    let written = |address: SocketAddr| match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => None,
        address => Some(SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()),
    };
    Some(Ends {
        own: written(own)?,
        peer: written(peer)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name whose server never answers.
    struct Silent(mpsc::Receiver<()>);

    impl ToSocketAddrs for Silent {
        type Iter = std::vec::IntoIter<SocketAddr>;

        fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
            let _ = self.0.recv();
            Ok(Vec::new().into_iter())
        }
    }

    #[test]
    fn a_name_server_that_is_silent_holds_nobody_beyond_the_deadline() {
        let (_silent, name) = mpsc::channel();
        let resolved = resolve(Silent(name), Instant::now() + Duration::from_millis(20));
        assert_eq!(resolved.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_name_without_an_address_is_not_found() {
        let (goes, name) = mpsc::channel();
        drop(goes);
        let resolved = resolve(Silent(name), Instant::now() + Duration::from_secs(30));
        assert_eq!(resolved.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn each_address_has_its_share_of_the_time_and_the_last_one_says_why() {
        let addresses: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]
            .map(|address| address.parse().unwrap())
            .into();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut shares = Vec::new();
        let refused: io::Result<()> = dial_each(&addresses, deadline, |address, share| {
            shares.push(share);
            Err(io::Error::other(address.to_string()))
        });
        assert_eq!(refused.unwrap_err().to_string(), "10.0.0.3:1");
        let about = |seconds| Duration::from_secs(seconds - 5)..=Duration::from_secs(seconds);
        assert!(
            about(20).contains(&shares[0]) && about(30).contains(&shares[1]),
            "{shares:?}"
        );
        assert!(about(60).contains(&shares[2]), "{shares:?}");
        let too_late: io::Result<()> = dial_each(&addresses, Instant::now(), |_, _| Ok(()));
        assert_eq!(too_late.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn one_host_is_one_source_whichever_of_its_addresses_it_comes_from() {
        let source = |address: &str| source_of(address.parse().unwrap());
        assert_eq!(source("10.0.0.1"), "10.0.0.1");
        assert_eq!(source("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn both_sides_write_an_end_alike_and_one_that_means_something_on_its_own_host_alone_not_at_all() {
        let ends = |own: &str, peer: &str| ends(own.parse().unwrap(), peer.parse().unwrap());
        let dialer = ends("10.0.0.2:51000", "10.0.0.1:7000").unwrap();
        let listener = ends("[::ffff:10.0.0.1]:7000", "[::ffff:10.0.0.2]:51000").unwrap();
        assert_eq!(
            (dialer.own.as_str(), dialer.peer.as_str()),
            ("10.0.0.2:51000", "10.0.0.1:7000")
        );
        assert!(dialer.meet(&listener) && listener.meet(&dialer));
        assert!(!dialer.meet(&dialer));
        // Somebody in between dials anew, or changes one of the addresses.
        for other in [
            ends("10.0.0.1:7000", "10.0.0.2:51001"),
            ends("10.0.0.1:7001", "10.0.0.2:51000"),
            ends("10.0.0.3:7000", "10.0.0.2:51000"),
        ] {
            assert!(!dialer.meet(&other.unwrap()));
        }
        assert_eq!(ends("[fe80::1%2]:7000", "[fe80::2%2]:51000"), None);
    }
}
