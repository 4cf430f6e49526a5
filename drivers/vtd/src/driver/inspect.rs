//! Everything that a unit has, read back and told word by word, for a dump or a tool.

use super::Driver;
use crate::Event;
use crate::registers::*;
use crate::tables::interrupt::{IrteHigh, IrteLow};
use crate::tables::pasid::PasidEntry;
use crate::tables::root::RootEntry;
use crate::unit::Unit;
use iommu_core::{DomainHandle, Mmio, Observer, Pasid, Platform, Slot, SourceId, TableFormat};

/// One thing that was read. Words are as hardware has them; their types decode them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Inspected {
    /// A register.
    Register {
        /// The specification's name.
        name: &'static str,
        /// Byte offset.
        offset: u32,
        /// What it holds.
        value: u64,
    },
    /// A present root entry, or half of one in scalable mode.
    Root {
        /// The bus.
        bus: u8,
        /// The half for devices from 16 on.
        upper: bool,
        /// The entry.
        entry: RootEntry,
    },
    /// A context entry that is not all zeroes.
    Context {
        /// Whose.
        source: SourceId,
        /// Its first two words.
        words: [u64; 2],
    },
    /// A PASID table entry that is not all zeroes.
    Pasid {
        /// Whose.
        source: SourceId,
        /// For which PASID; 0 is for requests without.
        pasid: Pasid,
        /// The entry.
        entry: PasidEntry,
    },
    /// An interrupt-remapping entry that is not all zeroes.
    Interrupt {
        /// Its index.
        index: u16,
        /// Lower word.
        low: IrteLow,
        /// Upper word.
        high: IrteHigh,
    },
    /// What a slot leads to, or led to as far as hardware may know.
    Attachment {
        /// The slot.
        slot: Slot,
        /// Its domain; `None` for pass-through.
        domain: Option<DomainHandle>,
        /// The format of the domain's tables; `None` for pass-through and nested domains.
        format: Option<TableFormat>,
        /// The domain id on the unit.
        domain_id: u16,
        /// It leads there no more, and hardware has not confirmed that.
        leaving: bool,
    },
}

/// What is told of a unit goes here. It is called with locks of the driver held: it takes
/// notes and calls nothing of the driver.
pub type Sink<'a> = &'a mut dyn FnMut(&Inspected);

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Tells all that a unit has: registers, tables, interrupts, attachments. Says whether
    /// there is such a unit.
    pub fn inspect(&self, unit: u16, sink: Sink<'_>) -> bool {
        let found = self
            .units
            .iter()
            .enumerate()
            .find(|(_, known)| known.index() == unit);
        let Some((position, unit)) = found else {
            return false;
        };
        unit.inspect_registers(sink);
        unit.tables.lock(&self.platform).inspect(sink);
        if let Some(table) = &unit.interrupts {
            table.inspect(&self.platform, sink);
        }
        self.inspect_attachments(position, sink);
        true
    }

    fn inspect_attachments(&self, position: usize, sink: Sink<'_>) {
        let domains = self.domains.lock(&self.platform);
        for (_, attachment) in domains.attachments.iter() {
            if attachment.unit != position {
                continue;
            }
            let domain = attachment.domain.and_then(|index| domains.by_index(index));
            sink(&Inspected::Attachment {
                slot: attachment.slot,
                domain: attachment.domain.and_then(|index| domains.handle(index)),
                format: domain.and_then(|domain| domain.table_format()),
                domain_id: attachment.domain_id,
                leaving: attachment.leaving,
            });
        }
    }
}

impl<M: Mmio> Unit<M> {
    fn inspect_registers(&self, sink: Sink<'_>) {
        self.tell32::<Ver>(sink);
        self.tell64::<Cap>(sink);
        self.tell64::<Ecap>(sink);
        self.tell32::<Gsts>(sink);
        self.tell64::<Rtaddr>(sink);
        self.tell32::<Fsts>(sink);
        self.tell32::<Fectl>(sink);
        self.tell32::<Fedata>(sink);
        self.tell32::<Feaddr>(sink);
        self.tell32::<Feuaddr>(sink);
        if self.abilities.protected_regions() {
            self.tell32::<Pmen>(sink);
        }
        if self.abilities.has_queue() {
            self.tell64::<Iqh>(sink);
            self.tell64::<Iqt>(sink);
            self.tell64::<Iqa>(sink);
            self.tell64::<Iqercd>(sink);
        }
        if self.abilities.remaps_interrupts() {
            self.tell64::<Irta>(sink);
        }
        if self.abilities.ecap.pms() {
            self.tell64::<performance::Perfcap>(sink);
        }
        if self.abilities.page_requests() {
            self.tell64::<Pqh>(sink);
            self.tell64::<Pqt>(sink);
            self.tell64::<Pqa>(sink);
            self.tell32::<Prs>(sink);
            self.tell32::<Pectl>(sink);
        }
    }

    fn tell32<R: Register32>(&self, sink: Sink<'_>) {
        sink(&Inspected::Register {
            name: R::NAME,
            offset: R::OFFSET as u32,
            value: u64::from(self.registers.read32::<R>().into_raw()),
        });
    }

    fn tell64<R: Register64>(&self, sink: Sink<'_>) {
        sink(&Inspected::Register {
            name: R::NAME,
            offset: R::OFFSET as u32,
            value: self.registers.read64::<R>().into_raw(),
        });
    }
}
