//! Registers in BAR 0 (QEMU, `docs/specs/edu.rst`). Layout only.

use bitfield_struct::bitfield;

/// Byte offsets. Below 0x80 a register is 32 bits wide, from there on 64.
pub(crate) mod offset {
    pub(crate) const IDENTIFICATION: usize = 0x00;
    pub(crate) const LIVENESS: usize = 0x04;
    pub(crate) const INTERRUPT_STATUS: usize = 0x24;
    pub(crate) const INTERRUPT_RAISE: usize = 0x60;
    pub(crate) const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
    pub(crate) const DMA_SOURCE: usize = 0x80;
    pub(crate) const DMA_DESTINATION: usize = 0x88;
    pub(crate) const DMA_COUNT: usize = 0x90;
    pub(crate) const DMA_COMMAND: usize = 0x98;
}

/// Where the device's buffer lies in its own address space, in which one side of each copy
/// is given.
pub(crate) const BUFFER_ADDRESS: u64 = 0x4_0000;

/// The identification register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Identification {
    /// 0xED, what all versions have in common.
    pub magic: u8,
    #[bits(8)]
    __: u8,
    /// Minor version.
    pub minor: u8,
    /// Major version.
    pub major: u8,
}

impl Identification {
    /// Whether this is an `edu` device.
    pub const fn is_edu(self) -> bool {
        self.magic() == 0xed
    }
}

/// The DMA command register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// Starts a copy; reads as one until it is done.
    pub run: bool,
    /// From the device's buffer to memory; otherwise the other way.
    pub to_memory: bool,
    /// Interrupt at the end.
    pub interrupt: bool,
    #[bits(29)]
    __: u32,
}

/// Why the device interrupts.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Causes {
    /// What was asked for by [`Edu::raise`](crate::Edu::raise).
    pub requested: u8,
    /// A copy has ended.
    pub copied: bool,
    #[bits(23)]
    __: u32,
}
