//! The domain ids in the tables that a unit translates by when it is taken over.
//!
//! Between the new root table and the flush that follows, caches may hold what those tables
//! said, under their ids; one id for two sets of tables would mix them (§6.2.3.1). So the ids
//! are read, and avoided until the flush is done.
//!
//! The tables are whoever ran before's: each entry is read once, through
//! [`Platform::peek`], and nothing in them can make this take longer than [`MOST_READS`].

use crate::abilities::Abilities;
use crate::domain::IdSet;
use crate::registers::{Rtaddr, TableMode};
use crate::tables::address;
use crate::tables::context::{ContextHigh, ContextLow, ScalableContext0};
use crate::tables::pasid::{Pasid0, Pasid1, PasidDirectoryEntry, PasidEntry};
use crate::tables::root::RootEntry;
use iommu_core::{Hpa, Platform};

/// Enough for a hundred devices with a PASID directory of the largest size each.
const MOST_READS: u32 = 1 << 22;

/// Adds the ids in the tables that `root` leads to. Says whether all could be read.
pub(crate) fn read_domain_ids<P: Platform + ?Sized>(
    platform: &P,
    abilities: &Abilities,
    root: Rtaddr,
    ids: &mut IdSet,
) -> bool {
    let mut reader = Reader {
        platform,
        mask: abilities.cap.domain_ids().saturating_sub(1),
        left: MOST_READS,
        ids,
        complete: true,
    };
    let table = address(root.rta());
    match root.ttm() {
        TableMode::Legacy => reader.legacy(table),
        TableMode::Scalable => reader.scalable(table),
        // No tables.
        TableMode::Reserved | TableMode::Abort => {}
    }
    reader.complete
}

struct Reader<'a, P: ?Sized> {
    platform: &'a P,
    /// Bits of a domain id that the unit looks at.
    mask: u32,
    left: u32,
    ids: &'a mut IdSet,
    /// Everything so far could be read.
    complete: bool,
}

impl<P: Platform + ?Sized> Reader<'_, P> {
    fn read(&mut self, table: Hpa, cell: u64) -> Option<u64> {
        let word = self.look(table, cell);
        self.complete &= word.is_some();
        word
    }

    fn look(&mut self, table: Hpa, cell: u64) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let at = table.as_u64().checked_add(cell.checked_mul(8)?)?;
        self.platform.peek(Hpa::new(at))
    }

    fn note(&mut self, id: u16) {
        // Masked to the unit's width, which is 16 bits at most.
        self.ids.insert((u32::from(id) & self.mask) as u16);
    }

    fn legacy(&mut self, root: Hpa) {
        for bus in 0..256 {
            let Some(entry) = self.read(root, bus << 1) else {
                return;
            };
            let entry = RootEntry::from_bits(entry);
            if entry.p() {
                self.legacy_contexts(address(entry.ctp()));
            }
        }
    }

    fn legacy_contexts(&mut self, table: Hpa) {
        for cell in (0..512).step_by(2) {
            let Some(low) = self.read(table, cell) else {
                return;
            };
            if ContextLow::from_bits(low).p()
                && let Some(high) = self.read(table, cell | 1)
            {
                self.note(ContextHigh::from_bits(high).did());
            }
        }
    }

    fn scalable(&mut self, root: Hpa) {
        for half in 0..512 {
            let Some(entry) = self.read(root, half) else {
                return;
            };
            let entry = RootEntry::from_bits(entry);
            if entry.p() {
                self.scalable_contexts(address(entry.ctp()));
            }
        }
    }

    fn scalable_contexts(&mut self, table: Hpa) {
        for cell in (0..512).step_by(4) {
            let Some(context) = self.read(table, cell) else {
                return;
            };
            let context = ScalableContext0::from_bits(context);
            if context.p() {
                self.directory(context);
            }
        }
    }

    fn directory(&mut self, context: ScalableContext0) {
        let directory = address(context.pasiddirptr());
        for index in 0..128u64 << context.pdts() {
            let Some(entry) = self.read(directory, index) else {
                return;
            };
            let entry = PasidDirectoryEntry::from_bits(entry);
            if entry.p() {
                self.pasid_table(address(entry.smptblptr()));
            }
        }
    }

    fn pasid_table(&mut self, table: Hpa) {
        for cell in (0..512).step_by(PasidEntry::CELLS) {
            let Some(word0) = self.read(table, cell) else {
                return;
            };
            if Pasid0::from_bits(word0).p()
                && let Some(word1) = self.read(table, cell | 1)
            {
                self.note(Pasid1::from_bits(word1).did());
            }
        }
    }
}
