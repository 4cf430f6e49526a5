//! What answering a request changes: flags in tables, entries in caches.

use crate::caches::{
    CachedContext, CachedPasid, FirstNode, Pages, Permission, PermissionTable, SecondNode,
    Translation,
};
use crate::faults::Condition;
use crate::registers::Happening;

impl Effects {
    #[inline]
    pub(crate) fn happens(&mut self, happening: impl FnOnce() -> Happening) {
        if let Some(happenings) = &mut self.happenings {
            happenings.push(happening());
        }
    }
}

/// Bits to be set in a paging entry, atomically.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Update {
    /// The entry.
    pub(crate) hpa: u64,
    /// What the walk read there: if it has changed meanwhile, the walk starts over.
    pub(crate) seen: u64,
    pub(crate) set: u64,
}

/// An entry that may now be cached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    Context(u16, CachedContext),
    Pasid(u16, u32, CachedPasid),
    Second(Pages, u8, u64, SecondNode),
    First(Pages, u8, u64, FirstNode),
    Translation(u16, u32, u64, Translation),
    Permission(u16, u32, u64, Permission),
    PermissionTable(u16, u8, u64, PermissionTable),
}

/// All of it. Empty, and without allocation, for a request that hits.
#[derive(Default, Debug)]
pub(crate) struct Effects {
    pub(crate) updates: Vec<Update>,
    pub(crate) fills: Vec<Fill>,
    /// Every entry that was read, if somebody wants to know.
    pub(crate) trace: Option<Vec<Read>>,
    /// A fault to be logged although the request is answered with success (SFS.10).
    pub(crate) logged: Option<Condition>,
    /// What counters may count, if any does.
    pub(crate) happenings: Option<Vec<Happening>>,
}

/// Which structure an entry was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Structure {
    Root,
    Context,
    PasidDirectory,
    PasidTable,
    /// With the level of the entry.
    FirstStage(u8),
    SecondStage(u8),
    Permission(u8),
}

/// One entry that was read, with its words; none if no memory answered.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) structure: Structure,
    pub(crate) hpa: u64,
    pub(crate) words: Option<Vec<u64>>,
}
