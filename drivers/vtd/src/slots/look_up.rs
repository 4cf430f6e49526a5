//! Where the entries of a source lie, and what is in them.

use super::{Directory, Tables};
use crate::explain::Visited;
use iommu_core::{Frame, Hpa, Pasid, SourceId};

impl Tables {
    /// Which of the context tables holds the entry of `source`.
    pub(super) fn context_table(&self, source: SourceId) -> usize {
        let upper = self.scalable && source.devfn() >= 0x80;
        usize::from(source.bus()) << 1 | usize::from(upper)
    }

    /// The cell of the root table that leads there: 16 bytes for each bus.
    pub(super) fn root_cell(&self, source: SourceId) -> usize {
        self.context_table(source)
    }

    /// The first cell of the entry within the context table: 16 bytes for each function in
    /// legacy mode, 32 in scalable mode.
    pub(super) fn context_cell(&self, source: SourceId) -> usize {
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

    pub(super) fn context(&self, source: SourceId) -> Option<&Frame> {
        self.contexts
            .get(self.context_table(source))
            .and_then(Option::as_ref)
    }

    pub(super) fn find(&self, source: SourceId) -> Result<usize, usize> {
        self.directories
            .binary_search_by_key(&source, |(owner, _)| *owner)
    }

    pub(super) fn directory(&self, source: SourceId) -> Option<&Directory> {
        let position = self.find(source).ok()?;
        self.directories
            .get(position)
            .map(|(_, directory)| directory)
    }
}

/// Where a cell of a table lies.
pub(super) fn cell_address(table: &Frame, cell: usize) -> Hpa {
    Hpa::new(table.hpa().as_u64() | ((cell as u64) << 3))
}

/// Up to eight cells of a table.
pub(super) fn words_at(table: &Frame, cell: usize, count: usize) -> [u64; 8] {
    let mut words = [0; 8];
    for (offset, word) in words.iter_mut().enumerate().take(count) {
        *word = table.load(cell.saturating_add(offset)).unwrap_or(0);
    }
    words
}
