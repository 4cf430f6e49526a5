//! The second-stage walk (§3.7), alone and below a first stage.

use super::effects::{Read, Structure, Update};
use super::{Fill, Typing, Walker};
use crate::caches::{Mapping, Node, Pages, SecondNode};
use crate::registers::Happening;
use crate::tables::second_stage::{ACCESSED, DIRTY, Entry, Rights, decode};
use crate::tables::{first_stage, pasid};

/// Tables to be walked and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SecondStage {
    pub(crate) domain: u16,
    pub(crate) table: u64,
    pub(crate) levels: u8,
    /// SSADE: flags are kept.
    pub(crate) flags: bool,
    pub(crate) snooped: bool,
}

/// A page that a walk ended at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecondLeaf {
    pub(crate) output: u64,
    pub(crate) shift: u8,
    pub(crate) rights: Rights,
    pub(crate) snoop: bool,
    /// D is set, or need not be.
    pub(crate) dirty: bool,
    /// The entry and what it held, to set D there.
    pub(crate) entry: (u64, u64),
}

impl SecondLeaf {
    /// The mapping of a second stage alone: of a legacy context entry, or of a PASID entry.
    pub(crate) fn mapping(&self, entry: Option<&pasid::Entry>) -> Mapping {
        Mapping {
            output: self.output,
            shift: self.shift,
            has_first: false,
            first: first_stage::Rights::ALL,
            second: self.rights,
            snoop: self.snoop || entry.is_some_and(|entry| entry.page_snoop),
            typing: Typing::of_second(entry, self.entry.1),
            dirty: self.dirty,
            supervisor: entry.is_none_or(|entry| entry.supervisor),
            write_protect: entry.is_some_and(|entry| entry.write_protect),
            rid_priv: false,
            legacy: entry.is_none(),
        }
    }
}

/// Why a walk found none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SecondFault {
    /// The table at SSPTPTR could not be read.
    RootRead,
    /// A lower table could not be read.
    LowerRead,
    /// R = W = 0.
    NotPresent,
    /// A reserved bit.
    Reserved,
    /// A flag has to be set, and the walk does not snoop.
    NotSnooped,
    /// A flag has to be set, and no memory takes it.
    NotWritable,
}

/// Address of the entry of a table of `level` that serves `address`.
pub(crate) fn entry_address(table: u64, level: u8, address: u64) -> u64 {
    table + ((address >> (12 + 9 * u32::from(level - 1))) & 0x1ff) * 8
}

impl Walker<'_> {
    /// Walks to the page of `address`, which the caller has checked against the width.
    pub(crate) fn second(
        &mut self,
        stage: &SecondStage,
        address: u64,
    ) -> Result<SecondLeaf, SecondFault> {
        if self.choose.explores()
            && self.caches.absent.contains(stage.domain, address)
            && self.choose.pick(2) == 1
        {
            return Err(SecondFault::NotPresent);
        }
        let root = SecondNode {
            table: stage.table,
            rights: Rights::ALL,
            accessed: true,
        };
        let (mut level, mut node) = self.second_start(stage, address, root);
        loop {
            let (at, entry) = self.second_entry(stage, level, node.table, address)?;
            match decode(entry, level, self.config, self.latched.io_rights()) {
                Entry::NotPresent => return Err(SecondFault::NotPresent),
                Entry::Reserved => return Err(SecondFault::Reserved),
                Entry::Table {
                    address: table,
                    rights,
                } => {
                    self.second_accessed(stage, at, entry)?;
                    level -= 1;
                    node = SecondNode {
                        table,
                        rights: node.rights.and(rights),
                        accessed: true,
                    };
                    if !self.choose.explores() {
                        self.effects.fills.push(Fill::Second(
                            Pages::second(stage.domain),
                            level,
                            address,
                            node,
                        ));
                    }
                }
                Entry::Page {
                    address: output,
                    rights,
                    snoop,
                } => {
                    self.second_accessed(stage, at, entry)?;
                    return Ok(SecondLeaf {
                        output,
                        shift: 12 + 9 * (level - 1),
                        rights: node.rights.and(rights),
                        snoop,
                        dirty: !stage.flags || entry & DIRTY != 0,
                        entry: (at, entry),
                    });
                }
            }
        }
    }

    fn second_entry(
        &mut self,
        stage: &SecondStage,
        level: u8,
        table: u64,
        address: u64,
    ) -> Result<(u64, u64), SecondFault> {
        let at = entry_address(table, level, address);
        match self.read::<1>(Structure::SecondStage(level), at, stage.snooped) {
            Some([entry]) => Ok((at, entry)),
            None if level == stage.levels => Err(SecondFault::RootRead),
            None => Err(SecondFault::LowerRead),
        }
    }

    /// The root, or a table that a paging-structure cache names.
    fn second_start(
        &mut self,
        stage: &SecondStage,
        address: u64,
        root: SecondNode,
    ) -> (u8, SecondNode) {
        self.effects.happens(|| Happening::SECOND_LOOKUP);
        if self.caches.second.is_empty() {
            return (stage.levels, root);
        }
        let pages = Pages::second(stage.domain);
        if !self.choose.explores() {
            for level in 1..stage.levels {
                let nodes = self.caches.second.find(pages, level, address);
                let taken = self.cached(nodes.len()).map(|taken| nodes[taken]);
                if let Some(node) = taken.filter(|node| node.accessed) {
                    self.effects
                        .happens(|| Happening::SECOND_HIT.at_level(level + 1));
                    return (level, node);
                }
            }
            return (stage.levels, root);
        }
        let mut starts = vec![(stage.levels, root)];
        let mut chain = Some(root);
        for level in (1..stage.levels).rev() {
            chain = chain.and_then(|node| self.second_newest(level + 1, node, address));
            let nodes = self.caches.second.find(pages, level, address);
            starts.extend(
                nodes
                    .iter()
                    .filter(|node| !chain.is_some_and(|live| live.same(node)))
                    .map(|node| (level, *node)),
            );
        }
        starts[self.choose.pick(starts.len())]
    }

    /// The next table as memory stands: exploring from it adds nothing to exploring from
    /// the root.
    fn second_newest(&self, level: u8, node: SecondNode, address: u64) -> Option<SecondNode> {
        let entry = self
            .memory
            .load(entry_address(node.table, level, address))?;
        match decode(entry, level, self.config, self.latched.io_rights()) {
            Entry::Table {
                address: table,
                rights,
            } => Some(SecondNode {
                table,
                rights: node.rights.and(rights),
                accessed: true,
            }),
            _ => None,
        }
    }

    fn second_accessed(
        &mut self,
        stage: &SecondStage,
        at: u64,
        entry: u64,
    ) -> Result<(), SecondFault> {
        if !stage.flags || entry & ACCESSED != 0 {
            return Ok(());
        }
        self.second_set(stage, at, entry, ACCESSED)
    }

    /// Sets D in the page's entry, for a write that is allowed.
    pub(crate) fn second_dirty(
        &mut self,
        stage: &SecondStage,
        leaf: &mut SecondLeaf,
    ) -> Result<(), SecondFault> {
        if leaf.dirty {
            return Ok(());
        }
        let (at, entry) = leaf.entry;
        self.second_set(stage, at, entry, ACCESSED | DIRTY)?;
        leaf.dirty = true;
        Ok(())
    }

    fn second_set(
        &mut self,
        stage: &SecondStage,
        hpa: u64,
        seen: u64,
        set: u64,
    ) -> Result<(), SecondFault> {
        if !stage.snooped {
            return Err(SecondFault::NotSnooped);
        }
        if !self.can_be_written(hpa, seen) {
            return Err(SecondFault::NotWritable);
        }
        self.effects.updates.push(Update { hpa, seen, set });
        Ok(())
    }

    /// Whether an entry takes a flag update: a read-only memory answers reads alone (SFS.10,
    /// SSS.6). Asked by an exchange that changes nothing.
    pub(super) fn can_be_written(&self, hpa: u64, seen: u64) -> bool {
        self.memory.compare_exchange(hpa, seen, seen).is_some()
    }

    /// Reads `N` words of a table; `None` is the error that no memory answers there.
    pub(crate) fn read<const N: usize>(
        &mut self,
        structure: Structure,
        hpa: u64,
        snooped: bool,
    ) -> Option<[u64; N]> {
        self.effects.happens(|| Happening::MEMORY_READ);
        let words = if hpa & self.config.above_host() != 0 {
            None
        } else {
            self.image
                .read::<N>(self.memory, hpa, snooped, &mut self.choose)
        };
        if let Some(trace) = &mut self.effects.trace {
            trace.push(Read {
                structure,
                hpa,
                words: words.map(|words| words.to_vec()),
            });
        }
        words
    }
}
