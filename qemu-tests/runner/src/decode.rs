//! `cargo xtask decode`: a raw dump of remapping units, told in words by the same code that a
//! running kernel tells them with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use vtd_inspect::{Detail, RawDump};

use crate::wire::{Piece, REPORT, Reader};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A captured log (of a serial port or of the debug console), or a text file with the
    /// `raw` lines of one.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stop at root, context and PASID entries, and leave page tables out.
    #[arg(long)]
    entries: bool,
}

/// Prints what the dump says.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dump = read(&arguments.file)?;
    let detail = if arguments.entries {
        Detail::Entries
    } else {
        Detail::Leaves
    };
    let mut text = String::new();
    dump.write(detail, &mut text)?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<RawDump> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut dump = RawDump::default();
    for line in lines(&bytes) {
        dump.take(&line)
            .with_context(|| file.display().to_string())?;
    }
    if dump.is_empty() {
        bail!(
            "{} holds no raw dump: let the kernel write one by dump=raw on its command line",
            file.display()
        );
    }
    Ok(dump)
}

/// Report lines of a captured log; lines of a file that is no such log.
fn lines(bytes: &[u8]) -> Vec<String> {
    let mut reader = Reader::default();
    let mut found = Vec::new();
    for piece in reader.read(bytes) {
        if let Piece::Record {
            stream: REPORT,
            payload,
        } = piece
        {
            found.push(String::from_utf8_lossy(&payload).into_owned());
        }
    }
    if found.is_empty() {
        found = String::from_utf8_lossy(bytes)
            .lines()
            .map(str::to_owned)
            .collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    const LINES: [&str; 3] = [
        "raw unit 1 27",
        "raw r64 8 d2008c222f0606",
        "raw r64 10 f00f4a",
    ];

    fn told(bytes: &[u8]) -> String {
        let file = std::env::temp_dir().join(format!(
            "decode-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&file, bytes).unwrap();
        let dump = read(&file);
        std::fs::remove_file(&file).unwrap();
        let mut text = String::new();
        match dump {
            Ok(dump) => dump.write(Detail::Leaves, &mut text).unwrap(),
            Err(error) => text = format!("{error:#}"),
        }
        text
    }

    #[test]
    fn a_captured_log_and_a_text_file_say_the_same() {
        let mut log = b"firmware says hello\r\n".to_vec();
        for line in LINES {
            log.extend(encode(REPORT, line.as_bytes()));
            log.extend(encode(1, b"raw is no report line here"));
        }
        let told_of_log = told(&log);
        assert!(told_of_log.contains("unit 1: registers"), "{told_of_log}");
        assert!(
            told_of_log.contains("CAP       d2008c222f0606"),
            "{told_of_log}"
        );
        assert_eq!(told(LINES.join("\n").as_bytes()), told_of_log);
    }

    #[test]
    fn a_file_without_a_dump_says_how_to_get_one() {
        assert!(told(b"nothing\n").contains("dump=raw"));
        assert!(told(b"raw unit 0 30\nraw r64 8\n").contains("raw r64 8"));
    }
}
