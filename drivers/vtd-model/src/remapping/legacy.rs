//! Legacy mode (§3.4.2): root, context, second stage.

use super::effects::Structure;
use super::second::SecondFault;
use super::walker::Found;
use super::{AddressType, Fill, Request, SecondStage, Walker};
use crate::caches::{CachedContext, Mapping, NO_PASID, Translation};
use crate::config::Config;
use crate::faults::Condition;
use crate::registers::Happening;
use crate::tables::context::{self, TranslationType};
use crate::tables::root;

impl Walker<'_> {
    pub(super) fn legacy(&mut self, request: &Request) -> Result<Found, Condition> {
        let entry = self.legacy_context(request.source)?;
        let untranslated = request.kind == AddressType::Untranslated;
        if !untranslated && entry.kind != TranslationType::DeviceTlb {
            return Err(Condition::Lct5);
        }
        if request.kind == AddressType::Translated {
            return self.translated(request, Condition::Lgn12);
        }
        if !untranslated {
            if let Some(special) = self.interrupt_range_translation(request) {
                return special;
            }
            if let Some(hit) = self.hit(request) {
                return hit;
            }
        }
        let mapping = self.legacy_mapping(request, &entry);
        self.remember(request, (entry.domain, 0), false, &mapping);
        Ok(Found {
            mapping: mapping?,
            privileged: false,
        })
    }

    fn legacy_mapping(
        &mut self,
        request: &Request,
        entry: &context::Legacy,
    ) -> Result<Mapping, Condition> {
        if entry.kind == TranslationType::PassThrough {
            if request.address & self.config.above_host() != 0 {
                return Err(Condition::Lgn13);
            }
            return Ok(Mapping::unity(true, false));
        }
        if request.address > self.config.second_stage_limit(entry.levels) {
            return Err(Condition::Lgn11);
        }
        let stage = SecondStage {
            domain: entry.domain,
            table: entry.table,
            levels: entry.levels,
            flags: false,
            snooped: self.config.coherent && !self.latched.buffered,
        };
        let leaf = self
            .second(&stage, request.address)
            .map_err(|fault| legacy_fault(fault, request))?;
        Ok(leaf.mapping(None))
    }

    /// Offers the result to the IOTLB: a mapping, or with CM = 1 also the fault (§6.2.4.1);
    /// never a fault of the first stage, and none of the conditions that depend on the
    /// request alone. A fault has the tags that a mapping would have had, so that one below
    /// a first stage (`has_first`) is forgotten with what a first stage takes part in.
    pub(super) fn remember(
        &mut self,
        request: &Request,
        (domain, pasid): (u16, u32),
        has_first: bool,
        result: &Result<Mapping, Condition>,
    ) {
        if self.choose.explores() {
            return;
        }
        let keeps = self.config.caching_mode;
        let absent = Mapping {
            has_first,
            ..Mapping::absent()
        };
        let (mapping, fault) = match result {
            Ok(mapping) => (*mapping, None),
            Err(Condition::Lgn2 | Condition::Lgn3) if keeps => (absent, None),
            Err(condition) if keeps && caching_mode_keeps(*condition) => (absent, Some(*condition)),
            Err(_) => return,
        };
        let entry = Translation {
            mapping,
            fault,
            domain,
            pasid,
            born: self.now,
            accessed: true,
        };
        let key = request.pasid.unwrap_or(NO_PASID);
        self.effects.fills.push(Fill::Translation(
            request.source,
            key,
            request.address,
            entry,
        ));
    }

    pub(super) fn legacy_context(&mut self, source: u16) -> Result<context::Legacy, Condition> {
        match self.context(source)? {
            CachedContext::Legacy(entry) => Ok(entry),
            CachedContext::Fault { condition, .. } => Err(condition),
            // Left over from another mode: only software that skipped the invalidation after
            // SRTP can meet it.
            CachedContext::Scalable(_) => Err(Condition::Lct2),
        }
    }

    /// The context entry, cached or read.
    pub(super) fn context(&mut self, source: u16) -> Result<CachedContext, Condition> {
        let caches = self.caches;
        let cached = caches
            .contexts
            .get(&source)
            .map_or(&[][..], |values| values);
        self.effects.happens(|| Happening::CONTEXT_LOOKUP);
        let value = match self.cached(cached.len()) {
            Some(taken) => {
                self.effects.happens(|| Happening::CONTEXT_HIT);
                cached[taken]
            }
            None => {
                let value = self.read_context(source)?;
                let keep =
                    self.config.caching_mode || !matches!(value, CachedContext::Fault { .. });
                if keep && !self.choose.explores() {
                    self.effects.fills.push(Fill::Context(source, value));
                }
                value
            }
        };
        self.fpd |= match value {
            CachedContext::Legacy(entry) => entry.fpd,
            CachedContext::Scalable(entry) => entry.fpd,
            CachedContext::Fault { fpd, .. } => fpd,
        };
        Ok(value)
    }

    /// The context entry as memory has it; an error only for what is never cached.
    pub(crate) fn read_context(&mut self, source: u16) -> Result<CachedContext, Condition> {
        if self.latched.mode() == super::Mode::Legacy {
            self.read_legacy_context(source)
        } else {
            self.read_scalable_context(source)
        }
    }

    fn read_legacy_context(&mut self, source: u16) -> Result<CachedContext, Condition> {
        let coherent = self.config.coherent && !self.latched.buffered;
        let bus = u64::from(source >> 8);
        let words = self
            .read::<2>(Structure::Root, self.latched.table() + bus * 16, coherent)
            .ok_or(Condition::Lrt1)?;
        let table = match root::legacy(words, self.config) {
            root::Root::NotPresent => return Err(Condition::Lrt2),
            root::Root::Reserved => return Err(Condition::Lrt3),
            root::Root::Table(table) => table,
        };
        let words = self
            .read::<2>(
                Structure::Context,
                table + u64::from(source & 0xff) * 16,
                coherent,
            )
            .ok_or(Condition::Lct1)?;
        Ok(legacy_context(words, self.config))
    }
}

/// What a legacy context entry comes to.
pub(crate) fn legacy_context(words: [u64; 2], config: &Config) -> CachedContext {
    match context::legacy(words, config) {
        Ok(entry) => CachedContext::Legacy(entry),
        Err(bad) => CachedContext::Fault {
            condition: match bad {
                context::Bad::NotPresent => Condition::Lct2,
                context::Bad::Width => Condition::Lct41,
                context::Bad::Type => Condition::Lct42,
                _ => Condition::Lct3,
            },
            fpd: context::fpd(&words),
        },
    }
}

/// Conditions that CM = 1 allows to be cached in the IOTLB: those that a second-stage entry
/// causes.
fn caching_mode_keeps(condition: Condition) -> bool {
    matches!(
        condition,
        Condition::Lss2 | Condition::Sss2 | Condition::Sss3
    )
}

fn legacy_fault(fault: SecondFault, request: &Request) -> Condition {
    match fault {
        SecondFault::RootRead => Condition::Lct43,
        SecondFault::LowerRead => Condition::Lss1,
        SecondFault::Reserved => Condition::Lss2,
        SecondFault::NotPresent if request.access.writes() => Condition::Lgn2,
        // Without SSADE there is no flag to set.
        SecondFault::NotPresent | SecondFault::NotSnooped | SecondFault::NotWritable => {
            Condition::Lgn3
        }
    }
}
