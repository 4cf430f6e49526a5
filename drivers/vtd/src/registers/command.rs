//! Commands and their status (§11.4.4), the root table address (§11.4.5), and the
//! register-based invalidation of units without a queue (§11.4.6).

use super::register;
use bitfield_struct::bitfield;

/// Global Command Register (§11.4.4.1). Write-only.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Gcmd {
    #[bits(23)]
    __: u32,
    /// Compatibility-format interrupts pass.
    pub cfi: bool,
    /// Set the interrupt-remapping table pointer (one-shot).
    pub sirtp: bool,
    /// Interrupt remapping enable.
    pub ire: bool,
    /// Queued invalidation enable.
    pub qie: bool,
    /// Write-buffer flush (one-shot).
    pub wbf: bool,
    #[bits(2)]
    __: u8,
    /// Set the root table pointer (one-shot).
    pub srtp: bool,
    /// Translation enable.
    pub te: bool,
}
register!(Gcmd: u32, 0x018, "GCMD");

/// Global Status Register (§11.4.4.2). Read-only.
#[bitfield(u32, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Gsts {
    #[bits(23)]
    __: u32,
    /// Compatibility-format interrupts pass.
    pub cfis: bool,
    /// The interrupt-remapping table pointer is in use.
    pub irtps: bool,
    /// Interrupt remapping is on.
    pub ires: bool,
    /// Queued invalidation is on.
    pub qies: bool,
    /// A write-buffer flush is in progress.
    pub wbfs: bool,
    #[bits(2)]
    __: u8,
    /// The root table pointer is in use.
    pub rtps: bool,
    /// Translation is on.
    pub tes: bool,
}
register!(Gsts: u32, 0x01c, "GSTS");

impl Gsts {
    /// The bits that a command has to repeat so as not to change them: all but those of
    /// one-shot commands (§11.4.4.1).
    pub const PERSISTENT: u32 = 0x96ff_ffff;

    /// The command that changes nothing.
    pub const fn as_command(self) -> Gcmd {
        Gcmd::from_bits(self.into_bits() & Self::PERSISTENT)
    }
}

/// Translation table mode (RTADDR.TTM).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum TableMode {
    /// Legacy root and context tables.
    Legacy = 0,
    /// Scalable-mode root and context tables, PASID tables.
    Scalable = 1,
    /// Reserved by the specification.
    Reserved = 2,
    /// Abort-DMA: every request is refused.
    Abort = 3,
}

impl TableMode {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Legacy,
            1 => Self::Scalable,
            2 => Self::Reserved,
            _ => Self::Abort,
        }
    }

    const fn into_bits(self) -> u8 {
        self as u8
    }
}

/// Root Table Address Register (§11.4.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Rtaddr {
    #[bits(7)]
    __: u8,
    /// Second-stage entries use IR and IW.
    pub ssirwe: bool,
    #[bits(2)]
    __: u8,
    /// Translation table mode.
    #[bits(2, default = TableMode::Legacy)]
    pub ttm: TableMode,
    /// Root table's frame number.
    #[bits(52)]
    pub rta: u64,
}
register!(Rtaddr: u64, 0x020, "RTADDR");

/// Context Command Register (§11.4.6.1): register-based invalidation of the context-cache.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Ccmd {
    /// Domain id.
    pub did: u16,
    /// Source id.
    pub sid: u16,
    /// Function mask.
    #[bits(2)]
    pub fm: u8,
    #[bits(25)]
    __: u32,
    /// Granularity that was performed; 0 if refused.
    #[bits(2)]
    pub caig: u8,
    /// Granularity requested: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub cirg: u8,
    /// Invalidate: set by software, cleared when done.
    pub icc: bool,
}
register!(Ccmd: u64, 0x028, "CCMD");

/// Invalidate Address Register (§11.4.6.4), at 16·ECAP.IRO.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iva {
    /// Address mask: 2^AM pages.
    #[bits(6)]
    pub am: u8,
    /// Invalidation hint: only leaf entries changed.
    pub ih: bool,
    #[bits(5)]
    __: u8,
    /// Page number.
    #[bits(52)]
    pub addr: u64,
}

/// IOTLB Invalidate Register (§11.4.6.3), 8 bytes after IVA.
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct Iotlb {
    __: u32,
    /// Domain id.
    pub did: u16,
    /// Drain writes.
    pub dw: bool,
    /// Drain reads.
    pub dr: bool,
    #[bits(7)]
    __: u8,
    /// Granularity that was performed; 0 if refused.
    #[bits(2)]
    pub iaig: u8,
    #[bits(1)]
    __: u8,
    /// Granularity requested: 1 global, 2 domain, 3 page in domain.
    #[bits(2)]
    pub iirg: u8,
    #[bits(1)]
    __: u8,
    /// Invalidate: set by software, cleared when done.
    pub ivt: bool,
}
