//! What caches hold by requester, PASID and page, in the sizes of pages: the IOTLB
//! (§6.2.4), device-TLBs, and the leaves of host permission tables (§6.2.6).

use super::{Caches, Several, Translation};
use rustc_hash::FxHashMap;

/// The IOTLB, or a device-TLB.
pub(crate) type Iotlb = PageMap<Translation>;

/// What is cached of one page.
pub(crate) trait Paged: Copy + PartialEq {
    /// Size of the page as a power of two.
    fn shift(&self) -> u8;

    /// The same for a smaller page, `offset` bytes into this one.
    fn part(&self, shift: u8, offset: u64) -> Self;

    /// An equal entry arrives.
    fn again(&mut self, _other: &Self) {}
}

/// Stands for "a request without PASID" where a key needs a number.
pub(crate) const NO_PASID: u32 = u32::MAX;

/// Page sizes that have a map of their own; a unity mapping is one page of 2^64 bytes.
const SHIFTS: [u8; 4] = [12, 21, 30, 64];

fn page(address: u64, shift: u8) -> u64 {
    if shift == 64 { 0 } else { address >> shift }
}

/// The entries that requests of one kind may hit.
#[derive(Clone)]
pub(crate) struct Space<T> {
    pub(crate) source: u16,
    /// [`NO_PASID`] for requests without one.
    pub(crate) pasid: u32,
    sizes: [FxHashMap<u64, Several<T>>; 4],
}

/// All of it.
#[derive(Clone)]
pub(crate) struct PageMap<T> {
    index: FxHashMap<(u16, u32), usize>,
    spaces: Vec<Space<T>>,
    entries: usize,
    /// What was removed and not asked for yet, if anybody will ask.
    buried: Option<Vec<Held<T>>>,
}

/// Requester, PASID or [`NO_PASID`], first address, what is held.
pub(crate) type Held<T> = (u16, u32, u64, T);

impl<T> Default for PageMap<T> {
    fn default() -> Self {
        Self {
            index: FxHashMap::default(),
            spaces: Vec::new(),
            entries: 0,
            buried: None,
        }
    }
}

impl<T: Paged> PageMap<T> {
    /// Every entry that the request may hit. The hit path: no allocation.
    #[inline]
    pub(crate) fn find(&self, source: u16, pasid: u32, address: u64) -> impl Iterator<Item = &T> {
        let space = self.index.get(&(source, pasid)).map(|at| &self.spaces[*at]);
        space.into_iter().flat_map(move |space| {
            SHIFTS
                .iter()
                .zip(&space.sizes)
                .filter(|(_, map)| !map.is_empty())
                .flat_map(move |(shift, map)| {
                    map.get(&page(address, *shift))
                        .map_or(&[][..], |entries| entries)
                })
        })
    }

    /// Adds an entry for the page that holds `address`; says whether it was new.
    pub(crate) fn add(&mut self, source: u16, pasid: u32, address: u64, entry: T) -> bool {
        let space = self.space(source, pasid);
        let Some(size) = SHIFTS.iter().position(|shift| *shift == entry.shift()) else {
            return false;
        };
        let entries = space.sizes[size]
            .entry(page(address, entry.shift()))
            .or_default();
        if let Some(held) = entries.iter_mut().find(|held| **held == entry) {
            held.again(&entry);
            return false;
        }
        entries.push(entry);
        self.entries += 1;
        true
    }

    fn space(&mut self, source: u16, pasid: u32) -> &mut Space<T> {
        let at = *self.index.entry((source, pasid)).or_insert_with(|| {
            self.spaces.push(Space {
                source,
                pasid,
                sizes: Default::default(),
            });
            self.spaces.len() - 1
        });
        &mut self.spaces[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// From now on remembers what is removed.
    pub(crate) fn bury(&mut self) {
        self.buried = Some(Vec::new());
    }

    /// What was removed since the last call.
    pub(crate) fn exhume(&mut self) -> Vec<Held<T>> {
        self.buried.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        if self.buried.is_some() {
            let all: Vec<Held<T>> = self
                .iter()
                .map(|(source, pasid, address, entry)| (source, pasid, address, *entry))
                .collect();
            self.buried.get_or_insert_default().extend(all);
        }
        for space in &mut self.spaces {
            space.sizes.iter_mut().for_each(FxHashMap::clear);
        }
        self.entries = 0;
    }

    /// Drops every entry that `gone` names.
    pub(crate) fn remove(&mut self, gone: impl Fn(&T) -> bool) {
        let mut left = 0;
        for space in &mut self.spaces {
            let (source, pasid) = (space.source, space.pasid);
            for (shift, map) in SHIFTS.iter().zip(&mut space.sizes) {
                map.retain(|page, entries| {
                    let address = if *shift == 64 { 0 } else { page << shift };
                    entries.retain(|entry| {
                        let goes = gone(entry);
                        if let Some(buried) = self.buried.as_mut().filter(|_| goes) {
                            buried.push((source, pasid, address, *entry));
                        }
                        !goes
                    });
                    left += entries.len();
                    !entries.is_empty()
                });
            }
        }
        self.entries = left;
    }

    /// Drops the entries named by `gone` for addresses in `first..=last`. A page that lies
    /// only partly inside is broken up: hardware may hold its fragments one by one
    /// (§6.5.3.2), and those outside stay.
    pub(crate) fn remove_range(&mut self, first: u64, last: u64, gone: impl Fn(&T) -> bool) {
        for space in &mut self.spaces {
            for size in 0..3 {
                remove_size(space, size, first, last, &gone, &mut self.buried);
            }
        }
        self.count();
    }

    /// Drops the entries for addresses in `range` of the requesters and PASIDs that `whose`
    /// names, as a device-TLB does.
    pub(crate) fn remove_space(&mut self, whose: impl Fn(u16, u32) -> bool, range: super::Range) {
        for space in self
            .spaces
            .iter_mut()
            .filter(|space| whose(space.source, space.pasid))
        {
            for size in 0..3 {
                remove_size(space, size, range.first, range.last, &|_| true, &mut None);
            }
            if range.first == 0 && range.last == u64::MAX {
                space.sizes[3].clear();
            }
        }
        self.count();
    }

    fn count(&mut self) {
        self.entries = self
            .spaces
            .iter()
            .flat_map(|space| &space.sizes)
            .flat_map(|map| map.values())
            .map(Several::len)
            .sum();
    }

    /// Every entry: requester, PASID or [`NO_PASID`], first address, what is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u32, u64, &T)> {
        self.spaces.iter().flat_map(|space| {
            SHIFTS
                .iter()
                .zip(&space.sizes)
                .flat_map(move |(shift, map)| {
                    map.iter().flat_map(move |(page, entries)| {
                        let address = if *shift == 64 { 0 } else { page << shift };
                        entries
                            .iter()
                            .map(move |entry| (space.source, space.pasid, address, entry))
                    })
                })
        })
    }
}

fn remove_size<T: Paged>(
    space: &mut Space<T>,
    size: usize,
    first: u64,
    last: u64,
    gone: &impl Fn(&T) -> bool,
    buried: &mut Option<Vec<Held<T>>>,
) {
    let shift = SHIFTS[size];
    let (low, high) = (first >> shift, last >> shift);
    if space.sizes[size].is_empty() {
        return;
    }
    let pages: Vec<u64> = if high - low < space.sizes[size].len() as u64 {
        (low..=high)
            .filter(|page| space.sizes[size].contains_key(page))
            .collect()
    } else {
        space.sizes[size]
            .keys()
            .copied()
            .filter(|page| (low..=high).contains(page))
            .collect()
    };
    for page in pages {
        let Some(entries) = space.sizes[size].get_mut(&page) else {
            continue;
        };
        let mut removed = Several::new();
        entries.retain(|entry| {
            let goes = gone(entry);
            if goes {
                removed.push(*entry);
            }
            !goes
        });
        if entries.is_empty() {
            space.sizes[size].remove(&page);
        }
        for entry in removed {
            if let Some(buried) = buried {
                buried.push((space.source, space.pasid, page << shift, entry));
            }
            keep_fragments(space, size, page << shift, &entry, first, last);
        }
    }
}

/// Puts back the parts of a large page that lie outside `first..=last`, one size smaller;
/// the part that is cut in two goes on to the next smaller size.
fn keep_fragments<T: Paged>(
    space: &mut Space<T>,
    size: usize,
    start: u64,
    entry: &T,
    first: u64,
    last: u64,
) {
    if size == 0 {
        return;
    }
    let end = start + ((1 << SHIFTS[size]) - 1);
    if first <= start && end <= last {
        return;
    }
    let shift = SHIFTS[size - 1];
    for part in (start..=end).step_by(1 << shift) {
        let part_end = part + ((1 << shift) - 1);
        let fragment = entry.part(shift, part - start);
        if last < part || part_end < first {
            Caches::add(
                space.sizes[size - 1].entry(part >> shift).or_default(),
                fragment,
            );
        } else {
            keep_fragments(space, size - 1, part, &fragment, first, last);
        }
    }
}
