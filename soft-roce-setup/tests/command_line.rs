//! What is said to those who ask for what cannot be. No guest is started here.

mod program;

use program::{PROGRAM, command, run};

#[test]
fn an_unknown_flag_is_named() {
    let ran = run(["run", "--gest", "--", "true"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("--gest"), "{}", ran.stderr);
}

#[test]
fn a_missing_command_is_asked_for() {
    for arguments in [&["run"][..], &["run", "--guest"], &["run", "--"]] {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}");
        assert!(ran.stderr.contains("COMMAND"), "{}", ran.stderr);
    }
}

#[test]
fn native_and_guest_exclude_each_other() {
    let ran = run(["run", "--native", "--guest", "--", "true"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for option in [
        ["--nodes", "0"],
        ["--nodes", "9"],
        ["--nodes", "-1"],
        ["--deadline", "0"],
        ["--memory", "1M"],
        ["--memory", "lots"],
        ["--cpus", "0"],
        ["--pmem", "300M"],
    ] {
        let ran = run(["run", option[0], option[1], "--", "true"]);
        assert_eq!(ran.status, Some(2), "{option:?}: {}", ran.stderr);
    }
}

#[test]
fn a_command_that_is_nowhere_is_127_at_once() {
    for name in ["no-such-command-anywhere", "./no-such-file", ""] {
        let ran = run(["run", "--guest", "--", name]);
        assert_eq!(ran.status, Some(127), "{name:?}");
        assert!(ran.stderr.contains("no command"), "{}", ran.stderr);
    }
}

#[test]
fn a_command_that_may_not_be_executed_is_126() {
    let ran = run(["run", "--guest", "--", "/etc/passwd"]);
    assert_eq!(ran.status, Some(126));
    assert!(ran.stderr.contains("/etc/passwd"), "{}", ran.stderr);
}

#[test]
fn without_qemu_the_package_is_named() {
    let ran: program::Ran = command(["run", "--guest", "--", "/bin/true"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("qemu-system-x86"), "{}", ran.stderr);
    assert!(ran.stderr.contains("install --yes"), "{}", ran.stderr);
}

#[test]
fn an_output_folder_that_cannot_be_is_named() {
    for folder in ["/proc/nowhere", "/etc/passwd/x", "/", "/usr"] {
        let ran = run(["run", "--guest", "--output", folder, "--", "true"]);
        assert_eq!(ran.status, Some(125), "{folder}");
        assert!(ran.stderr.contains(folder), "{}", ran.stderr);
    }
}

#[test]
fn doctor_answers_in_json_and_its_status_agrees() {
    for path in [None, Some("/nonexistent")] {
        let mut doctor = command(["doctor", "--json"]);
        if let Some(path) = path {
            doctor.env("PATH", path);
        }
        let ran: program::Ran = doctor.output().unwrap().into();
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON object");
        let can_run = answer["native"] == true || answer["guest"] == true;
        assert_eq!(ran.status, Some(i32::from(!can_run)));
        let checks = answer["checks"].as_array().expect("a list of checks");
        for check in checks {
            // Every lack comes with what mends it, and nothing else does.
            assert_eq!(check["mend"].is_string(), check["ok"] == false, "{check}");
        }
        if path.is_some() {
            assert_eq!(answer["guest"], false, "without QEMU there is no guest");
        }
    }
}

#[test]
fn doctor_says_that_a_kernel_has_nowhere_to_go() {
    let ran: program::Ran = command(["doctor", "--json"])
        .env("XDG_CACHE_HOME", "/dev/null/nowhere")
        .output()
        .unwrap()
        .into();
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON object");
    let checks = answer["checks"].as_array().expect("a list of checks");
    let kernel = checks
        .iter()
        .find(|check| check["name"] == "the guest's kernel")
        .expect("a check of the kernel");
    assert_eq!((&kernel["ok"], &answer["guest"]), (&false.into(), &false.into()));
    assert!(kernel["mend"].to_string().contains("XDG_CACHE_HOME"), "{kernel}");
}

#[test]
fn doctor_and_install_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [&["doctor"][..], &["install"]] {
        command(arguments)
            .env("HOME", home.path())
            .env_remove("XDG_CACHE_HOME")
            .output()
            .unwrap();
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn install_names_what_is_needed_where_apt_is_missing() {
    let ran: program::Ran = command(["install", "--yes"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("qemu-system-x86_64"), "{}", ran.stderr);
}

#[test]
fn up_names_the_network_devices_there_are() {
    let ran = run(["up", "--netdev", "no-such-dev"]);
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("no-such-dev"), "{}", ran.stderr);
}

#[test]
fn the_guests_part_refuses_to_run_outside() {
    let ran = run(["inside"]);
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("soft-roce-setup run"), "{}", ran.stderr);
}

#[test]
fn a_launched_program_refuses_to_live_without_its_parent() {
    let ran = run(["launch", "1", "/bin/true"]);
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("parent"), "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let line =
        format!("{PROGRAM} doctor | true; {PROGRAM} doctor --json 2>&1 | true; {PROGRAM} doctor >&- 2>&-");
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
