//! Root and context entries (§9.1 to §9.4).

use super::{Change, Tables, is_present};
use crate::driver::Standing;
use crate::slots::Target;
use crate::tables::context::{ContextLow, ScalableContext0, ScalableContext1};
use crate::tables::frame_number;
use crate::tables::root::RootEntry;
use iommu_core::{Hpa, Order, OutOfFrames, Platform, SourceId};

impl Tables {
    pub(super) fn set_context_entry<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        target: &Target,
    ) -> Result<Change, OutOfFrames> {
        let standing = self.standing_of(source);
        let [low, high] = target.context_entry(&self.abilities, standing.translations);
        let words = [
            ContextLow::from_bits(low)
                .with_fpd(standing.is_silent())
                .into_bits(),
            high,
        ];
        let mut change = Change::default();
        if self.withhold(source, words) {
            return Ok(change);
        }
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

    pub(super) fn publish_context<P: Platform>(
        &self,
        platform: &P,
        source: SourceId,
        position: usize,
    ) {
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
    pub(super) fn write_scalable_context<P: Platform>(
        &self,
        platform: &P,
        source: SourceId,
        (directory, pdts): (Hpa, u8),
        rid_pasid: u32,
    ) {
        let standing = self.standing_of(source);
        let word0 = ScalableContext0::new()
            .with_p(true)
            .with_fpd(standing.is_silent())
            .with_dte(standing.translations)
            .with_pre(standing.page_requests)
            .with_hpte(standing.checked)
            .with_paside(self.abilities.ecap.pasid())
            .with_pdts(pdts & 7)
            .with_pasiddirptr(frame_number(directory));
        let word0 = if standing.is_blocked() {
            ScalableContext0::from_bits(self.absent_context(source))
        } else {
            word0
        };
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
        pasid: iommu_core::Pasid,
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

    /// Cuts a source off whole, whatever its entries say: its context entry is taken away.
    /// Says whether there was one.
    pub(crate) fn isolate<P: Platform>(&mut self, platform: &P, source: SourceId) -> bool {
        self.keep_standing(source, |standing| Standing {
            silenced: standing.silenced,
            ..Standing::default()
        });
        self.withheld.retain(|(known, _)| *known != source);
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
    pub(super) fn ensure_context_table<P: Platform>(
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
}
