//! Other programs, run to their end.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end and keeps what was printed; a failing status is the caller's to judge.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))
}

/// Runs to the end, silently; a failing status is an error in the program's own words.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if !output.status.success() {
        bail!("{}: {}", name(command), last_words(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end with our own standard streams; a failing status is an error.
pub(crate) fn inherit(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// The most telling line of a failed program: its first error, else its last line.
pub(crate) fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    });
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.clone().next_back();
    lines
        .find(|line| line.starts_with("E:") || line.starts_with("error"))
        .or(last)
        .map_or_else(|| output.status.to_string(), str::to_owned)
}

/// One word for a POSIX shell.
pub(crate) fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,/:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_reported_by_its_first_error_line() {
        let error = succeed(Command::new("sh").args([
            "-c",
            "echo first >&2; echo E: gone >&2; echo E: more >&2; exit 3",
        ]))
        .unwrap_err();
        assert_eq!(error.to_string(), "sh: E: gone");
    }

    #[test]
    fn a_silent_failure_is_reported_by_its_status() {
        let error = succeed(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3");
    }

    #[test]
    fn a_quoted_word_is_one_word_to_a_shell() {
        for (word, quoted) in [
            ("-m", "-m"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("run[legacy,11.1]", "'run[legacy,11.1]'"),
        ] {
            assert_eq!(quote(word.as_ref()), quoted);
        }
    }
}
