//! Performance monitoring (chapter 10): what a unit's counters can do.

use bitfield_struct::bitfield;

/// Counters and filters (PERFCAP, §11.4.13.2). Capabilities are the same for every counter,
/// and every event that the model knows is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Perfmon {
    /// NCNTR: 1 to 64.
    pub counters: u16,
    /// CW: bits of a counter.
    pub width: u8,
    /// CWE: counters may be written while they count.
    pub writable_while_enabled: bool,
    /// GFS: an overflow may freeze all counters.
    pub freeze_on_overflow: bool,
    /// IOS: an overflow may raise an interrupt.
    pub interrupt_on_overflow: bool,
    /// ATFS: events may be told apart by address type.
    pub address_type_filter: bool,
    /// PTLFS: events may be told apart by level.
    pub level_filter: bool,
    /// RIDFS, DIDFS and PASIDFS: those filters exist. No event of table 49 goes with them,
    /// so a counter that uses one cannot be enabled.
    pub identity_filters: bool,
}

impl Default for Perfmon {
    fn default() -> Self {
        Self {
            counters: 8,
            width: 40,
            writable_while_enabled: false,
            freeze_on_overflow: true,
            interrupt_on_overflow: true,
            address_type_filter: true,
            level_filter: true,
            identity_filters: false,
        }
    }
}

/// Events of each group that this model counts (table 49): occupancies and back-pressure
/// have no meaning where a request is one step.
pub(crate) const EVENTS: [u64; 5] = [0x3, 0xc9, 0x3ff, 0xf, 0x7];

/// The events that tell their page table level, by group.
pub(crate) const WITH_LEVEL: [u64; 5] = [0, 0, 0x2a0, 0xa, 0];

/// The events that tell the request's address type, by group.
pub(crate) const WITH_TYPE: [u64; 5] = [0x2, 0, 0x300, 0, 0];

#[bitfield(u64)]
pub(super) struct PerformanceCapability {
    counters: u16,
    #[bits(7)]
    width: u8,
    __: bool,
    #[bits(5)]
    event_groups: u8,
    #[bits(3)]
    __: u8,
    requester_filter: bool,
    domain_filter: bool,
    pasid_filter: bool,
    address_type_filter: bool,
    level_filter: bool,
    #[bits(11)]
    __: u16,
    writable_while_enabled: bool,
    freeze_on_overflow: bool,
    interrupt_on_overflow: bool,
    per_counter: bool,
    #[bits(3)]
    stride: u8,
    #[bits(5)]
    __: u8,
    /// Reserved, and not zero.
    #[bits(4)]
    ones: u8,
}

impl PerformanceCapability {
    pub(super) fn of(perfmon: &Perfmon) -> Self {
        Self::new()
            .with_counters(perfmon.counters)
            .with_width(perfmon.width & 0x7f)
            .with_event_groups(EVENTS.len() as u8)
            .with_requester_filter(perfmon.identity_filters)
            .with_domain_filter(perfmon.identity_filters)
            .with_pasid_filter(perfmon.identity_filters)
            .with_address_type_filter(perfmon.address_type_filter)
            .with_level_filter(perfmon.level_filter)
            .with_writable_while_enabled(perfmon.writable_while_enabled)
            .with_freeze_on_overflow(perfmon.freeze_on_overflow)
            .with_interrupt_on_overflow(perfmon.interrupt_on_overflow)
            .with_ones(0xf)
    }
}

/// Places of the movable registers, in bytes from the unit's base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PerfmonPlaces {
    /// PERFCFGOFF: 256 bytes for each counter.
    pub(crate) configuration: usize,
    /// PERFFRZOFF.
    pub(crate) freeze: usize,
    /// PERFOVFOFF.
    pub(crate) overflow: usize,
    /// PERFCNTROFF: [`STRIDE`] bytes for each counter.
    pub(crate) counters: usize,
    /// First byte behind all of them.
    pub(crate) end: usize,
}

/// PERFCAP.CS is 0.
pub(crate) const STRIDE: usize = 0x400;

impl PerfmonPlaces {
    /// Behind everything that lies below `from`.
    pub(super) fn behind(from: usize, counters: u16) -> Self {
        let configuration = from.next_multiple_of(0x1000);
        let freeze = configuration + 0x4000;
        let counters_at = freeze + 0x1000;
        Self {
            configuration,
            freeze,
            overflow: freeze + 8,
            counters: counters_at,
            end: counters_at + STRIDE * usize::from(counters),
        }
    }
}
