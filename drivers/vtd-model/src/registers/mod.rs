//! The register file (chapter 11): which register lies where, how wide it may be accessed,
//! what writing it does, what software may not do to it.

mod command;
mod dispatch;
mod enhanced;
mod event;
mod fault;
mod invalidate;
mod map;
mod memory_type;
mod page_request;
mod perfmon;
mod protected;
mod queue;
mod virtual_command;

pub(crate) use command::IRE;
pub(crate) use event::Event;
pub(crate) use map::Source;
pub(crate) use perfmon::{Counters, Happening};

use crate::caches::Range;

/// What a command took out of the caches: what may be cached again at once, where memory
/// still allows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    Nothing,
    Everything,
    /// The range is of first-stage addresses if `first`.
    Domain {
        domain: u16,
        range: Option<Range>,
        first: bool,
    },
    /// Host permissions, of one HPT domain or all.
    Permissions(Option<u16>),
    Interrupts,
}

/// Width of a register access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl Width {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }
}

/// What the registers hold, beyond the queue's and the fault log's own.
#[derive(Default, Debug)]
pub(crate) struct Registers {
    /// GSTS, without WBFS.
    pub(crate) status: u32,
    /// The GCMD command that hardware works on.
    pub(crate) command: Option<command::Global>,
    /// A root table pointer was set since translation was last off (§6.6).
    pub(crate) root_set: bool,
    pub(crate) interrupt_table_set: bool,
    pub(crate) rtaddr: u64,
    pub(crate) irta: u64,
    pub(crate) ccmd: u64,
    pub(crate) iva: u64,
    pub(crate) iotlb: u64,
    pub(crate) fault_event: Event,
    pub(crate) invalidation_event: Event,
    pub(crate) page_event: Event,
    pub(crate) performance_event: Event,
    /// ICS.IWC.
    pub(crate) wait_completed: bool,
    pub(crate) protection: protected::Protection,
    pub(crate) page_queue: page_request::PageQueue,
    pub(crate) memory_types: memory_type::MemoryTypes,
    pub(crate) enhanced: enhanced::Enhanced,
    pub(crate) counters: Counters,
    pub(crate) virtual_commands: virtual_command::VirtualCommands,
}
