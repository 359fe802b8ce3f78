//! `doctor`: what this machine has and lacks, and the command that mends each lack. It changes nothing.

mod checks;

use crate::words::print;
use serde_json::json;

/// What a check is about, which decides whether `run` can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    /// A run on this machine's own kernel cannot do without it.
    Native,
    /// A run in a guest cannot do without it.
    Guest,
    /// Good to have: faster, or needed by a part only.
    Extra,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Guest => "guest",
            Self::Extra => "extra",
        }
    }
}

struct Check {
    name: &'static str,
    topic: Topic,
    good: bool,
    found: String,
    /// The command or the step that mends a lack.
    mend: Option<String>,
}

/// What `run` can do here.
struct Verdict {
    native: bool,
    guest: bool,
}

/// Prints the findings; whether `run` can work.
pub(crate) fn doctor(as_json: bool) -> bool {
    let checks = checks::all();
    let holds = |topic| {
        checks
            .iter()
            .filter(|check| check.topic == topic)
            .all(|check| check.good)
    };
    let verdict = Verdict {
        native: holds(Topic::Native),
        guest: holds(Topic::Guest),
    };
    if as_json {
        print_json(&checks, &verdict);
    } else {
        print_table(&checks, &verdict);
    }
    verdict.native || verdict.guest
}

fn print_table(checks: &[Check], verdict: &Verdict) {
    for (topic, heading) in [
        (Topic::Native, "On this machine's own kernel"),
        (Topic::Guest, "In a QEMU guest"),
        (Topic::Extra, "Good to have"),
    ] {
        print(heading);
        for check in checks.iter().filter(|check| check.topic == topic) {
            print(format_args!(
                "  {} {:<22} {}",
                if check.good { "ok  " } else { "lack" },
                check.name,
                check.found
            ));
            if let Some(mend) = check.mend.as_ref().filter(|_| !check.good) {
                print(format_args!("       {:<22} -> {mend}", ""));
            }
        }
        print("");
    }
    print(summary(verdict));
}

fn summary(verdict: &Verdict) -> &'static str {
    match (verdict.native, verdict.guest) {
        (true, _) => "`soft-roce-setup run` works here, on this machine's own kernel.",
        (false, true) => "`soft-roce-setup run` works here, in a guest.",
        (false, false) => {
            "`soft-roce-setup run` cannot work here yet: mend what lacks under one of the first two headings."
        }
    }
}

fn print_json(checks: &[Check], verdict: &Verdict) {
    let all: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "topic": check.topic.name(),
                "ok": check.good,
                "found": check.found,
                "mend": check.mend.as_ref().filter(|_| !check.good),
            })
        })
        .collect();
    print(
        json!({ "native": verdict.native, "guest": verdict.guest, "summary": summary(verdict), "checks": all }),
    );
}
