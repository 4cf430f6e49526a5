//! Page tables, as runs of addresses that lead to runs of memory.

use crate::{PAGE_WORDS, Page, Source};
use core::fmt::{self, Write};
use io_pgtable::{Entry, Limits, decode, is_present, span_shift};
use iommu_core::{Access, Hpa, TableFormat};

/// What is mapped, from the root table of a format on.
pub(crate) struct Mappings<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) format: TableFormat,
    pub(crate) root: Hpa,
    pub(crate) limits: Limits,
    /// Runs that are written out; of later ones only the number.
    pub(crate) most: usize,
    pub(crate) indent: &'static str,
}

/// Addresses that follow each other and lead to memory that does too, alike.
#[derive(Clone, Copy)]
struct Run {
    iova: u64,
    hpa: u64,
    bytes: u64,
    access: Access,
    /// The size of each page, as a level.
    level: u8,
}

impl Run {
    fn goes_on_with(&self, next: &Self) -> bool {
        self.iova.checked_add(self.bytes) == Some(next.iova)
            && self.hpa.checked_add(self.bytes) == Some(next.hpa)
            && self.access == next.access
            && self.level == next.level
    }
}

/// Counted on the way.
#[derive(Default)]
struct Tally {
    runs: usize,
    tables: usize,
    current: Option<Run>,
    /// Tables that were met and not followed.
    left_out: usize,
}

/// Tables that are followed, so that tables that lead to themselves end too.
const TABLES: usize = 1024;

impl Mappings<'_> {
    /// Writes the runs, then how many there are.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        let mut tally = Tally::default();
        self.table(self.root, self.format.levels(), 0, &mut tally, out)?;
        self.end_run(&mut tally, out)?;
        if tally.left_out > 0 {
            writeln!(
                out,
                "{}more than {TABLES} tables: {} were not followed",
                self.indent, tally.left_out
            )?;
        }
        let hidden = tally.runs.saturating_sub(self.most);
        if hidden > 0 {
            writeln!(out, "{}… and {hidden} more runs", self.indent)?;
        }
        writeln!(
            out,
            "{}{} runs in {} tables",
            self.indent, tally.runs, tally.tables
        )
    }

    fn table(
        &self,
        at: Hpa,
        level: u8,
        base: u64,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> fmt::Result {
        if tally.tables >= TABLES {
            tally.left_out = tally.left_out.saturating_add(1);
            return Ok(());
        }
        let mut page: Page = [0; PAGE_WORDS];
        if !self.source.page(at, &mut page) {
            return writeln!(out, "{}table at {at}: unreadable", self.indent);
        }
        tally.tables = tally.tables.saturating_add(1);
        let span = 1u64.checked_shl(span_shift(level)).unwrap_or(0);
        for (index, &entry) in (0u64..).zip(&page) {
            if !is_present(self.format, entry) {
                continue;
            }
            let iova = base.wrapping_add(index.wrapping_mul(span));
            match decode(self.format, level, entry, &self.limits) {
                Entry::NotPresent => {}
                Entry::Table { address, .. } => {
                    let below = level.saturating_sub(1);
                    self.table(Hpa::new(address), below, iova, tally, out)?;
                }
                Entry::Leaf {
                    address, access, ..
                } => {
                    let run = Run {
                        iova: self.canonical(iova),
                        hpa: address,
                        bytes: span,
                        access,
                        level,
                    };
                    self.add(run, tally, out)?;
                }
                Entry::Reserved => writeln!(
                    out,
                    "{}{iova:#x}: entry {entry:#018x} of level {level} at {at} has reserved bits set",
                    self.indent
                )?,
            }
        }
        Ok(())
    }

    /// Addresses of the upper half as the device writes them (§3.6).
    fn canonical(&self, iova: u64) -> u64 {
        let bits = u32::from(self.format.input_bits());
        let is_first = self.format.stage() == iommu_core::Stage::First;
        let sign = 1u64.checked_shl(bits.saturating_sub(1)).unwrap_or(0);
        if is_first && iova & sign != 0 {
            iova | u64::MAX.checked_shl(bits).unwrap_or(0)
        } else {
            iova
        }
    }

    fn add(&self, run: Run, tally: &mut Tally, out: &mut dyn Write) -> fmt::Result {
        if let Some(current) = &mut tally.current
            && current.goes_on_with(&run)
        {
            current.bytes = current.bytes.saturating_add(run.bytes);
            return Ok(());
        }
        self.end_run(tally, out)?;
        tally.current = Some(run);
        Ok(())
    }

    fn end_run(&self, tally: &mut Tally, out: &mut dyn Write) -> fmt::Result {
        let Some(run) = tally.current.take() else {
            return Ok(());
        };
        tally.runs = tally.runs.saturating_add(1);
        if tally.runs > self.most {
            return Ok(());
        }
        let size = match run.level {
            1 => "4 KiB",
            2 => "2 MiB",
            3 => "1 GiB",
            _ => "512 GiB",
        };
        writeln!(
            out,
            "{}{:#x} to {:#x} leads to {:#x}, {}, pages of {size}",
            self.indent,
            run.iova,
            run.iova.wrapping_add(run.bytes).wrapping_sub(1),
            run.hpa,
            run.access
        )
    }
}
