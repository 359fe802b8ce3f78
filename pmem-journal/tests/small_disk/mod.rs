//! A file system that is really full, or really read-only: a tmpfs in a mount namespace of a test's own.

#![allow(unreachable_pub)]

use std::path::Path;
use std::process::Command;

/// Runs an ignored test of this program in a mount namespace with a fresh tmpfs of `size` at `dir`; false where that is not allowed.
pub fn run(dir: &Path, size: &str, test: &str) -> bool {
    let script =
        "mount -t tmpfs -o size=$SIZE tmpfs \"$DIR\" && exec \"$0\" --exact $TEST --ignored --nocapture";
    let can = Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .status();
    if !can.is_ok_and(|status| status.success()) {
        let required = std::env::var("JOURNAL_REQUIRE_MOUNT").is_ok_and(|v| v == "1");
        assert!(
            !required,
            "JOURNAL_REQUIRE_MOUNT=1, and unshare --map-root-user --mount does not work here"
        );
        eprintln!("not run: no mount namespaces here (set JOURNAL_REQUIRE_MOUNT=1 to make this a failure)");
        return false;
    }
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .envs([("SIZE", size), ("TEST", test)])
        .env("DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(
        ran.status.success(),
        "{test} failed in its own mount namespace:\n{said}"
    );
    assert!(said.contains("1 passed"), "no test is called {test}:\n{said}");
    true
}
