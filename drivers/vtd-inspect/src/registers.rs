//! Registers, by name and by their fields.

use crate::{Fields, Source};
use core::fmt::{self, Debug, Write};
use vtd::registers::performance::{CounterConfiguration, Perfcap, Perfcfgoff, Perfcntroff};
use vtd::registers::{
    Cap, Ecap, Feaddr, Fectl, Fedata, Feuaddr, FrcdHigh, FrcdLow, Fsts, Gsts, Iqa, Iqercd, Iqh,
    Iqt, Irta, Pectl, Pmen, Pqa, Pqh, Pqt, Prs, Register32, Register64, Rtaddr, Ver,
};

/// What CAP and ECAP say.
#[derive(Clone, Copy)]
pub(crate) struct Capabilities {
    pub(crate) cap: Cap,
    pub(crate) ecap: Ecap,
}

impl Capabilities {
    /// `None` if nothing answers.
    pub(crate) fn read(source: &dyn Source) -> Option<Self> {
        let found = Self {
            cap: read64(source)?,
            ecap: read64(source)?,
        };
        let words = [found.cap.into_bits(), found.ecap.into_bits()];
        (words != [0, 0] && words != [u64::MAX, u64::MAX]).then_some(found)
    }
}

pub(crate) fn read32<R: Register32>(source: &dyn Source) -> Option<R> {
    source.read32(R::OFFSET).map(R::from_raw)
}

pub(crate) fn read64<R: Register64>(source: &dyn Source) -> Option<R> {
    source.read64(R::OFFSET).map(R::from_raw)
}

/// Writes all registers that the unit has.
pub(crate) fn write(
    source: &dyn Source,
    capabilities: Capabilities,
    out: &mut dyn Write,
) -> fmt::Result {
    let Capabilities { cap, ecap } = capabilities;
    narrow::<Ver>(source, out)?;
    wide::<Cap>(source, out)?;
    wide::<Ecap>(source, out)?;
    narrow::<Gsts>(source, out)?;
    wide::<Rtaddr>(source, out)?;
    narrow::<Fsts>(source, out)?;
    narrow::<Fectl>(source, out)?;
    narrow::<Fedata>(source, out)?;
    narrow::<Feaddr>(source, out)?;
    narrow::<Feuaddr>(source, out)?;
    if cap.plmr() || cap.phmr() {
        narrow::<Pmen>(source, out)?;
    }
    if ecap.qi() {
        wide::<Iqh>(source, out)?;
        wide::<Iqt>(source, out)?;
        wide::<Iqa>(source, out)?;
        wide::<Iqercd>(source, out)?;
    }
    if ecap.ir() {
        wide::<Irta>(source, out)?;
    }
    if ecap.prs() {
        wide::<Pqh>(source, out)?;
        wide::<Pqt>(source, out)?;
        wide::<Pqa>(source, out)?;
        narrow::<Prs>(source, out)?;
        narrow::<Pectl>(source, out)?;
    }
    if ecap.pms() {
        wide::<Perfcap>(source, out)?;
        counters(source, out)?;
    }
    fault_records(source, cap, out)
}

/// Performance counters that count something.
fn counters(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    let (Some(capability), Some(configurations), Some(counters)) = (
        read64::<Perfcap>(source),
        read32::<Perfcfgoff>(source),
        read32::<Perfcntroff>(source),
    ) else {
        return Ok(());
    };
    let stride = 1usize << capability.stride().saturating_add(10);
    for counter in 0..usize::from(capability.counters()) {
        let at = (configurations.offset() as usize).saturating_add(counter.saturating_mul(0x100));
        let value_at = (counters.offset() as usize).saturating_add(counter.saturating_mul(stride));
        let (Some(words), Some(value)) = (source.read64(at), source.read64(value_at)) else {
            continue;
        };
        let configuration = CounterConfiguration::from_bits(words);
        if configuration.es() != 0 {
            writeln!(
                out,
                "  counter {counter}: group {}, events {:#x}, {}: {value}",
                configuration.egi(),
                configuration.es(),
                if configuration.en() {
                    "counting"
                } else {
                    "stopped"
                },
            )?;
        }
    }
    Ok(())
}

fn narrow<R: Register32 + Debug>(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    match read32::<R>(source) {
        Some(register) => writeln!(
            out,
            "  {:<7} {:>16x}  {}",
            R::NAME,
            register.into_raw(),
            Fields(&register)
        ),
        None => writeln!(out, "  {:<7} unreadable", R::NAME),
    }
}

fn wide<R: Register64 + Debug>(source: &dyn Source, out: &mut dyn Write) -> fmt::Result {
    match read64::<R>(source) {
        Some(register) => writeln!(
            out,
            "  {:<7} {:>16x}  {}",
            R::NAME,
            register.into_raw(),
            Fields(&register)
        ),
        None => writeln!(out, "  {:<7} unreadable", R::NAME),
    }
}

/// The records that hold a fault (§11.4.7.6), read and not cleared.
fn fault_records(source: &dyn Source, cap: Cap, out: &mut dyn Write) -> fmt::Result {
    for index in 0..cap.fault_records() {
        let at = cap
            .fault_records_at()
            .saturating_add(index.saturating_mul(16));
        let low = source.read64(at).map(FrcdLow::from_bits);
        let high = source.read64(at.saturating_add(8)).map(FrcdHigh::from_bits);
        if let (Some(low), Some(high)) = (low, high)
            && high.f()
        {
            let reason = iommu_core::FaultReason(high.fr());
            let source = iommu_core::SourceId::from_bits(high.sid());
            writeln!(
                out,
                "  FRCD[{index}] {:016x} {:016x}  {source} at {:#x}: {reason}",
                high.into_bits(),
                low.into_bits(),
                low.into_bits(),
            )?;
        }
    }
    Ok(())
}
