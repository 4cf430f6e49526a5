//! What a context entry says beside where requests go: whether translation, translated and
//! page requests are served, and whether faults are recorded.

use super::{Tables, is_present, no_memory};
use crate::driver::Standing;
use crate::tables::context::{ContextLow, TranslationType};
use iommu_core::{OutOfFrames, Platform, SourceId};

impl Tables {
    pub(super) fn standing_of(&self, source: SourceId) -> Standing {
        self.standing
            .binary_search_by_key(&source, |(known, _)| *known)
            .ok()
            .and_then(|at| self.standing.get(at))
            .map(|(_, standing)| *standing)
            .unwrap_or_default()
    }

    /// Changes what a source may do, in its entry too. Says whether an entry changed.
    pub(crate) fn set_standing<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        change: impl FnOnce(Standing) -> Standing,
    ) -> Result<bool, OutOfFrames> {
        let standing = change(self.standing_of(source));
        if self.standing_of(source) == standing {
            return Ok(false);
        }
        self.standing.try_reserve(1).map_err(no_memory)?;
        if standing.silenced {
            // A source without an entry is silenced in a place of its own.
            self.ensure_context_table(platform, source)?;
        }
        self.keep_standing(source, |_| standing);
        Ok(self.rewrite_context(platform, source))
    }

    /// Writes down what a source may do; a new one needs room that was reserved.
    pub(super) fn keep_standing(
        &mut self,
        source: SourceId,
        change: impl FnOnce(Standing) -> Standing,
    ) {
        let standing = change(self.standing_of(source));
        let found = self
            .standing
            .binary_search_by_key(&source, |(known, _)| *known);
        match found {
            Ok(at) if standing == Standing::default() => {
                self.standing.remove(at);
            }
            Ok(at) => {
                if let Some(known) = self.standing.get_mut(at) {
                    known.1 = standing;
                }
            }
            Err(_) if standing == Standing::default() => {}
            Err(at) => self.standing.insert(at, (source, standing)),
        }
    }

    /// The first word of a context entry that is not present.
    pub(super) fn absent_context(&self, source: SourceId) -> u64 {
        ContextLow::new()
            .with_fpd(self.standing_of(source).silenced)
            .into_bits()
    }

    /// Writes a context entry again, with the standing that its source has now. Says
    /// whether there is a place for it.
    fn rewrite_context<P: Platform>(&self, platform: &P, source: SourceId) -> bool {
        let index = self.context_cell(source);
        let Some(table) = self.context(source) else {
            return false;
        };
        let low = table.load(index);
        if !is_present(low) {
            let words = [self.absent_context(source), 0];
            platform.publish128(table, index, words, self.coherence());
            return true;
        }
        if self.scalable {
            if let Ok(position) = self.find(source) {
                self.publish_context(platform, source, position);
            }
            return true;
        }
        let standing = self.standing_of(source);
        let low = ContextLow::from_bits(low.unwrap_or(0)).with_fpd(standing.silenced);
        let low = match low.tt() {
            TranslationType::PassThrough => low,
            _ => low.with_tt(TranslationType::of_tables(standing.translations)),
        };
        let high = table.load(index | 1).unwrap_or(0);
        platform.publish128(table, index, [low.into_bits(), high], self.coherence());
        true
    }
}
