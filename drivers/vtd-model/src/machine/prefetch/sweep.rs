//! One exploration: what it looks at, what it may spend, what it found.

use super::attachment::{Attachment, Kind};
use super::permission::Table;
use super::{Discovered, Prefetch, Surroundings, Use};
use crate::caches::{Mapping, Range, Translation};
use crate::machine::device::Device;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::remapping::Typing;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

/// Entries that one exploration looks at, at most.
const BUDGET: usize = 1 << 22;

pub(super) const EVERYWHERE: Range = Range {
    first: 0,
    last: u64::MAX,
};

pub(super) struct Sweep<'a> {
    pub(super) prefetch: &'a mut Prefetch,
    pub(super) unit: &'a mut Unit,
    pub(super) world: &'a World,
    pub(super) devices: &'a mut BTreeMap<u16, Device>,
    pub(super) range: Range,
    budget: usize,
    pub(super) found: Discovered,
    /// Permission tables that this exploration has been to.
    pub(super) visited: FxHashSet<Table>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(prefetch: &'a mut Prefetch, around: Surroundings<'a>, range: Range) -> Self {
        let Surroundings {
            unit,
            world,
            devices,
        } = around;
        Self {
            prefetch,
            unit,
            world,
            devices,
            range,
            budget: BUDGET,
            found: Discovered::default(),
            visited: FxHashSet::default(),
        }
    }

    pub(super) fn used(&mut self, hpa: u64, usage: Use) {
        self.prefetch
            .uses
            .entry(hpa >> 12)
            .or_default()
            .insert(usage);
    }

    /// What the unit may see of these words; nothing where a read fails.
    pub(super) fn states<const N: usize>(&self, hpa: u64, snooped: bool) -> Vec<[u64; N]> {
        if hpa & self.unit.config.above_host() != 0 {
            return Vec::new();
        }
        let states = self
            .world
            .image
            .states::<N>(&*self.world.memory, hpa, snooped);
        states.map_or_else(Vec::new, |states| states.to_vec())
    }

    /// Counts an entry that is looked at; false when there have been too many.
    pub(super) fn spend(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.prefetch.truncated |= self.budget == 0;
        self.budget > 0
    }

    pub(super) fn attach(&mut self, attachment: Attachment) {
        if !self.prefetch.attachments.contains(&attachment) {
            self.prefetch.attachments.push(attachment);
            self.explore(self.prefetch.attachments.len() - 1);
            self.explore_permissions(self.prefetch.attachments.len() - 1);
        }
    }

    /// All translations that an attachment may use.
    pub(super) fn explore(&mut self, at: usize) {
        let attachment = self.prefetch.attachments[at];
        if let Some(stage) = attachment.second(self.unit.snoops()) {
            self.explore_second(at, &stage);
        } else if let Some((stage, _)) = attachment.first() {
            self.explore_first(at, &stage);
        } else {
            let mapping = match attachment.kind {
                Kind::Legacy(_) => Mapping::unity(true, false),
                Kind::Scalable(entry) => Mapping::pass_through(&entry),
            };
            self.found(at, 0, mapping, true);
        }
    }

    /// Whether flags can be set in the entry at `hpa`, which was seen to hold `seen`.
    pub(super) fn takes_stores(&self, hpa: u64, seen: u64) -> bool {
        self.world
            .memory
            .compare_exchange(hpa, seen, seen)
            .is_some()
    }

    /// A translation that may be cached now, in the unit and in the device.
    pub(super) fn found(&mut self, at: usize, start: u64, mapping: Mapping, accessed: bool) {
        let attachment = self.prefetch.attachments[at];
        let (source, key) = (attachment.source, attachment.key);
        let entry = Translation {
            mapping: Mapping {
                rid_priv: attachment.rid_priv,
                ..mapping
            },
            fault: None,
            domain: attachment.domain(),
            pasid: attachment.tag,
            born: self.world.step,
            accessed,
        };
        let mut fresh = self.unit.caches.iotlb.add(source, key, start, entry);
        if attachment.device_tlb
            && let Some(device) = self.devices.get_mut(&source).filter(|device| device.ats)
        {
            let mut kept = entry;
            // A completion says nothing of memory types.
            kept.mapping.typing = Typing::Unsaid;
            fresh |= device.tlb.add(source, key, start, kept);
        }
        if fresh {
            self.found.translations.push((source, key, start, entry));
        }
    }

    /// Entries of a frame that was written, for one of its uses.
    pub(super) fn reuse(&mut self, usage: Use, bytes: (u64, u64)) {
        match usage {
            Use::Source(source) => self.sources(Some(source)),
            Use::Below { at } => self.explore(at),
            Use::Permission {
                at,
                level,
                base,
                table,
            } => self.permission_written(at, level, base, table, bytes),
            Use::Second {
                at,
                level,
                base,
                node,
            } => {
                if let Some(node) = self.prefetch.second_alive(self.unit, at, level, base, node) {
                    self.second_written(at, level, base, node, bytes);
                }
            }
            Use::First {
                at,
                level,
                base,
                node,
            } => {
                if let Some(node) = self.prefetch.first_alive(self.unit, at, level, base, node) {
                    self.first_written(at, level, base, node, bytes);
                }
            }
        }
    }
}
