//! Paging entries, and what is decided around them.

use std::collections::BTreeMap;

use vtd_model::Condition;

use super::{Kind, Rule, Versions, View, change};
use crate::answer::Answer;
use crate::bench::{Emulator, ROM_TABLE, Rig};
use crate::case::{Case, Step};
use crate::entries::{First, PasidDomain, PasidLow, Second};
use crate::verdict;
use crate::walk::{Entry, Walker};

/// The walk of a request that no cache answers and whose tables are read at all.
fn entries<'a>(view: &View<'a>) -> Option<&'a [Entry]> {
    view.dma().filter(|_| view.is_fresh())?;
    let structural = |condition: &Condition| {
        // Names of table 30: those of roots, contexts and PASID entries.
        matches!(
            &condition.name()[..3],
            "LRT" | "LCT" | "SRT" | "SCT" | "SPD" | "SPT"
        ) && *condition != Condition::Lct43
    };
    let readable = !view.told.conditions.iter().any(structural);
    let paged = match view.told.walk.pasid_entry {
        Some([low, ..]) => PasidLow::from(low).kind() != 4,
        None => view.told.walk.context?[0] & 0xc == 0,
    };
    (readable && paged).then_some(&view.told.walk.entries[..])
}

/// Reason of an unreadable table.
fn read_error(view: &View<'_>, entry: &Entry) -> u8 {
    match (view.case.rig, entry.level == view.told.walk.levels) {
        (Rig::First, true) => 0x73,
        (Rig::First, false) => 0x70,
        (_, true) => 0x03,
        (_, false) => 0x07,
    }
}

pub(super) const ALL_ONES: Rule = Rule {
    name: "all-ones",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "an entry of ones is QEMU's sign that no memory answered; it holds reserved bits (0Ch, 7Ah, 72h, §7.1.3)",
    predict: |view| {
        let entries = entries(view)?;
        let at = entries
            .iter()
            .position(|entry| entry.word == Some(u64::MAX))?;
        let reserved = [Condition::Lss2, Condition::Sss3, Condition::Sfs3];
        view.is_only(&reserved)
            .then(|| view.fault(read_error(view, &entries[at]), view.silences()))?
    },
};

pub(super) const FIRST_STAGE_WIDTH: Rule = Rule {
    name: "first-stage-width",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "the first stage is as wide as FSPM says (§3.6); QEMU takes AW",
    predict: |view| {
        entries(view).filter(|_| view.case.rig == Rig::First)?;
        let (_, address, _) = view.dma()?;
        let width = PasidLow::from(view.told.walk.pasid_entry?[0]).width();
        let bits = (30 + 9 * u32::from(width)).min(48);
        let extended = ((address << (64 - bits)) as i64 >> (64 - bits)) as u64;
        let canonical = ((address << 16) as i64 >> 16) as u64 == address;
        (canonical && extended != address).then(|| view.fault(0x80, view.silences()))?
    },
};

pub(super) const UNCUT_ADDRESS: Rule = Rule {
    name: "uncut-address",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "FI has no bits above the largest width (§11.4.7.6); QEMU records them",
    predict: |view| {
        let (_, address, _) = view.dma()?;
        let beyond = view.is_only(&[Condition::Lgn11, Condition::Sgn5]);
        let applies = beyond && view.is_fresh() && address >> view.case.rig.bits() != 0;
        applies.then(|| view.fault(0x04, view.silences()))?
    },
};

pub(super) const PASS_THROUGH_LIMIT: Rule = Rule {
    name: "pass-through-limit",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "pass-through ends at the host address width (LGN.1.3, SGN.4.2, §7.1.3); QEMU lets the request go nowhere",
    predict: |view| {
        let beyond = view.is_only(&[Condition::Lgn13, Condition::Sgn42]);
        (beyond && view.is_fresh()).then_some(Answer::Blocked(None))
    },
};

pub(super) const ORDER_OF_CHECKS: Rule = Rule {
    name: "order-of-checks",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "QEMU tests the rights of each entry before its reserved bits and before the next table (§3.7, §7.1.3: at the end)",
    predict: |view| {
        let entries = entries(view)?;
        // The model must see just the fault that stands behind the missing right.
        let behind = view.fault(
            first_fault(view, entries, Order::RightsLast)?,
            view.silences(),
        )?;
        let first = first_fault(view, entries, Order::RightsFirst)?;
        let answer = view.fault(first, view.silences())?;
        (view.told.answers == [behind] && answer != behind).then_some(answer)
    },
};

/// When the rights of an entry are tested.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Before the entry's reserved bits: QEMU.
    RightsFirst,
    /// After the walk: they are left out.
    RightsLast,
}

/// The first fault of the entries.
fn first_fault(view: &View<'_>, entries: &[Entry], order: Order) -> Option<u8> {
    let (_, _, write) = view.dma()?;
    entries.iter().find_map(|entry| match entry.word {
        None => Some(read_error(view, entry)),
        Some(word) if view.case.rig == Rig::First => {
            first_stage_fault(view, entry, word, write, order)
        }
        Some(word) => second_stage_fault(view, entry, word, write, order),
    })
}

fn first_stage_fault(
    view: &View<'_>,
    entry: &Entry,
    word: u64,
    write: bool,
    order: Order,
) -> Option<u8> {
    let first = First::from(word);
    let early = order == Order::RightsFirst;
    if !first.present() {
        return Some(0x71);
    }
    if early && !first.user() {
        return Some(0x81);
    }
    if early && write && !first.write() {
        return Some(0x85);
    }
    if word & first_reserved(entry, view.case.rig.bits()) != 0 {
        return Some(0x72);
    }
    (!first.user()).then_some(0x81)
}

fn second_stage_fault(
    view: &View<'_>,
    entry: &Entry,
    word: u64,
    write: bool,
    order: Order,
) -> Option<u8> {
    let second = Second::from(word);
    let missing = if write {
        !second.write()
    } else {
        !second.read()
    };
    let absent = !second.write() && !second.read();
    if absent || missing && order == Order::RightsFirst {
        return Some(if write { 0x05 } else { 0x06 });
    }
    let rig = view.case.rig;
    let reserved = second_reserved(entry, rig.bits(), rig.is_scalable());
    (word & reserved != 0).then_some(0x0c)
}

fn above_host(bits: u8) -> u64 {
    (1 << 52) - (1 << bits)
}

fn offset_of(entry: &Entry, lowest: u32) -> u64 {
    if entry.level > 1 && entry.is_leaf() {
        (1 << (12 + 9 * u32::from(entry.level - 1))) - (1 << lowest)
    } else {
        0
    }
}

fn first_reserved(entry: &Entry, bits: u8) -> u64 {
    let large = if entry.level == 4 { 0x80 } else { 0 };
    above_host(bits)
        | large
        | if entry.level == 4 {
            0
        } else {
            offset_of(entry, 13)
        }
}

fn second_reserved(entry: &Entry, bits: u8, scalable: bool) -> u64 {
    const MERGED: u64 = 1 << 62;
    let large = if entry.level == 4 { 0x80 } else { 0 };
    let snoop = if scalable && entry.is_leaf() {
        0
    } else {
        0x800
    };
    above_host(bits)
        | MERGED
        | snoop
        | large
        | if entry.level == 4 {
            0
        } else {
            offset_of(entry, 12)
        }
}

pub(super) const WHOLE_LARGE_PAGE: Rule = Rule {
    name: "whole-large-page",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "a request that comes out in the interrupt range is blocked (§3.15); QEMU blocks the large page around it",
    predict: |view| {
        let entries = entries(view)?;
        let leaf = entries
            .last()
            .filter(|entry| entry.level > 1 && entry.is_leaf())?;
        let passes =
            view.told.answers.iter().any(|answer| {
                matches!(answer, Answer::Memory(_)) || *answer == Answer::Blocked(None)
            });
        let size = 1 << (12 + 9 * u32::from(leaf.level - 1));
        let start = leaf.word? & ((1 << view.case.rig.bits()) - 1) & !(size - 1);
        let overlaps = start <= 0xfeef_ffff && start + size > 0xfee0_0000;
        let reason = if view.case.rig.is_scalable() {
            0x87
        } else {
            0x0e
        };
        let applies = passes && overlaps && view.told.conditions.is_empty();
        applies.then(|| view.fault(reason, view.silences()))?
    },
};

pub(super) const SNOOP_BIT: Rule = Rule {
    name: "snoop-bit",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "SNP of a leaf is reserved without ECAP.SC (§9.8); QEMU in scalable mode lets it pass",
    predict: |view| {
        let leaf = *entries(view)?.last().filter(|leaf| {
            leaf.is_leaf() && view.case.rig.is_scalable() && view.is_only(&[Condition::Sss3])
        })?;
        leaf.word.filter(|word| word & 0x800 != 0)?;
        view.retold(|case| change(case, leaf.at, |word| word & !0x800))
    },
};

pub(super) const UNSNOOPED_FLAGS: Rule = Rule {
    name: "unsnooped-flags",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "flags are set by snooping walks only (90h without PWSNP, §3.6.2); QEMU sets them always",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Sfs9]))?;
        let at = (view.told.walk.directory? & !0xfff) + u64::from(view.told.walk.pasid & 0x3f) * 64;
        view.retold(|case| {
            change(case, at + 8, |word| {
                PasidDomain::from(word).with_walk_snoop(true).into()
            });
        })
    },
};

pub(super) const ANY_FLAG_IS_ENOUGH: Rule = Rule {
    name: "any-flag-is-enough",
    kind: Kind::Bug,
    versions: Versions::Both,
    reason: "a write needs A and D (§3.6.2); QEMU sets neither if it finds either",
    predict: |view| {
        let (_, address, write) = view.dma()?;
        let leaf = entries(view)?.last().filter(|leaf| {
            write
                && view.is_only(&[Condition::Sfs10])
                && (ROM_TABLE..ROM_TABLE + 0x1000).contains(&leaf.at)
        })?;
        let first = First::from(leaf.word?);
        let one = first.accessed() != first.dirty();
        one.then_some(Answer::Memory(first.page() << 12 | address & 0xfff))
    },
};

/// The same of a leaf in RAM: it stays as it was, where the model has set the other flag. A read
/// needs A alone, and gets it.
pub(super) fn flags_left(emulator: &Emulator, case: &Case, at: u64, model: u64) -> Option<u64> {
    let start = *case.memory.get(&at)?;
    let (before, after) = (First::from(start), First::from(model));
    let one = before.accessed() != before.dirty();
    let both = after.accessed() && after.dirty();
    let same = u64::from(before.with_accessed(true).with_dirty(true)) == model;
    let left = case.rig == Rig::First && one && both && same;
    let read = before.dirty() && is_read_by(emulator, case, at);
    (left && !read).then_some(start)
}

/// Whether a device reads by this leaf.
fn is_read_by(emulator: &Emulator, case: &Case, leaf: u64) -> bool {
    let walker = Walker::of(emulator, case);
    let load = |at| Some(case.memory.get(&at).copied().unwrap_or(0));
    case.steps.iter().any(|step| match *step {
        Step::Dma {
            device,
            write: false,
            address,
        } => {
            let walk = walker.walk(device.source(), address, load);
            walk.entries.last().is_some_and(|entry| entry.at == leaf)
        }
        _ => false,
    })
}

/// What tables hold when walks that do not snoop have set their flags: as with PWSNP.
pub(super) fn flags_set(emulator: &Emulator, case: &Case) -> BTreeMap<u64, u64> {
    let snoops = |word: u64| PasidDomain::from(word).with_walk_snoop(true);
    let mut snooping = case.clone();
    let domains: Vec<u64> = domain_words(emulator, case).collect();
    for at in &domains {
        change(&mut snooping, *at, |word| snoops(word).into());
    }
    let mut tables =
        verdict::tell(emulator, &snooping).map_or_else(|_| BTreeMap::new(), |it| it.tables);
    tables.retain(|at, _| !domains.contains(at));
    tables
}

/// Second words of the PASID entries that the case's requests use.
fn domain_words<'a>(emulator: &'a Emulator, case: &'a Case) -> impl Iterator<Item = u64> + 'a {
    let walker = Walker::of(emulator, case);
    case.steps.iter().filter_map(move |step| {
        let Step::Dma {
            device, address, ..
        } = *step
        else {
            return None;
        };
        let load = |at| Some(case.memory.get(&at).copied().unwrap_or(0));
        let walk = walker.walk(device.source(), address, load);
        Some((walk.directory? & !0xfff) + u64::from(walk.pasid & 0x3f) * 64 + 8)
    })
}
