//! What is printed of a campaign, and whether it is good.

use std::fmt;
use std::time::Duration;

use differential::aborts::Ended;
use differential::bench::{Emulator, Rig, UNDECLARED};
use differential::{RULES, Summary};

/// Fewer cases than these have no shares worth judging.
const JUDGED: u64 = 2_000;

/// A campaign on one QEMU.
pub(super) struct Report {
    pub(super) emulator: Emulator,
    pub(super) summary: Summary,
    pub(super) aborts: Vec<Ended>,
    pub(super) elapsed: Duration,
}

impl Report {
    /// Whether all that is asked holds.
    pub(super) fn is_good(&self) -> bool {
        self.summary.different.is_empty()
            && self.shortfalls().is_empty()
            && self.aborts.iter().all(Ended::is_good)
    }

    /// Shares that are not as they must be; of a short run none is judged.
    fn shortfalls(&self) -> Vec<String> {
        let tally = &self.summary.tally;
        if tally.cases < JUDGED {
            return Vec::new();
        }
        let mut found: Vec<String> = tally
            .shortfalls(self.emulator.uses_rid_pasid())
            .iter()
            .map(|it| {
                format!(
                    "too few: {}, {} of at least {}",
                    it.what, it.count, it.bound
                )
            })
            .collect();
        if tally.too_many_explained() {
            found.push(format!("rules explain {} cases: too many", tally.explained));
        }
        found
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.summary.tally.cases.max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.summary.tally;
        for finding in &self.summary.findings {
            writeln!(f, "{finding}")?;
        }
        writeln!(
            f,
            "QEMU {}: {} cases, {} agree, {:.1} s",
            self.emulator.version,
            tally.cases,
            tally.agreed,
            self.elapsed.as_secs_f64()
        )?;
        writeln!(f, "  translate {:.1} %", self.percent(tally.translated))?;
        for (mode, count) in &tally.modes {
            writeln!(
                f,
                "  mode {:24} {:5.1} %",
                mode.name(),
                self.percent(*count)
            )?;
        }
        write!(f, "  faults")?;
        for (reason, count) in &tally.reasons {
            write!(f, " {reason:02x}h {:.2} %", self.percent(*count))?;
        }
        writeln!(f)?;
        self.rules(f)?;
        for bit in UNDECLARED {
            let rigs = Rig::ALL.map(|rig| self.emulator.undeclared(rig));
            if rigs.iter().any(|bits| bits & 1 << bit.bit != 0) {
                writeln!(
                    f,
                    "  ECAP.{} set in the model alone: {}",
                    bit.field, bit.reason
                )?;
            }
        }
        for ended in &self.aborts {
            writeln!(f, "  {ended}")?;
        }
        if tally.cases < JUDGED {
            writeln!(f, "  shares are not judged of fewer than {JUDGED} cases")?;
        }
        for shortfall in self.shortfalls() {
            writeln!(f, "  {shortfall}")?;
        }
        Ok(())
    }
}

impl Report {
    fn rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.summary.tally;
        writeln!(
            f,
            "  rules explain {} cases, {:.2} % (B: bug of QEMU's, F: freedom, M: limit of the model)",
            tally.explained,
            self.percent(tally.explained)
        )?;
        for (at, count) in &tally.rules {
            if let Some(rule) = RULES.get(*at) {
                let letter = rule.kind.letter();
                writeln!(f, "  {count:5} {letter} {:24} {}", rule.name, rule.reason)?;
            }
        }
        Ok(())
    }
}
