//! The far process: reads what to be and what to do from its standard input, and ends when that ends.

use std::io::{BufRead, Write};
use std::sync::mpsc::{self, Receiver};

use super::control::{FarReport, ToFar, ToNear};
use super::role::Kind;
use crate::clock;
use crate::error::{Error, doing};
use crate::wait::Gone;

/// The whole life of the far process, which can be told to be one of these kinds.
pub(crate) fn serve(kinds: &[Kind]) -> Result<(), Error> {
    crate::tied::die_with_parent()?;
    let orders = read_orders();
    let served = obey(&orders, kinds);
    if let Err(error) = &served {
        say(&ToNear::Failed {
            reason: error.to_string(),
        })?;
    }
    served
}

fn obey(orders: &Receiver<ToFar>, kinds: &[Kind]) -> Result<(), Error> {
    let Ok(ToFar::Open { kind, role }) = orders.recv() else {
        return Err(Error::NotAChild);
    };
    let Some(kind) = kinds.iter().find(|known| known.name == kind) else {
        return Err(Error::NotAChild);
    };
    // Now, for the first call takes its time.
    clock::ns_per_tick();
    let mut far = (kind.open)(role)?;
    say(&ToNear::Ready {
        address: far.address()?,
    })?;
    let never_gone = Gone::new(false);
    far.meet(&never_gone)?;
    while let Ok(order) = orders.recv() {
        let ToFar::Begin(plan) = order else {
            return Err(Error::NotAChild);
        };
        say(&ToNear::Begun)?;
        let (cpu_before, began_ns) = (clock::cpu_ns(), clock::monotonic_ns());
        far.run(&plan, &never_gone)?;
        let (finished_ns, cpu_so_far_ns) = (clock::monotonic_ns(), clock::cpu_ns());
        let report = FarReport {
            began_ns,
            finished_ns,
            cpu_ns: cpu_so_far_ns - cpu_before,
            cpu_so_far_ns,
            ..far.report()
        };
        say(&ToNear::Finished(report))?;
    }
    Ok(())
}

/// Reads orders on a thread of its own, which ends the process with the pipe: so also a far half that is deep
/// in a loop does not outlive its parent.
fn read_orders() -> Receiver<ToFar> {
    let (orders, received) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { break };
            if orders.send(order).is_err() {
                return;
            }
        }
        // An empty or garbled first line is a person trying the hidden command: let them have the message.
        drop(orders);
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::process::exit(1);
    });
    received
}

fn say(word: &ToNear) -> Result<(), Error> {
    let line = serde_json::to_string(word).map_err(doing("writing a control line"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(doing("writing to the control pipe"))
}
