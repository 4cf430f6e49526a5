//! A conversation with the kernel's monitor over QEMU's serial port.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What is typed, and parts of the answer that must come, in this order.
pub(crate) type Exchange = (&'static str, &'static [&'static str]);

/// What QEMU says on standard error while it waits for us.
pub(crate) const WAITING: &str = "QEMU waiting for connection on";

const PROMPT: &str = "vtd> ";
/// How long QEMU may take to open its socket, and the kernel to answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// A socket that QEMU listens on; its path is short enough for one.
pub(crate) fn socket() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vtd-monitor-{}-{number}.sock", std::process::id()))
}

/// QEMU's arguments for a first serial port on that socket. QEMU waits for us before it
/// starts the machine.
pub(crate) fn arguments(socket: &Path) -> [String; 4] {
    [
        "-chardev".to_owned(),
        format!(
            "socket,id=monitor,path={},server=on,wait=on",
            socket.display()
        ),
        "-serial".to_owned(),
        "chardev:monitor".to_owned(),
    ]
}

/// Talks on another thread, which ends with what did not hold.
pub(crate) fn begin(socket: PathBuf, exchanges: &'static [Exchange]) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let result = talk(&socket, exchanges);
        let _ = std::fs::remove_file(&socket);
        match result {
            Ok(problems) => problems,
            Err(error) => vec![format!("the monitor: {error:#}")],
        }
    })
}

fn talk(socket: &Path, exchanges: &[Exchange]) -> Result<Vec<String>> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut heard = Vec::new();
    until_prompt(&mut stream, &mut heard)?;
    let mut problems = Vec::new();
    for (typed, wanted) in exchanges {
        stream.write_all(format!("{typed}\r").as_bytes())?;
        let answer = until_prompt(&mut stream, &mut heard)?;
        problems.extend(missing(typed, &answer, wanted));
    }
    stream.write_all(b"quit\r")?;
    // Whoever stops reading stops QEMU's serial port.
    let mut rest = [0; 4096];
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match stream.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_slow(&error) => {}
            Err(_) => break,
        }
    }
    Ok(problems)
}

fn missing(typed: &str, answer: &str, wanted: &[&str]) -> Option<String> {
    let mut rest = answer;
    for part in wanted {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => {
                return Some(format!(
                    "the monitor's answer to `{typed}` lacks `{part}`: {answer}"
                ));
            }
        }
    }
    None
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(_) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).context("QEMU opens no serial port"),
        }
    }
}

fn is_slow(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// What comes up to the next prompt. The log's records come over the same line: before the
/// first one, and in between while guests run. What was heard behind it is for the next.
fn until_prompt(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> Result<String> {
    let begun = Instant::now();
    let mut piece = [0; 4096];
    while begun.elapsed() < PATIENCE {
        match stream.read(&mut piece) {
            Ok(0) => bail!("the line was cut"),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if is_slow(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(at) = find(bytes, PROMPT.as_bytes()) {
            let answer: Vec<u8> = bytes.drain(..at + PROMPT.len()).collect();
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
    let end = bytes.len().saturating_sub(200);
    bail!(
        "no prompt within {} s; the last that came: {}",
        PATIENCE.as_secs(),
        String::from_utf8_lossy(&bytes[end..])
    )
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_must_come_in_their_order() {
        assert_eq!(missing("x", "a then b", &["a", "b"]), None);
        assert!(missing("x", "a then b", &["b", "a"]).is_some());
    }

    #[test]
    fn a_conversation_is_judged_by_its_answers() {
        let path = socket();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let kernel = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"log\nvtd> ").unwrap();
            let mut line = [0; 6];
            stream.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"units\r");
            stream.write_all(b"unit 0: here\r\nvtd> ").unwrap();
            let mut line = [0; 5];
            stream.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"quit\r");
        });
        let problems = begin(path, &[("units", &["unit 0", "there"])])
            .join()
            .unwrap();
        kernel.join().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("lacks `there`"));
    }
}
