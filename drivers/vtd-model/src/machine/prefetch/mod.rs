//! The pessimist's bookkeeping: after every step, everything that a unit might have cached
//! by now *is* in its caches (§6.2, §6.5.3.6: hardware may prefetch whatever is reachable
//! and keep it).
//!
//! Incremental: a store to a frame that serves as a table explores the entries that
//! changed, an invalidation explores what it removed.

mod attachment;
mod contexts;
mod first;
mod permission;
mod random;
mod rules;
mod second;
mod sweep;
mod torn;

use super::device::Device;
use super::unit::Unit;
use super::world::World;
use crate::caches::{FirstNode, Node, Pages, Range, SecondNode, Translation};
use crate::registers::Removal;
use attachment::Attachment;
pub(crate) use permission::Permitted;
use permission::permission_alive;
pub(crate) use random::serving;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use sweep::{EVERYWHERE, Sweep};

/// What a frame serves as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Use {
    /// Root, context or PASID structure on the way of a source.
    Source(u16),
    /// A second-stage table of an attachment.
    Second {
        at: usize,
        level: u8,
        base: u64,
        node: SecondNode,
    },
    /// A first-stage table of an attachment.
    First {
        at: usize,
        level: u8,
        base: u64,
        node: FirstNode,
    },
    /// Second-stage table below a first stage: everything above may change with it.
    Below { at: usize },
    /// A host permission table of an attachment, or a frame of its root.
    Permission {
        at: usize,
        level: u8,
        base: u64,
        table: u64,
    },
}

/// A translation that hardware may now hold and might not have held before: source, PASID
/// or `NO_PASID`, address, entry.
pub(crate) type New = (u16, u32, u64, Translation);

/// What has become possible by a step.
#[derive(Default, Debug)]
pub(crate) struct Discovered {
    pub(crate) translations: Vec<New>,
    pub(crate) permitted: Vec<Permitted>,
}

/// One unit's bookkeeping.
#[derive(Default)]
pub(crate) struct Prefetch {
    uses: FxHashMap<u64, FxHashSet<Use>>,
    attachments: Vec<Attachment>,
    /// Exploration stopped early: tables that point to themselves have more pages than
    /// can be listed.
    pub(crate) truncated: bool,
    /// Entries that stand in memory, for the rules about domain ids.
    live: Vec<Attachment>,
    history: torn::History,
    /// Rules that were found broken: section and sentence.
    pub(crate) broken: Vec<(&'static str, String)>,
}

/// The parts of a machine that an exploration reads and fills.
pub(crate) struct Surroundings<'a> {
    pub(crate) unit: &'a mut Unit,
    pub(crate) world: &'a World,
    pub(crate) devices: &'a mut BTreeMap<u16, Device>,
}

impl Prefetch {
    /// Starts over, from the roots and whatever is left in the caches.
    pub(crate) fn rebuild(&mut self, around: Surroundings<'_>) -> Discovered {
        self.uses.clear();
        self.attachments.clear();
        self.history.settle();
        let mut sweep = Sweep::new(self, around, EVERYWHERE);
        sweep.sources(None);
        sweep.found
    }

    /// Memory changed.
    pub(crate) fn stored(&mut self, around: Surroundings<'_>, hpa: u64, len: u64) -> Discovered {
        let last = hpa.saturating_add(len.saturating_sub(1));
        let mut sweep = Sweep::new(self, around, EVERYWHERE);
        for frame in hpa >> 12..=last >> 12 {
            let Some(uses) = sweep.prefetch.uses.get(&frame) else {
                continue;
            };
            let bytes = (hpa.max(frame << 12), last.min(frame << 12 | 0xfff));
            // A fixed order keeps runs of one seed alike.
            let mut uses: Vec<Use> = uses.iter().copied().collect();
            uses.sort_unstable();
            for usage in uses {
                sweep.reuse(usage, bytes);
            }
        }
        sweep.found
    }

    /// An invalidation took entries away; those that memory still allows come back.
    pub(crate) fn removed(&mut self, around: Surroundings<'_>, removal: Removal) -> Discovered {
        let (domain, range, first) = match removal {
            Removal::Nothing | Removal::Interrupts => return Discovered::default(),
            Removal::Permissions(domain) => return self.permissions_removed(around, domain),
            Removal::Everything => return self.rebuild(around),
            Removal::Domain {
                domain,
                range,
                first,
            } => (domain, range, first),
        };
        let mut sweep = Sweep::new(self, around, EVERYWHERE);
        for at in 0..sweep.prefetch.attachments.len() {
            let attachment = sweep.prefetch.attachments[at];
            if attachment.domain() != domain {
                continue;
            }
            // A page-selective invalidation names second-stage addresses, or (PASID based)
            // first-stage ones; of the other kind everything went.
            let narrow = first != attachment.second(true).is_some();
            sweep.range = range.filter(|_| narrow).unwrap_or(EVERYWHERE);
            sweep.explore(at);
        }
        sweep.found
    }

    fn permissions_removed(&mut self, around: Surroundings<'_>, domain: Option<u16>) -> Discovered {
        let mut sweep = Sweep::new(self, around, EVERYWHERE);
        for at in 0..sweep.prefetch.attachments.len() {
            let guard = sweep.prefetch.attachments[at].guard;
            let named = |held| domain.is_none_or(|domain| domain == held);
            if guard.is_some_and(|guard| named(guard.root.domain)) {
                sweep.explore_permissions(at);
            }
        }
        sweep.found
    }

    /// Whether host permission tables check the translated requests of a source.
    pub(crate) fn guards(&self, source: u16) -> bool {
        let guarded = |held: &Attachment| held.source == source && held.guard.is_some();
        self.attachments.iter().any(guarded)
    }

    /// Whether translated requests of a source without PASID stand for those of all its
    /// PASIDs.
    pub(crate) fn shares_permissions(&self, source: u16) -> bool {
        self.attachments
            .iter()
            .any(|held| held.source == source && held.guard.is_some_and(|guard| guard.shared))
    }

    /// Whether a device may have translations of its own.
    pub(crate) fn lets_device_keep(&self, source: u16) -> bool {
        self.attachments
            .iter()
            .any(|attachment| attachment.source == source && attachment.device_tlb)
    }

    /// Whether a frame may be read as a table, and by which source.
    pub(crate) fn serves(&self, unit: &Unit, frame: u64) -> Option<u16> {
        self.uses
            .get(&frame)?
            .iter()
            .find_map(|usage| match *usage {
                Use::Source(source) => Some(source),
                Use::Second {
                    at,
                    level,
                    base,
                    node,
                } => {
                    self.second_alive(unit, at, level, base, node)?;
                    Some(self.attachments.get(at)?.source)
                }
                Use::First {
                    at,
                    level,
                    base,
                    node,
                } => {
                    self.first_alive(unit, at, level, base, node)?;
                    Some(self.attachments.get(at)?.source)
                }
                Use::Permission {
                    at,
                    level,
                    base,
                    table,
                } => {
                    let held = self.attachments.get(at)?;
                    permission_alive(unit, &held.guard?.root, level, base, table)?;
                    Some(held.source)
                }
                Use::Below { .. } => None,
            })
    }

    /// The table as a walk may still use it: as root, or from a paging-structure cache.
    fn second_alive(
        &self,
        unit: &Unit,
        at: usize,
        level: u8,
        base: u64,
        node: SecondNode,
    ) -> Option<SecondNode> {
        let stage = self.attachments.get(at)?.second(unit.snoops())?;
        if level == stage.levels && node.table == stage.table {
            return Some(SecondNode {
                accessed: true,
                ..node
            });
        }
        let held = unit
            .caches
            .second
            .find(Pages::second(stage.domain), level, base);
        held.iter().find(|held| held.same(&node)).copied()
    }

    fn first_alive(
        &self,
        unit: &Unit,
        at: usize,
        level: u8,
        base: u64,
        node: FirstNode,
    ) -> Option<FirstNode> {
        let (stage, _) = self.attachments.get(at)?.first()?;
        if level == stage.levels && stage.nested.is_none() {
            return Some(FirstNode {
                accessed: true,
                ..node
            });
        }
        if level == stage.levels {
            let roots = unit.caches.roots.get(&(stage.pages, stage.table))?;
            return roots.iter().find(|held| held.same(&node)).copied();
        }
        let held = unit.caches.first.find(stage.pages, level, base);
        held.iter().find(|held| held.same(&node)).copied()
    }
}

/// First addresses covered by the entries of a table of `level` in bytes of its frame.
fn entries(level: u8, base: u64, (first, last): (u64, u64)) -> impl Iterator<Item = u64> {
    let shift = 12 + 9 * (level - 1);
    ((first & 0xfff) / 8..=(last & 0xfff) / 8).map(move |index| base | index << shift)
}

/// Where the entry of a table of `level` for `start` lies.
fn entry_at(table: u64, level: u8, start: u64) -> u64 {
    table + ((start >> (12 + 9 * (level - 1))) & 0x1ff) * 8
}

/// Whether a range touches what an entry of `level` covers from `start` on.
fn touches(range: &Range, level: u8, start: u64) -> bool {
    range.overlaps(start, start | ((1 << (12 + 9 * (level - 1))) - 1))
}
