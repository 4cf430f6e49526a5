//! The host permission table walk (§4.2.4) of translated requests.

use super::effects::Structure;
use super::{Access, Completion, Fill, Request, Walker};
use crate::caches::{NO_PASID, Permission, PermissionTable};
use crate::faults::Condition;
use crate::registers::Happening;
use crate::tables::context;
use crate::tables::pasid::Permissions;
use crate::tables::permission::{LEVELS, decode, entry_address};
use crate::tables::second_stage::Rights;

impl Walker<'_> {
    /// Whether host permission tables let a translated request through; the caller has
    /// checked the context entry and the host address width.
    pub(super) fn permitted(
        &mut self,
        request: &Request,
        context: &context::Scalable,
        tag: u32,
    ) -> Result<(), Condition> {
        let rights = match self.cached_page(request.source, request.pasid, request.address) {
            Some(page) => {
                self.fpd |= page.fpd;
                page.rights
            }
            None => {
                let root = self.pasid_entry(request.source, context, tag)?.permissions;
                if request.address >= root.end() {
                    return Err(Condition::Spt9);
                }
                self.permission(request.source, request.pasid, &root, request.address, 2)?
            }
        };
        self.grants(request.access, rights)
    }

    /// Table 12, and zero-length reads (table 48).
    fn grants(&self, access: Access, rights: Rights) -> Result<(), Condition> {
        let zero_length = access == Access::ZeroLengthRead && self.config.zero_length_read;
        if zero_length && rights == Rights::default() {
            Err(Condition::Hpt4)
        } else if access.writes() && !rights.write {
            Err(Condition::Hpt5)
        } else if access.reads() && !rights.read && !zero_length {
            Err(Condition::Hpt6)
        } else {
            Ok(())
        }
    }

    /// A page's permission from the leaf cache, which needs no table at all.
    fn cached_page(&mut self, source: u16, pasid: Option<u32>, address: u64) -> Option<Permission> {
        let caches = self.caches;
        let key = pasid.unwrap_or(NO_PASID);
        self.effects.happens(|| Happening::PERMISSION_LOOKUP);
        // Of several levels the lowest counts (§6.2.6).
        for level in 1..LEVELS {
            let pages = || {
                caches
                    .permissions
                    .pages
                    .find(source, key, address)
                    .filter(move |page| page.level == level)
            };
            if let Some(taken) = self.cached(pages().count()) {
                self.effects
                    .happens(|| Happening::PERMISSION_HIT.at_level(level));
                return pages().nth(taken).copied();
            }
        }
        None
    }

    /// A table from the structure cache, or the root.
    fn permission_start(
        &mut self,
        root: &Permissions,
        address: u64,
        address_type: u8,
    ) -> (u8, u64) {
        let caches = self.caches;
        let happening = Happening::PERMISSION_TABLE_LOOKUP.of_type(address_type);
        self.effects.happens(|| happening);
        for level in 2..=LEVELS {
            let tables = || caches.permissions.tables(root.domain, level, address);
            if let Some(taken) = self.cached(tables().count())
                && let Some(held) = tables().nth(taken)
            {
                let happening = Happening::PERMISSION_TABLE_HIT.of_type(address_type);
                self.effects.happens(|| happening.at_level(level));
                return (level - 1, held.table);
            }
        }
        (LEVELS, root.table)
    }

    fn permission(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        root: &Permissions,
        address: u64,
        address_type: u8,
    ) -> Result<Rights, Condition> {
        let (mut level, mut table) = self.permission_start(root, address, address_type);
        loop {
            let at = entry_address(table, level, address);
            let words = self
                .read::<2>(Structure::Permission(level), at, root.snooped)
                .ok_or(if level == LEVELS {
                    Condition::Hpt3
                } else {
                    Condition::Hpt1
                })?;
            let entry = decode(words, level, self.config).ok_or(Condition::Hpt2)?;
            let rights = entry.rights(address);
            let next = entry.next.filter(|_| rights == Rights::default());
            let fills = !self.choose.explores() && entry.is_cacheable();
            let Some(next) = next else {
                if fills && level < LEVELS {
                    let page = Permission::new(root.domain, rights, level, self.fpd);
                    let key = pasid.unwrap_or(NO_PASID);
                    self.effects
                        .fills
                        .push(Fill::Permission(source, key, address, page));
                }
                return Ok(rights);
            };
            if fills {
                let held = PermissionTable {
                    table: next,
                    open: entry.open(),
                };
                self.effects
                    .fills
                    .push(Fill::PermissionTable(root.domain, level, address, held));
            }
            table = next;
            level -= 1;
        }
    }

    /// After a translation completion that grants something, the permission of the page may
    /// be prefetched for the translated request to come (§6.2.6.1).
    pub(super) fn prefetch_permission(&mut self, request: &Request, completion: &Completion) {
        let Ok(context) = self.scalable_context(request.source) else {
            return;
        };
        if !context.permissions {
            return;
        }
        let pasid = request.pasid.filter(|_| context.translated_pasid);
        let tag = pasid.unwrap_or(context.rid_pasid);
        let Ok(entry) = self.pasid_entry(request.source, &context, tag) else {
            return;
        };
        let root = entry.permissions;
        if root.prefetch && completion.address < root.end() && self.choose.likely(128) {
            let _ = self.permission(request.source, pasid, &root, completion.address, 4);
        }
    }
}
