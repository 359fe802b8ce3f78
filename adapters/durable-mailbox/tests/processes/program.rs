//! Processes that are killed and started again: this program, in another role.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pmem_journal::{Journal, Mode, Options};
use transport::{Node, Timing};
use transport_rdma::Shm;
use transport_tcp::Tcp;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const ROLE: &str = "DURABLE_MAILBOX_ROLE";

/// The test that a process in a role runs.
const IN_ITS_ROLE: &str = "a_process_in_its_role";

/// The transport that those tests use which don't choose one: from the environment, `tcp`, `shm` or `rdma`; TCP by default.
pub(crate) fn chosen_transport() -> String {
    std::env::var("TRANSPORT").unwrap_or_else(|_| "tcp".into())
}

/// An address of a transport that nobody listens on, for a process that will come back to it. A socket's path is in `dir`.
pub(crate) fn free_address(scheme: &str, dir: &Path) -> String {
    static SOCKETS: AtomicUsize = AtomicUsize::new(0);
    if scheme == "shm" {
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        return format!("shm://{}/{number}.sock", dir.display());
    }
    // RDMA sessions are made over a socket, too. Its host is the device's, which need not be loopback.
    let host = match scheme {
        "rdma" => std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into()),
        _ => "127.0.0.1".into(),
    };
    let listener = TcpListener::bind((host, 0)).unwrap();
    format!("{scheme}://{}", listener.local_addr().unwrap())
}

pub(crate) fn node(name: &str, listen: Option<&str>) -> Arc<Node> {
    let timing = Timing {
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(2),
        resume_window: Duration::from_secs(1),
        better_link: Duration::from_secs(1),
    };
    let builder = Node::builder(name)
        .secret(b"durable mailboxes, a shared secret")
        .timing(timing)
        .transport(Tcp::new())
        .transport(Shm::new());
    #[cfg(feature = "verbs")]
    let builder = match transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()) {
        Ok(rdma) => builder.transport(rdma),
        // No device: then `rdma://…` is refused as unknown, and nothing else needs one.
        Err(_) => builder,
    };
    let builder = match listen {
        Some(address) => builder.listen(address),
        None => builder,
    };
    Arc::new(builder.start().unwrap())
}

pub(crate) fn journal(mode: Mode, dir: &Path) -> Arc<Journal> {
    let options = Options::new().require(mode).segment_size(4 << 20);
    Arc::new(Journal::open_with(dir, &options).unwrap().0)
}

/// The role that this process was started in, with its arguments; none for the test itself.
pub(crate) fn role() -> Option<Vec<String>> {
    let role = std::env::var(ROLE).ok()?;
    Some(role.split('\n').map(str::to_owned).collect())
}

/// A process of ours. Dies with this one: its input ends.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this program in a role.
    pub(crate) fn start(role: &[&str]) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", IN_ITS_ROLE, "--nocapture", "--test-threads", "1"])
            .env(ROLE, role.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let input = child.stdin.take().unwrap();
        Process { child, input, lines }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        // It may be dead: then nobody listens.
        let _ = writeln!(self.input, "{line}");
    }

    /// The rest of the next line that starts with `prefix`; `None` when the process ended first.
    ///
    /// # Panics
    /// When there is none in time.
    pub(crate) fn heard(&mut self, prefix: &str) -> Option<String> {
        loop {
            // It has its own patience, and then something to say.
            let line = match self.lines.recv_timeout(2 * PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no {prefix:?} in time"),
            };
            // The test harness writes on the same line before it starts a test.
            if let Some(at) = line.find(prefix) {
                return Some(line[at + prefix.len()..].trim().to_owned());
            }
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of this process's input, each handed to `obey`; at its end this process ends.
pub(crate) fn obey_lines(mut obey: impl FnMut(&str) + Send + 'static) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            obey(&line);
        }
        std::process::exit(0);
    });
}

/// How often something is done: from the environment, or few times.
pub(crate) fn times(variable: &str, few: usize) -> usize {
    match std::env::var(variable) {
        Ok(number) => number
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={number}: not a number")),
        Err(_) => few,
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
