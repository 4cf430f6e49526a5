//! Who writes root, context and PASID table entries, and how (§6.2.2.1, §6.2.3.1).
//!
//! Rules that every function here keeps:
//! - What hardware cannot reach yet is filled by plain stores; the store that makes it
//!   reachable is a publish, which comes last.
//! - A present entry is changed by one store of 128 bits that holds its pointer, its type
//!   and its domain id, so that at every instant it is whole. What does not fit into 128
//!   bits is written into a copy of the PASID table, which one store to the directory puts
//!   in place of the old one.
//! - An entry is taken away by one such store of zeroes. What lies beyond those 128 bits is
//!   zeroed only after hardware has forgotten the entry, since it may still be fetching it
//!   in pieces.
//! - All memory is allocated before the first store that hardware can see.

mod directory;
mod entry;
mod inspect;
mod standing;

pub(crate) use entry::Target;

use crate::abilities::Abilities;
use crate::driver::Standing;
use crate::explain::Visited;
use crate::tables::context::{ContextLow, ScalableContext0, ScalableContext1};
use crate::tables::frame_number;
use crate::tables::root::RootEntry;
use alloc::vec::Vec;
use directory::Directory;
use iommu_core::{Coherence, Frame, Hpa, Order, OutOfFrames, Pasid, Platform, SourceId};

/// Context tables that a root table can lead to: in scalable mode two for each bus.
const CONTEXT_TABLES: usize = 512;

/// Root, context and PASID tables of one unit.
#[derive(Debug)]
pub(crate) struct Tables {
    abilities: Abilities,
    scalable: bool,
    root: Frame,
    contexts: Vec<Option<Frame>>,
    /// Sorted by source.
    directories: Vec<(SourceId, Directory)>,
    /// Sources that may do more than send untranslated requests, sorted.
    standing: Vec<(SourceId, Standing)>,
}

/// What writing an entry did.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Change {
    /// Every request saw the old or the new entry, whole.
    pub(crate) hitless: bool,
    /// The PASID table was replaced by a copy: cached entries of other PASIDs stem from
    /// memory that is given up.
    pub(crate) table_replaced: bool,
    /// A context table was linked to the root table.
    pub(crate) root_grew: bool,
    /// The context entry became present, or leads to another directory.
    pub(crate) context_changed: bool,
    /// A table that hardware may be reading until it is told of the change.
    pub(crate) retired: Option<Frame>,
}

/// Memory could not be had; nothing was changed.
fn no_memory<E>(_: E) -> OutOfFrames {
    OutOfFrames { order: Order::PAGE }
}

impl Tables {
    /// An empty root table, by which every request is refused.
    pub(crate) fn new<P: Platform>(
        platform: &P,
        abilities: Abilities,
        scalable: bool,
    ) -> Result<Self, OutOfFrames> {
        let mut contexts = Vec::new();
        contexts
            .try_reserve_exact(CONTEXT_TABLES)
            .map_err(no_memory)?;
        contexts.resize_with(CONTEXT_TABLES, || None);
        Ok(Self {
            abilities,
            scalable,
            root: platform.allocate(Order::PAGE)?,
            contexts,
            directories: Vec::new(),
            standing: Vec::new(),
        })
    }

    /// Gives all memory back. Hardware must not know it (any more).
    pub(crate) fn dispose<P: Platform>(self, platform: &P) {
        platform.release(self.root);
        for context in self.contexts.into_iter().flatten() {
            platform.release(context);
        }
        for (_, directory) in self.directories {
            directory.dispose(platform);
        }
    }

    /// Where the root table lies.
    pub(crate) fn root(&self) -> Hpa {
        self.root.hpa()
    }

    /// How hardware reads these tables.
    fn coherence(&self) -> Coherence {
        self.abilities.table_coherence()
    }

    /// Makes the requests of `source`, those with `pasid` or those without, go to `target`.
    pub(crate) fn set<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Option<Pasid>,
        target: &Target,
    ) -> Result<Change, OutOfFrames> {
        if self.scalable {
            self.set_pasid_entry(platform, source, pasid.unwrap_or(Pasid::ZERO), target)
        } else {
            self.set_context_entry(platform, source, target)
        }
    }

    fn set_context_entry<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        target: &Target,
    ) -> Result<Change, OutOfFrames> {
        let standing = self.standing_of(source);
        let [low, high] = target.context_entry(&self.abilities, standing.translations);
        let words = [
            ContextLow::from_bits(low)
                .with_fpd(standing.silenced)
                .into_bits(),
            high,
        ];
        let mut change = Change::default();
        if words == [0, 0] && self.context(source).is_none() {
            return Ok(change);
        }
        change.root_grew = self.ensure_context_table(platform, source)?;
        let index = self.context_cell(source);
        if let Some(table) = self.context(source) {
            let was_present = is_present(table.load(index));
            platform.publish128(table, index, words, self.coherence());
            change.hitless = was_present && is_present(Some(words[0]));
            change.context_changed = true;
        }
        Ok(change)
    }

    fn set_pasid_entry<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Pasid,
        target: &Target,
    ) -> Result<Change, OutOfFrames> {
        let entry = target.pasid_entry(&self.abilities);
        let at = self.find(source);
        if !entry.word0.p() && at.is_err() {
            return Ok(Change::default());
        }
        let coherence = self.coherence();
        let position = match at {
            Ok(position) => position,
            Err(position) => {
                self.directories.try_reserve(1).map_err(no_memory)?;
                position
            }
        };
        // What the device has now, or what it will have once all memory is there.
        let fresh = match at {
            Ok(_) => None,
            Err(_) => Some(Directory::new(platform, pasid)?),
        };
        let result = match fresh {
            Some(mut directory) => {
                match self.install(platform, source, pasid, entry, &mut directory) {
                    Ok(change) => {
                        self.directories.insert(position, (source, directory));
                        Ok(change)
                    }
                    Err(error) => {
                        directory.dispose(platform);
                        Err(error)
                    }
                }
            }
            None => match self.directories.get_mut(position) {
                Some((_, directory)) => directory.set(platform, pasid, entry, coherence),
                None => Ok(Change::default()),
            },
        }?;
        let mut change = result;
        // A source that was cut off comes back with the first entry that it is given.
        let context = self.context(source);
        let cut_off = !is_present(context.and_then(|t| t.load(self.context_cell(source))));
        if (change.context_changed && at.is_ok()) || (cut_off && entry.word0.p()) {
            self.publish_context(platform, source, position);
            change.context_changed = true;
        }
        Ok(change)
    }

    /// A device's first entry: filled out of hardware's sight, then linked.
    fn install<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Pasid,
        entry: crate::tables::pasid::PasidEntry,
        directory: &mut Directory,
    ) -> Result<Change, OutOfFrames> {
        let mut change = directory.set(platform, pasid, entry, self.coherence())?;
        change.root_grew = self.ensure_context_table(platform, source)?;
        self.write_scalable_context(platform, source, directory.pointer(), 0);
        change.context_changed = true;
        change.hitless = false;
        Ok(change)
    }

    fn publish_context<P: Platform>(&self, platform: &P, source: SourceId, position: usize) {
        if let Some((_, directory)) = self.directories.get(position) {
            self.write_scalable_context(
                platform,
                source,
                directory.pointer(),
                directory.rid_pasid(),
            );
        }
    }

    /// Writes words 0 and 1 of a scalable context entry; 2 and 3 are reserved.
    fn write_scalable_context<P: Platform>(
        &self,
        platform: &P,
        source: SourceId,
        (directory, pdts): (Hpa, u8),
        rid_pasid: u32,
    ) {
        let standing = self.standing_of(source);
        let word0 = ScalableContext0::new()
            .with_p(true)
            .with_fpd(standing.silenced)
            .with_dte(standing.translations)
            .with_pre(standing.page_requests)
            .with_paside(self.abilities.ecap.pasid())
            .with_pdts(pdts & 7)
            .with_pasiddirptr(frame_number(directory));
        let word1 = ScalableContext1::new().with_rid_pasid(rid_pasid & 0xf_ffff);
        if let Some(table) = self.context(source) {
            platform.publish128(
                table,
                self.context_cell(source),
                [word0.into_bits(), word1.into_bits()],
                self.coherence(),
            );
        }
    }

    /// Writes RID_PASID of a source's context entry. Says whether there is one.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn set_rid_pasid<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Pasid,
    ) -> bool {
        let Ok(position) = self.find(source) else {
            return false;
        };
        if let Some((_, directory)) = self.directories.get_mut(position) {
            directory.set_rid_pasid(pasid);
        }
        self.publish_context(platform, source, position);
        true
    }

    /// After hardware has forgotten an entry that was taken away: zeroes the rest of it.
    /// Does nothing if the entry is in use again.
    pub(crate) fn finish_removal<P: Platform>(
        &self,
        platform: &P,
        source: SourceId,
        pasid: Option<Pasid>,
    ) {
        if let Some(directory) = self.directory(source) {
            directory.finish_removal(platform, pasid.unwrap_or(Pasid::ZERO), self.coherence());
        }
    }

    /// Cuts a source off whole, whatever its entries say: its context entry is taken away.
    /// Says whether there was one.
    pub(crate) fn isolate<P: Platform>(&mut self, platform: &P, source: SourceId) -> bool {
        self.keep_standing(source, |standing| Standing {
            silenced: standing.silenced,
            ..Standing::default()
        });
        let index = self.context_cell(source);
        let Some(table) = self.context(source) else {
            return false;
        };
        let present = is_present(table.load(index));
        let words = [self.absent_context(source), 0];
        platform.publish128(table, index, words, self.coherence());
        present
    }

    /// Links a context table for `source` to the root table if there is none. Says whether
    /// it did.
    fn ensure_context_table<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
    ) -> Result<bool, OutOfFrames> {
        let index = self.context_table(source);
        let coherence = self.coherence();
        let cell = self.root_cell(source);
        let Some(slot) = self.contexts.get_mut(index) else {
            return Ok(false);
        };
        if slot.is_some() {
            return Ok(false);
        }
        let table = platform.allocate(Order::PAGE)?;
        let entry = RootEntry::new()
            .with_p(true)
            .with_ctp(frame_number(table.hpa()));
        *slot = Some(table);
        platform.publish64(&self.root, cell, entry.into_bits(), coherence);
        Ok(true)
    }

    /// Which of the context tables holds the entry of `source`.
    fn context_table(&self, source: SourceId) -> usize {
        let upper = self.scalable && source.devfn() >= 0x80;
        usize::from(source.bus()) << 1 | usize::from(upper)
    }

    /// The cell of the root table that leads there: 16 bytes for each bus.
    fn root_cell(&self, source: SourceId) -> usize {
        self.context_table(source)
    }

    /// The first cell of the entry within the context table: 16 bytes for each function in
    /// legacy mode, 32 in scalable mode.
    fn context_cell(&self, source: SourceId) -> usize {
        let devfn = usize::from(source.devfn());
        if self.scalable {
            (devfn & 0x7f) << 2
        } else {
            devfn << 1
        }
    }

    /// The words of the root entry, or of its half, that leads to a source's context.
    pub(crate) fn root_entry(&self, source: SourceId) -> Visited {
        let cell = self.root_cell(source);
        let mut words = [0; 8];
        words[0] = self.root.load(cell).unwrap_or(0);
        if !self.scalable {
            words[1] = self.root.load(cell | 1).unwrap_or(0);
        }
        Visited {
            at: cell_address(&self.root, cell),
            index: u16::from(source.bus()),
            words,
        }
    }

    /// The words of a source's context entry, if there is a table for it.
    pub(crate) fn context_entry(&self, source: SourceId) -> Option<Visited> {
        let table = self.context(source)?;
        let cell = self.context_cell(source);
        let count = if self.scalable { 4 } else { 2 };
        Some(Visited {
            at: cell_address(table, cell),
            index: u16::from(source.devfn()) & if self.scalable { 0x7f } else { 0xff },
            words: words_at(table, cell, count),
        })
    }

    /// The words of a PASID's directory entry and of its table entry, as far as there are
    /// tables for them.
    pub(crate) fn pasid_entries(
        &self,
        source: SourceId,
        pasid: Pasid,
    ) -> (Option<Visited>, Option<Visited>) {
        match self.directory(source) {
            None => (None, None),
            Some(directory) => directory.entries(pasid),
        }
    }

    fn context(&self, source: SourceId) -> Option<&Frame> {
        self.contexts
            .get(self.context_table(source))
            .and_then(Option::as_ref)
    }

    fn find(&self, source: SourceId) -> Result<usize, usize> {
        self.directories
            .binary_search_by_key(&source, |(owner, _)| *owner)
    }

    fn directory(&self, source: SourceId) -> Option<&Directory> {
        let position = self.find(source).ok()?;
        self.directories
            .get(position)
            .map(|(_, directory)| directory)
    }
}

/// Where a cell of a table lies.
fn cell_address(table: &Frame, cell: usize) -> Hpa {
    Hpa::new(table.hpa().as_u64() | ((cell as u64) << 3))
}

/// Up to eight cells of a table.
fn words_at(table: &Frame, cell: usize, count: usize) -> [u64; 8] {
    let mut words = [0; 8];
    for (offset, word) in words.iter_mut().enumerate().take(count) {
        *word = table.load(cell.saturating_add(offset)).unwrap_or(0);
    }
    words
}

/// P is bit 0 of every entry.
fn is_present(word: Option<u64>) -> bool {
    word.is_some_and(|word| ContextLow::from_bits(word).p())
}
