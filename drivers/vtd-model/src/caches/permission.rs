//! The caches of host permission tables (§6.2.6): permissions of pages by requester, and
//! pointers to lower tables by HPT domain.

use super::iotlb::Paged;
use super::{Caches, PageMap, Range, Several};
use crate::tables::permission::{entry_shift, page_index};
use crate::tables::second_stage::Rights;
use rustc_hash::FxHashMap;

/// What a page's field (PPi) said to requests of one source, with one PASID or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permission {
    /// HPTDID.
    pub(crate) domain: u16,
    /// Nothing too is kept, if the entry said anything else.
    pub(crate) rights: Rights,
    /// Level of the entry that held the field, 1 to 3.
    pub(crate) level: u8,
    shift: u8,
    /// Some entry on the way to the table has FPD set.
    pub(crate) fpd: bool,
}

impl Permission {
    pub(crate) fn new(domain: u16, rights: Rights, level: u8, fpd: bool) -> Self {
        Self {
            domain,
            rights,
            level,
            shift: crate::tables::permission::page_shift(level),
            fpd,
        }
    }
}

impl Paged for Permission {
    fn shift(&self) -> u8 {
        self.shift
    }

    fn part(&self, shift: u8, _offset: u64) -> Self {
        Self { shift, ..*self }
    }
}

/// A table that an entry points to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct PermissionTable {
    pub(crate) table: u64,
    /// Pages of the entry that the walk may go on for: those without a permission of their
    /// own.
    pub(crate) open: u32,
}

/// Both caches.
#[derive(Default)]
pub(crate) struct Permissions {
    pub(crate) pages: PageMap<Permission>,
    /// By HPT domain, level of the pointing entry (2 to 4) and the address bits that table
    /// 20 names.
    tables: FxHashMap<(u16, u8, u64), Several<PermissionTable>>,
}

impl Permissions {
    /// The tables that entries of `level` may point to for this address.
    pub(crate) fn tables(
        &self,
        domain: u16,
        level: u8,
        address: u64,
    ) -> impl Iterator<Item = PermissionTable> {
        let held = self
            .tables
            .get(&(domain, level, address >> entry_shift(level)));
        held.into_iter()
            .flatten()
            .filter(move |held| held.open & 1 << page_index(level, address) != 0)
            .copied()
    }

    /// All tables that entries of `level` point to for some page that they govern.
    pub(crate) fn tables_around(&self, domain: u16, level: u8, address: u64) -> &[PermissionTable] {
        self.tables
            .get(&(domain, level, address >> entry_shift(level)))
            .map_or(&[], |held| held)
    }

    /// Adds a table; says whether it was new.
    pub(crate) fn add_table(
        &mut self,
        domain: u16,
        level: u8,
        address: u64,
        table: PermissionTable,
    ) -> bool {
        let key = (domain, level, address >> entry_shift(level));
        Caches::add(self.tables.entry(key).or_default(), table)
    }

    /// Every table: HPT domain, level of the pointing entry, first address, table.
    pub(crate) fn all_tables(&self) -> impl Iterator<Item = (u16, u8, u64, PermissionTable)> {
        self.tables
            .iter()
            .flat_map(|((domain, level, prefix), held)| {
                let address = prefix << entry_shift(*level);
                held.iter()
                    .map(move |table| (*domain, *level, address, *table))
            })
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.tables.clear();
    }

    /// What a type A descriptor names (§6.5.2.7): entries of levels up to `level`, of one
    /// HPT domain or all, that govern an address in `range`.
    pub(crate) fn drop(&mut self, domain: Option<u16>, range: Option<Range>, level: u8) {
        let named = |held: u16| domain.is_none_or(|domain| domain == held);
        let page = |held: &Permission| named(held.domain) && held.level <= level;
        match range {
            None => self.pages.remove(page),
            Some(range) => self.pages.remove_range(range.first, range.last, page),
        }
        self.tables.retain(|(held, at, prefix), _| {
            let first = prefix << entry_shift(*at);
            let last = first | ((1 << entry_shift(*at)) - 1);
            let inside = range.is_none_or(|range| range.overlaps(first, last));
            !(named(*held) && *at <= level && inside)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caches::NO_PASID;

    fn full() -> Permissions {
        let mut held = Permissions::default();
        for domain in [1, 2] {
            for level in 1..=3 {
                let permission = Permission::new(domain, Rights::ALL, level, false);
                held.pages.add(domain, NO_PASID, 0, permission);
                held.pages.add(domain, NO_PASID, 1 << 36, permission);
            }
            for level in 2..=4 {
                let table = PermissionTable {
                    table: 0x5000,
                    open: u32::MAX,
                };
                held.add_table(domain, level, 0, table);
                held.add_table(domain, level, 1 << 42, table);
            }
        }
        held
    }

    type Case<'a> = (&'a str, Option<u16>, Option<Range>, u8, (usize, usize));

    #[test]
    fn levels_domain_and_range_say_what_goes() {
        let page = Some(Range::masked(0, 18));
        let cases: &[Case<'_>] = &[
            ("all", None, None, 4, (0, 0)),
            ("a domain", Some(1), None, 4, (6, 6)),
            ("a domain's leaves", Some(1), None, 1, (10, 12)),
            ("up to level 3", Some(1), None, 3, (6, 8)),
            ("a page", Some(1), page, 4, (9, 9)),
            ("a page's leaves", Some(1), page, 1, (11, 12)),
            ("another domain", Some(3), None, 4, (12, 12)),
        ];
        for (name, domain, range, level, left) in cases {
            let mut held = full();
            held.drop(*domain, *range, *level);
            let found = (held.pages.len(), held.all_tables().count());
            assert_eq!(found, *left, "{name}");
        }
    }

    #[test]
    fn a_mask_smaller_than_the_page_leaves_its_fragments() {
        let mut held = full();
        held.drop(Some(1), Some(Range::masked(0x3000, 0)), 4);
        let finds = |address| held.pages.find(1, NO_PASID, address).count();
        assert_eq!((finds(0x3000), finds(0x4000)), (0, 2));
    }
}
