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

    /// Whether what a source translated itself is checked.
    pub(crate) fn is_checked(&self, source: SourceId) -> bool {
        self.standing_of(source).checked
    }

    /// Whether page requests of a source are accepted.
    pub(crate) fn lets_ask_for_pages(&self, source: SourceId) -> bool {
        self.standing_of(source).page_requests
    }

    /// Changes what a source may do, in its entry too. Says whether an entry changed.
    pub(crate) fn set_standing<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        change: impl FnOnce(Standing) -> Standing,
    ) -> Result<bool, OutOfFrames> {
        let before = self.standing_of(source);
        let standing = change(before);
        if before == standing {
            return Ok(false);
        }
        self.standing.try_reserve(1).map_err(no_memory)?;
        self.withheld.try_reserve(1).map_err(no_memory)?;
        if standing.is_silent() {
            // A source without an entry is silenced in a place of its own.
            self.ensure_context_table(platform, source)?;
        }
        self.keep_standing(source, |_| standing);
        Ok(self.rewrite_context(platform, source, before))
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
            .with_fpd(self.standing_of(source).is_silent())
            .into_bits()
    }

    /// Keeps the words that a legacy entry is to have, if its source is held back. Says
    /// whether it is.
    pub(super) fn withhold(&mut self, source: SourceId, words: [u64; 2]) -> bool {
        let found = self
            .withheld
            .binary_search_by_key(&source, |(known, _)| *known);
        let known = found.ok().and_then(|at| self.withheld.get_mut(at));
        match known {
            Some((_, kept)) => {
                *kept = words;
                true
            }
            None => false,
        }
    }

    /// The words of a legacy entry: those that are withheld, or those that stand there.
    fn legacy_words(&mut self, source: SourceId) -> Option<[u64; 2]> {
        let found = self
            .withheld
            .binary_search_by_key(&source, |(known, _)| *known);
        if let Ok(at) = found {
            return Some(self.withheld.remove(at).1);
        }
        let index = self.context_cell(source);
        let table = self.context(source)?;
        Some([table.load(index)?, table.load(index | 1)?])
    }

    /// Writes a context entry again, with the standing that its source has now. Says
    /// whether there is a place for it.
    fn rewrite_context<P: Platform>(
        &mut self,
        platform: &P,
        source: SourceId,
        before: Standing,
    ) -> bool {
        if self.context(source).is_none() {
            return false;
        }
        if self.scalable {
            self.rewrite_scalable(platform, source, before);
        } else {
            self.rewrite_legacy(platform, source);
        }
        true
    }

    fn rewrite_scalable<P: Platform>(&self, platform: &P, source: SourceId, before: Standing) {
        let index = self.context_cell(source);
        let stands = self.context(source).and_then(|table| table.load(index));
        // A source that was isolated stays so until it is given something.
        match self.find(source) {
            Ok(at) if is_present(stands) || before.is_blocked() => {
                self.publish_context(platform, source, at);
            }
            _ => self.publish_words(platform, source, [self.absent_context(source), 0]),
        }
    }

    fn rewrite_legacy<P: Platform>(&mut self, platform: &P, source: SourceId) {
        let Some([low, high]) = self.legacy_words(source) else {
            return;
        };
        let standing = self.standing_of(source);
        let low = ContextLow::from_bits(low).with_fpd(standing.is_silent());
        let low = match low.tt() {
            _ if !low.p() => low,
            TranslationType::PassThrough => low,
            _ => low.with_tt(TranslationType::of_tables(standing.translations)),
        };
        let words = [low.into_bits(), high];
        if !standing.is_blocked() {
            self.publish_words(platform, source, words);
            return;
        }
        let found = self
            .withheld
            .binary_search_by_key(&source, |(known, _)| *known);
        if let Err(at) = found {
            // There is room: reserved when the standing was changed.
            self.withheld.insert(at, (source, words));
        }
        self.publish_words(platform, source, [self.absent_context(source), 0]);
    }

    fn publish_words<P: Platform>(&self, platform: &P, source: SourceId, words: [u64; 2]) {
        if let Some(table) = self.context(source) {
            platform.publish128(table, self.context_cell(source), words, self.coherence());
        }
    }
}
