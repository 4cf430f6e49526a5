//! A unit that only waits for its tables to be put in force.

use crate::abilities::Abilities;
use crate::mode::ModeChoice;
use crate::unit::Unit;
use iommu_core::Mmio;

/// A unit whose queue, interrupt remapping and fault event work. Its tables are ours to
/// fill through [`Driver`](crate::Driver), and not in force.
#[derive(Debug)]
pub struct Ready<M> {
    pub(crate) unit: Unit<M>,
}

impl<M: Mmio> Ready<M> {
    /// The caller's number for it.
    pub fn index(&self) -> u16 {
        self.unit.index()
    }

    /// What it can do.
    pub fn abilities(&self) -> &Abilities {
        &self.unit.abilities
    }

    /// Its mode, and why.
    pub fn mode(&self) -> ModeChoice {
        self.unit.choice
    }

    /// Whether enabling it needs translation, which firmware left on, to be off for a
    /// moment, because the table mode changes and the unit cannot do that live. The caller
    /// then keeps other bus masters from doing DMA meanwhile.
    pub fn needs_translation_window(&self) -> bool {
        self.unit.needs_translation_window()
    }
}
