//! Exploring host permission tables: a device may send a translated request for any
//! address, so whatever the tables permit may be cached.

use super::Use;
use super::attachment::Guard;
use super::sweep::Sweep;
use crate::caches::{Permission, PermissionTable};
use crate::machine::unit::Unit;
use crate::tables::pasid::Permissions;
use crate::tables::permission::{
    LEVELS, decode, entry_address, entry_shift, page_index, page_shift, pages,
};
use crate::tables::second_stage::Rights;

/// Translated requests of a source that may now arrive and might not have before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permitted {
    pub(crate) source: u16,
    /// PASID, or `NO_PASID`.
    pub(crate) key: u32,
    /// First and last host address of the page.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) page: Permission,
}

/// A table of a level with the first address that its first entry governs, and the entries
/// of it that count: those below an open page of the entry above.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Table {
    level: u8,
    base: u64,
    table: u64,
    open: u32,
}

impl Sweep<'_> {
    pub(super) fn explore_permissions(&mut self, at: usize) {
        let attachment = self.prefetch.attachments[at];
        let Some(Guard { root, .. }) = attachment.guard else {
            return;
        };
        self.visited.clear();
        let governed = root.end().min(1 << self.unit.config.host_bits);
        let span = 1 << (entry_shift(LEVELS) + 8);
        for base in (0..governed).step_by(span) {
            let table = Table {
                level: LEVELS,
                base,
                table: root.table + (base >> entry_shift(LEVELS)) * 16,
                open: 1,
            };
            self.permission_table(at, &root, table);
        }
        let held: Vec<_> = self
            .unit
            .caches
            .permissions
            .all_tables()
            .filter(|(domain, ..)| *domain == root.domain)
            .collect();
        for (_, level, base, PermissionTable { table, open }) in held {
            let below = Table {
                level: level - 1,
                base,
                table,
                open,
            };
            self.permission_table(at, &root, below);
        }
    }

    fn permission_table(&mut self, at: usize, root: &Permissions, table: Table) {
        let usage = Use::Permission {
            at,
            level: table.level,
            base: table.base,
            table: table.table,
        };
        self.used(table.table, usage);
        if self.visited.insert(table) {
            self.permission_entries(at, root, table, (0, 0xfff));
        }
    }

    /// Something was written to a table of permissions.
    pub(super) fn permission_written(
        &mut self,
        at: usize,
        level: u8,
        base: u64,
        table: u64,
        bytes: (u64, u64),
    ) {
        let Some(Guard { root, .. }) = self.prefetch.attachments[at].guard else {
            return;
        };
        if let Some(open) = permission_alive(self.unit, &root, level, base, table) {
            let table = Table {
                level,
                base,
                table,
                open,
            };
            self.permission_entries(at, &root, table, bytes);
        }
    }

    fn permission_entries(
        &mut self,
        at: usize,
        root: &Permissions,
        table: Table,
        (first, last): (u64, u64),
    ) {
        let shift = entry_shift(table.level);
        for index in (first & 0xfff) / 16..=(last & 0xfff) / 16 {
            let start = table.base | index << shift;
            let above = page_index((table.level + 1).min(LEVELS), start);
            let counts = table.level == LEVELS || table.open & 1 << above != 0;
            let beyond = start >= root.end() || start & self.unit.config.above_host() != 0;
            if counts && !beyond && self.spend() {
                self.permission_entry(at, root, table, start);
            }
        }
    }

    fn permission_entry(&mut self, at: usize, root: &Permissions, table: Table, start: u64) {
        let level = table.level;
        let hpa = (table.table & !0xfff) | entry_address(0, level, start) & 0xfff;
        for words in self.states::<2>(hpa, root.snooped) {
            let Some(entry) = decode(words, level, &self.unit.config) else {
                continue;
            };
            if !entry.is_cacheable() {
                continue;
            }
            for page in 0..if level == LEVELS { 0 } else { pages(level) } {
                let address = start | u64::from(page) << page_shift(level);
                let rights = entry.rights(address);
                if rights != Rights::default() || entry.next.is_none() {
                    self.permission_page(at, root, level, address, rights);
                }
            }
            if let Some(next) = entry.next
                && entry.open() != 0
            {
                let held = PermissionTable {
                    table: next,
                    open: entry.open(),
                };
                let permissions = &mut self.unit.caches.permissions;
                permissions.add_table(root.domain, level, start, held);
                let below = Table {
                    level: level - 1,
                    base: start,
                    table: next,
                    open: entry.open(),
                };
                self.permission_table(at, root, below);
            }
        }
    }

    fn permission_page(
        &mut self,
        at: usize,
        root: &Permissions,
        level: u8,
        address: u64,
        rights: Rights,
    ) {
        let attachment = self.prefetch.attachments[at];
        let (source, key) = (attachment.source, attachment.key);
        let fpd = attachment.guard.is_some_and(|guard| guard.fpd);
        let page = Permission::new(root.domain, rights, level, fpd);
        let pages = &mut self.unit.caches.permissions.pages;
        let fresh = pages.add(source, key, address, page);
        if fresh && rights != Rights::default() {
            self.found.permitted.push(Permitted {
                source,
                key,
                first: address,
                last: address | ((1 << page_shift(level)) - 1),
                page,
            });
        }
    }
}

/// The open pages above a table that a walk may still use: as root, or from the structure
/// cache.
pub(super) fn permission_alive(
    unit: &Unit,
    root: &Permissions,
    level: u8,
    base: u64,
    table: u64,
) -> Option<u32> {
    if level == LEVELS {
        return (root.table + (base >> entry_shift(LEVELS)) * 16 == table).then_some(1);
    }
    let permissions = &unit.caches.permissions;
    let held = permissions.tables_around(root.domain, level + 1, base);
    held.iter()
        .filter(|held| held.table == table)
        .map(|held| held.open)
        .reduce(|open, more| open | more)
}
