//! The first-stage walk (§3.6), alone and nested over a second stage (§3.8).

use super::effects::{Structure, Update};
use super::second::{SecondFault, SecondLeaf, entry_address};
use super::{Fill, SecondStage, Typing, Walker};
use crate::caches::{FirstNode, Mapping, Node, Pages};
use crate::faults::Condition;
use crate::registers::Happening;
use crate::tables::first_stage::{ACCESSED, DIRTY, EXTENDED_ACCESSED, Entry, Rights, decode};
use crate::tables::{pasid, second_stage};

/// Tables to be walked and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FirstStage {
    pub(crate) pages: Pages,
    pub(crate) table: u64,
    pub(crate) levels: u8,
    pub(crate) extended: bool,
    pub(crate) snooped: bool,
    pub(crate) nested: Option<SecondStage>,
}

/// A page that a walk ended at; a guest's, if nested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstLeaf {
    pub(crate) output: u64,
    pub(crate) shift: u8,
    pub(crate) rights: Rights,
    pub(crate) dirty: bool,
    /// Its entry's place and what it held.
    pub(crate) entry: (u64, u64),
    pub(crate) writable: bool,
}

/// What a PASID entry says about the walk.
pub(crate) fn first_stage_of(entry: &pasid::Entry, tag: u32) -> FirstStage {
    FirstStage {
        pages: Pages {
            domain: entry.domain,
            pasid: tag,
        },
        table: entry.first_table,
        levels: entry.first_levels,
        extended: entry.extended_accessed,
        snooped: entry.walk_snoop,
        nested: (entry.kind == pasid::Granular::Nested).then(|| SecondStage::of(entry)),
    }
}

impl SecondStage {
    /// What a PASID entry says about its second stage.
    pub(crate) fn of(entry: &pasid::Entry) -> Self {
        Self {
            domain: entry.domain,
            table: entry.second_table,
            levels: entry.second_levels,
            flags: entry.second_dirty,
            snooped: entry.walk_snoop,
        }
    }
}

impl Walker<'_> {
    /// Walks to the page of `address`, which the caller has checked to be canonical.
    pub(crate) fn first(
        &mut self,
        stage: &FirstStage,
        address: u64,
        user: bool,
    ) -> Result<FirstLeaf, Condition> {
        let (mut level, mut node) = self.first_start(stage, address)?;
        if user && !node.rights.user {
            return Err(Condition::Sgn2);
        }
        loop {
            let (at, entry) = self.first_entry(stage, level, node.table, address)?;
            let (target, rights, is_page) = match decode(entry, level, self.config) {
                Entry::NotPresent => return Err(Condition::Sfs2),
                Entry::Reserved => return Err(Condition::Sfs3),
                Entry::Table { address, rights } => (address, rights, false),
                Entry::Page { address, rights } => (address, rights, true),
            };
            self.guest_width(stage, target)?;
            if user && !rights.user {
                return Err(Condition::Sgn2);
            }
            self.first_accessed(stage, node, at, entry)?;
            let rights = node.rights.and(rights);
            if is_page {
                return Ok(FirstLeaf {
                    output: target,
                    shift: 12 + 9 * (level - 1),
                    rights,
                    dirty: entry & DIRTY != 0,
                    entry: (at, entry),
                    writable: node.writable,
                });
            }
            level -= 1;
            let (table, writable) = self.first_table(stage, target, false)?;
            node = FirstNode {
                table,
                rights,
                writable,
                accessed: true,
            };
            if !self.choose.explores() {
                self.effects
                    .fills
                    .push(Fill::First(stage.pages, level, address, node));
            }
        }
    }

    fn guest_width(&self, stage: &FirstStage, address: u64) -> Result<(), Condition> {
        match &stage.nested {
            Some(second) if address > self.config.second_stage_limit(second.levels) => {
                Err(Condition::Sfs5)
            }
            _ => Ok(()),
        }
    }

    /// Where a table lies and whether its flags may be set: through the second stage, if
    /// nested.
    fn first_table(
        &mut self,
        stage: &FirstStage,
        table: u64,
        root: bool,
    ) -> Result<(u64, bool), Condition> {
        let Some(second) = &stage.nested else {
            return Ok((table, true));
        };
        let mut leaf = self.second(second, table).map_err(scalable_fault)?;
        let unreadable = if root {
            Condition::Sfs6
        } else {
            Condition::Sfs7
        };
        // With SSADE even reading first-stage tables needs both rights (§3.8.1).
        if leaf.rights == second_stage::Rights::default() {
            return Err(Condition::Sss2);
        }
        if !leaf.rights.read || (second.flags && !leaf.rights.write) {
            return Err(unreadable);
        }
        if second.flags {
            self.second_dirty(second, &mut leaf)
                .map_err(scalable_fault)?;
        }
        let offset = table & ((1 << leaf.shift) - 1);
        Ok((leaf.output | offset, leaf.rights.write))
    }

    fn first_entry(
        &mut self,
        stage: &FirstStage,
        level: u8,
        table: u64,
        address: u64,
    ) -> Result<(u64, u64), Condition> {
        let at = entry_address(table, level, address);
        match self.read::<1>(Structure::FirstStage(level), at, stage.snooped) {
            Some([entry]) => Ok((at, entry)),
            None if level == stage.levels => Err(Condition::Sfs4),
            None => Err(Condition::Sfs1),
        }
    }

    fn first_start(
        &mut self,
        stage: &FirstStage,
        address: u64,
    ) -> Result<(u8, FirstNode), Condition> {
        let mut starts = Vec::new();
        self.effects.happens(|| Happening::FIRST_LOOKUP);
        if !self.caches.first.is_empty() {
            for level in 1..stage.levels {
                let nodes = self.caches.first.find(stage.pages, level, address);
                if self.choose.explores() {
                    starts.extend(nodes.iter().map(|node| (level, *node)));
                } else if let Some(taken) = self.cached(nodes.len())
                    && nodes[taken].accessed
                {
                    self.effects
                        .happens(|| Happening::FIRST_HIT.at_level(level + 1));
                    return Ok((level, nodes[taken]));
                }
            }
        }
        if !starts.is_empty() {
            self.drop_live(stage, address, &mut starts);
            let taken = self.choose.pick(starts.len() + 1);
            if let Some(start) = starts.get(taken) {
                return Ok(*start);
            }
        }
        let (table, writable) = self.first_table(stage, stage.table, true)?;
        Ok((
            stage.levels,
            FirstNode {
                table,
                rights: Rights::ALL,
                writable,
                accessed: true,
            },
        ))
    }

    /// Removes the starts that memory leads to as it stands: exploring from the root covers
    /// them.
    fn drop_live(&mut self, stage: &FirstStage, address: u64, starts: &mut Vec<(u8, FirstNode)>) {
        let guest = |table: u64| match &stage.nested {
            None => Some((table, true)),
            Some(second) => self.newest_host(second, table),
        };
        let Some((mut table, _)) = guest(stage.table) else {
            return;
        };
        let mut rights = Rights::ALL;
        for level in (1..stage.levels).rev() {
            let Some(entry) = self.memory.load(entry_address(table, level + 1, address)) else {
                return;
            };
            let Entry::Table {
                address: next,
                rights: own,
            } = decode(entry, level + 1, self.config)
            else {
                return;
            };
            let Some((host, writable)) = guest(next) else {
                return;
            };
            rights = rights.and(own);
            table = host;
            let live = (
                level,
                FirstNode {
                    table,
                    rights,
                    writable,
                    accessed: true,
                },
            );
            starts.retain(|(at, node)| *at != live.0 || !node.same(&live.1));
        }
    }

    /// Where a guest address comes out as memory stands, and whether it may be written.
    pub(crate) fn newest_host(&self, second: &SecondStage, address: u64) -> Option<(u64, bool)> {
        let mut table = second.table;
        let mut rights = second_stage::Rights::ALL;
        for level in (1..=second.levels).rev() {
            let entry = self.memory.load(entry_address(table, level, address))?;
            match second_stage::decode(entry, level, self.config, self.latched.io_rights()) {
                second_stage::Entry::Table {
                    address,
                    rights: own,
                } => {
                    table = address;
                    rights = rights.and(own);
                }
                second_stage::Entry::Page {
                    address: output,
                    rights: own,
                    ..
                } => {
                    let offset = address & ((1 << (12 + 9 * (level - 1))) - 1);
                    return Some((output | offset, rights.and(own).write));
                }
                _ => return None,
            }
        }
        None
    }

    fn first_accessed(
        &mut self,
        stage: &FirstStage,
        node: FirstNode,
        at: u64,
        entry: u64,
    ) -> Result<(), Condition> {
        let wanted = if stage.extended {
            ACCESSED | EXTENDED_ACCESSED
        } else {
            ACCESSED
        };
        self.first_set(stage, node.writable, at, entry, wanted)
    }

    fn first_set(
        &mut self,
        stage: &FirstStage,
        writable: bool,
        hpa: u64,
        seen: u64,
        set: u64,
    ) -> Result<(), Condition> {
        if seen & set == set {
            return Ok(());
        }
        if !writable {
            return Err(Condition::Sfs8);
        }
        if !stage.snooped {
            return Err(Condition::Sfs9);
        }
        if !self.can_be_written(hpa, seen) {
            return Err(Condition::Sfs10);
        }
        self.effects.updates.push(Update { hpa, seen, set });
        Ok(())
    }

    /// The whole way, from input to page, with the flags that the request needs.
    pub(crate) fn first_mapping(
        &mut self,
        stage: &FirstStage,
        entry: &pasid::Entry,
        address: u64,
        user: bool,
        write: bool,
    ) -> Result<Mapping, Condition> {
        let leaf = self.first(stage, address, user)?;
        let mut mapping = first_only(entry, &leaf);
        let mut below = None;
        if let Some(second) = &stage.nested {
            let guest = mapping.apply(address);
            let under = self.second(second, guest).map_err(scalable_fault)?;
            if under.rights == second_stage::Rights::default() {
                return Err(Condition::Sss2);
            }
            nest(&mut mapping, entry, guest, &under);
            below = Some(under);
        }
        if write && mapping.rights(!user).write {
            self.set_dirty(stage, &leaf, below)?;
            mapping.dirty = true;
        }
        Ok(mapping)
    }

    fn set_dirty(
        &mut self,
        stage: &FirstStage,
        leaf: &FirstLeaf,
        below: Option<SecondLeaf>,
    ) -> Result<(), Condition> {
        let mut wanted = ACCESSED | DIRTY;
        if stage.extended {
            wanted |= EXTENDED_ACCESSED;
        }
        let (at, entry) = leaf.entry;
        self.first_set(stage, leaf.writable, at, entry, wanted)?;
        if let (Some(second), Some(mut under)) = (&stage.nested, below) {
            self.second_dirty(second, &mut under)
                .map_err(scalable_fault)?;
        }
        Ok(())
    }
}

/// The mapping of a first stage alone.
pub(crate) fn first_only(entry: &pasid::Entry, leaf: &FirstLeaf) -> Mapping {
    let level = (leaf.shift - 12) / 9 + 1;
    Mapping {
        output: leaf.output,
        shift: leaf.shift,
        has_first: true,
        first: leaf.rights,
        second: second_stage::Rights::ALL,
        snoop: entry.page_snoop,
        typing: Typing::of_first(entry, leaf.entry.1, level),
        dirty: leaf.dirty,
        supervisor: entry.supervisor,
        write_protect: entry.write_protect,
        rid_priv: false,
        legacy: false,
    }
}

/// Combines a first-stage page with the second-stage page below it: the smaller size.
pub(crate) fn nest(mapping: &mut Mapping, entry: &pasid::Entry, guest: u64, under: &SecondLeaf) {
    let shift = mapping.shift.min(under.shift);
    let host = under.output | guest & ((1 << under.shift) - 1);
    mapping.output = host & !((1 << shift) - 1);
    mapping.shift = shift;
    mapping.second = under.rights;
    mapping.snoop |= under.snoop;
    mapping.typing = mapping.typing.nest(entry, under.entry.1);
    mapping.dirty &= under.dirty;
}

/// The names of second-stage faults in scalable mode.
pub(crate) fn scalable_fault(fault: SecondFault) -> Condition {
    match fault {
        SecondFault::RootRead => Condition::Sss4,
        SecondFault::LowerRead => Condition::Sss1,
        SecondFault::NotPresent => Condition::Sss2,
        SecondFault::Reserved => Condition::Sss3,
        SecondFault::NotSnooped => Condition::Sss5,
        SecondFault::NotWritable => Condition::Sss6,
    }
}
