//! The other process of a test: the test's own binary, started again to run one of its functions, and killed at the end.
//!
//! The function is a `#[test]` that does nothing unless [`Role::taken`] says that it is the other process; it reports by
//! lines that start with a mark, among whatever else the test harness prints.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, waitpid,
};

use crate::audit::PATIENCE;

const ROLE: &str = "TRANSPORT_TEST_ROLE";
const MARK: &str = "told: ";

/// Lets this process open as many files as its limit may be raised to: sessions over shared memory take several each.
///
/// # Panics
/// When the limit can't be raised.
pub fn allow_many_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).expect("as many descriptors as are allowed");
}

/// What the other process was started for.
pub struct Role(String);

impl Role {
    /// What this process was started for, if it is the other process of a test. Then it ends when the test does, however that
    /// ends.
    pub fn taken() -> Option<Role> {
        let role = std::env::var(ROLE).ok().map(Role)?;
        thread::spawn(|| {
            // The other end of the input is the test's.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
        Some(role)
    }

    /// The argument that [`OtherProcess::start`] was given.
    pub fn argument(&self) -> &str {
        &self.0
    }

    /// Tells the test something, in one line.
    pub fn tell(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // A test that is gone does not listen.
        let _ = writeln!(out, "\n{MARK}{line}");
        let _ = out.flush();
    }
}

/// The other process. Dropping it kills it.
pub struct OtherProcess {
    child: Child,
    told: Receiver<String>,
}

impl OtherProcess {
    /// Starts this test's binary again, to run `function` with `argument`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(function: &str, argument: &str) -> OtherProcess {
        let mut child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args(["--exact", function, "--nocapture", "--include-ignored"])
            .env(ROLE, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test's own binary");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, told) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK) {
                    let _ = tell.send(line.to_owned());
                }
            }
        });
        OtherProcess { child, told }
    }

    /// The next thing it tells.
    ///
    /// # Panics
    /// When it is over, or nothing comes in time.
    pub fn told(&self) -> String {
        self.told_within(PATIENCE)
    }

    /// The next thing it tells.
    ///
    /// # Panics
    /// When it is over, or nothing comes in time.
    pub fn told_within(&self, patience: Duration) -> String {
        self.told
            .recv_timeout(patience)
            .expect("a word from the other process")
    }

    /// Stops it where it is, as a debugger or a paused machine does, or lets it go on. It has stopped when this returns.
    ///
    /// # Panics
    /// When it is gone.
    pub fn stop(&self, stop: bool) {
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("the other process lives");
        if stop {
            // Told when the last of its threads has stopped.
            let (_, status) = waitpid(id, WaitOptions::UNTRACED)
                .expect("a child of this process")
                .expect("waited for");
            assert!(status.stopped(), "the other process ended: {status:?}");
        }
    }

    /// Kills it, as a power cut does: with no chance to say goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
