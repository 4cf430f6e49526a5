//! The qtest protocol: a line to QEMU, a line back. Commands are sent in batches, so that
//! neither side waits for each line of the other.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::{Emulator, Rig};

/// Most commands in flight: their lines and answers fit into the sockets' buffers.
const IN_FLIGHT: usize = 400;
/// A QEMU that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// QEMU answers no more.
#[derive(Debug)]
pub(crate) struct Dead {
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// The last words of its standard error.
    pub(crate) last_words: String,
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(f, "QEMU ended by signal {signal}")?,
            None => write!(f, "QEMU answers no more")?,
        }
        write!(f, ": {}", self.last_words)
    }
}

impl std::error::Error for Dead {}

/// Starts a program that ends when this one does, however that ends: QEMU stays when its
/// qtest connection goes. Without `setpriv` (of util-linux) it is started as it is.
fn spawn(program: &Path, start: impl Fn(&mut Command) -> Result<Child>) -> Result<Child> {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL"]).arg(program);
    match start(&mut guarded) {
        Err(error) if is_missing(&error) => start(&mut Command::new(program)),
        result => result,
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// A running QEMU.
pub(super) struct Connection {
    child: Child,
    lines: BufReader<UnixStream>,
    socket: UnixStream,
    batch: Vec<u8>,
    pending: usize,
    errors: PathBuf,
}

impl Connection {
    /// Starts a rig; `home` takes its files.
    pub(super) fn start(emulator: &Emulator, rig: Rig, rom: &Path, home: &Path) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let errors = home.join("stderr");
        let arguments = emulator.arguments(rig, rom, &home.join("trace"));
        let child = spawn(&emulator.program, |command| {
            Ok(command
                .args(&arguments)
                .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
                .stdout(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
                .stderr(File::create(&errors)?)
                .spawn()?)
        })
        .with_context(|| format!("cannot start {}", emulator.program.display()))?;
        Ok(Self {
            child,
            lines: BufReader::new(ours.try_clone()?),
            socket: ours,
            batch: Vec::new(),
            pending: 0,
            errors,
        })
    }

    /// Adds a command whose answer nobody reads.
    pub(super) fn command(&mut self, line: fmt::Arguments<'_>) -> Result<(), Dead> {
        self.push(line);
        if self.pending >= IN_FLIGHT {
            self.settle()?;
        }
        Ok(())
    }

    /// Adds a command and waits for its answer's value.
    pub(super) fn ask(&mut self, line: fmt::Arguments<'_>) -> Result<u64, Dead> {
        self.settle()?;
        self.push(line);
        self.send()?;
        self.pending = 0;
        self.answer()
    }

    /// Asks many at once.
    pub(super) fn ask_all(
        &mut self,
        lines: impl IntoIterator<Item = String>,
    ) -> Result<Vec<u64>, Dead> {
        self.settle()?;
        for line in lines {
            self.push(format_args!("{line}"));
        }
        self.send()?;
        (0..std::mem::take(&mut self.pending))
            .map(|_| self.answer())
            .collect()
    }

    /// Sends what is waiting and takes the answers.
    pub(super) fn settle(&mut self) -> Result<(), Dead> {
        self.send()?;
        for _ in 0..std::mem::take(&mut self.pending) {
            self.answer()?;
        }
        Ok(())
    }

    fn push(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a vector does not fail.
        let _ = writeln!(self.batch, "{line}");
        self.pending += 1;
    }

    fn send(&mut self) -> Result<(), Dead> {
        let sent = self.socket.write_all(&self.batch);
        self.batch.clear();
        sent.map_err(|_| self.dead())
    }

    /// The next answer's value, 0 if it has none. Lines about interrupts come between.
    fn answer(&mut self) -> Result<u64, Dead> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.lines.read_line(&mut line) {
                Ok(0) | Err(_) => return Err(self.dead()),
                Ok(_) => {}
            }
            let Some(value) = line.strip_prefix("OK") else {
                if line.starts_with("IRQ") {
                    continue;
                }
                return Err(self.dead());
            };
            let value = value.trim();
            let parsed = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => value.parse(),
            };
            return Ok(parsed.unwrap_or(0));
        }
    }

    /// How it ended, if it does so by itself.
    fn ended(&mut self) -> Option<ExitStatus> {
        for _ in 0..50 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn dead(&mut self) -> Dead {
        let signal = self.ended().and_then(|status| status.signal());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        Dead {
            signal,
            last_words: text.lines().last().unwrap_or("").to_owned(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
