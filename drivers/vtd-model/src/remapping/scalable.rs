//! Scalable mode (§3.4.3): root, context, PASID directory and table, then by PGTT.

use super::effects::Structure;
use super::first::scalable_fault;
use super::walker::{Found, wants_write};
use super::{AddressType, Fill, Request, SecondStage, Walker, first_stage_of, in_interrupt_range};
use crate::caches::{CachedContext, CachedPasid, Mapping};
use crate::config::Config;
use crate::faults::Condition;
use crate::registers::Happening;
use crate::tables::pasid::{self, Granular};
use crate::tables::{bit, context, first_stage, root, second_stage};

impl Walker<'_> {
    pub(super) fn scalable(&mut self, request: &Request) -> Result<Found, Condition> {
        let context = self.scalable_context(request.source)?;
        if request.kind != AddressType::Untranslated && !context.device_tlb {
            return Err(Condition::Sct5);
        }
        let translated = request.kind == AddressType::Translated;
        if translated && request.pasid.is_some() && !context.translated_pasid {
            return Err(Condition::Sct10);
        }
        let (tag, privileged) = self.tag(&context, request.pasid, translated)?;
        let privileged = if request.pasid.is_some() {
            request.privileged
        } else {
            privileged
        };
        if translated {
            let found = self.translated(request, Condition::Sgn41)?;
            if context.permissions && !in_interrupt_range(request.address) {
                self.permitted(request, &context, tag)?;
            }
            return Ok(found);
        }
        if request.kind != AddressType::Untranslated {
            if let Some(special) = self.interrupt_range_translation(request) {
                return special;
            }
            if let Some(hit) = self.hit(request) {
                return hit;
            }
        }
        let entry = self.pasid_entry(request.source, &context, tag)?;
        if request.pasid.is_some() && request.execute {
            return Err(Condition::Spt5);
        }
        if privileged && !entry.supervisor {
            return Err(Condition::Spt6);
        }
        let mapping = self
            .scalable_mapping(request, &entry, tag, privileged)
            .map(|mapping| Mapping {
                rid_priv: request.pasid.is_none() && privileged,
                ..mapping
            });
        let has_first = matches!(entry.kind, Granular::First | Granular::Nested);
        self.remember(request, (entry.domain, tag), has_first, &mapping);
        Ok(Found {
            mapping: mapping?,
            privileged,
        })
    }

    /// The PASID that tags the request, and RID_PRIV (§6.2.1, §9.4).
    pub(crate) fn tag(
        &self,
        context: &context::Scalable,
        pasid: Option<u32>,
        translated: bool,
    ) -> Result<(u32, bool), Condition> {
        let Some(pasid) = pasid else {
            return Ok((context.rid_pasid, context.rid_priv));
        };
        if !context.pasid_enable && !translated {
            return Err(Condition::Sct6);
        }
        if pasid >= self.config.pasid_limit() {
            return Err(Condition::Sgn10);
        }
        if pasid >= context.pasids {
            return Err(Condition::Sct7);
        }
        // Without RID_PASID support the value used is 0.
        if pasid == context.rid_pasid {
            return Err(Condition::Sct9);
        }
        Ok((pasid, false))
    }

    fn scalable_mapping(
        &mut self,
        request: &Request,
        entry: &pasid::Entry,
        tag: u32,
        privileged: bool,
    ) -> Result<Mapping, Condition> {
        let address = request.address;
        match entry.kind {
            Granular::PassThrough => {
                if address & self.config.above_host() != 0 {
                    return Err(Condition::Sgn42);
                }
                Ok(Mapping::pass_through(entry))
            }
            Granular::Second => self.second_mapping(request, entry),
            Granular::First | Granular::Nested => {
                if !first_stage::canonical(address, entry.first_levels) {
                    return Err(Condition::Sgn1);
                }
                let stage = first_stage_of(entry, tag);
                self.first_mapping(
                    &stage,
                    entry,
                    address,
                    !privileged,
                    wants_write(request, self.config),
                )
            }
        }
    }

    fn second_mapping(
        &mut self,
        request: &Request,
        entry: &pasid::Entry,
    ) -> Result<Mapping, Condition> {
        if request.address > self.config.second_stage_limit(entry.second_levels) {
            return Err(Condition::Sgn5);
        }
        let stage = SecondStage::of(entry);
        let mut leaf = self
            .second(&stage, request.address)
            .map_err(scalable_fault)?;
        if leaf.rights == second_stage::Rights::default() {
            return Err(Condition::Sss2);
        }
        let granted = leaf.rights.write && (leaf.rights.read || !request.access.reads());
        if wants_write(request, self.config) && granted {
            self.second_dirty(&stage, &mut leaf)
                .map_err(scalable_fault)?;
        }
        Ok(leaf.mapping(Some(entry)))
    }

    pub(crate) fn scalable_context(&mut self, source: u16) -> Result<context::Scalable, Condition> {
        match self.context(source)? {
            CachedContext::Scalable(entry) => Ok(entry),
            CachedContext::Fault { condition, .. } => Err(condition),
            CachedContext::Legacy(_) => Err(Condition::Sct2),
        }
    }

    pub(super) fn read_scalable_context(
        &mut self,
        source: u16,
    ) -> Result<CachedContext, Condition> {
        let coherent = self.config.coherent;
        let devfn = source as u8;
        let at = self.latched.table() + u64::from(source >> 8) * 16;
        let words = self
            .read::<2>(Structure::Root, at, coherent)
            .ok_or(Condition::Srt1)?;
        let table = match root::scalable(words, devfn, self.config) {
            root::Root::NotPresent => return Err(Condition::Srt2),
            root::Root::Reserved => return Err(Condition::Srt3),
            root::Root::Table(table) => table,
        };
        let at = table + u64::from(devfn & 0x7f) * 32;
        let words = self
            .read::<4>(Structure::Context, at, coherent)
            .ok_or(Condition::Sct1)?;
        Ok(scalable_context(words, self.config))
    }

    /// The PASID entry, cached or read.
    pub(crate) fn pasid_entry(
        &mut self,
        source: u16,
        context: &context::Scalable,
        tag: u32,
    ) -> Result<pasid::Entry, Condition> {
        let caches = self.caches;
        let cached = caches
            .pasids
            .get(&(source, tag))
            .map_or(&[][..], |values| values);
        self.effects.happens(|| Happening::PASID_LOOKUP);
        if self.choose.explores()
            && let Some((condition, fpd)) = caches.directories.find(source, tag)
            && self.choose.pick(2) == 1
        {
            self.fpd |= fpd;
            return Err(condition);
        }
        let value = match self.cached(cached.len()) {
            Some(taken) => {
                self.effects.happens(|| Happening::PASID_HIT);
                cached[taken]
            }
            None => {
                let value = self.read_pasid(context, tag)?;
                let keep = self.config.caching_mode || value.entry.is_ok();
                if keep && !self.choose.explores() {
                    self.effects.fills.push(Fill::Pasid(source, tag, value));
                }
                value
            }
        };
        self.fpd |= value.fpd;
        value.entry
    }

    /// The PASID entry as memory has it; an error only for what is never cached.
    pub(crate) fn read_pasid(
        &mut self,
        context: &context::Scalable,
        tag: u32,
    ) -> Result<CachedPasid, Condition> {
        let coherent = self.config.coherent;
        let at = context.directory + u64::from(tag >> 6) * 8;
        let [word] = self
            .read::<1>(Structure::PasidDirectory, at, coherent)
            .ok_or(Condition::Spd1)?;
        let fpd = bit(word, 1);
        let fault = |condition| {
            Ok(CachedPasid {
                entry: Err(condition),
                fpd,
            })
        };
        let table = match pasid::directory(word, self.config) {
            pasid::Directory::NotPresent => return fault(Condition::Spd2),
            pasid::Directory::Reserved => return fault(Condition::Spd3),
            pasid::Directory::Table(table) => table,
        };
        let words = self
            .read::<8>(
                Structure::PasidTable,
                table + u64::from(tag & 0x3f) * 64,
                coherent,
            )
            .ok_or(Condition::Spt1)?;
        Ok(pasid_value(words, fpd, self.config))
    }

    /// S.1 and S.2 of table 30: a PASID-less translation request for the interrupt range is
    /// answered without tables.
    pub(super) fn interrupt_range_translation(
        &self,
        request: &Request,
    ) -> Option<Result<Found, Condition>> {
        if request.pasid.is_some() || !in_interrupt_range(request.address) {
            return None;
        }
        let AddressType::Translation { no_write } = request.kind else {
            return None;
        };
        let rights = second_stage::Rights {
            read: false,
            write: !no_write,
        };
        let mapping = Mapping {
            shift: 12,
            output: request.address & !0xfff,
            second: rights,
            ..Mapping::unity(false, false)
        };
        Some(Ok(Found {
            mapping,
            privileged: false,
        }))
    }
}

/// What a scalable context entry comes to.
pub(crate) fn scalable_context(words: [u64; 4], config: &Config) -> CachedContext {
    match context::scalable(words, config) {
        Ok(entry) => CachedContext::Scalable(entry),
        Err(bad) => CachedContext::Fault {
            condition: match bad {
                context::Bad::NotPresent => Condition::Sct2,
                context::Bad::PageRequests => Condition::Sct41,
                context::Bad::RidPasid => Condition::Sct42,
                context::Bad::TranslatedPasid => Condition::Sct43,
                _ => Condition::Sct3,
            },
            fpd: context::fpd(&words),
        },
    }
}

/// What a PASID table entry comes to; `fpd` is the directory entry's.
pub(crate) fn pasid_value(words: [u64; 8], fpd: bool, config: &Config) -> CachedPasid {
    let entry = pasid::entry(words, config).map_err(|bad| match bad {
        pasid::Bad::NotPresent => Condition::Spt2,
        pasid::Bad::Reserved => Condition::Spt3,
        pasid::Bad::Width => Condition::Spt41,
        pasid::Bad::Type => Condition::Spt42,
        pasid::Bad::PagingMode => Condition::Spt43,
        pasid::Bad::FirstTable => Condition::Spt44,
    });
    CachedPasid {
        entry,
        fpd: fpd || bit(words[0], 1),
    }
}
