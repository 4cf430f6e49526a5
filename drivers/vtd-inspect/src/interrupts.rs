//! The interrupt-remapping table (§9.9, §11.4.10).

use crate::registers::{read32, read64};
use crate::{PAGE_WORDS, Page, Source};
use core::fmt::{self, Write};
use iommu_core::{Hpa, PAGE_SHIFT, PAGE_SIZE, SourceId};
use vtd::registers::{Gsts, Irta};
use vtd::tables::interrupt::{IrteHigh, IrteLow, SourceValidation};

/// Writes the table's place and all entries that are not all zeroes.
pub(crate) fn write(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    let (Some(status), Some(address)) = (read32::<Gsts>(source), read64::<Irta>(source)) else {
        return writeln!(out, "  unreadable");
    };
    if !status.ires() {
        return writeln!(out, "  interrupts are not remapped");
    }
    let entries = 2u32.checked_shl(address.s().into()).unwrap_or(2);
    let base = Hpa::new(address.irta() << PAGE_SHIFT);
    writeln!(
        out,
        "  {entries} entries at {base}, APIC ids of {} bits, compatibility format {}",
        if address.eime() { 32 } else { 8 },
        if status.cfis() { "passes" } else { "blocked" }
    )?;
    let pages = u64::from(entries).div_ceil(PAGE_WORDS as u64 / 2);
    for number in 0..pages {
        let at = Hpa::new(
            base.as_u64()
                .saturating_add(number.saturating_mul(PAGE_SIZE)),
        );
        let mut page: Page = [0; PAGE_WORDS];
        if !source.page(at, &mut page) {
            writeln!(out, "  table at {at}: unreadable")?;
            continue;
        }
        let first = number.saturating_mul(PAGE_WORDS as u64 / 2);
        for (index, words) in (first..u64::from(entries)).zip(page.chunks_exact(2)) {
            if let &[low, high] = words
                && [low, high] != [0, 0]
            {
                entry(index, low, high, address.eime(), out)?;
            }
        }
    }
    Ok(())
}

fn entry(index: u64, low: u64, high: u64, extended: bool, out: &mut dyn Write) -> fmt::Result {
    let (entry, verify) = (IrteLow::from_bits(low), IrteHigh::from_bits(high));
    write!(out, "  [{index}] ")?;
    if !entry.p() {
        write!(out, "not present, ")?;
    }
    if entry.im() {
        return writeln!(out, "posted: {high:#018x} {low:#018x}");
    }
    let destination = if extended {
        entry.dst()
    } else {
        entry.dst() >> 8 & 0xff
    };
    write!(
        out,
        "vector {:#04x} to APIC {destination:#x}{}{}, ",
        entry.v(),
        if entry.dm() { " (logical)" } else { "" },
        if entry.tm() { ", level" } else { "" },
    )?;
    match verify.svt() {
        SourceValidation::SOURCE => write!(
            out,
            "from {}{}",
            SourceId::from_bits(verify.sid()),
            match verify.sq().0 {
                0 => "",
                1 => ", any function that differs in bit 2",
                2 => ", any function that differs in bits 2:1",
                _ => ", any function",
            }
        )?,
        SourceValidation::BUS_RANGE => write!(
            out,
            "from buses {:02x} to {:02x}",
            verify.sid() >> 8,
            verify.sid() & 0xff
        )?,
        _ => write!(out, "from ANY source")?,
    }
    writeln!(out)
}
