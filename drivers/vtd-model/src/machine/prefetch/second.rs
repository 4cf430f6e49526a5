//! Exploring second-stage tables.

use super::attachment::Kind;
use super::sweep::Sweep;
use super::{Use, entries, entry_at, touches};
use crate::caches::{Pages, SecondNode};
use crate::choice::{Chooser, Explorer};
use crate::remapping::{Effects, SecondLeaf, SecondStage};
use crate::tables::second_stage::{self, ACCESSED, DIRTY, Entry, Rights};

impl Sweep<'_> {
    pub(super) fn explore_second(&mut self, at: usize, stage: &SecondStage) {
        if self.unit.config.caching_mode {
            let attachment = self.prefetch.attachments[at];
            self.unit
                .caches
                .absent
                .meets(attachment.source, attachment.key, stage.domain);
        }
        self.second(at, stage, stage.levels, 0, root(stage));
        let held = self
            .unit
            .caches
            .second
            .iter()
            .filter(|(pages, ..)| pages.domain == stage.domain);
        let held: Vec<_> = held
            .map(|(_, level, base, node)| (level, base, *node))
            .collect();
        for (level, base, node) in held {
            if touches_table(self, level, base) {
                self.second(at, stage, level, base, node);
            }
        }
    }

    fn second(&mut self, at: usize, stage: &SecondStage, level: u8, base: u64, node: SecondNode) {
        let plain = SecondNode {
            accessed: false,
            ..node
        };
        self.used(
            node.table,
            Use::Second {
                at,
                level,
                base,
                node: plain,
            },
        );
        for start in entries(level, base, (0, 0xfff)) {
            if start > self.unit.config.second_stage_limit(stage.levels) {
                break;
            }
            if touches(&self.range, level, start) {
                self.second_entry(at, stage, level, start, node);
            }
        }
    }

    pub(super) fn second_written(
        &mut self,
        at: usize,
        level: u8,
        base: u64,
        node: SecondNode,
        bytes: (u64, u64),
    ) {
        let Some(stage) = self.prefetch.attachments[at].second(self.unit.snoops()) else {
            return;
        };
        for start in entries(level, base, bytes) {
            if start <= self.unit.config.second_stage_limit(stage.levels) {
                self.second_entry(at, &stage, level, start, node);
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
        let hpa = entry_at(node.table, level, start);
        for [raw] in self.states::<1>(hpa, stage.snooped) {
            let accessed = !stage.flags || raw & ACCESSED != 0;
            if !(accessed || stage.snooped && self.takes_stores(hpa, raw)) {
                // The update would fault: nothing is cached.
                continue;
            }
            let accessed = accessed && node.accessed;
            match second_stage::decode(raw, level, &self.unit.config, self.unit.latched.io_rights())
            {
                Entry::Table { address, rights } => {
                    let child = SecondNode {
                        table: address,
                        rights: node.rights.and(rights),
                        accessed,
                    };
                    self.unit.caches.second.add(
                        Pages::second(stage.domain),
                        level - 1,
                        start,
                        child,
                    );
                    self.second(at, stage, level - 1, start, child);
                }
                Entry::Page {
                    address,
                    rights,
                    snoop,
                } => {
                    let leaf = SecondLeaf {
                        output: address,
                        shift: 12 + 9 * (level - 1),
                        rights: node.rights.and(rights),
                        snoop,
                        dirty: !stage.flags || raw & DIRTY != 0,
                        entry: (hpa, raw),
                    };
                    self.second_leaf(at, start, &leaf, accessed);
                }
                Entry::NotPresent | Entry::Reserved if self.unit.config.caching_mode => {
                    let last = start | ((1 << (12 + 9 * (level - 1))) - 1);
                    self.unit
                        .caches
                        .absent
                        .insert(stage.domain, level, start, last);
                }
                Entry::NotPresent | Entry::Reserved => {}
            }
        }
    }

    fn second_leaf(&mut self, at: usize, start: u64, leaf: &SecondLeaf, accessed: bool) {
        if leaf.rights == Rights::default() {
            return;
        }
        let mapping = match &self.prefetch.attachments[at].kind {
            Kind::Legacy(_) => leaf.mapping(None),
            Kind::Scalable(entry) => leaf.mapping(Some(entry)),
        };
        self.found(at, start, mapping, accessed);
    }

    /// Second-stage tables that nested walks pass through: cached too, by domain.
    pub(super) fn below(&mut self, at: usize, stage: &SecondStage) {
        self.below_table(at, stage, stage.levels, 0, root(stage));
    }

    fn below_table(
        &mut self,
        at: usize,
        stage: &SecondStage,
        level: u8,
        base: u64,
        node: SecondNode,
    ) {
        self.used(node.table, Use::Below { at });
        if level == 1 {
            return;
        }
        for start in entries(level, base, (0, 0xfff)) {
            if start > self.unit.config.second_stage_limit(stage.levels) || !self.spend() {
                break;
            }
            for [raw] in self.states::<1>(entry_at(node.table, level, start), stage.snooped) {
                let entry = second_stage::decode(
                    raw,
                    level,
                    &self.unit.config,
                    self.unit.latched.io_rights(),
                );
                if let Entry::Table { address, rights } = entry {
                    let accessed = node.accessed && (!stage.flags || raw & ACCESSED != 0);
                    let child = SecondNode {
                        table: address,
                        rights: node.rights.and(rights),
                        accessed,
                    };
                    self.unit.caches.second.add(
                        Pages::second(stage.domain),
                        level - 1,
                        start,
                        child,
                    );
                    self.below_table(at, stage, level - 1, start, child);
                }
            }
        }
    }

    /// Every host page that a guest address may come out at.
    pub(super) fn host(&self, second: &SecondStage, address: u64) -> Vec<SecondLeaf> {
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
            leaves.extend(walker.second(second, address));
            if !explorer.advance() {
                return leaves;
            }
        }
    }
}

fn root(stage: &SecondStage) -> SecondNode {
    SecondNode {
        table: stage.table,
        rights: Rights::ALL,
        accessed: true,
    }
}

fn touches_table(sweep: &Sweep<'_>, level: u8, base: u64) -> bool {
    touches(&sweep.range, level + 1, base)
}
