//! FSTS and the fault recording registers (§11.4.7.1, §11.4.7.6), and when the fault event
//! is due (§7.3).

use super::dispatch::Write;
use super::map::Source;
use crate::machine::unit::Unit;
use crate::machine::world::World;

const PFO: u32 = 1;
const IQE: u32 = 1 << 4;
const ICE: u32 = 1 << 5;
const ITE: u32 = 1 << 6;

impl Unit {
    /// FSTS without FRI: the conditions that an event may tell of.
    pub(crate) fn fault_conditions(&self) -> u32 {
        u32::from(self.faults.overflow)
            | u32::from(self.faults.pending()) << 1
            | u32::from(self.queue.error.is_some()) << 4
            | u32::from(self.queue.completion_error.is_some()) << 5
            | u32::from(self.queue.timeout.is_some()) << 6
    }

    pub(crate) fn fault_status(&self) -> u32 {
        let status = self.fault_conditions();
        // FRI is undefined while PPF is 0: rubbish keeps drivers from relying on it.
        let index = if status & 2 != 0 {
            self.faults.first
        } else {
            0xa5
        };
        status | u32::from(index) << 8
    }

    /// Raises the fault event if a condition is new and none was there before.
    pub(crate) fn fault_event(&mut self, world: &mut World, before: u32) {
        if before == 0 && self.fault_conditions() != 0 {
            self.raise(world, Source::Fault);
        }
    }

    pub(crate) fn write_fault_status(&mut self, world: &mut World, value: u32) {
        let device = if self.config.device_tlb { 0 } else { ICE | ITE };
        let reserved = 0xffff_008c | device;
        self.reserved(
            world,
            "FSTS",
            "§11.4.7.1",
            u64::from(value),
            u64::from(reserved),
        );
        if value & PFO != 0 {
            self.faults.overflow = false;
        }
        if value & IQE != 0 {
            self.queue.error = None;
        }
        if value & ICE != 0 {
            self.queue.completion_error = None;
        }
        if value & ITE != 0 {
            self.queue.timeout = None;
        }
        self.faults_served();
    }

    pub(crate) fn write_fault_record(&mut self, _world: &mut World, record: usize, write: Write) {
        if write.value >> 63 == 1 {
            self.faults.clear(record);
        }
        self.faults_served();
    }

    fn faults_served(&mut self) {
        if self.fault_conditions() == 0 {
            self.registers.fault_event.served();
        }
    }
}
