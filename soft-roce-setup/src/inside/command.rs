//! The command in the guest: started with the caller's surroundings, its output carried out byte for byte.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::network::Network;
use super::{InsideError, pmem, system};
use crate::exit_status::{self, OWN_FAILURE};
use crate::guest::ports::{self, Message};
use crate::job::Job;

/// Runs it to its end. What it left running in the background is ended with it.
pub(super) fn run(job: &Job, network: &Network) -> Result<Message, InsideError> {
    let stdout_port = system::open_port(ports::STDOUT)?;
    let mut stderr_port = system::open_port(ports::STDERR)?;
    let mut command = Command::new(&job.program);
    if let Some(name) = job.argv.first() {
        command.arg0(name);
    }
    command
        .args(job.argv.iter().skip(1))
        .current_dir(&job.directory)
        .env_clear();
    command
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .envs(variables(job, network));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let words = why_not(job, &error);
            let _ = stderr_port.write_all(words.as_bytes());
            let status = if error.kind() == ErrorKind::NotFound {
                exit_status::NOT_FOUND
            } else {
                exit_status::NOT_EXECUTABLE
            };
            return Ok(Message::Ended {
                status,
                stdout: 0,
                stderr: words.len() as u64,
            });
        }
    };
    let pumps = (child.stdout.take().zip(child.stderr.take()))
        .map(|(stdout, stderr)| (pump(stdout, stdout_port), pump(stderr, stderr_port)));
    let status = wait_for(child.id());
    end_all_others();
    let (stdout, stderr) = pumps.map_or((0, 0), |(out, err)| {
        (out.join().unwrap_or(0), err.join().unwrap_or(0))
    });
    Ok(Message::Ended {
        status,
        stdout,
        stderr,
    })
}

/// A folder may be missing that the host has: the guest has its own `/dev`, `/proc`, `/run` and `/sys`.
fn why_not(job: &Job, error: &std::io::Error) -> String {
    let (program, directory) = (job.program.display(), job.directory.display());
    if job.directory.is_dir() {
        format!("soft-roce-setup: cannot run {program}: {error}\n")
    } else {
        format!("soft-roce-setup: a guest has no directory {directory}: run the command from another\n")
    }
}

fn variables(job: &Job, network: &Network) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = vec![
        ("SOFT_ROCE_DEVICE".into(), network.device.into()),
        ("SOFT_ROCE_ADDRESS".into(), network.address.to_string().into()),
        ("PMEM_DIR".into(), pmem::FOLDER.into()),
        ("NODE".into(), job.node.to_string().into()),
        ("NODES".into(), job.nodes.to_string().into()),
    ];
    if let Some(index) = network.gid_index {
        all.push(("SOFT_ROCE_GID_INDEX".into(), index.to_string().into()));
    }
    for (index, address) in network.addresses.iter().enumerate() {
        all.push((
            format!("NODE{}_ADDRESS", index + 1).into(),
            address.to_string().into(),
        ));
    }
    if let Some(output) = &job.output {
        all.push(("OUTPUT_DIR".into(), output.clone().into()));
    }
    all
}

/// Carries bytes as they come; the count of them at the end.
fn pump(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut count = 0;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return count,
                Ok(read) => match to.write_all(&buffer[..read]) {
                    Ok(()) => count += read as u64,
                    Err(_) => return count,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return count,
            }
        }
    })
}

/// Waits for the command, and for every orphan on the way, as process 1 must.
fn wait_for(id: u32) -> i32 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_nonzero().get()) == Ok(id) => {
                let by_signal = status.terminating_signal().map(exit_status::of_signal);
                return status.exit_status().or(by_signal).unwrap_or(OWN_FAILURE);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return OWN_FAILURE,
        }
    }
}

/// Ends what the command left behind: it may hold the output open for ever. Kernel threads do not hear this.
fn end_all_others() {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = number.filter(|number| *number > 1).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
