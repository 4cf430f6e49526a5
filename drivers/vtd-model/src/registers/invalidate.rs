//! Register-based invalidation (§6.5.1, §11.4.6): legacy mode, up to version 5, and only
//! while the queue is off.

use super::dispatch::Write;
use crate::caches::Range;
use crate::machine::drain::{Drain, Drained};
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::queue::descriptor::function_mask;
use crate::remapping::Mode;
use crate::tables::{bit, bits, page};
use crate::violation::Rule;

const TRIGGER: u64 = 1 << 63;

impl Unit {
    /// Whether the registers may be used at all; otherwise the answer is 00.
    fn register_invalidation_works(&self, world: &mut World, register: &str) -> bool {
        let works = self.mode() == Mode::Legacy && self.config.major <= 5;
        if !works {
            let message =
                format!("{register} used in a mode or version without register-based invalidation");
            world.violate(Rule::Value, "§6.5.1", message);
        }
        if self.queue.enabled {
            let message = format!("{register} used while queued invalidation is enabled");
            world.violate(Rule::Order, "§6.5.1", message);
        }
        works && !self.queue.enabled
    }

    pub(crate) fn write_context_command(&mut self, world: &mut World, write: Write) {
        if self.busy(world, "CCMD") {
            return;
        }
        let value = write.over(self.registers.ccmd);
        self.reserved(
            world,
            "CCMD",
            "§11.4.6.1",
            write.value,
            0x07ff_fffc_0000_0000,
        );
        self.registers.ccmd = if write.upper() {
            value
        } else {
            value & !TRIGGER
        };
    }

    /// CCMD. Looking lets time pass.
    pub(crate) fn read_context_command(&mut self, world: &mut World) -> u64 {
        if self.registers.ccmd & TRIGGER != 0 && (world.pessimist || world.random.bool()) {
            self.complete_context_command(world);
        }
        // SID and FM are write-only.
        self.registers.ccmd & !0x3_ffff_0000
    }

    pub(crate) fn complete_context_command(&mut self, world: &mut World) {
        let value = self.registers.ccmd;
        if value & TRIGGER == 0 {
            return;
        }
        let granularity = bits(value, 62, 61);
        let domain = bits(value, 15, 0) as u16 & self.config.domain_mask();
        let source = (
            bits(value, 31, 16) as u16,
            function_mask(bits(value, 33, 32)),
        );
        let mut done = 0;
        if self.register_invalidation_works(world, "CCMD") {
            done = granularity;
            match granularity {
                1 => self.caches.drop_contexts(None, None),
                2 => self.caches.drop_contexts(None, Some(domain)),
                3 => self.caches.drop_contexts(Some(source), Some(domain)),
                _ => world.violate(Rule::Value, "§11.4.6.1", "CCMD.CIRG 00 is reserved"),
            }
            world
                .image
                .flushed_by(&*world.memory, self.config.write_buffer_flush);
        }
        self.registers.ccmd = value & !(TRIGGER | 3 << 59) | done << 59;
        self.disturbed = true;
    }

    pub(crate) fn write_invalidate_address(&mut self, world: &mut World, write: Write) {
        if self.registers.iotlb & TRIGGER != 0 {
            world.violate(
                Rule::Busy,
                "§11.4.6.3",
                "IVA written while an IOTLB command is not answered",
            );
            return;
        }
        let value = write.over(self.registers.iva);
        self.reserved(world, "IVA", "§11.4.6.4", value, 0xf80);
        self.registers.iva = value;
    }

    pub(crate) fn write_iotlb_command(&mut self, world: &mut World, write: Write) {
        if self.busy(world, "IOTLB") {
            return;
        }
        let value = write.over(self.registers.iotlb);
        self.reserved(
            world,
            "IOTLB",
            "§11.4.6.3",
            write.value,
            0x49fc_0000_0000_0000,
        );
        self.registers.iotlb = if write.upper() {
            value
        } else {
            value & !TRIGGER
        };
    }

    /// IOTLB. Looking lets time pass.
    pub(crate) fn read_iotlb_command(&mut self, world: &mut World) -> u64 {
        if self.registers.iotlb & TRIGGER != 0 && (world.pessimist || world.random.bool()) {
            self.complete_iotlb_command(world);
        }
        self.registers.iotlb
    }

    pub(crate) fn complete_iotlb_command(&mut self, world: &mut World) {
        let value = self.registers.iotlb;
        if value & TRIGGER == 0 {
            return;
        }
        let mut done = 0;
        if self.register_invalidation_works(world, "IOTLB") {
            done = self.iotlb_command(world, bits(value, 61, 60), bits(value, 47, 32) as u16);
            let domain = bits(value, 47, 32) as u16 & self.config.domain_mask();
            let range = Range::masked(
                page(self.registers.iva),
                bits(self.registers.iva, 5, 0) as u8,
            );
            let whose = Drained {
                domain: (done > 1).then_some(domain),
                pasid: None,
                range: (done == 3).then_some(range),
            };
            let drain = Drain::asked(bit(value, 49), bit(value, 48), &self.config);
            self.invalidated(world, whose, drain);
            // Here the answer itself waits for it.
            self.drains_complete();
            world
                .image
                .flushed_by(&*world.memory, self.config.write_buffer_flush);
        }
        self.registers.iotlb = value & !(TRIGGER | 3 << 57) | done << 57;
        self.disturbed = true;
    }

    fn iotlb_command(&mut self, world: &mut World, granularity: u64, domain: u16) -> u64 {
        let domain = domain & self.config.domain_mask();
        let mask = bits(self.registers.iva, 5, 0) as u8;
        match granularity {
            1 => self.caches.drop_translations(),
            2 => self.caches.drop_domain(domain),
            3 if !self.config.page_selective || mask > self.config.max_address_mask => {
                world.violate(
                    Rule::Value,
                    "§11.4.6.4",
                    format!(
                        "page-selective invalidation with mask {mask}, beyond MAMV or without PSI"
                    ),
                );
                return 0;
            }
            3 => {
                let range = Range::masked(page(self.registers.iva), mask);
                self.caches
                    .drop_domain_pages(domain, range, bit(self.registers.iva, 6));
            }
            _ => {
                world.violate(Rule::Value, "§11.4.6.3", "IOTLB.IIRG 00 is reserved");
                return 0;
            }
        }
        granularity
    }
}
