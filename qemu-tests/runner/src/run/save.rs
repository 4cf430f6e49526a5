//! Files of a boot, for those who look closer.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::boot::Evidence;
use crate::command::quote;
use crate::log::Style;
use crate::qemu::{Machine, Qemu};

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
