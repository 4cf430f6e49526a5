//! Paging-structure caches (§6.2.5), for second-stage tables by domain, for first-stage and
//! combined ones by domain and PASID.

use super::Several;
use crate::tables::{first_stage, second_stage};
use rustc_hash::FxHashMap;

/// A table that a second-stage walk may begin at, with the rights of the entries above it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct SecondNode {
    pub(crate) table: u64,
    pub(crate) rights: second_stage::Rights,
    /// The accessed flags on the way are set, as they must be before it is cached; not so
    /// for what the pessimist only assumes to have been prefetched.
    pub(crate) accessed: bool,
}

/// A table that a first-stage walk may begin at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct FirstNode {
    /// Where it lies; after the second stage, if nested.
    pub(crate) table: u64,
    pub(crate) rights: first_stage::Rights,
    /// Its flags may be updated as far as the second stage is concerned.
    pub(crate) writable: bool,
    /// As in [`SecondNode`].
    pub(crate) accessed: bool,
}

/// What both kinds of table have.
pub(crate) trait Node: Copy {
    /// The same table with the same rights.
    fn same(&self, other: &Self) -> bool;
    fn accessed(&mut self) -> &mut bool;
}

impl Node for SecondNode {
    fn same(&self, other: &Self) -> bool {
        (self.table, self.rights) == (other.table, other.rights)
    }

    fn accessed(&mut self) -> &mut bool {
        &mut self.accessed
    }
}

impl Node for FirstNode {
    fn same(&self, other: &Self) -> bool {
        (self.table, self.rights, self.writable) == (other.table, other.rights, other.writable)
    }

    fn accessed(&mut self) -> &mut bool {
        &mut self.accessed
    }
}

/// Whose tables: domain, and PASID for the first stage (0 for the second).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pages {
    pub(crate) domain: u16,
    pub(crate) pasid: u32,
}

impl Pages {
    pub(crate) fn second(domain: u16) -> Self {
        Self { domain, pasid: 0 }
    }
}

/// Tables by owner, level (of the table's own entries) and the address bits above it.
pub(crate) struct PagingCache<N> {
    nodes: FxHashMap<(Pages, u8, u64), Several<N>>,
}

impl<N> Default for PagingCache<N> {
    fn default() -> Self {
        Self {
            nodes: FxHashMap::default(),
        }
    }
}

/// How far an address is shifted to name the table of `level` that covers it.
pub(crate) fn table_shift(level: u8) -> u32 {
    12 + 9 * u32::from(level)
}

impl<N: Node> PagingCache<N> {
    /// The tables of `level` that may be used for `address`.
    pub(crate) fn find(&self, pages: Pages, level: u8, address: u64) -> &[N] {
        self.nodes
            .get(&(pages, level, address >> table_shift(level)))
            .map_or(&[], |nodes| nodes)
    }

    /// Adds a table; says whether it was new.
    pub(crate) fn add(&mut self, pages: Pages, level: u8, address: u64, node: N) -> bool {
        let key = (pages, level, address >> table_shift(level));
        let nodes = self.nodes.entry(key).or_default();
        let mut node = node;
        if let Some(held) = nodes.iter_mut().find(|held| held.same(&node)) {
            *held.accessed() |= *node.accessed();
            return false;
        }
        nodes.push(node);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.values().map(Several::len).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Drops all tables of owners that `gone` names.
    pub(crate) fn remove(&mut self, gone: impl Fn(Pages) -> bool) {
        self.nodes.retain(|(pages, ..), _| !gone(*pages));
    }

    /// Drops the tables of one owner that control an address in `first..=last`.
    pub(crate) fn remove_range(&mut self, pages: Pages, first: u64, last: u64) {
        for level in 1..=4 {
            let shift = table_shift(level);
            let (low, high) = (first >> shift, last >> shift);
            if high - low < 64 {
                for prefix in low..=high {
                    self.nodes.remove(&(pages, level, prefix));
                }
            } else {
                self.nodes.retain(|key, _| {
                    !(key.0 == pages && key.1 == level && (low..=high).contains(&key.2))
                });
            }
        }
    }

    /// Every table: owner, level, first address that it covers, node.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pages, u8, u64, &N)> {
        self.nodes
            .iter()
            .flat_map(|((pages, level, prefix), nodes)| {
                nodes
                    .iter()
                    .map(move |node| (*pages, *level, prefix << table_shift(*level), node))
            })
    }
}
