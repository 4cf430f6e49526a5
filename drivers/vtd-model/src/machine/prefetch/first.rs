//! Exploring first-stage tables, alone and nested.

use super::sweep::Sweep;
use super::{Use, entries, entry_at, touches};
use crate::caches::{Caches, FirstNode};
use crate::remapping::{FirstLeaf, FirstStage, first_only, nest};
use crate::tables::first_stage::{self, ACCESSED, DIRTY, EXTENDED_ACCESSED, Entry, Rights};
use crate::tables::{bit, second_stage};

impl Sweep<'_> {
    pub(super) fn explore_first(&mut self, at: usize, stage: &FirstStage) {
        if let Some(second) = &stage.nested {
            self.below(at, second);
        }
        for root in self.roots(stage) {
            self.first(at, stage, stage.levels, 0, root);
        }
        let held = self
            .unit
            .caches
            .first
            .iter()
            .filter(|(pages, ..)| *pages == stage.pages);
        let held: Vec<_> = held
            .map(|(_, level, base, node)| (level, base, *node))
            .collect();
        for (level, base, node) in held {
            if touches(&self.range, level + 1, base) {
                self.first(at, stage, level, base, node);
            }
        }
    }

    /// The root table; if it is nested, wherever the second stage led to it since what was
    /// translated through that stage was invalidated.
    fn roots(&mut self, stage: &FirstStage) -> Vec<FirstNode> {
        let roots = self
            .guest(stage, stage.table)
            .into_iter()
            .map(|(table, writable)| FirstNode {
                table,
                rights: Rights::ALL,
                writable,
                accessed: true,
            });
        if stage.nested.is_none() {
            return roots.collect();
        }
        let held = &mut self.unit.caches.roots;
        let held = held.entry((stage.pages, stage.table)).or_default();
        for root in roots {
            Caches::add(held, root);
        }
        held.to_vec()
    }

    fn first(&mut self, at: usize, stage: &FirstStage, level: u8, base: u64, node: FirstNode) {
        let plain = FirstNode {
            accessed: false,
            ..node
        };
        self.used(
            node.table,
            Use::First {
                at,
                level,
                base,
                node: plain,
            },
        );
        for start in entries(level, base, (0, 0xfff)) {
            let start = canonical(stage, level, start);
            if touches(&self.range, level, start) {
                self.first_entry(at, stage, level, start, node);
            }
        }
    }

    pub(super) fn first_written(
        &mut self,
        at: usize,
        level: u8,
        base: u64,
        node: FirstNode,
        bytes: (u64, u64),
    ) {
        let Some((stage, _)) = self.prefetch.attachments[at].first() else {
            return;
        };
        for start in entries(level, base, bytes) {
            self.first_entry(at, &stage, level, canonical(&stage, level, start), node);
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
        let flags = ACCESSED | if stage.extended { EXTENDED_ACCESSED } else { 0 };
        let hpa = entry_at(node.table, level, start);
        for [raw] in self.states::<1>(hpa, stage.snooped) {
            let accessed = raw & flags == flags;
            if !(accessed || node.writable && stage.snooped && self.takes_stores(hpa, raw)) {
                // The update would fault: nothing is cached.
                continue;
            }
            let accessed = accessed && node.accessed;
            match first_stage::decode(raw, level, &self.unit.config) {
                Entry::Table { address, rights } => {
                    for (table, writable) in self.guest(stage, address) {
                        let child = FirstNode {
                            table,
                            rights: node.rights.and(rights),
                            writable,
                            accessed,
                        };
                        self.unit
                            .caches
                            .first
                            .add(stage.pages, level - 1, start, child);
                        self.first(at, stage, level - 1, start, child);
                    }
                }
                Entry::Page { address, rights } => {
                    let leaf = FirstLeaf {
                        output: address,
                        shift: 12 + 9 * (level - 1),
                        rights: node.rights.and(rights),
                        dirty: raw & DIRTY != 0,
                        entry: (hpa, raw),
                        writable: node.writable,
                    };
                    self.first_leaf(at, stage, start, &leaf, accessed);
                }
                Entry::NotPresent | Entry::Reserved => {}
            }
        }
    }

    fn first_leaf(
        &mut self,
        at: usize,
        stage: &FirstStage,
        start: u64,
        leaf: &FirstLeaf,
        accessed: bool,
    ) {
        let Some((_, entry)) = self.prefetch.attachments[at].first() else {
            return;
        };
        let mapping = first_only(&entry, leaf);
        let Some(second) = &stage.nested else {
            self.found(at, start, mapping, accessed);
            return;
        };
        let mut offset = 0;
        while offset < 1 << leaf.shift && self.spend() {
            let mut step = 0x1000;
            for under in self.host(second, leaf.output + offset) {
                let mut nested = mapping;
                nest(&mut nested, &entry, leaf.output + offset, &under);
                step = step.max(1 << nested.shift);
                if under.rights != second_stage::Rights::default() {
                    self.found(at, start + offset, nested, accessed);
                }
            }
            offset += step;
        }
    }

    /// Where a first-stage table may lie, and whether its flags may be set.
    fn guest(&self, stage: &FirstStage, table: u64) -> Vec<(u64, bool)> {
        let Some(second) = &stage.nested else {
            return vec![(table, true)];
        };
        let mut found = Vec::new();
        for leaf in self.host(second, table) {
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
}

/// The upper half: bits above the table's width repeat its highest one (§3.6).
fn canonical(stage: &FirstStage, level: u8, start: u64) -> u64 {
    let top = 12 + 9 * stage.levels;
    if level == stage.levels && bit(start, top - 1) {
        start | u64::MAX << top
    } else {
        start
    }
}
