//! The walk of one address, entry by entry, as hardware would make it.

use crate::registers::read64;
use crate::tables::{Tables, first_stage, frame, second_stage};
use crate::{Fields, PAGE_WORDS, Page};
use core::fmt::{self, Debug, Write};
use io_pgtable::{Entry, decode, in_width, index_of, span_shift};
use iommu_core::{Access, Address, Hpa, Iova, PAGE_SIZE, Pasid, SourceId, TableFormat};
use vtd::registers::{Rtaddr, TableMode};
use vtd::tables::context::{
    ContextHigh, ContextLow, ScalableContext0, ScalableContext1, TranslationType as LegacyType,
};
use vtd::tables::pasid::{PasidDirectoryEntry, PasidEntry, TranslationType};
use vtd::tables::root::RootEntry;

/// A request of a device, as far as its translation goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who asks.
    pub source: SourceId,
    /// With which PASID.
    pub pasid: Option<Pasid>,
    /// For what.
    pub iova: Iova,
}

impl Tables<'_> {
    /// Writes each entry that a request meets, and where it ends.
    pub(crate) fn walk(&self, request: Request, out: &mut dyn Write) -> fmt::Result {
        let Some(address) = read64::<Rtaddr>(self.source) else {
            return writeln!(out, "  unreadable");
        };
        let root = frame(address.rta());
        match address.ttm() {
            TableMode::Legacy if request.pasid.is_some() => writeln!(
                out,
                "  refused: legacy mode takes no request with PASID (RTA.2)"
            ),
            TableMode::Legacy => self.walk_legacy(request, root, out),
            TableMode::Scalable => self.walk_scalable(request, root, out),
            TableMode::Abort => writeln!(out, "  refused: abort-DMA mode"),
            TableMode::Reserved => writeln!(out, "  refused: a reserved table mode"),
        }
    }

    fn walk_legacy(&self, request: Request, root: Hpa, out: &mut dyn Write) -> fmt::Result {
        let bus = usize::from(request.source.bus());
        let Some([word]) = self.entry(root, bus.saturating_mul(2), "root", out)? else {
            return Ok(());
        };
        let entry = RootEntry::from_bits(word);
        tell(out, &entry)?;
        if !entry.p() {
            return refused(out, "the root entry is not present");
        }
        let index = usize::from(request.source.devfn()).saturating_mul(2);
        let Some([low, high]) = self.entry(frame(entry.ctp()), index, "context", out)? else {
            return Ok(());
        };
        let (low, high) = (ContextLow::from_bits(low), ContextHigh::from_bits(high));
        write!(out, "{}; ", Fields(&low))?;
        tell(out, &high)?;
        if !low.p() {
            return refused(out, "the context entry is not present");
        }
        if low.tt() == LegacyType::PassThrough {
            return writeln!(out, "  passes untranslated: {}", request.iova);
        }
        match second_stage(high.aw()) {
            Some(format) => self.walk_pages(format, frame(low.ssptptr()), request.iova, out),
            None => refused(out, "the context entry's width is not usable"),
        }
    }

    fn walk_scalable(&self, request: Request, root: Hpa, out: &mut dyn Write) -> fmt::Result {
        let devfn = usize::from(request.source.devfn());
        let bus = usize::from(request.source.bus()).saturating_mul(2);
        let half = bus.saturating_add(devfn >> 7);
        let Some([word]) = self.entry(root, half, "root", out)? else {
            return Ok(());
        };
        let entry = RootEntry::from_bits(word);
        tell(out, &entry)?;
        if !entry.p() {
            return refused(out, "the half of the root entry is not present");
        }
        let index = (devfn & 0x7f).saturating_mul(4);
        let Some([word0, word1]) = self.entry(frame(entry.ctp()), index, "context", out)? else {
            return Ok(());
        };
        let (word0, word1) = (
            ScalableContext0::from_bits(word0),
            ScalableContext1::from_bits(word1),
        );
        write!(out, "{}; ", Fields(&word0))?;
        tell(out, &word1)?;
        if !word0.p() {
            return refused(out, "the context entry is not present");
        }
        let pasid = match request.pasid {
            Some(_) if !word0.paside() => {
                return refused(out, "requests with PASID are not enabled for the device");
            }
            Some(pasid) => pasid.as_u32(),
            None => word1.rid_pasid(),
        };
        if pasid >> word0.pdts().saturating_add(13).min(31) != 0 {
            return refused(out, "the PASID is beyond the directory");
        }
        self.walk_pasid(frame(word0.pasiddirptr()), pasid, request.iova, out)
    }

    fn walk_pasid(
        &self,
        directory: Hpa,
        pasid: u32,
        iova: Iova,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let index = (pasid >> 6) as usize;
        let Some([word]) = self.entry(directory, index, "PASID directory", out)? else {
            return Ok(());
        };
        let entry = PasidDirectoryEntry::from_bits(word);
        tell(out, &entry)?;
        if !entry.p() {
            return refused(out, "the PASID directory entry is not present");
        }
        let index = (pasid as usize & 0x3f).saturating_mul(PasidEntry::CELLS);
        let table = frame(entry.smptblptr());
        let Some(words) = self.entry::<8>(table, index, "PASID table", out)? else {
            return Ok(());
        };
        let entry = PasidEntry::from_words(words);
        write!(out, "{}; {}; ", Fields(&entry.word0), Fields(&entry.word1))?;
        tell(out, &entry.word2)?;
        if !entry.word0.p() {
            return refused(out, "the PASID table entry is not present");
        }
        match entry.word0.pgtt() {
            TranslationType::PASS_THROUGH => writeln!(out, "  passes untranslated: {iova}"),
            TranslationType::SECOND_STAGE => match second_stage(entry.word0.aw()) {
                Some(format) => self.walk_pages(format, frame(entry.word0.ssptptr()), iova, out),
                None => refused(out, "the PASID table entry's width is not usable"),
            },
            TranslationType::FIRST_STAGE => {
                let format = first_stage(entry.word2.fspm());
                self.walk_pages(format, frame(entry.word2.fsptptr()), iova, out)
            }
            TranslationType::NESTED => writeln!(
                out,
                "  goes on through a guest's first stage, whose tables lie at guest addresses"
            ),
            _ => refused(out, "the PASID table entry's type is reserved"),
        }
    }

    fn walk_pages(
        &self,
        format: TableFormat,
        root: Hpa,
        iova: Iova,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let width = self.capabilities.cap.guest_address_bits();
        if !in_width(format, iova, width) {
            return refused(out, "the address is beyond what these tables translate");
        }
        let limits = self.limits(format);
        let (mut table, mut allowed) = (root, Access::READ_WRITE);
        for level in (1..=format.levels()).rev() {
            let index = index_of(iova.as_u64(), level);
            let name = match level {
                1 => "level 1",
                2 => "level 2",
                3 => "level 3",
                4 => "level 4",
                _ => "level 5",
            };
            let Some([entry]) = self.entry(table, index, name, out)? else {
                return Ok(());
            };
            match decode(format, level, entry, &limits) {
                Entry::NotPresent => {
                    writeln!(out)?;
                    return refused(out, "the entry is not present");
                }
                Entry::Reserved => {
                    writeln!(out)?;
                    return refused(out, "the entry has reserved bits set");
                }
                Entry::Table {
                    address, access, ..
                } => {
                    writeln!(out, "table, {access}")?;
                    allowed = allowed.intersection(access);
                    table = Hpa::new(address);
                }
                Entry::Leaf {
                    address, access, ..
                } => {
                    writeln!(out, "page, {access}")?;
                    allowed = allowed.intersection(access);
                    let end = address.wrapping_add(iova.offset_in(span_shift(level)));
                    return writeln!(out, "  leads to {end:#x}, {allowed}");
                }
            }
        }
        Ok(())
    }

    /// Reads `N` words of a table that may have several pages, and writes them.
    fn entry<const N: usize>(
        &self,
        table: Hpa,
        index: usize,
        name: &str,
        out: &mut dyn Write,
    ) -> Result<Option<[u64; N]>, fmt::Error> {
        let page_number = index.checked_div(PAGE_WORDS).unwrap_or(0) as u64;
        let at = table
            .as_u64()
            .saturating_add(page_number.saturating_mul(PAGE_SIZE));
        let within = index.checked_rem(PAGE_WORDS).unwrap_or(0);
        let mut page: Page = [0; PAGE_WORDS];
        let words = page_at(self.source, Hpa::new(at), &mut page)
            .then(|| page.get(within..)?.first_chunk::<N>().copied())
            .flatten();
        let Some(words) = words else {
            writeln!(out, "  {name} table at {table}: unreadable")?;
            return Ok(None);
        };
        let entry_at = at.saturating_add((within as u64).saturating_mul(8));
        write!(out, "  {name} entry at {entry_at:#x}:")?;
        for word in words {
            write!(out, " {word:#018x}")?;
        }
        write!(out, "  ")?;
        Ok(Some(words))
    }
}

fn page_at(source: &dyn crate::Source, at: Hpa, page: &mut Page) -> bool {
    source.page(at, page)
}

fn tell(out: &mut dyn Write, entry: &dyn Debug) -> fmt::Result {
    writeln!(out, "{}", Fields(entry))
}

fn refused(out: &mut dyn Write, why: &str) -> fmt::Result {
    writeln!(out, "  refused: {why}")
}
