//! A run of QEMU, from start to end or to its time limit.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How QEMU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that we did not send: an assertion, a crash.
    Signal(i32),
    /// By us, because its time was up.
    TimedOut(Duration),
}

/// A run that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How.
    pub(crate) ending: Ending,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

enum Output {
    Console(Vec<u8>),
    Error(Vec<u8>),
}

/// Runs QEMU and hands over the bytes of the debug console as they come.
pub(crate) fn run(
    program: &Path,
    arguments: &[OsString],
    limit: Option<Duration>,
    mut console: impl FnMut(&[u8]),
) -> Result<Finished> {
    let started = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut child = Reaped(child);
    let (sender, receiver) = mpsc::channel();
    forward(child.0.stdout.take(), Output::Console, sender.clone());
    forward(child.0.stderr.take(), Output::Error, sender);

    let deadline = limit.map(|limit| started + limit);
    let mut stderr = Vec::new();
    let mut timed_out = None;
    loop {
        let received = match deadline {
            Some(deadline) => {
                receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(Output::Console(bytes)) => console(&bytes),
            Ok(Output::Error(bytes)) => stderr.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = limit;
                child.0.kill().context("cannot end QEMU")?;
                break;
            }
        }
    }
    let status = child.0.wait().context("cannot wait for QEMU")?;
    Ok(Finished {
        ending: timed_out.map_or_else(|| ending(status), Ending::TimedOut),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        elapsed: started.elapsed(),
    })
}

/// A child that does not outlive an error.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn forward<R: Read + Send + 'static>(
    source: Option<R>,
    wrap: fn(Vec<u8>) -> Output,
    sender: Sender<Output>,
) {
    let Some(mut source) = source else { return };
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.send(wrap(buffer[..length].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Finished, Vec<u8>) {
        let mut console = Vec::new();
        let arguments = ["-c".into(), script.into()];
        let finished = run(Path::new("/bin/sh"), &arguments, Some(limit), |bytes| {
            console.extend_from_slice(bytes);
        })
        .unwrap();
        (finished, console)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn output_error_and_code_are_kept_apart() {
        let (finished, console) = shell("printf out; printf err >&2; exit 33", LONG);
        assert_eq!(finished.ending, Ending::Code(33));
        assert_eq!(console, b"out");
        assert_eq!(finished.stderr, "err");
    }

    #[test]
    fn a_signal_is_no_code() {
        let (finished, _) = shell("kill -ABRT $$", LONG);
        assert_eq!(finished.ending, Ending::Signal(6));
    }

    #[test]
    fn what_hangs_is_ended_and_what_it_said_is_kept() {
        let limit = Duration::from_millis(300);
        let (finished, console) = shell("printf said; exec sleep 60", limit);
        assert_eq!(finished.ending, Ending::TimedOut(limit));
        assert_eq!(console, b"said");
        assert!(finished.elapsed < LONG);
    }
}
