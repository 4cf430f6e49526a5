//! The driver's side of memory: stores that the model sees, and write-backs.

use super::Machine;
use crate::memory::{read_bytes, write_bytes};
use std::sync::Arc;

impl Machine {
    /// The memory that the machine runs on.
    pub fn memory(&self) -> Arc<dyn crate::HostMemory> {
        Arc::clone(&self.world.memory)
    }

    /// Reads an aligned cell as the processor sees it; 0 where no memory is.
    pub fn read_u64(&self, hpa: u64) -> u64 {
        self.world.memory.load(hpa & !7).unwrap_or(0)
    }

    /// Reads an aligned 32-bit word.
    pub fn read_u32(&self, hpa: u64) -> u32 {
        (self.read_u64(hpa & !7) >> (8 * (hpa & 4))) as u32
    }

    /// Reads bytes; those where no memory is stay as they are.
    pub fn read_bytes(&self, hpa: u64, bytes: &mut [u8]) {
        let _ = read_bytes(&*self.world.memory, hpa, bytes);
    }

    /// The processor stores an aligned cell: one step, at which requests may arrive.
    pub fn write_u64(&mut self, hpa: u64, value: u64) {
        self.write_bytes(hpa & !7, &value.to_le_bytes());
    }

    /// The processor stores an aligned 32-bit word.
    pub fn write_u32(&mut self, hpa: u64, value: u32) {
        self.write_bytes(hpa & !3, &value.to_le_bytes());
    }

    /// The processor stores two cells at once (`cmpxchg16b`); `hpa` is a multiple of 16.
    pub fn write_u128(&mut self, hpa: u64, value: [u64; 2]) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&value[0].to_le_bytes());
        bytes[8..].copy_from_slice(&value[1].to_le_bytes());
        self.write_bytes(hpa & !15, &bytes);
    }

    /// The processor stores bytes, as one step.
    pub fn write_bytes(&mut self, hpa: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        self.world.image.storing(&*self.world.memory, hpa, len);
        if write_bytes(&*self.world.memory, hpa, bytes).is_some() {
            self.stored(hpa, len);
        }
    }

    /// Something was stored to these bytes behind the model's back (a driver's atomic
    /// cells): one step. Stores to memory that no unit can reach yet need not be told.
    pub fn stored(&mut self, hpa: u64, len: u64) {
        self.world.image.stored(&*self.world.memory, hpa, len);
        self.after_store(hpa, len);
    }

    /// These bytes were written back from the processor's caches (`clflush`): units that do
    /// not snoop see them now. Also what a platform says of memory that it hands out zeroed.
    pub fn written_back(&mut self, hpa: u64, len: u64) {
        self.world.image.written_back(&*self.world.memory, hpa, len);
        self.after_store(hpa, len);
    }

    pub(crate) fn after_store(&mut self, hpa: u64, len: u64) {
        self.world.step += 1;
        if !self.world.pessimist {
            self.maybe_prefetch();
            return;
        }
        for unit in 0..self.units.len() {
            let new = self.prefetch[unit].stored(surroundings!(self, unit), hpa, len);
            self.judge(unit, &new);
            self.units[unit].prefetch_interrupts(
                &self.world,
                hpa,
                hpa.saturating_add(len.saturating_sub(1)),
            );
        }
        self.expectations_near(hpa, len);
    }
}
