//! The TCP link: spans of a send ring go out of a socket, and the peer reads them straight into its receive ring.
