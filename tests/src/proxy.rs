//! A TCP proxy that misbehaves on request: the cable between two nodes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

struct Shared {
    target: SocketAddr,
    /// Stops listening when somebody connects next.
    stops: AtomicBool,
    /// Accepts nobody while set.
    closed: AtomicBool,
    /// Carries nothing while set, and says nothing.
    silent: AtomicBool,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// Forwards every connection to its target.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// A proxy in front of `target`, on a port that the system chooses.
    ///
    /// # Errors
    /// The system's, when there is no port.
    pub fn start(target: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            stops: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let serving = Mutex::new(Some(serve(listener, shared.clone())));
        Ok(Proxy {
            address,
            shared,
            serving,
        })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has carried.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many it has turned away.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Cuts every connection now: both ends see it closed.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Resets every connection now: both ends get a RST, and what was on its way is gone.
    pub fn reset(&self) {
        for stream in self.shared.open.lock().expect("not poisoned").drain(..) {
            let _ = rustix::net::connect_unspec(&stream);
        }
    }

    /// Ends its listening socket, as the end of its process would: the system refuses whoever dials it.
    ///
    /// # Panics
    /// When it can't be dialled.
    pub fn stop_listening(&self) {
        let serving = self.serving.lock().expect("not poisoned").take();
        self.shared.stops.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).expect("it listens");
        serving.map(JoinHandle::join);
        self.shared.stops.store(false, Ordering::SeqCst);
    }

    /// Listens again at its address.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn listen_again(&self) {
        let listener = TcpListener::bind(self.address).expect("its own address");
        *self.serving.lock().expect("not poisoned") = Some(serve(listener, self.shared.clone()));
    }

    /// Turns connections away from now on, or accepts them again.
    pub fn refuse(&self, refuse: bool) {
        self.shared.closed.store(refuse, Ordering::SeqCst);
    }

    /// Swallows everything from now on without a word, or carries again.
    pub fn silence(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }
}

fn carry(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        while shared.silent.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if shared.stops.load(Ordering::SeqCst) {
                return;
            }
            if shared.closed.load(Ordering::SeqCst) {
                shared.refused.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            let Ok(server) = TcpStream::connect(shared.target) else {
                continue;
            };
            let carried = [(&client, &server), (&server, &client)].map(|(from, to)| {
                let _ = from.set_nodelay(true);
                from.try_clone().and_then(|from| Ok((from, to.try_clone()?)))
            });
            // Before anything goes over it, so that whoever has seen it carry can cut it.
            shared.open.lock().expect("not poisoned").extend([client, server]);
            shared.accepted.fetch_add(1, Ordering::SeqCst);
            for (from, to) in carried.into_iter().flatten() {
                let shared = shared.clone();
                thread::spawn(move || carry(&shared, from, to));
            }
        }
    })
}
