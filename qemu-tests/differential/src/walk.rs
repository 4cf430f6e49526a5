//! The entries that a request meets, raw: what rules look at. Nothing is judged here.

use crate::entries::{PasidFirst, PasidLow, RidPasid};

/// One entry of a paging structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// 1 for an entry that maps 4 KiB.
    pub(crate) level: u8,
    /// Where it lies.
    pub(crate) at: u64,
    /// What it holds; `None` where no memory is.
    pub(crate) word: Option<u64>,
}

impl Entry {
    /// Whether it is a leaf, if it is anything.
    pub(crate) fn is_leaf(&self) -> bool {
        self.level == 1 || self.word.is_some_and(|word| word & 0x80 != 0)
    }
}

/// All of them, as far as one leads to the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Walk {
    /// Both words of the root entry.
    pub(crate) root: Option<[u64; 2]>,
    /// The context entry: two words, or four in scalable mode (else the last two are 0).
    pub(crate) context: Option<[u64; 4]>,
    /// The PASID that serves the request.
    pub(crate) pasid: u32,
    /// The PASID directory entry.
    pub(crate) directory: Option<u64>,
    /// The PASID table entry.
    pub(crate) pasid_entry: Option<[u64; 8]>,
    /// Levels of the table.
    pub(crate) levels: u8,
    /// Paging entries from the top.
    pub(crate) entries: Vec<Entry>,
}

/// What a walk depends on besides memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker {
    /// RTADDR.
    pub(crate) root: u64,
    /// The unit has a first stage and no second.
    pub(crate) first_stage: bool,
    /// RID_PASID is used.
    pub(crate) rid_pasid: bool,
    /// Host address width.
    pub(crate) bits: u8,
}

impl Walker {
    /// Follows the tables for a request.
    pub(crate) fn walk(
        &self,
        source: u16,
        address: u64,
        load: impl Fn(u64) -> Option<u64>,
    ) -> Walk {
        let mut walk = Walk::default();
        let _ = self.follow(source, address, &load, &mut walk);
        walk
    }

    fn follow(
        &self,
        source: u16,
        address: u64,
        load: &impl Fn(u64) -> Option<u64>,
        walk: &mut Walk,
    ) -> Option<()> {
        let scalable = self.root & 0xc00 == 0x400;
        let devfn = u64::from(source & 0xff);
        let root = words::<2>(load, self.page(self.root) + u64::from(source >> 8) * 16)?;
        walk.root = Some(root);
        let upper = scalable && devfn >= 0x80;
        let table = self.page(root[usize::from(upper)]);
        let (mut top, levels);
        if scalable {
            let context = words::<4>(load, table + (devfn & 0x7f) * 32)?;
            walk.context = Some(context);
            walk.pasid = if self.rid_pasid {
                RidPasid::from(context[1]).pasid()
            } else {
                0
            };
            let at = self.page(context[0]) + u64::from(walk.pasid >> 6) * 8;
            let directory = load(at)?;
            walk.directory = Some(directory);
            let at = self.page(directory) + u64::from(walk.pasid & 0x3f) * 64;
            let entry = words::<8>(load, at)?;
            walk.pasid_entry = Some(entry);
            (top, levels) = if self.first_stage {
                (PasidFirst::from(entry[2]).first() << 12, 4)
            } else {
                (self.page(entry[0]), 2 + PasidLow::from(entry[0]).width())
            };
        } else {
            let context = words::<2>(load, table + devfn * 16)?;
            walk.context = Some([context[0], context[1], 0, 0]);
            (top, levels) = (self.page(context[0]), 2 + (context[1] & 7) as u8);
        }
        walk.levels = levels;
        for level in (1..=levels.min(5)).rev() {
            let at = top + ((address >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
            let word = load(at);
            let entry = Entry { level, at, word };
            walk.entries.push(entry);
            if entry.is_leaf() {
                break;
            }
            top = self.page(word?);
        }
        Some(())
    }

    fn page(&self, word: u64) -> u64 {
        word & ((1 << self.bits) - 1) & !0xfff
    }
}

fn words<const N: usize>(load: &impl Fn(u64) -> Option<u64>, at: u64) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (place, word) in (at..).step_by(8).zip(&mut words) {
        *word = load(place)?;
    }
    Some(words)
}
