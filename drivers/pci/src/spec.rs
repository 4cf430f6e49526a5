//! Registers of capabilities, bit for bit (PCI Express Base 6.0, chapter 7; Advanced
//! Features ECN). Offsets are from the capability's header.

use bitfield_struct::bitfield;
use bitflags::bitflags;

/// Offsets in the PCI Express capability.
pub(crate) mod express {
    pub(crate) const DEVICE_CAPABILITIES: u16 = 0x04;
    pub(crate) const DEVICE_CONTROL: u16 = 0x08;
    pub(crate) const LINK_CONTROL: u16 = 0x10;
    pub(crate) const SLOT_CAPABILITIES: u16 = 0x14;
    pub(crate) const DEVICE_CONTROL_2: u16 = 0x28;
}

/// First word of the PCI Express capability, with its header.
#[bitfield(u32)]
pub(crate) struct ExpressHeader {
    pub id: u8,
    pub next: u8,
    #[bits(4)]
    pub version: u8,
    #[bits(4)]
    pub port: u8,
    pub slot_implemented: bool,
    #[bits(7)]
    __: u8,
}

/// Device capabilities.
#[bitfield(u32)]
pub(crate) struct DeviceCapabilities {
    #[bits(3)]
    pub payload: u8,
    /// Bits of function number that phantom functions may use.
    #[bits(2)]
    pub phantom_functions: u8,
    #[bits(23)]
    __: u32,
    pub function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// Device control (lower half) and status (upper half, cleared by ones).
#[bitfield(u32)]
pub(crate) struct DeviceControl {
    #[bits(9)]
    __: u16,
    pub phantom_functions: bool,
    #[bits(5)]
    __: u8,
    pub initiate_reset: bool,
    #[bits(5)]
    __: u8,
    pub transactions_pending: bool,
    #[bits(10)]
    __: u16,
}

/// Slot capabilities.
#[bitfield(u32)]
pub(crate) struct SlotCapabilities {
    #[bits(5)]
    __: u8,
    pub surprise: bool,
    pub hot_plug: bool,
    #[bits(25)]
    __: u32,
}

/// Power management control and status, at +4.
#[bitfield(u32)]
pub(crate) struct PowerControl {
    /// 0 is D0, 3 is D3hot.
    #[bits(2)]
    pub state: u8,
    __: bool,
    /// The state survives D3hot.
    pub no_soft_reset: bool,
    #[bits(28)]
    __: u32,
}

/// Header, length and capabilities of the Advanced Features capability.
#[bitfield(u32)]
pub(crate) struct AdvancedFeatures {
    pub id: u8,
    pub next: u8,
    pub length: u8,
    pub transactions_pending: bool,
    pub function_level_reset: bool,
    #[bits(6)]
    __: u8,
}

/// Control (lower byte) and status of the Advanced Features capability, at +4.
#[bitfield(u32)]
pub(crate) struct AdvancedFeaturesControl {
    pub initiate_reset: bool,
    #[bits(7)]
    __: u8,
    pub transactions_pending: bool,
    #[bits(23)]
    __: u32,
}

bitflags! {
    /// Access control services: what a port or a function of several can do, or does.
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct AccessControl: u16 {
        /// Requests with another's bus number are refused.
        const SOURCE_VALIDATION = 1 << 0;
        /// Requests that claim to be translated are refused.
        const TRANSLATION_BLOCKING = 1 << 1;
        /// Requests between peers go up to the root complex.
        const REQUEST_REDIRECT = 1 << 2;
        /// Completions between peers too.
        const COMPLETION_REDIRECT = 1 << 3;
        /// What comes back redirected is sent up again.
        const UPSTREAM_FORWARDING = 1 << 4;
        /// Who may send to whom is told by a table.
        const EGRESS_CONTROL = 1 << 5;
        /// Translated requests between peers are not redirected.
        const DIRECT_TRANSLATED = 1 << 6;
    }
}

/// ATS capability (lower half) and control, at +4.
#[bitfield(u32)]
pub(crate) struct TranslationServices {
    #[bits(5)]
    pub queue_depth: u8,
    pub page_aligned: bool,
    #[bits(10)]
    __: u16,
    /// Log2 of 4 KiB units.
    #[bits(5)]
    pub smallest_unit: u8,
    #[bits(10)]
    __: u16,
    pub enable: bool,
}

/// PRI control (lower half) and status, at +4.
#[bitfield(u32)]
pub(crate) struct PageRequests {
    pub enable: bool,
    pub reset: bool,
    #[bits(14)]
    __: u16,
    pub response_failure: bool,
    pub unexpected_group: bool,
    #[bits(6)]
    __: u8,
    pub stopped: bool,
    #[bits(6)]
    __: u8,
    pub pasid_required: bool,
}

/// Offsets in the page request capability.
pub(crate) mod page_requests {
    pub(crate) const CAPACITY: u16 = 0x08;
    pub(crate) const ALLOCATION: u16 = 0x0c;
}

/// PASID capability (lower half) and control, at +4.
#[bitfield(u32)]
pub(crate) struct ProcessIds {
    __: bool,
    pub execute_supported: bool,
    pub privileged_supported: bool,
    #[bits(5)]
    __: u8,
    #[bits(5)]
    pub width: u8,
    #[bits(3)]
    __: u8,
    pub enable: bool,
    pub execute: bool,
    pub privileged: bool,
    #[bits(13)]
    __: u16,
}

/// Offsets in the single-root I/O virtualisation capability.
pub(crate) mod virtualisation {
    pub(crate) const CONTROL: u16 = 0x08;
    pub(crate) const NUMBER: u16 = 0x10;
    pub(crate) const OFFSET_AND_STRIDE: u16 = 0x14;
    pub(crate) const DEVICE_ID: u16 = 0x18;
}

/// SR-IOV control (lower half) and status.
#[bitfield(u32)]
pub(crate) struct VirtualFunctions {
    pub enable: bool,
    #[bits(31)]
    __: u32,
}

/// Bridge control, upper half of the word at 3Ch.
#[bitfield(u32)]
pub(crate) struct BridgeControl {
    #[bits(22)]
    __: u32,
    /// Secondary bus reset.
    pub reset: bool,
    #[bits(9)]
    __: u16,
}
