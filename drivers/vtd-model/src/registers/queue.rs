//! IQA, IQT, ICS, IQERCD (§11.4.9) and starting and stopping the queue (§6.5.2).

use super::command::QIE;
use super::dispatch::Write;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::violation::Rule;

impl Unit {
    pub(crate) fn check_queue_start(&mut self, world: &mut World) {
        if self.queue.tail != 0 {
            let message = format!("QIE set with IQT {:#x}; it must be 0", self.queue.tail);
            world.violate(Rule::Queue, "§6.5.2", message);
        }
        if self.queue.base() & self.config.above_host() != 0 {
            world.violate(
                Rule::Value,
                "§11.4.9.3",
                "IQA names memory beyond the host address width",
            );
        }
    }

    pub(crate) fn check_queue_stop(&mut self, world: &mut World) {
        let quiet = self.queue.is_empty() && self.queue.idle() && self.queue.quiet;
        if !quiet && self.queue.head | self.queue.tail != 0 {
            world.violate(Rule::Queue, "§6.5.2", "QIE cleared while the queue is not quiesced: empty, and the last descriptor a completed wait");
        }
    }

    pub(crate) fn enable_queue(&mut self, on: bool) {
        self.queue.enabled = on;
        self.queue.head = 0;
        if !on {
            self.queue.pending.clear();
            self.queue.sent.clear();
        }
    }

    pub(crate) fn write_queue_tail(&mut self, world: &mut World, write: Write) {
        let value = write.over(self.queue.tail);
        self.reserved(world, "IQT", "§11.4.9.2", value, !0x7_fff0);
        let value = value & 0x7_fff0;
        if self.queue.enabled {
            self.check_tail(world, value);
        }
        self.queue.tail = value;
        self.queue.quiet = false;
    }

    /// The tail may only move forward, and not up to the head (§6.5.2): one slot stays free.
    fn check_tail(&mut self, world: &mut World, tail: u64) {
        let bytes = self.queue.bytes();
        if tail >= bytes || self.queue.tail >= bytes || self.queue.error.is_some() {
            return;
        }
        let ahead = |offset: u64| offset.wrapping_sub(self.queue.head) % bytes;
        if ahead(tail) < ahead(self.queue.tail) {
            let message = format!(
                "IQT moved from {:#x} to {tail:#x}, over descriptors that were not fetched (IQH {:#x})",
                self.queue.tail, self.queue.head
            );
            world.violate(Rule::Queue, "§6.5.2", message);
        }
    }

    pub(crate) fn write_queue_address(&mut self, world: &mut World, write: Write) {
        let value = write.over(self.queue.address);
        let wide = if self.config.scalable_mode || self.config.abort_dma {
            0
        } else {
            0x800
        };
        self.reserved(world, "IQA", "§11.4.9.3", value, 0x7f8 | wide);
        if self.is_set(QIE) && !(self.queue.is_empty() && self.queue.idle()) {
            world.violate(
                Rule::Busy,
                "§11.4.9.3",
                "IQA written while the queue is neither empty nor disabled",
            );
        }
        self.queue.address = value & !0x7f8;
    }

    pub(crate) fn write_completion_status(&mut self, world: &mut World, value: u32) {
        self.reserved(world, "ICS", "§11.4.9.4", u64::from(value), 0xffff_fffe);
        if value & 1 != 0 {
            self.registers.wait_completed = false;
            self.registers.invalidation_event.served();
        }
    }

    /// IQERCD: fields are valid only while their bit of FSTS is set.
    pub(crate) fn queue_error_record(&self) -> u64 {
        u64::from(self.queue.error.unwrap_or(0))
            | u64::from(self.queue.timeout.unwrap_or(0)) << 32
            | u64::from(self.queue.completion_error.unwrap_or(0)) << 48
    }
}
