//! Each deliberate breakage of the session code is caught by the simulator. Says by what, and in which history.

use transport::sim::{Breakage, run, while_broken};

/// Histories in which a breakage has to show.
const HISTORIES: u64 = 10_000;

#[test]
fn every_breakage_shows_in_some_history() {
    // Broken code panics where it finds itself broken: that is a catch, too, and needs no backtrace.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for breakage in Breakage::ALL {
        let caught = while_broken(breakage, || (1..=HISTORIES).find_map(|seed| run(seed).err()));
        match caught {
            Some(failure) => {
                let first: String = failure.violations[0].chars().take(110).collect();
                println!("{breakage:?}: seed {}: {first}", failure.seed);
            }
            None => missed.push(breakage),
        }
    }
    let _ = std::panic::take_hook();
    assert!(
        missed.is_empty(),
        "not caught in {HISTORIES} histories: {missed:?}"
    );
}
