//! The roots of a guest's shadows: what domains of the back-end begin with.

use super::key::KindId;
use super::pages::PageId;
use alloc::vec::Vec;
use iommu_core::DomainHandle;

/// A root, by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RootId(u16);

/// A root of a shadow, for one table of the guest's in one kind.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) page: PageId,
    pub(super) kind: KindId,
    /// The domain that uses it, once there is one.
    pub(super) domain: Option<DomainHandle>,
    /// This call found too much that the domain must forget.
    pub(super) forget_all: bool,
}

/// All roots of a guest.
#[derive(Debug)]
pub(super) struct Roots(Vec<Option<Root>>);

impl Roots {
    /// Room for `count` roots; `None` without memory.
    pub(super) fn new(count: usize) -> Option<Self> {
        let mut roots = Vec::new();
        roots.try_reserve_exact(count).ok()?;
        roots.resize_with(count, || None);
        Some(Self(roots))
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    /// Takes a place; `None` if all are taken.
    pub(super) fn add(&mut self, page: PageId, kind: KindId) -> Option<RootId> {
        let place = self.0.iter().position(Option::is_none)?;
        *self.0.get_mut(place)? = Some(Root {
            page,
            kind,
            domain: None,
            forget_all: false,
        });
        u16::try_from(place).ok().map(RootId)
    }

    pub(super) fn remove(&mut self, id: RootId) -> Option<Root> {
        self.0.get_mut(usize::from(id.0))?.take()
    }

    pub(super) fn get(&self, id: RootId) -> Option<&Root> {
        self.0.get(usize::from(id.0))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: RootId) -> Option<&mut Root> {
        self.0.get_mut(usize::from(id.0))?.as_mut()
    }

    /// Every place, taken or not.
    pub(super) fn ids(&self) -> impl Iterator<Item = RootId> + use<> {
        (0..self.0.len()).filter_map(|place| u16::try_from(place).ok().map(RootId))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RootId, &Root)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(place, root)| Some((RootId(u16::try_from(place).ok()?), root.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Root> {
        self.0.iter_mut().flatten()
    }
}
