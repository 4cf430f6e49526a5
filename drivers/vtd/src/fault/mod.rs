//! Faults: reading the records, and explaining them (§7).

use crate::Event;
use crate::abilities::Abilities;
use crate::registers::{FrcdHigh, Registers};
use iommu_core::{Mmio, Observer};

/// Byte offset of a fault record.
fn record_at(abilities: &Abilities, index: usize) -> usize {
    abilities
        .cap
        .fault_records_at()
        .saturating_add(index.saturating_mul(16))
}

/// The upper half of a record.
fn read_high<M: Mmio>(registers: &Registers<M>, abilities: &Abilities, index: usize) -> FrcdHigh {
    FrcdHigh::from_bits(registers.read64_at(record_at(abilities, index).saturating_add(8)))
}

/// Clears F of a record, if it is set.
pub(crate) fn clear_record<M: Mmio, O: Observer<Event>>(
    registers: &Registers<M>,
    abilities: &Abilities,
    observer: &O,
    index: usize,
) {
    if read_high(registers, abilities, index).f() {
        registers.write32_at(
            observer,
            "FRCD",
            record_at(abilities, index).saturating_add(12),
            FrcdHigh::CLEAR,
        );
    }
}
