//! Taking the records that a unit holds (§7.2.1).

use super::record::decode;
use crate::Event;
use crate::abilities::Abilities;
use crate::registers::{FrcdHigh, FrcdLow, Fsts, Registers};
use crate::unit::Unit;
use arrayvec::ArrayVec;
use iommu_core::{FaultRecord, Mmio, Observer, Platform};

/// Byte offset of a fault record.
fn record_at(abilities: &Abilities, index: usize) -> usize {
    abilities
        .cap
        .fault_records_at()
        .saturating_add(index.saturating_mul(16))
}

fn read_high<M: Mmio>(registers: &Registers<M>, abilities: &Abilities, index: usize) -> FrcdHigh {
    FrcdHigh::from_bits(registers.read64_at(record_at(abilities, index).saturating_add(8)))
}

impl FrcdHigh {
    /// A write that clears F, as the 32-bit word at offset 12.
    pub(crate) const CLEAR: u32 = 1 << 31;
}

/// Clears F of a record, if it is set: by a write of the 32 bits that hold it.
pub(crate) fn clear_record<M: Mmio, O: Observer<Event>>(
    registers: &Registers<M>,
    abilities: &Abilities,
    observer: &O,
    index: usize,
) {
    if read_high(registers, abilities, index).f() {
        let top_dword = record_at(abilities, index).saturating_add(12);
        registers.write32_at(observer, "FRCD", top_dword, FrcdHigh::CLEAR);
    }
}

/// Records that are read under the lock at a time.
const CHUNK: usize = 16;

impl<M: Mmio> Unit<M> {
    /// Takes all records, in the order in which they were made, and lets the unit record
    /// again if it had to stop. May be called when nothing is pending.
    ///
    /// The sink is called with no lock held.
    pub(crate) fn drain_faults<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        sink: &mut dyn FnMut(&FaultRecord),
    ) {
        let status = self.registers.read32::<Fsts>();
        if status.iqe() || status.ite() || status.ice() {
            // Whoever waits for the queue does this too, but perhaps nobody waits.
            self.recover_queue(platform);
        }
        let mut next = usize::from(status.fri());
        // A device can make faults as fast as they are read: once around the registers is
        // enough, and what comes after raises the event again.
        let mut left = if status.ppf() {
            self.abilities.cap.fault_records()
        } else {
            0
        };
        while left > 0 {
            let records = self.take_records(platform, &mut next, left.min(CHUNK));
            left = left.saturating_sub(CHUNK);
            if !records.is_full() {
                left = 0;
            }
            for record in &records {
                self.counters.faults.increment();
                platform.observe(&Event::Fault(*record));
                sink(record);
            }
        }
        self.clear_overflow(platform);
    }

    /// Up to `most` records from `next` on, which moves along.
    fn take_records<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        next: &mut usize,
        most: usize,
    ) -> ArrayVec<FaultRecord, CHUNK> {
        let mut watch = self.faults.lock(platform);
        let mut records = ArrayVec::new();
        for _ in 0..most {
            let index = next
                .checked_rem(self.abilities.cap.fault_records())
                .unwrap_or(0);
            let high = read_high(&self.registers, &self.abilities, index);
            if !high.f() {
                break;
            }
            let low = self.registers.read64_at(record_at(&self.abilities, index));
            clear_record(&self.registers, &self.abilities, platform, index);
            let low = FrcdLow::from_bits(low);
            let record = decode(self.index(), self.segment, low, high, platform.now());
            let interrupts = record.reason.is_interrupt();
            watch.note(record.device.source, interrupts, record.at);
            let _ = records.try_push(record);
            *next = index.saturating_add(1);
        }
        records
    }

    /// Only after the records: as long as PFO is set the unit records nothing (§7.2.1).
    fn clear_overflow<P: Platform + Observer<Event>>(&self, platform: &P) {
        let _one_at_a_time = self.faults.lock(platform);
        if self.registers.read32::<Fsts>().pfo() {
            self.counters.fault_overflows.increment();
            platform.observe(&Event::FaultsLost { unit: self.index() });
            self.registers.write32(platform, Fsts::new().with_pfo(true));
        }
    }

    fn recover_queue<P: Platform + Observer<Event>>(&self, platform: &P) {
        if let Some(queue) = &self.queue {
            queue.recover(platform, &self.registers, &self.counters);
        }
    }
}
