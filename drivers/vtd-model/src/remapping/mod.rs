//! DMA remapping (chapter 3): from a request to the address it reaches, or the reason why
//! it reaches none.
//!
//! [`Walker`] answers one request. It has no side effects: flags to be set and entries to
//! be cached are collected in [`Effects`], so that the same code can run once (random mode)
//! or for every choice that hardware has (pessimist mode).

mod effects;
mod first;
mod legacy;
mod memory_type;
mod permission;
mod request;
mod scalable;
mod second;
mod walker;

pub(crate) use effects::{Effects, Fill, Read, Structure};
pub(crate) use first::{FirstLeaf, FirstStage, first_only, first_stage_of, nest};
pub(crate) use legacy::legacy_context;
pub(crate) use memory_type::Typing;
pub use memory_type::{MemoryType, PageAccess};
pub use request::{Access, AddressType, Completion, Outcome, Request};
pub(crate) use scalable::{pasid_value, scalable_context};
pub(crate) use second::{SecondLeaf, SecondStage};
pub(crate) use walker::{Latched, Mode, Walker};

/// The interrupt address range, FEEx_xxxxh (§3.15).
pub(crate) fn in_interrupt_range(address: u64) -> bool {
    address >> 20 == 0xfee
}
