//! The translation caches of a unit (§6.2, §6.4).
//!
//! Every cache may hold several values for the same tags: in the random mode because
//! hardware may (§6.2.4.1, §6.2.8), in the pessimist mode because each of them *could* be
//! the one that hardware holds. Tags are those of table 17; what an invalidation removes is
//! decided in [`invalidate`] by tables 23 and 24.

mod absent;
mod directory;
mod entry;
mod invalidate;
mod iotlb;
mod paging;
mod permission;

pub(crate) use absent::Absent;
pub(crate) use directory::AbsentDirectories;
pub(crate) use entry::{CachedContext, CachedPasid, Mapping, Translation};
pub(crate) use invalidate::Range;
pub(crate) use iotlb::{Iotlb, NO_PASID, PageMap, Paged};
pub(crate) use paging::{FirstNode, Node, Pages, PagingCache, SecondNode};
pub(crate) use permission::{Permission, PermissionTable, Permissions};

use crate::tables::interrupt::Irte;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Several possible values of one thing.
pub(crate) type Several<T> = SmallVec<[T; 1]>;

/// All caches of a unit.
#[derive(Default)]
pub(crate) struct Caches {
    /// By source id.
    pub(crate) contexts: FxHashMap<u16, Several<CachedContext>>,
    /// By source id and PASID.
    pub(crate) pasids: FxHashMap<(u16, u32), Several<CachedPasid>>,
    /// Second-stage paging structures.
    pub(crate) second: PagingCache<SecondNode>,
    /// First-stage and combined paging structures.
    pub(crate) first: PagingCache<FirstNode>,
    /// Pessimist: where the root tables of nested first stages came out, by owner and guest
    /// address. The way there leads through the second stage, and goes with it.
    pub(crate) roots: FxHashMap<(Pages, u64), Several<FirstNode>>,
    pub(crate) iotlb: Iotlb,
    /// Caching mode, pessimist: absences that may be cached.
    pub(crate) absent: Absent,
    /// Caching mode, pessimist: absent PASID directory entries that may be cached.
    pub(crate) directories: AbsentDirectories,
    /// Host permissions.
    pub(crate) permissions: Permissions,
    /// By interrupt index.
    pub(crate) interrupts: FxHashMap<u32, Several<Irte>>,
}

impl Caches {
    /// Adds a value if it is not there yet; says whether it was new.
    pub(crate) fn add<T: PartialEq>(values: &mut Several<T>, value: T) -> bool {
        let new = !values.contains(&value);
        if new {
            values.push(value);
        }
        new
    }
}
