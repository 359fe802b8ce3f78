//! The programs themselves, as processes, over each transport that needs no device.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Longer than any of the programs may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

struct Program {
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Program {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take().unwrap();
        let child = Arc::new(Mutex::new(child));
        // What waits for its output waits no longer than this.
        std::thread::spawn({
            let child = child.clone();
            move || {
                std::thread::sleep(PATIENCE);
                let _ = child.lock().unwrap().kill();
            }
        });
        Program { child, input, output }
    }

    fn hears(&mut self, wanted: &str) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.trim_end() == wanted {
                return;
            }
            line.clear();
        }
        panic!("ended before {wanted:?}");
    }

    /// The next line, without `prefix`.
    fn line(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix(prefix).expect(prefix).to_owned()
    }

    fn says(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

const CHAT: &str = env!("CARGO_BIN_EXE_chat");
const ACCOUNTS: &str = env!("CARGO_BIN_EXE_accounts");
const TRACED: &str = env!("CARGO_BIN_EXE_traced");

fn chat(listen: &str) {
    let mut room = Program::start(CHAT, &["room", listen]);
    let address = room.line("open at ");
    let join = |name| Program::start(CHAT, &["join", &address, name]);
    let mut ada = join("Ada");
    ada.hears("Ada is here");
    let mut charles = join("Charles");
    charles.hears("Ada is here");
    charles.hears("Charles is here");
    ada.hears("Charles is here");
    charles.says("What is it worth?");
    ada.hears("Charles: What is it worth?");
    ada.says("Everything.");
    charles.hears("Ada: Everything.");
    charles.says("My last words");
    charles.hears("Charles: My last words");
    charles.kill();
    // Behind the last words.
    ada.hears("Charles: My last words");
    ada.hears("Charles has left");
    room.kill();
    let mut rest = String::new();
    assert_eq!(ada.output.read_line(&mut rest).unwrap(), 0, "{rest}");
}

fn ask(arguments: &[&str]) -> String {
    run(ACCOUNTS, arguments).trim().to_owned()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn accounts(listen: &str) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let mut service = Program::start(ACCOUNTS, &["serve", listen, dir]);
    let opened = service.line("open at ");
    let address = opened.split(',').next().unwrap().to_owned();
    assert_eq!(ask(&["deposit", &address, "17", "100", "one"]), "100");
    assert_eq!(ask(&["withdraw", &address, "17", "30", "two"]), "70");
    assert_eq!(
        ask(&["withdraw", &address, "17", "71", "three"]),
        "refused: there is only 70"
    );
    service.kill();
    let mut service = Program::start(ACCOUNTS, &["serve", &address, dir]);
    assert_eq!(service.line("open at "), format!("{address}, 3 events"));
    assert_eq!(
        ask(&["withdraw", &address, "17", "30", "two"]),
        "70",
        "the same command"
    );
    assert_eq!(ask(&["deposit", &address, "17", "1", "four"]), "71");
    assert_eq!(ask(&["balance", &address, "17"]), "71");
}

/// A span as the exporter prints it: what stands behind a label.
fn field<'s>(span: &'s str, label: &str) -> &'s str {
    let line = span.lines().find(|line| line.trim_start().starts_with(label));
    line.and_then(|line| line.split(": ").nth(1)).expect(label).trim()
}

/// The spans of an exporter's output, by name.
fn span<'s>(printed: &'s str, name: &str) -> &'s str {
    let mut spans = printed.split("Span #").skip(1);
    spans
        .find(|span| {
            span.lines()
                .any(|line| line.trim() == format!("Name         : {name}"))
        })
        .expect(name)
}

fn traced(listen: &str) {
    let mut service = Program::start(TRACED, &["serve", listen]);
    let address = service.line("open at ");
    let ours = run(TRACED, &["order", &address, "a hat"]);
    assert!(ours.lines().any(|line| line == "50"), "{ours}");
    // Of the server's spans the outermost is the last to end, and the line of its parent is enough of it.
    let mut theirs = String::new();
    while !theirs
        .rsplit("Span #")
        .next()
        .is_some_and(|last| last.contains(": receive") && last.contains("ParentSpanId"))
    {
        assert!(service.output.read_line(&mut theirs).unwrap() > 0, "{theirs}");
    }
    let (order, send) = (span(&ours, "order"), span(&ours, "send"));
    let (receive, look_up) = (span(&theirs, "receive"), span(&theirs, "look_up"));
    for span in [send, receive, look_up] {
        assert_eq!(field(span, "TraceId"), field(order, "TraceId"));
    }
    for (child, parent) in [(send, order), (receive, send), (look_up, receive)] {
        assert_eq!(field(child, "ParentSpanId"), field(parent, "SpanId"));
    }
    assert!(!ours.contains("a hat") && !theirs.contains("a hat"));
}

#[test]
fn a_trace_over_tcp() {
    traced("tcp://127.0.0.1:0");
}

#[test]
fn a_trace_over_shared_memory() {
    traced(&format!("shm://@traced-{}", std::process::id()));
}

#[test]
fn a_chat_over_tcp() {
    chat("tcp://127.0.0.1:0");
}

#[test]
fn a_chat_over_shared_memory() {
    chat(&format!("shm://@chat-{}", std::process::id()));
}

#[test]
fn accounts_over_tcp() {
    accounts("tcp://127.0.0.1:0");
}

#[test]
fn accounts_over_shared_memory() {
    accounts(&format!("shm://@accounts-{}", std::process::id()));
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let chat = env!("CARGO_BIN_EXE_chat");
    let accounts = env!("CARGO_BIN_EXE_accounts");
    for (program, arguments, words) in [
        (chat, &["room"][..], "chat room ADDRESS, or"),
        (chat, &["room", "tcp://127.0.0.1"], "the port is missing"),
        (
            accounts,
            &["balance", "tcp://127.0.0.1:1", "mine"],
            "mine: invalid digit",
        ),
    ] {
        let ended = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && !said.contains('{'), "{said}");
    }
}

#[test]
fn each_program_has_less_than_150_lines() {
    for program in ["chat", "accounts", "traced"] {
        let path = format!("{}/src/bin/{program}.rs", env!("CARGO_MANIFEST_DIR"));
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert!(lines < 150, "{program} has {lines} lines");
    }
}
