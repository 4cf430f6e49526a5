//! Files of a boot, for those who look closer.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::boot::Evidence;
use crate::command::quote;
use crate::log::Style;
use crate::qemu::{Machine, Qemu};
use crate::wire::Line;

/// Writes the decoded log, the report, QEMU's standard error and the command beside the
/// trace.
pub(crate) fn save(
    directory: &Path,
    qemu: &Qemu,
    machine: &Machine,
    evidence: &Evidence,
) -> Result<()> {
    let mut log = String::new();
    for line in &evidence.heard.log {
        writeln!(log, "{}", line.show(Style::Plain))?;
    }
    let mut report = String::new();
    for line in &evidence.heard.report {
        writeln!(report, "{line:?}")?;
    }
    save_dumps(directory, evidence)?;
    let words = machine
        .arguments(&qemu.abilities, &directory.join("trace.txt"))?
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ");
    let program = quote(qemu.program.as_os_str());
    for (name, content) in [
        ("log.txt", log.as_str()),
        ("report.txt", report.as_str()),
        ("firmware.txt", evidence.heard.firmware.as_str()),
        ("stderr.txt", evidence.finished.stderr.as_str()),
        (
            "command.sh",
            format!("#!/bin/sh\nexec {program} {words}\n").as_str(),
        ),
    ] {
        let file = directory.join(name);
        std::fs::write(&file, content)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Dumps of the units, decoded and raw, each in a file of its own.
fn save_dumps(directory: &Path, evidence: &Evidence) -> Result<()> {
    let (mut text, mut raw) = (String::new(), String::new());
    for line in &evidence.heard.report {
        match line {
            Line::Dump(line) => writeln!(text, "{line}")?,
            Line::Raw(line) => writeln!(raw, "{line}")?,
            _ => {}
        }
    }
    for (name, content) in [("dump.txt", text), ("dump.raw", raw)] {
        if !content.is_empty() {
            let file = directory.join(name);
            std::fs::write(&file, content)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}
