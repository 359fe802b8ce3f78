//! Links over real sockets: two threads, two processes, and peers that do not behave.

mod end;
mod handshake;
mod listening;
mod processes;
mod threads;
