//! As much of HTTP as it takes to ask an endpoint of ours: one request, one connection, an answer of bounded length.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Error, doing};

const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: u64 = 16 << 20;

/// The host and port of `http://host:port`, of that with a path, or of `host:port` alone.
pub(super) fn host_of(url: &str) -> Result<&str, Error> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(host),
        _ => Err(Error::NotAUrl { url: url.to_owned() }),
    }
}

/// The body at `path`.
pub(super) fn get(host: &str, path: &str) -> Result<String, Error> {
    let asking = || doing(format!("asking http://{host}{path}"));
    let address = host
        .to_socket_addrs()
        .map_err(asking())?
        .next()
        .ok_or_else(|| Error::NotAnEndpoint { url: host.to_owned() })?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|source| Error::NoEndpoint {
        url: format!("http://{host}"),
        source,
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(asking())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(asking())?;
    let mut answer = String::new();
    stream
        .take(LONGEST)
        .read_to_string(&mut answer)
        .map_err(asking())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(Error::NotAnEndpoint {
            url: format!("http://{host}{path}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_with_and_without_scheme_and_path() {
        for url in [
            "http://127.0.0.1:9900",
            "http://127.0.0.1:9900/metrics",
            "127.0.0.1:9900",
        ] {
            assert_eq!(host_of(url).unwrap(), "127.0.0.1:9900");
        }
        assert_eq!(host_of("http://[::1]:9900/").unwrap(), "[::1]:9900");
        for wrong in [
            "",
            "http://",
            "nowhere",
            ":9900",
            "https://127.0.0.1:9900",
            "host:99999",
        ] {
            assert!(host_of(wrong).is_err(), "{wrong}");
        }
    }
}
