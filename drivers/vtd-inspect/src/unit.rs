//! One unit, part by part.

use crate::registers::{self, Capabilities};
use crate::tables::Tables;
use crate::{Request, Source, interrupts, queue};
use core::fmt::{self, Write};
use iommu_core::SourceId;

/// How far tables are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Root, context and PASID entries.
    Entries,
    /// Down to the leaves of page tables.
    Leaves,
}

/// A part of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Registers.
    Registers,
    /// Root, context, PASID and page tables.
    Tables,
    /// The invalidation queue.
    Queue,
    /// The interrupt-remapping table.
    Interrupts,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] = [Self::Registers, Self::Tables, Self::Queue, Self::Interrupts];

    const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Tables => "tables",
            Self::Queue => "invalidation queue",
            Self::Interrupts => "interrupt-remapping table",
        }
    }
}

/// One unit to be looked at.
#[derive(Clone, Copy)]
pub struct UnitView<'a> {
    /// Its number, for headings.
    pub unit: u16,
    /// Bits of physical address (the DMAR's host address width).
    pub host_bits: u8,
    /// Its registers and memory.
    pub source: &'a dyn Source,
}

impl UnitView<'_> {
    /// Writes everything.
    pub fn write_all(&self, detail: Detail, out: &mut dyn Write) -> fmt::Result {
        Part::ALL
            .into_iter()
            .try_for_each(|part| self.write(part, detail, out))
    }

    /// Writes one part, with a heading.
    pub fn write(&self, part: Part, detail: Detail, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "unit {}: {}", self.unit, part.name())?;
        let Some(capabilities) = Capabilities::read(self.source) else {
            return writeln!(out, "  the unit does not answer");
        };
        match part {
            Part::Registers => registers::write(self.source, capabilities, out),
            Part::Tables => self.tables(capabilities, detail, None).write(out),
            Part::Queue => queue::write(self.source, out),
            Part::Interrupts => interrupts::write(self.source, out),
        }
    }

    /// Writes one requester's entries and page tables.
    pub fn write_device(&self, source: SourceId, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "unit {}: {source}", self.unit)?;
        let Some(capabilities) = Capabilities::read(self.source) else {
            return writeln!(out, "  the unit does not answer");
        };
        self.tables(capabilities, Detail::Leaves, Some(source))
            .write(out)
    }

    /// Writes the walk of one request.
    pub fn write_walk(&self, request: Request, out: &mut dyn Write) -> fmt::Result {
        write!(
            out,
            "unit {}: {} asks for {}",
            self.unit, request.source, request.iova
        )?;
        match request.pasid {
            Some(pasid) => writeln!(out, " with PASID {}", pasid.as_u32())?,
            None => writeln!(out)?,
        }
        let Some(capabilities) = Capabilities::read(self.source) else {
            return writeln!(out, "  the unit does not answer");
        };
        self.tables(capabilities, Detail::Leaves, None)
            .walk(request, out)
    }

    fn tables(
        &self,
        capabilities: Capabilities,
        detail: Detail,
        only: Option<SourceId>,
    ) -> Tables<'_> {
        Tables {
            source: self.source,
            capabilities,
            host_bits: self.host_bits,
            detail,
            only,
        }
    }
}
