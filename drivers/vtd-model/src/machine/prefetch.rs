//! The pessimist's bookkeeping: after every step, everything that a unit might have cached
//! by now *is* in its caches (§6.2, §6.5.3.6: hardware may prefetch whatever is reachable
//! and keep it).
//!
//! Incremental: a store to a frame that serves as a table explores the entries that
//! changed, an invalidation explores what it removed.

use super::device::Device;
use super::unit::Unit;
use super::world::World;
use crate::caches::{
    CachedContext, CachedPasid, Caches, FirstNode, Mapping, NO_PASID, Pages, Range, SecondNode,
    Translation,
};
use crate::choice::{Chooser, Explorer};
use crate::registers::Removal;
use crate::remapping::{Effects, FirstStage, Mode, SecondLeaf, SecondStage, first_stage_of};
use crate::tables::context::{Legacy, TranslationType};
use crate::tables::pasid::{self, Entry, Granular};
use crate::tables::{bit, first_stage, page, root, second_stage};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// What a request's tables are, once its context and PASID entry are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Legacy(Legacy),
    Scalable(Entry),
}

/// Requests of one source, with one PASID or none, and the entry that may serve them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Attachment {
    pub(crate) source: u16,
    /// PASID or [`NO_PASID`].
    pub(crate) key: u32,
    pub(crate) tag: u32,
    pub(crate) kind: Kind,
    /// The context entry lets the device keep translations of its own.
    pub(crate) device_tlb: bool,
    pub(crate) rid_priv: bool,
}

impl Attachment {
    fn domain(&self) -> u16 {
        match self.kind {
            Kind::Legacy(entry) => entry.domain,
            Kind::Scalable(entry) => entry.domain,
        }
    }

    fn second(&self, coherent: bool) -> Option<SecondStage> {
        match self.kind {
            Kind::Legacy(entry) if entry.kind != TranslationType::PassThrough => {
                Some(SecondStage {
                    domain: entry.domain,
                    table: entry.table,
                    levels: entry.levels,
                    flags: false,
                    snooped: coherent,
                })
            }
            Kind::Scalable(entry) if entry.kind == Granular::Second => {
                Some(SecondStage::of(&entry))
            }
            _ => None,
        }
    }
}

/// What a frame serves as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Use {
    /// Root, context or PASID structure on the way of a source.
    Source(u16),
    Second {
        at: usize,
        level: u8,
        base: u64,
        node: SecondNode,
    },
    First {
        at: usize,
        level: u8,
        base: u64,
        node: FirstNode,
    },
    /// Second-stage table below a first stage: everything above may change with it.
    Below { at: usize },
}

/// A translation that hardware may now hold and might not have held before.
pub(crate) type New = (u16, u32, u64, Translation);

/// One unit's bookkeeping.
#[derive(Default)]
pub(crate) struct Prefetch {
    uses: FxHashMap<u64, FxHashSet<Use>>,
    attachments: Vec<Attachment>,
    /// Exploration stopped early: tables that point to themselves have more pages than
    /// can be listed.
    pub(crate) truncated: bool,
}

/// Entries that one exploration looks at, at most.
const BUDGET: usize = 1 << 22;

const EVERYWHERE: Range = Range {
    first: 0,
    last: u64::MAX,
};

impl Prefetch {
    /// Starts over, from the roots and whatever is left in the caches.
    pub(crate) fn rebuild(
        &mut self,
        unit: &mut Unit,
        world: &World,
        devices: &mut BTreeMap<u16, Device>,
    ) -> Vec<New> {
        self.uses.clear();
        self.attachments.clear();
        let mut sweep = Sweep::new(self, unit, world, devices, EVERYWHERE);
        sweep.sources(None);
        sweep.new
    }

    /// Memory changed.
    pub(crate) fn stored(
        &mut self,
        unit: &mut Unit,
        world: &World,
        devices: &mut BTreeMap<u16, Device>,
        hpa: u64,
        len: u64,
    ) -> Vec<New> {
        let last = hpa + len.saturating_sub(1);
        let mut found = Vec::new();
        for frame in hpa >> 12..=last >> 12 {
            let Some(uses) = self.uses.get(&frame) else {
                continue;
            };
            let start = hpa.max(frame << 12);
            let end = last.min(frame << 12 | 0xfff);
            // A fixed order keeps runs of one seed alike.
            let mut uses: Vec<Use> = uses.iter().copied().collect();
            uses.sort_unstable_by_key(|usage| format!("{usage:?}"));
            for usage in uses {
                let mut sweep = Sweep::new(self, unit, world, devices, EVERYWHERE);
                sweep.reuse(usage, start, end);
                found.append(&mut sweep.new);
            }
        }
        found
    }

    /// An invalidation took entries away; those that memory still allows come back.
    pub(crate) fn removed(
        &mut self,
        unit: &mut Unit,
        world: &World,
        devices: &mut BTreeMap<u16, Device>,
        removal: Removal,
    ) -> Vec<New> {
        match removal {
            Removal::Nothing | Removal::Interrupts => Vec::new(),
            Removal::Everything => self.rebuild(unit, world, devices),
            Removal::Domain {
                domain,
                range,
                first,
            } => {
                let mut sweep = Sweep::new(self, unit, world, devices, range.unwrap_or(EVERYWHERE));
                for at in 0..sweep.prefetch.attachments.len() {
                    if sweep.prefetch.attachments[at].domain() == domain {
                        // A page-selective invalidation names second-stage addresses, or (PASID
                        // based) first-stage ones; of the other kind everything went.
                        let narrow = first != sweep.prefetch.attachments[at].second(true).is_some();
                        sweep.range = range.filter(|_| narrow).unwrap_or(EVERYWHERE);
                        sweep.explore(at);
                    }
                }
                sweep.new
            }
        }
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
                } => self.second_alive(unit, at, level, base, node),
                Use::First {
                    at,
                    level,
                    base,
                    node,
                } => self.first_alive(unit, at, level, base, node),
                Use::Below { .. } => None,
            })
    }

    fn second_alive(
        &self,
        unit: &Unit,
        at: usize,
        level: u8,
        base: u64,
        node: SecondNode,
    ) -> Option<u16> {
        let attachment = self.attachments.get(at)?;
        let stage = attachment.second(unit.snoops())?;
        let is_root = level == stage.levels && node.table == stage.table;
        let cached = unit
            .caches
            .second
            .find(Pages::second(stage.domain), level, base)
            .contains(&node);
        (is_root || cached).then_some(attachment.source)
    }

    fn first_alive(
        &self,
        unit: &Unit,
        at: usize,
        level: u8,
        base: u64,
        node: FirstNode,
    ) -> Option<u16> {
        let attachment = self.attachments.get(at)?;
        let Kind::Scalable(entry) = attachment.kind else {
            return None;
        };
        let stage = first_stage_of(&entry, attachment.tag);
        let is_root = level == stage.levels;
        let cached = unit
            .caches
            .first
            .find(stage.pages, level, base)
            .contains(&node);
        (is_root || cached).then_some(attachment.source)
    }
}

/// One exploration.
struct Sweep<'a> {
    prefetch: &'a mut Prefetch,
    unit: &'a mut Unit,
    world: &'a World,
    devices: &'a mut BTreeMap<u16, Device>,
    range: Range,
    budget: usize,
    new: Vec<New>,
}

impl<'a> Sweep<'a> {
    fn new(
        prefetch: &'a mut Prefetch,
        unit: &'a mut Unit,
        world: &'a World,
        devices: &'a mut BTreeMap<u16, Device>,
        range: Range,
    ) -> Self {
        Self {
            prefetch,
            unit,
            world,
            devices,
            range,
            budget: BUDGET,
            new: Vec::new(),
        }
    }

    fn used(&mut self, hpa: u64, usage: Use) {
        self.prefetch
            .uses
            .entry(hpa >> 12)
            .or_default()
            .insert(usage);
    }

    fn states<const N: usize>(&self, hpa: u64, snooped: bool) -> Vec<[u64; N]> {
        if hpa & self.unit.config.above_host() != 0 {
            return Vec::new();
        }
        self.world
            .image
            .states::<N>(&*self.world.memory, hpa, snooped)
            .map_or_else(Vec::new, |states| states.to_vec())
    }

    fn sources(&mut self, only: Option<u16>) {
        if !self.unit.latched.enabled || self.unit.latched.fault(&self.unit.config).is_some() {
            return;
        }
        let index = self.unit.index;
        let sources: Vec<u16> = self
            .devices
            .iter()
            .filter(|(source, device)| {
                device.unit == index && only.is_none_or(|only| only == **source)
            })
            .map(|(source, _)| *source)
            .collect();
        for source in sources {
            self.source(source);
        }
    }

    /// Every context entry that may serve a source: those of memory, and those cached.
    fn source(&mut self, source: u16) {
        for table in self.context_tables(source) {
            let legacy = self.unit.mode() == Mode::Legacy;
            let at = if legacy {
                table + u64::from(source & 0xff) * 16
            } else {
                table + u64::from(source & 0x7f) * 32
            };
            self.used(at, Use::Source(source));
            let snooped = self.unit.snoops();
            let values: Vec<CachedContext> = if legacy {
                self.states::<2>(at, snooped)
                    .iter()
                    .map(|words| crate::remapping::legacy_context(*words, &self.unit.config))
                    .collect()
            } else {
                self.states::<4>(at, snooped)
                    .iter()
                    .map(|words| crate::remapping::scalable_context(*words, &self.unit.config))
                    .collect()
            };
            for value in values {
                if self.unit.config.caching_mode || !matches!(value, CachedContext::Fault { .. }) {
                    Caches::add(self.unit.caches.contexts.entry(source).or_default(), value);
                }
            }
        }
        let values = self
            .unit
            .caches
            .contexts
            .get(&source)
            .cloned()
            .unwrap_or_default();
        for value in values {
            self.context(source, value);
        }
    }

    fn context_tables(&mut self, source: u16) -> Vec<u64> {
        let at = self.unit.latched.table() + u64::from(source >> 8) * 16;
        self.used(at, Use::Source(source));
        let config = &self.unit.config;
        let legacy = self.unit.mode() == Mode::Legacy;
        self.states::<2>(at, self.unit.snoops())
            .iter()
            .filter_map(|words| {
                let root = if legacy {
                    root::legacy(*words, config)
                } else {
                    root::scalable(*words, source as u8, config)
                };
                match root {
                    root::Root::Table(table) => Some(table),
                    _ => None,
                }
            })
            .collect()
    }

    fn context(&mut self, source: u16, value: CachedContext) {
        match value {
            CachedContext::Fault { .. } => {}
            CachedContext::Legacy(entry) if self.unit.mode() == Mode::Legacy => {
                self.attach(Attachment {
                    source,
                    key: NO_PASID,
                    tag: 0,
                    kind: Kind::Legacy(entry),
                    device_tlb: entry.kind == TranslationType::DeviceTlb,
                    rid_priv: false,
                })
            }
            CachedContext::Scalable(entry) if self.unit.mode() == Mode::Scalable => {
                self.pasids(source, &entry);
                let cached: Vec<(u32, CachedPasid)> = self
                    .unit
                    .caches
                    .pasids
                    .iter()
                    .filter(|((owner, pasid), _)| *owner == source && *pasid < entry.pasids)
                    .flat_map(|((_, pasid), values)| values.iter().map(|value| (*pasid, *value)))
                    .collect();
                let mut cached = cached;
                cached.sort_unstable_by_key(|(pasid, _)| *pasid);
                for (pasid, value) in cached {
                    let Ok(kind) = value.entry else { continue };
                    let rid = pasid == entry.rid_pasid;
                    if rid || entry.pasid_enable {
                        self.attach(Attachment {
                            source,
                            key: if rid { NO_PASID } else { pasid },
                            tag: pasid,
                            kind: Kind::Scalable(kind),
                            device_tlb: entry.device_tlb,
                            rid_priv: rid && entry.rid_priv,
                        });
                    }
                }
            }
            _ => {}
        }
    }

    fn pasids(&mut self, source: u16, context: &crate::tables::context::Scalable) {
        let snooped = self.unit.snoops();
        for index in 0..u64::from(context.pasids >> 6) {
            let at = context.directory + index * 8;
            self.used(at, Use::Source(source));
            for [word] in self.states::<1>(at, snooped) {
                let pasid::Directory::Table(table) = pasid::directory(word, &self.unit.config)
                else {
                    continue;
                };
                for slot in 0..64 {
                    self.pasid(
                        source,
                        table + slot * 64,
                        (index << 6 | slot) as u32,
                        bit(word, 1),
                    );
                }
            }
        }
    }

    fn pasid(&mut self, source: u16, at: u64, pasid: u32, fpd: bool) {
        self.used(at, Use::Source(source));
        for words in self.states::<8>(at, self.unit.snoops()) {
            let value = crate::remapping::pasid_value(words, fpd, &self.unit.config);
            if self.unit.config.caching_mode || value.entry.is_ok() {
                Caches::add(
                    self.unit.caches.pasids.entry((source, pasid)).or_default(),
                    value,
                );
            }
        }
    }

    fn attach(&mut self, attachment: Attachment) {
        if !self.prefetch.attachments.contains(&attachment) {
            self.prefetch.attachments.push(attachment);
            self.explore(self.prefetch.attachments.len() - 1);
        }
    }

    /// All translations that an attachment may use.
    fn explore(&mut self, at: usize) {
        let attachment = self.prefetch.attachments[at];
        if let Some(stage) = attachment.second(self.unit.snoops()) {
            let root = SecondNode {
                table: stage.table,
                rights: second_stage::Rights::ALL,
            };
            self.second(at, &stage, stage.levels, 0, root);
            let cached: Vec<_> = self
                .unit
                .caches
                .second
                .iter()
                .filter(|(pages, ..)| pages.domain == stage.domain)
                .map(|(_, level, base, node)| (level, base, *node))
                .collect();
            for (level, base, node) in cached {
                self.second(at, &stage, level, base, node);
            }
            return;
        }
        match attachment.kind {
            Kind::Scalable(entry) if entry.kind.has_first() => {
                self.explore_first(at, &entry, attachment.tag)
            }
            Kind::Scalable(entry) => self.found(at, 0, Mapping::unity(false, entry.page_snoop)),
            Kind::Legacy(_) => self.found(at, 0, Mapping::unity(true, false)),
        }
    }

    fn explore_first(&mut self, at: usize, entry: &Entry, tag: u32) {
        let stage = first_stage_of(entry, tag);
        if let Some(second) = stage.nested {
            let root = SecondNode {
                table: second.table,
                rights: second_stage::Rights::ALL,
            };
            self.below(at, &second, second.levels, 0, root);
        }
        for (table, writable) in self.guest(&stage, stage.table) {
            let root = FirstNode {
                table,
                rights: first_stage::Rights::ALL,
                writable,
            };
            self.first(at, &stage, stage.levels, 0, root);
        }
        let cached: Vec<_> = self
            .unit
            .caches
            .first
            .iter()
            .filter(|(pages, ..)| *pages == stage.pages)
            .map(|(_, level, base, node)| (level, base, *node))
            .collect();
        for (level, base, node) in cached {
            self.first(at, &stage, level, base, node);
        }
    }

    fn spend(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.prefetch.truncated |= self.budget == 0;
        self.budget > 0
    }

    fn second(&mut self, at: usize, stage: &SecondStage, level: u8, base: u64, node: SecondNode) {
        self.used(
            node.table,
            Use::Second {
                at,
                level,
                base,
                node,
            },
        );
        let size = 1u64 << (12 + 9 * (level - 1));
        let limit = self.unit.config.second_stage_limit(stage.levels);
        for index in 0..512 {
            let start = base + index * size;
            if start > limit {
                break;
            }
            if self.range.overlaps(start, start + (size - 1)) {
                self.second_entry(at, stage, level, start, node);
            }
        }
    }

    fn second_entry(
        &mut self,
        at: usize,
        stage: &SecondStage,
        level: u8,
        start: u64,
        node: SecondNode,
    ) {
        if !self.spend() {
            return;
        }
        let hpa = node.table + ((start >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
        for [raw] in self.states::<1>(hpa, stage.snooped) {
            let io_rights = self.unit.latched.io_rights();
            let cannot_set = stage.flags && !stage.snooped && raw & second_stage::ACCESSED == 0;
            match second_stage::decode(raw, level, &self.unit.config, io_rights) {
                _ if cannot_set => {}
                second_stage::Entry::Table { address, rights } => {
                    let child = SecondNode {
                        table: address,
                        rights: node.rights.and(rights),
                    };
                    self.unit.caches.second.add(
                        Pages::second(stage.domain),
                        level - 1,
                        start,
                        child,
                    );
                    self.second(at, stage, level - 1, start, child);
                }
                second_stage::Entry::Page {
                    address,
                    rights,
                    snoop,
                } => {
                    let leaf = SecondLeaf {
                        output: address,
                        shift: 12 + 9 * (level - 1),
                        rights: node.rights.and(rights),
                        snoop,
                        dirty: !stage.flags || raw & second_stage::DIRTY != 0,
                        entry: (hpa, raw),
                    };
                    self.second_leaf(at, start, &leaf);
                }
                second_stage::Entry::NotPresent | second_stage::Entry::Reserved => {}
            }
        }
    }

    fn second_leaf(&mut self, at: usize, start: u64, leaf: &SecondLeaf) {
        if leaf.rights == second_stage::Rights::default() {
            return;
        }
        let attachment = self.prefetch.attachments[at];
        let mapping = match attachment.kind {
            Kind::Legacy(_) => leaf.mapping(None),
            Kind::Scalable(entry) => leaf.mapping(Some(&entry)),
        };
        self.found(at, start, mapping);
    }

    /// Second-stage tables that nested walks pass through: cached too, by domain.
    fn below(&mut self, at: usize, stage: &SecondStage, level: u8, base: u64, node: SecondNode) {
        self.used(node.table, Use::Below { at });
        let size = 1u64 << (12 + 9 * (level - 1));
        let limit = self.unit.config.second_stage_limit(stage.levels);
        for index in 0..if level == 1 { 0 } else { 512 } {
            let start = base + index * size;
            if start > limit || !self.spend() {
                break;
            }
            for [raw] in self.states::<1>(node.table + index * 8, stage.snooped) {
                let entry = second_stage::decode(
                    raw,
                    level,
                    &self.unit.config,
                    self.unit.latched.io_rights(),
                );
                if let second_stage::Entry::Table { address, rights } = entry {
                    let child = SecondNode {
                        table: address,
                        rights: node.rights.and(rights),
                    };
                    self.unit.caches.second.add(
                        Pages::second(stage.domain),
                        level - 1,
                        start,
                        child,
                    );
                    self.below(at, stage, level - 1, start, child);
                }
            }
        }
    }

    fn first(&mut self, at: usize, stage: &FirstStage, level: u8, base: u64, node: FirstNode) {
        self.used(
            node.table,
            Use::First {
                at,
                level,
                base,
                node,
            },
        );
        let shift = 12 + 9 * (level - 1);
        for index in 0..512u64 {
            let mut start = base | index << shift;
            if level == stage.levels && index >= 256 {
                // The upper half: bits above repeat the highest used one.
                start |= u64::MAX << (shift + 9);
            }
            if self.range.overlaps(start, start | ((1 << shift) - 1)) {
                self.first_entry(at, stage, level, start, node);
            }
        }
    }

    fn first_entry(
        &mut self,
        at: usize,
        stage: &FirstStage,
        level: u8,
        start: u64,
        node: FirstNode,
    ) {
        if !self.spend() {
            return;
        }
        let hpa = node.table + ((start >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
        for [raw] in self.states::<1>(hpa, stage.snooped) {
            let flags = first_stage::ACCESSED
                | if stage.extended {
                    first_stage::EXTENDED_ACCESSED
                } else {
                    0
                };
            if raw & flags != flags && !(node.writable && stage.snooped) {
                continue;
            }
            match first_stage::decode(raw, level, &self.unit.config) {
                first_stage::Entry::Table { address, rights } => {
                    for (table, writable) in self.guest(stage, address) {
                        let child = FirstNode {
                            table,
                            rights: node.rights.and(rights),
                            writable,
                        };
                        self.unit
                            .caches
                            .first
                            .add(stage.pages, level - 1, start, child);
                        self.first(at, stage, level - 1, start, child);
                    }
                }
                first_stage::Entry::Page { address, rights } => {
                    let rights = node.rights.and(rights);
                    self.first_leaf(
                        at,
                        stage,
                        start,
                        level,
                        address,
                        rights,
                        raw & first_stage::DIRTY != 0,
                    );
                }
                first_stage::Entry::NotPresent | first_stage::Entry::Reserved => {}
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one entry")]
    fn first_leaf(
        &mut self,
        at: usize,
        stage: &FirstStage,
        start: u64,
        level: u8,
        output: u64,
        rights: first_stage::Rights,
        dirty: bool,
    ) {
        let Kind::Scalable(entry) = self.prefetch.attachments[at].kind else {
            return;
        };
        let shift = 12 + 9 * (level - 1);
        let mapping = crate::remapping::first_only(&entry, output, shift, rights, dirty);
        let Some(second) = stage.nested else {
            self.found(at, start, mapping);
            return;
        };
        let size = 1u64 << shift;
        let mut offset = 0;
        while offset < size && self.spend() {
            let mut step = 0x1000;
            for leaf in self.host(&second, output + offset) {
                let mut nested = mapping;
                crate::remapping::nest(&mut nested, output + offset, &leaf);
                step = step.max(1 << nested.shift);
                if leaf.rights != second_stage::Rights::default() {
                    self.found(at, start + offset, nested);
                }
            }
            offset += step;
        }
    }

    /// Every host page that a guest address may come out at.
    fn host(&mut self, second: &SecondStage, address: u64) -> Vec<SecondLeaf> {
        let mut leaves = Vec::new();
        if address > self.unit.config.second_stage_limit(second.levels) {
            return leaves;
        }
        let mut explorer = Explorer::default();
        loop {
            let mut effects = Effects::default();
            let mut walker =
                self.unit
                    .walker(self.world, Chooser::Explore(&mut explorer), &mut effects);
            if let Ok(leaf) = walker.second(second, address) {
                leaves.push(leaf);
            }
            if !explorer.advance() {
                return leaves;
            }
        }
    }

    /// Where a first-stage table may lie, and whether its flags may be set.
    fn guest(&mut self, stage: &FirstStage, table: u64) -> Vec<(u64, bool)> {
        let Some(second) = stage.nested else {
            return vec![(table, true)];
        };
        let leaves = self.host(&second, table);
        let mut found = Vec::new();
        for leaf in leaves {
            let readable = leaf.rights.read && (!second.flags || leaf.rights.write);
            let place = (
                leaf.output | table & ((1 << leaf.shift) - 1),
                leaf.rights.write,
            );
            if readable && !found.contains(&place) {
                found.push(place);
            }
        }
        found
    }

    fn found(&mut self, at: usize, start: u64, mapping: Mapping) {
        let attachment = self.prefetch.attachments[at];
        let entry = Translation {
            mapping: Mapping {
                rid_priv: attachment.rid_priv,
                ..mapping
            },
            fault: None,
            domain: attachment.domain(),
            pasid: attachment.tag,
            born: self.world.step,
        };
        let new = self
            .unit
            .caches
            .iotlb
            .add(attachment.source, attachment.key, start, entry);
        let mut fresh = new;
        if attachment.device_tlb
            && let Some(device) = self.devices.get_mut(&attachment.source)
            && device.ats
        {
            fresh |= device
                .tlb
                .add(attachment.source, attachment.key, start, entry);
        }
        if fresh {
            self.new
                .push((attachment.source, attachment.key, start, entry));
        }
    }

    /// Entries of a frame that was written, for one of its uses.
    fn reuse(&mut self, usage: Use, first: u64, last: u64) {
        let unit = &*self.unit;
        match usage {
            Use::Source(source) => self.sources(Some(source)),
            Use::Below { at } => self.explore(at),
            Use::Second {
                at,
                level,
                base,
                node,
            } => {
                if self
                    .prefetch
                    .second_alive(unit, at, level, base, node)
                    .is_none()
                {
                    return;
                }
                let attachment = self.prefetch.attachments[at];
                let Some(stage) = attachment.second(unit.snoops()) else {
                    return;
                };
                let limit = unit.config.second_stage_limit(stage.levels);
                for start in entries(level, base, first, last) {
                    if start <= limit {
                        self.second_entry(at, &stage, level, start, node);
                    }
                }
            }
            Use::First {
                at,
                level,
                base,
                node,
            } => {
                if self
                    .prefetch
                    .first_alive(unit, at, level, base, node)
                    .is_none()
                {
                    return;
                }
                let attachment = self.prefetch.attachments[at];
                let Kind::Scalable(entry) = attachment.kind else {
                    return;
                };
                let stage = first_stage_of(&entry, attachment.tag);
                for mut start in entries(level, base, first, last) {
                    let top = 12 + 9 * u32::from(stage.levels);
                    if level == stage.levels && bit(start, top as u8 - 1) {
                        start |= u64::MAX << top;
                    }
                    self.first_entry(at, &stage, level, start, node);
                }
            }
        }
    }
}

/// First addresses covered by the entries of a table of `level` in the bytes
/// `first..=last` of its frame.
fn entries(level: u8, base: u64, first: u64, last: u64) -> impl Iterator<Item = u64> {
    let shift = 12 + 9 * (level - 1);
    let low = (first & 0xfff) / 8;
    let high = (last & 0xfff) / 8;
    debug_assert_eq!(page(first), page(last));
    (low..=high).map(move |index| base | index << shift)
}
