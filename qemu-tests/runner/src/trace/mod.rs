//! QEMU's own trace, the second witness: what the emulated unit did, in its words.

mod event;
mod fault;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};

pub(crate) use fault::RecordedFault;

/// What a trace holds, as far as anything is judged by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    counts: BTreeMap<String, u64>,
    /// Invalidation descriptors by the unit's name for their type.
    descriptors: BTreeMap<String, u64>,
    /// Faults that went into a fault recording register, those of interrupts included.
    recorded: Vec<RecordedFault>,
    /// Requester and page of each translation that went into the IOTLB.
    translated: Vec<(u16, u64)>,
    /// Lines by which the unit complains (`vtd_warn_…`, `vtd_err_…`).
    complaints: Vec<String>,
}

impl Trace {
    /// Reads a trace file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path)
            .with_context(|| format!("QEMU wrote no trace to {}", path.display()))?;
        let mut trace = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            trace.take(&String::from_utf8_lossy(&line?));
        }
        Ok(trace)
    }

    /// Takes one line of it.
    pub(crate) fn take(&mut self, line: &str) {
        let Some((name, arguments)) = event::parse(line) else {
            return;
        };
        *self.counts.entry(name.to_owned()).or_default() += 1;
        match name {
            "vtd_inv_desc" => {
                if let Some(kind) = event::descriptor_kind(arguments) {
                    *self.descriptors.entry(kind.to_owned()).or_default() += 1;
                }
            }
            "vtd_frr_new" => self.recorded.extend(RecordedFault::parse(arguments)),
            "vtd_iotlb_page_update" => self.translated.extend(event::translation(arguments)),
            _ if name.starts_with("vtd_warn") || name.starts_with("vtd_err") => {
                self.complaints.push(line.trim().to_owned());
            }
            _ => {}
        }
    }

    /// How often an event came.
    pub(crate) fn count(&self, event: &str) -> u64 {
        self.counts.get(event).copied().unwrap_or(0)
    }

    /// Doorbells: writes to the queue's tail, less the one that sets the queue up; one for
    /// each kernel that does.
    pub(crate) fn doorbells(&self) -> u64 {
        let set_up = self.count("vtd_inv_qi_setup").max(1);
        self.count("vtd_inv_qi_tail").saturating_sub(set_up)
    }

    /// Descriptors of one type, by the unit's name (`iotlb`, `wait`, `p-iotlb`, …).
    pub(crate) fn descriptors_of(&self, kind: &str) -> u64 {
        self.descriptors.get(kind).copied().unwrap_or(0)
    }

    /// Every recorded fault.
    pub(crate) fn recorded(&self) -> &[RecordedFault] {
        &self.recorded
    }

    /// Every translation that went into the IOTLB: requester id, and the page's address.
    pub(crate) fn translated(&self) -> &[(u16, u64)] {
        &self.translated
    }

    /// The unit's complaints.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(lines: &[&str]) -> Trace {
        let mut trace = Trace::default();
        for line in lines {
            trace.take(line);
        }
        trace
    }

    #[test]
    fn descriptors_and_doorbells_are_counted_and_the_first_tail_write_is_not() {
        let trace = trace(&[
            "vtd_inv_qi_tail write tail 0",
            "vtd_inv_qi_tail write tail 3",
            "vtd_inv_qi_fetch ",
            "vtd_inv_qi_head read head 0",
            "vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x11",
            "vtd_inv_qi_head read head 1",
            "vtd_inv_desc invalidate desc type wait high 0x181000 low 0x100000025",
        ]);
        assert_eq!(trace.count("vtd_inv_qi_head"), 2);
        assert_eq!(trace.doorbells(), 1);
        assert_eq!(trace.descriptors_of("wait"), 1);
        assert_eq!(trace.descriptors_of("iotlb"), 0);
    }

    #[test]
    fn complaints_are_kept_with_their_words() {
        let trace = trace(&["vtd_warn_invalid_qi_tail tail 0x9", "vtd_warned_not"]);
        assert_eq!(
            trace.complaints(),
            ["vtd_warn_invalid_qi_tail tail 0x9", "vtd_warned_not"]
        );
    }

    #[test]
    fn other_lines_of_the_file_are_passed_over() {
        let trace = trace(&["", "qemu: something", "memory_region_ops_read x"]);
        assert!(trace.counts.is_empty());
    }
}
