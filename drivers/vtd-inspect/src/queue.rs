//! The invalidation queue: where it stands, and the descriptors that were queued last.

use crate::registers::{read32, read64};
use crate::{Fields, PAGE_WORDS, Page, Source};
use core::fmt::{self, Debug, Write};
use iommu_core::Hpa;
use vtd::queue::{
    ContextCacheLow, DeviceTlbHigh, DeviceTlbLow, HostPermissionLow, InterruptCacheLow, IotlbHigh,
    IotlbLow, PageGroupResponseHigh, PageGroupResponseLow, PasidCacheLow, PasidDeviceTlbHigh,
    PasidDeviceTlbLow, WaitHigh, WaitLow,
};
use vtd::registers::{Fsts, Gsts, Iqa, Iqercd, Iqh, Iqt};

/// Descriptors that are shown.
const SHOWN: u32 = 16;

/// Writes the queue's state and its last descriptors, the newest last.
pub(crate) fn write(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    let (Some(status), Some(address), Some(head), Some(tail)) = (
        read32::<Gsts>(source),
        read64::<Iqa>(source),
        read64::<Iqh>(source),
        read64::<Iqt>(source),
    ) else {
        return writeln!(out, "  unreadable");
    };
    if !status.qies() {
        return writeln!(out, "  off");
    }
    let ring = Ring::of(address);
    let (head, tail) = (ring.slot(head.into_bits()), ring.slot(tail.into_bits()));
    writeln!(
        out,
        "  {} slots of {} bits at {}, head {head}, tail {tail}{}",
        ring.slots,
        ring.words.saturating_mul(64),
        ring.base,
        if head == tail { ": empty" } else { "" }
    )?;
    errors(source, out)?;
    let shown = SHOWN.min(ring.slots);
    let first = tail.wrapping_sub(shown) & ring.slots.wrapping_sub(1);
    for step in 0..shown {
        let slot = first.wrapping_add(step) & ring.slots.wrapping_sub(1);
        let Some(words) = ring.read(source, slot) else {
            writeln!(out, "  [{slot}] unreadable")?;
            continue;
        };
        if words == [0, 0] {
            continue;
        }
        let mark = if slot == head { "head →" } else { "" };
        write!(out, "  [{slot}] {mark}")?;
        descriptor(words, out)?;
    }
    Ok(())
}

fn errors(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    let (Some(status), Some(record)) = (read32::<Fsts>(source), read64::<Iqercd>(source)) else {
        return Ok(());
    };
    if status.iqe() {
        writeln!(
            out,
            "  stands still: the descriptor at the head was refused (IQE, IQEI {})",
            record.iqei()
        )?;
    }
    if status.ite() {
        let device = iommu_core::SourceId::from_bits(record.itesid());
        writeln!(
            out,
            "  stands still: {device} did not answer an invalidation (ITE)"
        )?;
    }
    if status.ice() {
        let device = iommu_core::SourceId::from_bits(record.icesid());
        writeln!(
            out,
            "  {device} answered an invalidation that nobody had sent (ICE)"
        )?;
    }
    Ok(())
}

struct Ring {
    base: Hpa,
    slots: u32,
    /// Words of a slot: 2 or 4.
    words: u32,
}

impl Ring {
    fn of(address: Iqa) -> Self {
        // 2^QS pages of 256 slots with 128 bits, half as many with 256 (§11.4.9.3).
        let words = if address.dw() { 4 } else { 2 };
        let cells = 512u32.checked_shl(address.qs().into()).unwrap_or(512);
        Self {
            base: Hpa::new(address.iqa() << iommu_core::PAGE_SHIFT),
            slots: cells.checked_div(words).unwrap_or(256),
            words,
        }
    }

    /// The slot of a head or tail register, which hold byte offsets.
    fn slot(&self, register: u64) -> u32 {
        let bytes = self.words.saturating_mul(8);
        u32::try_from(register)
            .ok()
            .and_then(|offset| offset.checked_div(bytes))
            .unwrap_or(0)
    }

    fn read(&self, source: &dyn Source, slot: u32) -> Option<[u64; 2]> {
        let word = slot.checked_mul(self.words)? as usize;
        let page_number = word.checked_div(PAGE_WORDS)? as u64;
        let at = self
            .base
            .as_u64()
            .checked_add(page_number.checked_mul(iommu_core::PAGE_SIZE)?)?;
        let mut page: Page = [0; PAGE_WORDS];
        if !source.page(Hpa::new(at), &mut page) {
            return None;
        }
        let first = word.checked_rem(PAGE_WORDS)?;
        Some([*page.get(first)?, *page.get(first.checked_add(1)?)?])
    }
}

/// Writes a descriptor by its type's name and fields (§6.5.2).
fn descriptor([low, high]: [u64; 2], out: &mut dyn Write) -> fmt::Result {
    let none: &dyn Debug = &();
    match low & 0xf {
        1 => line(out, "context cache", &ContextCacheLow::from_bits(low), none),
        2 | 6 => line(
            out,
            if low & 0xf == 2 {
                "IOTLB"
            } else {
                "PASID IOTLB"
            },
            &IotlbLow::from_bits(low),
            &IotlbHigh::from_bits(high),
        ),
        3 => line(
            out,
            "device TLB",
            &DeviceTlbLow::from_bits(low),
            &DeviceTlbHigh::from_bits(high),
        ),
        4 => line(
            out,
            "interrupt entry cache",
            &InterruptCacheLow::from_bits(low),
            none,
        ),
        5 => line(
            out,
            "wait",
            &WaitLow::from_bits(low),
            &WaitHigh::from_bits(high),
        ),
        7 => line(out, "PASID cache", &PasidCacheLow::from_bits(low), none),
        8 => line(
            out,
            "PASID device TLB",
            &PasidDeviceTlbLow::from_bits(low),
            &PasidDeviceTlbHigh::from_bits(high),
        ),
        9 => line(
            out,
            "page group response",
            &PageGroupResponseLow::from_bits(low),
            &PageGroupResponseHigh::from_bits(high),
        ),
        10 => line(
            out,
            "host permission cache",
            &HostPermissionLow::from_bits(low),
            none,
        ),
        _ => writeln!(out, "unknown type: {low:#018x} {high:#018x}"),
    }
}

fn line(out: &mut dyn Write, name: &str, low: &dyn Debug, high: &dyn Debug) -> fmt::Result {
    write!(out, "{name}: {}", Fields(low))?;
    let high = Fields(high);
    let mut text = arrayvec::ArrayString::<128>::new();
    // What does not fit is longer than any descriptor.
    let _ = write!(text, "{high}");
    if text.as_str() == "-" {
        writeln!(out)
    } else {
        writeln!(out, "; {text}")
    }
}
