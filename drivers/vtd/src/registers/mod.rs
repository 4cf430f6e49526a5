//! Registers by name (§11), and the one place that reads and writes them.
//!
//! Every register is a type that knows its offset and width, so that a 32-bit register
//! cannot be accessed with 64 bits (§11.2: some hardware answers that with an abort).
//! Layout only: what is done with them is told in the modules that do it.

pub mod capability;
pub mod command;
pub mod enhanced_command;
pub mod fault;
pub mod interrupt;
pub mod invalidation;
pub mod memory_type;
pub mod page_request;
pub mod performance;
pub mod protected_memory;
pub mod virtual_command;

pub use capability::{Cap, Ecap, Ver};
pub use command::{Ccmd, Gcmd, Gsts, Iotlb, Iva, Rtaddr, TableMode};
pub use fault::{Feaddr, Fectl, Fedata, Feuaddr, FrcdHigh, FrcdLow, Fsts};
pub use interrupt::Irta;
pub use invalidation::{Ics, Ieaddr, Iectl, Iedata, Ieuaddr, Iqa, Iqercd, Iqh, Iqt};
pub use page_request::{Peaddr, Pectl, Pedata, Peuaddr, Pqa, Pqh, Pqt, Prs};
pub use protected_memory::{Phmbase, Phmlimit, Plmbase, Plmlimit, Pmen};

use crate::Event;
use iommu_core::{Mmio, Observer};

/// A register of 32 bits at a fixed offset.
pub trait Register32: Copy {
    /// Byte offset from the unit's base.
    const OFFSET: usize;
    /// The specification's name.
    const NAME: &'static str;
    /// From what was read.
    fn from_raw(bits: u32) -> Self;
    /// What is written.
    fn into_raw(self) -> u32;
}

/// A register of 64 bits at a fixed offset.
pub trait Register64: Copy {
    /// Byte offset from the unit's base.
    const OFFSET: usize;
    /// The specification's name.
    const NAME: &'static str;
    /// From what was read.
    fn from_raw(bits: u64) -> Self;
    /// What is written.
    fn into_raw(self) -> u64;
}

macro_rules! register {
    ($name:ident: u32, $offset:literal, $label:literal) => {
        crate::registers::register!(@ $name, u32, crate::registers::Register32, $offset, $label);
    };
    ($name:ident: u64, $offset:literal, $label:literal) => {
        crate::registers::register!(@ $name, u64, crate::registers::Register64, $offset, $label);
    };
    (@ $name:ident, $bits:ty, $width:path, $offset:literal, $label:literal) => {
        impl $width for $name {
            const OFFSET: usize = $offset;
            const NAME: &'static str = $label;
            fn from_raw(bits: $bits) -> Self {
                Self::from_bits(bits)
            }
            fn into_raw(self) -> $bits {
                self.into_bits()
            }
        }
    };
}
pub(crate) use register;

/// The registers of one unit.
#[derive(Debug)]
pub(crate) struct Registers<M> {
    mmio: M,
    unit: u16,
}

impl<M: Mmio> Registers<M> {
    pub(crate) const fn new(mmio: M, unit: u16) -> Self {
        Self { mmio, unit }
    }

    pub(crate) const fn unit(&self) -> u16 {
        self.unit
    }

    pub(crate) fn size(&self) -> usize {
        self.mmio.size()
    }

    pub(crate) fn read32<R: Register32>(&self) -> R {
        R::from_raw(self.mmio.read32(R::OFFSET))
    }

    pub(crate) fn read64<R: Register64>(&self) -> R {
        R::from_raw(self.mmio.read64(R::OFFSET))
    }

    pub(crate) fn write32<R: Register32>(&self, observer: &impl Observer<Event>, register: R) {
        self.write32_at(observer, R::NAME, R::OFFSET, register.into_raw());
    }

    pub(crate) fn write64<R: Register64>(&self, observer: &impl Observer<Event>, register: R) {
        self.write64_at(observer, R::NAME, R::OFFSET, register.into_raw());
    }

    /// For registers whose place CAP or ECAP tells.
    pub(crate) fn read64_at(&self, offset: usize) -> u64 {
        self.mmio.read64(offset)
    }

    /// For registers whose place another register tells.
    pub(crate) fn read32_at(&self, offset: usize) -> u32 {
        self.mmio.read32(offset)
    }

    /// For registers whose place CAP or ECAP tells.
    pub(crate) fn write32_at(
        &self,
        observer: &impl Observer<Event>,
        name: &'static str,
        offset: usize,
        value: u32,
    ) {
        self.note(observer, name, offset, u64::from(value));
        self.mmio.write32(offset, value);
    }

    /// For registers whose place CAP or ECAP tells.
    pub(crate) fn write64_at(
        &self,
        observer: &impl Observer<Event>,
        name: &'static str,
        offset: usize,
        value: u64,
    ) {
        self.note(observer, name, offset, value);
        self.mmio.write64(offset, value);
    }

    fn note(&self, observer: &impl Observer<Event>, register: &'static str, at: usize, value: u64) {
        observer.observe(&Event::RegisterWritten {
            unit: self.unit,
            register,
            offset: at as u32,
            value,
        });
    }
}
