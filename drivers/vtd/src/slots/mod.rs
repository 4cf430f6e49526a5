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

mod context;
mod directory;
mod entry;
mod inspect;
mod look_up;
mod standing;

pub(crate) use entry::{Attributes, Target};
use look_up::{cell_address, words_at};

use crate::abilities::Abilities;
use crate::driver::Standing;

use crate::tables::context::ContextLow;
use crate::tables::pasid::PasidEntry;
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
    /// Legacy entries of sources that are held back, sorted. In scalable mode the entry
    /// can be made again from the directory.
    withheld: Vec<(SourceId, [u64; 2])>,
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
            withheld: Vec::new(),
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
        attributes: &Attributes,
    ) -> Result<Change, OutOfFrames> {
        if self.scalable {
            let entry = target.pasid_entry(&self.abilities, attributes);
            self.set_pasid_entry(platform, source, pasid.unwrap_or(Pasid::ZERO), entry)
        } else {
            self.set_context_entry(platform, source, target)
        }
    }

    fn set_pasid_entry<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Pasid,
        entry: PasidEntry,
    ) -> Result<Change, OutOfFrames> {
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

    /// Makes the entry of a slot that leads somewhere say something else, and nothing but
    /// that: a source that was cut off stays so.
    pub(crate) fn amend<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Option<Pasid>,
        target: &Target,
        attributes: &Attributes,
    ) -> Result<Change, OutOfFrames> {
        let coherence = self.coherence();
        let entry = target.pasid_entry(&self.abilities, attributes);
        let directory = self
            .find(source)
            .ok()
            .and_then(|at| self.directories.get_mut(at));
        match directory {
            Some((_, directory)) => {
                directory.set(platform, pasid.unwrap_or(Pasid::ZERO), entry, coherence)
            }
            None => Ok(Change::default()),
        }
    }

    /// A device's first entry: filled out of hardware's sight, then linked.
    fn install<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        pasid: Pasid,
        entry: PasidEntry,
        directory: &mut Directory,
    ) -> Result<Change, OutOfFrames> {
        let mut change = directory.set(platform, pasid, entry, self.coherence())?;
        change.root_grew = self.ensure_context_table(platform, source)?;
        self.write_scalable_context(platform, source, directory.pointer(), 0);
        change.context_changed = true;
        change.hitless = false;
        Ok(change)
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
}

/// P is bit 0 of every entry.
fn is_present(word: Option<u64>) -> bool {
    word.is_some_and(|word| ContextLow::from_bits(word).p())
}
