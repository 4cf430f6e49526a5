//! Reading and writing by offset: widths, halves, then the register's own rule (§11.2).

use super::Width;
use super::map::{Place, Register, locate};
use crate::config::EVENTS;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::violation::Rule;

/// One write, as a register sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// The bits that were written, in their places; zero elsewhere.
    pub(crate) value: u64,
    /// Which bits were written.
    pub(crate) mask: u64,
}

impl Write {
    /// The register's new content, given its old one.
    pub(crate) fn over(self, old: u64) -> u64 {
        old & !self.mask | self.value
    }

    /// Whether the byte with the trigger bit 63 was written.
    pub(crate) fn upper(self) -> bool {
        self.mask >> 63 == 1
    }
}

impl Unit {
    /// Reads a register; all ones outside, and where the access is not allowed.
    pub(crate) fn read_register(&mut self, world: &mut World, offset: usize, width: Width) -> u64 {
        let all_ones = u64::MAX >> (64 - 8 * width.bytes());
        if offset + width.bytes() > self.config.register_bytes() {
            world.violate(
                Rule::NoRegister,
                "§11.1",
                format!("read at {offset:#x}, beyond the registers"),
            );
            return all_ones;
        }
        let Some(place) = locate(offset, &self.config) else {
            return 0;
        };
        if !self.aligned(world, place, offset, width, "read") {
            return all_ones;
        }
        let value = self.value(world, place.register) >> (8 * (offset - place.base));
        value & all_ones
    }

    /// Writes a register.
    pub(crate) fn write_register(
        &mut self,
        world: &mut World,
        offset: usize,
        width: Width,
        value: u64,
    ) {
        if offset + width.bytes() > self.config.register_bytes() {
            world.violate(
                Rule::NoRegister,
                "§11.1",
                format!("write at {offset:#x}, beyond the registers"),
            );
            return;
        }
        let Some(place) = locate(offset, &self.config) else {
            if value != 0 {
                world.violate(
                    Rule::NoRegister,
                    "§11.3",
                    format!("write of {value:#x} at {offset:#x}, where this unit has no register"),
                );
            }
            return;
        };
        if !self.aligned(world, place, offset, width, "write") {
            return;
        }
        let shift = 8 * (offset - place.base);
        let mask = (u64::MAX >> (64 - 8 * width.bytes())) << shift;
        let write = Write {
            value: (value << shift) & mask,
            mask,
        };
        self.write_place(world, place.register, write);
    }

    fn aligned(
        &self,
        world: &mut World,
        place: Place,
        offset: usize,
        width: Width,
        what: &str,
    ) -> bool {
        let bytes = width.bytes();
        let good = offset.is_multiple_of(bytes) && bytes <= place.bytes;
        if !good {
            world.violate(
                Rule::Width,
                "§11.2",
                format!(
                    "{bytes}-byte {what} at {offset:#x} of {:?}, a {}-byte register at {:#x}",
                    place.register, place.bytes, place.base
                ),
            );
        }
        good
    }

    fn value(&mut self, world: &mut World, register: Register) -> u64 {
        use Register as R;
        match register {
            R::Ver => u64::from(self.config.version()),
            R::Cap => self.config.capability(),
            R::Ecap => self.config.extended_capability(),
            // Write-only: what a read gives is undefined.
            R::Gcmd | R::Iva => 0,
            R::Gsts => u64::from(self.read_status(world)),
            R::Rtaddr => self.registers.rtaddr,
            R::Ccmd => self.read_context_command(world),
            R::Fsts => u64::from(self.fault_status()),
            R::Event(source, field) => u64::from(self.event(source).read(field)),
            R::Pmen => u64::from(self.read_protected_enable()),
            R::Plmbase => u64::from(self.registers.protection.low_base),
            R::Plmlimit => u64::from(self.registers.protection.low_limit),
            R::Phmbase => self.registers.protection.high_base,
            R::Phmlimit => self.registers.protection.high_limit,
            R::Iqh => self.queue.head,
            R::Iqt => self.queue.tail,
            R::Iqa => self.queue.address,
            R::Ics => u64::from(self.registers.wait_completed),
            R::Iqercd => self.queue_error_record(),
            R::Irta => self.registers.irta,
            R::Pqh => self.registers.page_queue.head,
            R::Pqt => self.registers.page_queue.tail,
            R::Pqa => self.registers.page_queue.address,
            R::Prs => u64::from(self.registers.page_queue.status()),
            R::Iotlb => self.read_iotlb_command(world),
            R::Frcd(record, high) => self.faults.word(record, high),
            R::Mtrr(place) => self.read_memory_type(place),
            R::Perfcap => self.config.performance_capability(),
            R::PerfOffset(which) => self.performance_offset(which),
            R::Perfevntcap(group) => EVENTS[group],
            R::Perf(place) => self.read_counter(place),
            R::Ecmd | R::Eceo | R::Ecsts => 0,
            R::Ecrsp => self.read_enhanced_response(world),
            R::Eccap(index) => self.enhanced_capability(index),
            R::Virtual(place) => self.read_virtual(world, place),
        }
    }

    fn write_place(&mut self, world: &mut World, register: Register, write: Write) {
        use Register as R;
        match register {
            R::Gcmd => self.write_command(world, write.value as u32),
            R::Rtaddr => self.write_rtaddr(world, write),
            R::Ccmd => self.write_context_command(world, write),
            R::Fsts => self.write_fault_status(world, write.value as u32),
            R::Event(source, field) => self.write_event(world, source, field, write.value as u32),
            R::Pmen => self.write_protected_enable(world, write.value as u32),
            R::Plmbase | R::Plmlimit | R::Phmbase | R::Phmlimit => {
                self.write_protected_range(world, register, write)
            }
            R::Iqt => self.write_queue_tail(world, write),
            R::Iqa => self.write_queue_address(world, write),
            R::Ics => self.write_completion_status(world, write.value as u32),
            R::Irta => self.write_irta(world, write),
            R::Pqh | R::Pqt | R::Pqa => self.write_page_queue(world, register, write),
            R::Prs => self.write_page_status(world, write.value as u32),
            R::Iva => self.write_invalidate_address(world, write),
            R::Iotlb => self.write_iotlb_command(world, write),
            R::Frcd(record, true) => self.write_fault_record(world, record, write),
            R::Mtrr(place) => self.write_memory_type(world, place, write),
            R::Perf(place) => self.write_counter(world, place, write),
            R::Ecmd => self.write_enhanced_command(world, write),
            R::Eceo => self.write_enhanced_operand(world),
            R::Virtual(place) => self.write_virtual(world, place, write),
            R::Ver
            | R::Cap
            | R::Ecap
            | R::Gsts
            | R::Iqh
            | R::Iqercd
            | R::Frcd(_, false)
            | R::Perfcap
            | R::PerfOffset(_)
            | R::Perfevntcap(_)
            | R::Ecrsp
            | R::Ecsts
            | R::Eccap(_) => {
                world.violate(
                    Rule::Reserved,
                    "§11.3",
                    format!(
                        "write of {:#x} to {register:?}, which is read-only",
                        write.value
                    ),
                );
            }
        }
    }

    fn performance_offset(&self, which: usize) -> u64 {
        let places = self.config.perfmon_places();
        places.map_or(0, |places| {
            [
                places.configuration,
                places.freeze,
                places.overflow,
                places.counters,
            ][which] as u64
        })
    }

    /// Records reserved bits that a write sets.
    pub(crate) fn reserved(
        &self,
        world: &mut World,
        register: &str,
        section: &'static str,
        value: u64,
        reserved: u64,
    ) {
        if value & reserved != 0 {
            let bits = value & reserved;
            world.violate(
                Rule::Reserved,
                section,
                format!("{register}: reserved bits {bits:#x} set in {value:#x}"),
            );
        }
    }
}
