//! Root, context and PASID tables, and the page tables that they lead to (§9.1 to §9.6).

use crate::paging::Mappings;
use crate::registers::{Capabilities, read32, read64};
use crate::{Detail, Fields, PAGE_WORDS, Page, Source};
use core::fmt::{self, Write};
use io_pgtable::Limits;
use iommu_core::{Hpa, LeafSizes, PAGE_SHIFT, PAGE_SIZE, SourceId, TableFormat};
use vtd::registers::{Gsts, Rtaddr, TableMode};
use vtd::tables::context::{
    ContextHigh, ContextLow, ScalableContext0, ScalableContext1, TranslationType as LegacyType,
};
use vtd::tables::pasid::{PasidDirectoryEntry, PasidEntry, TranslationType};
use vtd::tables::root::RootEntry;

/// What all tables of a unit are read with.
pub(crate) struct Tables<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) capabilities: Capabilities,
    pub(crate) host_bits: u8,
    pub(crate) detail: Detail,
    /// Only this requester's entries.
    pub(crate) only: Option<SourceId>,
}

pub(crate) const fn frame(number: u64) -> Hpa {
    Hpa::new(number << PAGE_SHIFT)
}

impl Tables<'_> {
    /// Writes the tables that RTADDR leads to, whether they are in force or not.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        let (Some(status), Some(address)) =
            (read32::<Gsts>(self.source), read64::<Rtaddr>(self.source))
        else {
            return writeln!(out, "  unreadable");
        };
        let force = if status.tes() {
            "in force"
        } else {
            "not in force: devices reach memory untranslated"
        };
        let mode = match address.ttm() {
            TableMode::Legacy => "legacy mode",
            TableMode::Scalable => "scalable mode",
            TableMode::Reserved => "a reserved mode",
            TableMode::Abort => "abort-DMA mode",
        };
        let root = frame(address.rta());
        writeln!(out, "  {mode}, root table at {root}, {force}")?;
        let mut page: Page = [0; PAGE_WORDS];
        if !self.source.page(root, &mut page) {
            return writeln!(out, "  root table at {root}: unreadable");
        }
        for (bus, words) in (0u8..=255).zip(page.chunks_exact(2)) {
            if self.only.is_some_and(|only| only.bus() != bus) {
                continue;
            }
            let &[low, high] = words else { continue };
            match address.ttm() {
                TableMode::Scalable => {
                    self.scalable_half(bus, 0, RootEntry::from_bits(low), out)?;
                    self.scalable_half(bus, 0x80, RootEntry::from_bits(high), out)?;
                }
                _ => self.legacy_bus(bus, RootEntry::from_bits(low), out)?,
            }
        }
        Ok(())
    }

    fn is_meant(&self, source: SourceId) -> bool {
        self.only.is_none_or(|only| only == source)
    }

    fn context_page(&self, bus: u8, entry: RootEntry, out: &mut dyn Write) -> Option<Page> {
        if !entry.p() {
            return None;
        }
        let at = frame(entry.ctp());
        let mut page: Page = [0; PAGE_WORDS];
        if self.source.page(at, &mut page) {
            return Some(page);
        }
        let _ = writeln!(out, "  bus {bus:02x}: context table at {at}: unreadable");
        None
    }

    fn legacy_bus(&self, bus: u8, entry: RootEntry, out: &mut dyn Write) -> fmt::Result {
        let Some(page) = self.context_page(bus, entry, out) else {
            return Ok(());
        };
        for (devfn, words) in (0u16..).zip(page.chunks_exact(2)) {
            let source = SourceId::from_bits(u16::from(bus) << 8 | devfn);
            let &[low, high] = words else { continue };
            if [low, high] == [0, 0] || !self.is_meant(source) {
                continue;
            }
            self.legacy_context(
                source,
                ContextLow::from_bits(low),
                ContextHigh::from_bits(high),
                out,
            )?;
        }
        Ok(())
    }

    fn legacy_context(
        &self,
        source: SourceId,
        low: ContextLow,
        high: ContextHigh,
        out: &mut dyn Write,
    ) -> fmt::Result {
        write!(out, "  {source}: ")?;
        if !low.p() {
            return writeln!(
                out,
                "not present ({:#018x} {:#018x})",
                high.into_bits(),
                low.into_bits()
            );
        }
        if low.tt() == LegacyType::PassThrough {
            return writeln!(out, "pass-through, domain id {}", high.did());
        }
        let root = frame(low.ssptptr());
        writeln!(
            out,
            "second stage at {root}, {} levels, domain id {}{}{}",
            high.aw().saturating_add(2),
            high.did(),
            if low.tt() == LegacyType::All {
                ", ATS"
            } else {
                ""
            },
            if low.fpd() {
                ", faults not recorded"
            } else {
                ""
            },
        )?;
        match second_stage(high.aw()) {
            Some(format) => self.mappings(format, root, out),
            None => writeln!(out, "    a width that no unit has (AW {})", high.aw()),
        }
    }

    /// Half of a bus: devices below 16, or from 16 on.
    fn scalable_half(
        &self,
        bus: u8,
        first: u16,
        entry: RootEntry,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let Some(page) = self.context_page(bus, entry, out) else {
            return Ok(());
        };
        for (devfn, words) in (first..).zip(page.chunks_exact(4)) {
            let source = SourceId::from_bits(u16::from(bus) << 8 | devfn);
            let &[word0, word1, word2, word3] = words else {
                continue;
            };
            if [word0, word1, word2, word3] == [0; 4] || !self.is_meant(source) {
                continue;
            }
            self.scalable_context(
                source,
                ScalableContext0::from_bits(word0),
                ScalableContext1::from_bits(word1),
                out,
            )?;
        }
        Ok(())
    }

    fn scalable_context(
        &self,
        source: SourceId,
        word0: ScalableContext0,
        word1: ScalableContext1,
        out: &mut dyn Write,
    ) -> fmt::Result {
        write!(out, "  {source}: ")?;
        if !word0.p() {
            return writeln!(out, "not present ({:#018x})", word0.into_bits());
        }
        let directory = frame(word0.pasiddirptr());
        writeln!(
            out,
            "PASID directory at {directory}, {} bits of PASID{}{}{}{}, RID_PASID {}",
            word0.pdts().saturating_add(13),
            if word0.dte() { ", ATS" } else { "" },
            if word0.paside() { ", PASIDs" } else { "" },
            if word0.pre() { ", page requests" } else { "" },
            if word0.fpd() {
                ", faults not recorded"
            } else {
                ""
            },
            word1.rid_pasid(),
        )?;
        // 2^(PDTS + 7) entries of 8 bytes, each for 64 PASIDs (§9.4).
        let entries = 128u64.checked_shl(word0.pdts().into()).unwrap_or(128);
        let pages = entries.div_ceil(PAGE_WORDS as u64);
        for number in 0..pages {
            let at = Hpa::new(
                directory
                    .as_u64()
                    .saturating_add(number.saturating_mul(PAGE_SIZE)),
            );
            let mut page: Page = [0; PAGE_WORDS];
            if !self.source.page(at, &mut page) {
                writeln!(out, "    PASID directory at {at}: unreadable")?;
                continue;
            }
            let first = number.saturating_mul(PAGE_WORDS as u64);
            for (index, &word) in (first..entries).zip(&page) {
                let entry = PasidDirectoryEntry::from_bits(word);
                if entry.p() {
                    self.pasid_table(index.saturating_mul(64), frame(entry.smptblptr()), out)?;
                }
            }
        }
        Ok(())
    }

    fn pasid_table(&self, first: u64, at: Hpa, out: &mut dyn Write) -> fmt::Result {
        let mut page: Page = [0; PAGE_WORDS];
        if !self.source.page(at, &mut page) {
            return writeln!(out, "    PASID table at {at}: unreadable");
        }
        for (pasid, words) in (first..).zip(page.chunks_exact(PasidEntry::CELLS)) {
            if let Ok(words) = words.try_into()
                && words != [0; PasidEntry::CELLS]
            {
                self.pasid(pasid, PasidEntry::from_words(words), out)?;
            }
        }
        Ok(())
    }

    fn pasid(&self, pasid: u64, entry: PasidEntry, out: &mut dyn Write) -> fmt::Result {
        write!(out, "    PASID {pasid}: ")?;
        if !entry.word0.p() {
            return writeln!(out, "not present ({})", Fields(&entry.word0));
        }
        let domain = entry.word1.did();
        let (first, second) = (frame(entry.word2.fsptptr()), frame(entry.word0.ssptptr()));
        match entry.word0.pgtt() {
            TranslationType::PASS_THROUGH => writeln!(out, "pass-through, domain id {domain}"),
            TranslationType::SECOND_STAGE => {
                writeln!(
                    out,
                    "second stage at {second}, domain id {domain}{}",
                    Told(&entry)
                )?;
                match second_stage(entry.word0.aw()) {
                    Some(format) => self.mappings(format, second, out),
                    None => writeln!(
                        out,
                        "    a width that no unit has (AW {})",
                        entry.word0.aw()
                    ),
                }
            }
            TranslationType::FIRST_STAGE => {
                writeln!(out, "first stage at {first}, domain id {domain}")?;
                self.mappings(first_stage(entry.word2.fspm()), first, out)
            }
            TranslationType::NESTED => {
                writeln!(
                    out,
                    "nested: a guest's first stage at guest address {:#x}, domain id {domain}, over a second stage at {second}{}",
                    first.as_u64(),
                    Told(&entry)
                )?;
                match second_stage(entry.word0.aw()) {
                    Some(format) => self.mappings(format, second, out),
                    None => Ok(()),
                }
            }
            TranslationType(other) => writeln!(out, "a reserved type, {other}"),
        }
    }

    fn mappings(&self, format: TableFormat, root: Hpa, out: &mut dyn Write) -> fmt::Result {
        if self.detail == Detail::Entries {
            return Ok(());
        }
        let mappings = Mappings {
            source: self.source,
            format,
            root,
            limits: self.limits(format),
            most: 32,
            indent: "      ",
        };
        mappings.write(out)
    }

    pub(crate) fn limits(&self, format: TableFormat) -> Limits {
        let Capabilities { cap, ecap } = self.capabilities;
        let leaves = match format.stage() {
            iommu_core::Stage::First => LeafSizes {
                mib2: true,
                gib1: cap.fs1gp(),
            },
            iommu_core::Stage::Second => LeafSizes {
                mib2: cap.sslps() & 1 != 0,
                gib1: cap.sslps() & 2 != 0,
            },
        };
        Limits {
            host_bits: self.host_bits,
            leaves,
            snoop_control: ecap.sc(),
        }
    }
}

/// The format of an AW field (§9.3, §9.6).
pub(crate) const fn second_stage(aw: u8) -> Option<TableFormat> {
    match aw {
        1 => Some(TableFormat::SecondStage3),
        2 => Some(TableFormat::SecondStage4),
        3 => Some(TableFormat::SecondStage5),
        _ => None,
    }
}

/// The format of an FSPM field (§9.6).
pub(crate) const fn first_stage(fspm: u8) -> TableFormat {
    if fspm == 1 {
        TableFormat::FirstStage5
    } else {
        TableFormat::FirstStage4
    }
}

/// What an entry says of its second stage beside where that is.
struct Told<'a>(&'a PasidEntry);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.word0.ssade() {
            f.write_str(", writes are marked")?;
        }
        Ok(())
    }
}
