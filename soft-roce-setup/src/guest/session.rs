//! Guests that run one command together: started, watched, and ended, whatever happens.
//!
//! | what happens | the run ends with |
//! | --- | --- |
//! | every command ended and its output is out | the first status that is not 0, or 0 |
//! | one ended badly and the others go on for `AFTER_FAILURE` | that status |
//! | a guest is not up by the boot deadline | an error, the console's last lines |
//! | the whole deadline passes | an error, the console's last lines |
//! | QEMU ends, the kernel panics | an error, the console's last lines |
//! | SIGINT, SIGTERM, SIGHUP; nobody reads our output | an error that stands for 128 + signal |

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::console::Console;
use super::forward::{forward, unbuffered};
use super::initramfs::STARTED;
use super::machine::{Accelerator, Machine, MachineError, Plan, Ports};
use super::ports::{GO, Message};
use crate::signals::Signals;
use crate::words::remark;

/// Other nodes' time to notice that one has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How often signals, deadlines and consoles are looked at while nothing is said.
const TICK: Duration = Duration::from_millis(50);

/// How much of a console is shown: a kernel that panics says its reason 40 lines before its last word.
const SHOWN_LINES: usize = 60;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) first_word: Duration,
    pub(crate) boot: Duration,
    pub(crate) whole: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the kernel of guest {node} said nothing in {seconds:.0} s under {accelerator}{console}")]
    Silent {
        node: u32,
        seconds: f64,
        accelerator: Accelerator,
        console: Shown,
    },
    #[error(
        "guest {node} was not up after {seconds:.0} s under {accelerator} (longer: --boot-deadline){console}"
    )]
    Boot {
        node: u32,
        seconds: f64,
        accelerator: Accelerator,
        console: Shown,
    },
    #[error("the command in guest {node} was not done after {seconds:.0} s (longer: --deadline){console}")]
    Deadline { node: u32, seconds: f64, console: Shown },
    #[error("guest {node} ended ({status}) {when}{console}")]
    Ended {
        node: u32,
        status: String,
        when: &'static str,
        before_it_was_up: bool,
        console: Shown,
    },
    #[error("guest {node} gave up: {why}{console}")]
    GaveUp { node: u32, why: String, console: Shown },
    #[error("ended by signal {signal}")]
    Signal { signal: i32 },
    #[error("nobody reads the output any more")]
    OutputClosed,
}

impl SessionError {
    /// Whether the guest did not come up, so that another accelerator may do better.
    pub(crate) fn is_before_it_was_up(&self) -> bool {
        matches!(
            self,
            Self::Silent { .. }
                | Self::Boot { .. }
                | Self::Ended {
                    before_it_was_up: true,
                    ..
                }
        )
    }

    /// The error without the console.
    pub(crate) fn summary(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }
}

/// The end of a guest's console, under a heading.
#[derive(Debug)]
pub(crate) struct Shown(String);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return write!(f, "\n--- the guest's console is empty ---");
        }
        write!(f, "\n--- the guest's console, last lines ---\n{}\n---", self.0)
    }
}

/// The ends of the cables for each of `nodes` guests: the first is in the middle of a star.
pub(crate) fn star(nodes: u32) -> std::io::Result<VecDeque<Vec<UnixStream>>> {
    let mut ends = VecDeque::from([Vec::new()]);
    for _ in 1..nodes {
        let (middle, outer) = UnixStream::pair()?;
        ends[0].push(middle);
        ends.push_back(vec![outer]);
    }
    Ok(ends)
}

enum Event {
    Said(Message),
    /// The control port is closed: QEMU has ended or is about to.
    Silence,
    Carried {
        stream: Stream,
        count: u64,
    },
    OutputClosed,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// How far a guest has come. The order is the order of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Off,
    KernelStarted,
    Hello,
    Ready,
    Running,
    Ended,
}

struct Guest {
    machine: Machine,
    console: Console,
    control: UnixStream,
    phase: Phase,
    carried: [u64; 2],
    /// The exit status, and how much output belongs to it.
    outcome: Option<(i32, [u64; 2])>,
    gone: bool,
    forwarders: Vec<JoinHandle<()>>,
}

impl Guest {
    fn is_done(&self) -> bool {
        self.outcome
            .is_some_and(|(_, expected)| self.gone || self.carried >= expected)
    }
}

pub(crate) struct Session {
    accelerator: Accelerator,
    limits: Limits,
    verbose: bool,
    started: Instant,
    guests: Vec<Guest>,
    events: Receiver<(usize, Event)>,
    sender: Sender<(usize, Event)>,
    /// The first status that was not 0, and when it came.
    failure: Option<(i32, Instant)>,
}

impl Session {
    pub(crate) fn new(accelerator: Accelerator, limits: Limits, verbose: bool) -> Self {
        let (sender, events) = channel();
        let started = Instant::now();
        Self {
            accelerator,
            limits,
            verbose,
            started,
            guests: Vec::new(),
            events,
            sender,
            failure: None,
        }
    }

    /// Starts the next guest. Must be called on a thread that outlives the session.
    pub(crate) fn start(&mut self, plan: Plan<'_>) -> Result<(), MachineError> {
        let prefix = (plan.node > 1 || !plan.cables.is_empty()).then(|| format!("[{}] ", plan.node));
        let (
            machine,
            Ports {
                control,
                stdout,
                stderr,
                console,
            },
        ) = Machine::start(plan)?;
        let index = self.guests.len();
        self.listen(index, control.try_clone().map_err(MachineError::Prepare)?);
        let our_stdout = unbuffered(std::io::stdout()).map_err(MachineError::Prepare)?;
        let our_stderr = unbuffered(std::io::stderr()).map_err(MachineError::Prepare)?;
        let forwarders = vec![
            self.carry(index, Stream::Stdout, stdout, our_stdout, prefix.clone()),
            self.carry(index, Stream::Stderr, stderr, our_stderr, prefix),
        ];
        self.guests.push(Guest {
            machine,
            console: Console::follow(console),
            control,
            phase: Phase::Off,
            carried: [0; 2],
            outcome: None,
            gone: false,
            forwarders,
        });
        Ok(())
    }

    /// Watches until the end. Every guest is gone when this returns.
    pub(crate) fn drive(mut self, signals: &Signals) -> Result<i32, SessionError> {
        while !self.guests.iter().all(Guest::is_done) {
            match self.events.recv_timeout(TICK) {
                Ok((index, event)) => self.take(index, event)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Some(signal) = signals.received() {
                return Err(SessionError::Signal { signal });
            }
            if self
                .failure
                .is_some_and(|(_, when)| when.elapsed() > AFTER_FAILURE)
            {
                break;
            }
            self.keep_deadlines()?;
        }
        let status = self.failure.map_or(0, |(status, _)| status);
        self.tell(|| format!("done: {status}"));
        self.finish();
        Ok(status)
    }

    fn take(&mut self, index: usize, event: Event) -> Result<(), SessionError> {
        let Some(guest) = self.guests.get_mut(index) else {
            return Ok(());
        };
        match event {
            Event::Said(Message::Hello) => self.reach(index, Phase::Hello),
            Event::Said(Message::Ready) => {
                self.reach(index, Phase::Ready);
                if self.guests.iter().all(|guest| guest.phase == Phase::Ready) {
                    for index in 0..self.guests.len() {
                        self.reach(index, Phase::Running);
                        // A guest that has just died is noticed by its silence.
                        let _ = writeln!(self.guests[index].control, "{GO}");
                    }
                }
            }
            Event::Said(Message::Failed(why)) => {
                return Err(SessionError::GaveUp {
                    node: number(index),
                    why,
                    console: self.shown(index),
                });
            }
            Event::Said(Message::Ended {
                status,
                stdout,
                stderr,
            }) => {
                guest.outcome = Some((status, [stdout, stderr]));
                if status != 0 && self.failure.is_none() {
                    self.failure = Some((status, Instant::now()));
                }
                self.reach(index, Phase::Ended);
            }
            Event::Carried { stream, count } => guest.carried[stream as usize] = count,
            Event::Silence => {
                guest.gone = true;
                if guest.outcome.is_none() {
                    return Err(self.ended_early(index));
                }
            }
            Event::OutputClosed => return Err(SessionError::OutputClosed),
        }
        Ok(())
    }

    fn keep_deadlines(&mut self) -> Result<(), SessionError> {
        let elapsed = self.started.elapsed();
        let seconds = elapsed.as_secs_f64();
        for index in 0..self.guests.len() {
            let guest = &self.guests[index];
            if guest.phase == Phase::Off && guest.console.contains(STARTED) {
                self.reach(index, Phase::KernelStarted);
            }
            let guest = &self.guests[index];
            let (node, accelerator) = (number(index), self.accelerator);
            let console = || self.shown(index);
            if guest.phase == Phase::Off && elapsed > self.limits.first_word {
                return Err(SessionError::Silent {
                    node,
                    seconds,
                    accelerator,
                    console: console(),
                });
            }
            if guest.phase < Phase::Ready && elapsed > self.limits.boot {
                return Err(SessionError::Boot {
                    node,
                    seconds,
                    accelerator,
                    console: console(),
                });
            }
            if !guest.is_done() && elapsed > self.limits.whole {
                return Err(SessionError::Deadline {
                    node,
                    seconds,
                    console: console(),
                });
            }
        }
        Ok(())
    }

    fn ended_early(&mut self, index: usize) -> SessionError {
        let noticed = Instant::now();
        let status = loop {
            if let Some(status) = self.guests[index].machine.ended() {
                break status.to_string();
            }
            if noticed.elapsed() > Duration::from_secs(5) {
                break "still running, and deaf".to_owned();
            }
            std::thread::sleep(TICK);
        };
        // The console's last words may still be on their way to us.
        std::thread::sleep(TICK);
        let before_it_was_up = self.guests[index].phase < Phase::Ready;
        let when = if before_it_was_up {
            "before it was up"
        } else {
            "under its command"
        };
        let console = self.shown(index);
        SessionError::Ended {
            node: number(index),
            status,
            when,
            before_it_was_up,
            console,
        }
    }

    fn reach(&mut self, index: usize, phase: Phase) {
        self.guests[index].phase = phase;
        self.tell(|| format!("guest {}: {phase:?}", number(index)));
    }

    fn tell(&self, words: impl FnOnce() -> String) {
        if self.verbose {
            remark(format_args!(
                "{:6.2} s  {}",
                self.started.elapsed().as_secs_f64(),
                words()
            ));
        }
    }

    fn shown(&self, index: usize) -> Shown {
        Shown(self.guests[index].console.tail(SHOWN_LINES))
    }

    /// Ends the machines, and lets the last unfinished lines out.
    fn finish(self) {
        let mut forwarders = Vec::new();
        for guest in self.guests {
            drop(guest.machine);
            forwarders.extend(guest.forwarders);
        }
        let since = Instant::now();
        while forwarders.iter().any(|f| !f.is_finished()) && since.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn listen(&self, index: usize, control: UnixStream) {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(control).lines() {
                let Ok(line) = line else { break };
                let message = line
                    .parse()
                    .unwrap_or_else(|error| Message::Failed(format!("{error}")));
                if sender.send((index, Event::Said(message))).is_err() {
                    return;
                }
            }
            let _ = sender.send((index, Event::Silence));
        });
    }

    fn carry(
        &self,
        index: usize,
        stream: Stream,
        from: UnixStream,
        to: std::fs::File,
        prefix: Option<String>,
    ) -> JoinHandle<()> {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let carried = |count| drop(sender.send((index, Event::Carried { stream, count })));
            if forward(from, to, prefix.as_deref(), carried).is_err() {
                let _ = sender.send((index, Event::OutputClosed));
            }
        })
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}
