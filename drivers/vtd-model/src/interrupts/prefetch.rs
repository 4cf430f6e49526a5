//! The pessimist's interrupt entry cache (§6.4): every entry that was ever valid, or with
//! caching mode every entry, until its index is invalidated.

use super::accepts;
use crate::caches::Caches;
use crate::faults::Condition;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::tables::interrupt::{Delivery, Irte};
use crate::tables::{bit, bits, page};

/// What an interrupt request may come to, as far as the table decides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PossibleInterrupt {
    /// It may arrive with this vector at this APIC id.
    Remapped {
        /// Vector.
        vector: u8,
        /// Destination as the entry gives it.
        destination: u32,
    },
    /// It may be posted with this vector to this descriptor.
    Posted {
        /// Virtual vector.
        vector: u8,
        /// Host physical address of the descriptor.
        descriptor: u64,
    },
    /// It passes unchanged: remapping is off, or it is of compatibility format and allowed.
    Unchanged,
    /// It may be blocked.
    Blocked(Condition),
}

impl Unit {
    fn interrupt_entries(&self) -> u64 {
        if self.registers.interrupt_table_set {
            2 << bits(self.interrupt_table, 3, 0)
        } else {
            0
        }
    }

    /// Caches what may be cached of the entries in `first..=last` of memory.
    pub(crate) fn prefetch_interrupts(&mut self, world: &World, first: u64, last: u64) {
        let table = page(self.interrupt_table);
        let end = table + 16 * self.interrupt_entries();
        let (first, last) = (first.max(table) & !15, last.min(end.saturating_sub(1)));
        if first > last {
            return;
        }
        for at in (first..=last).step_by(16) {
            let index = ((at - table) / 16) as u32;
            for words in world
                .image
                .states::<2>(&*world.memory, at, self.snoops())
                .unwrap_or_default()
            {
                let entry = Irte(words);
                let valid = entry.present()
                    && entry
                        .delivery(bit(self.interrupt_table, 11), &self.config)
                        .is_some();
                if valid || self.config.caching_mode {
                    Caches::add(self.caches.interrupts.entry(index).or_default(), entry);
                }
            }
        }
    }

    /// Every fate that a remappable request with this index may have.
    pub(crate) fn possible_interrupts(
        &self,
        world: &World,
        source: u16,
        index: u32,
    ) -> Vec<PossibleInterrupt> {
        let at = page(self.interrupt_table) + 16 * u64::from(index);
        let mut entries = self
            .caches
            .interrupts
            .get(&index)
            .cloned()
            .unwrap_or_default();
        let live = world
            .image
            .states::<2>(&*world.memory, at, self.snoops())
            .unwrap_or_default();
        for words in live {
            Caches::add(&mut entries, Irte(words));
        }
        let mut found: Vec<PossibleInterrupt> = Vec::new();
        for entry in entries {
            let fate = self.fate(source, entry);
            if !found.contains(&fate) {
                found.push(fate);
            }
        }
        found
    }

    fn fate(&self, source: u16, entry: Irte) -> PossibleInterrupt {
        if !entry.present() {
            return PossibleInterrupt::Blocked(Condition::Irq22);
        }
        if entry
            .source_check()
            .is_some_and(|check| !accepts(check, source))
        {
            return PossibleInterrupt::Blocked(Condition::Irq26);
        }
        match entry.delivery(bit(self.interrupt_table, 11), &self.config) {
            None => PossibleInterrupt::Blocked(Condition::Irq24),
            Some(Delivery::Remapped {
                vector,
                destination,
                ..
            }) => PossibleInterrupt::Remapped {
                vector,
                destination,
            },
            Some(Delivery::Posted {
                vector, descriptor, ..
            }) => PossibleInterrupt::Posted { vector, descriptor },
        }
    }
}
