//! Containment of translated requests: what host permission tables let a device reach.

use super::Owner;
use super::judge::name;
use crate::caches::{Caches, NO_PASID, Paged, Permissions};
use crate::choice::{Chooser, Explorer};
use crate::machine::{Machine, Permitted};
use crate::remapping::{Effects, Request, Walker};
use crate::tables::second_stage::Rights;
use crate::violation::Rule;

impl Machine {
    /// A device may send a translated request for any address: what it is permitted must
    /// be its owner's.
    pub(crate) fn permission_contained(&mut self, unit: usize, permitted: &Permitted) {
        let Permitted {
            source,
            key,
            first,
            last,
            page,
        } = *permitted;
        let pasid = (key != NO_PASID).then_some(key);
        let Some(owner) = self.oracle.ownership.owner(source, pasid) else {
            return;
        };
        let owners = if pasid.is_none() && self.prefetch_of(unit).shares_permissions(source) {
            self.oracle.ownership.owners(source)
        } else {
            vec![owner]
        };
        let Some((frame, other)) = self.oracle.ownership.foreign(first, last, &owners) else {
            return;
        };
        let hosts = owner == Owner::Host && other != Owner::Nobody;
        if hosts || !self.oracle.told.insert((source, key, frame, frame)) {
            return;
        }
        let advice = if self.permitted_now(unit, source, pasid, frame) {
            "the host permission tables allow it now".to_owned()
        } else {
            format!(
                "the host permission tables no longer allow it; needed: HPT cache invalidation (type A) of HPT domain {:#x}, \
                 address {first:#x}, AM {} or more, IH {} or more, and a wait for it",
                page.domain,
                page.shift() - 12,
                page.level - 1,
            )
        };
        let message = format!(
            "{}{} (of {owner:?}) can reach {frame:#x}, which belongs to {other:?}, by a translated request: \
             unit {unit} may hold the permission, HPT domain {:#x}; {advice}",
            name(source),
            pasid.map_or(String::new(), |pasid| format!(" with PASID {pasid:#x}")),
            page.domain,
        );
        self.world.violate(Rule::Containment, "§4.2.4", message);
    }

    /// Whether memory alone, without any cache, permits it.
    fn permitted_now(&self, unit: usize, source: u16, pasid: Option<u32>, frame: u64) -> bool {
        let unit = &self.units[unit];
        let nothing = Caches::default();
        Self::ACCESSES.iter().any(|access| {
            let mut explorer = Explorer::default();
            let mut effects = Effects::default();
            let walker = unit.walker(&self.world, Chooser::Explore(&mut explorer), &mut effects);
            let mut walker = Walker {
                caches: &nothing,
                ..walker
            };
            let request = Self::plain(source, pasid, frame, *access).translated();
            walker.answer(&request).address().is_some()
        })
    }

    /// Whether a translated request for a frame that a device-TLB still names could arrive:
    /// with host permission tables it may be stopped there.
    pub(crate) fn translated_arrives(&self, source: u16, pasid: Option<u32>, frame: u64) -> bool {
        let arrives = |request: &Request| {
            let outcomes = self.possible(request);
            outcomes.iter().any(|outcome| outcome.address().is_some())
        };
        Self::ACCESSES.iter().any(|access| {
            [None, pasid]
                .into_iter()
                .any(|pasid| arrives(&Self::plain(source, pasid, frame, *access).translated()))
        })
    }
}

/// Cached permissions that lead into `first..=last`, in a fixed order.
pub(crate) fn permitting(permissions: &Permissions, first: u64, last: u64) -> Vec<Permitted> {
    let mut held: Vec<Permitted> = permissions
        .pages
        .iter()
        .filter(|(.., page)| page.rights != Rights::default())
        .map(|(source, key, address, page)| Permitted {
            source,
            key,
            first: address,
            last: address | ((1 << page.shift()) - 1),
            page: *page,
        })
        .filter(|held| held.first <= last && first <= held.last)
        .collect();
    held.sort_unstable_by_key(|held| (held.source, held.key, held.first, held.page.domain));
    held
}
