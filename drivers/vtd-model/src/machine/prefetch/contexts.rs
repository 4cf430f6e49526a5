//! From sources to attachments: root, context and PASID structures, as memory has them and
//! as the caches may still hold them.

use super::attachment::{Attachment, Guard, Kind};
use super::sweep::Sweep;
use super::{Use, rules};
use crate::caches::{CachedContext, CachedPasid, Caches, NO_PASID};
use crate::faults::Condition;
use crate::remapping::{Mode, legacy_context, pasid_value, scalable_context};
use crate::tables::context::{Scalable, TranslationType};
use crate::tables::{bit, pasid, root};

impl Sweep<'_> {
    /// All sources behind the unit, or one of them.
    pub(super) fn sources(&mut self, only: Option<u16>) {
        let unit = &*self.unit;
        if !unit.latched.enabled || unit.latched.fault(&unit.config).is_some() {
            return;
        }
        let here = |source: u16, behind: usize| {
            behind == unit.index && only.is_none_or(|only| only == source)
        };
        let sources: Vec<u16> = self
            .devices
            .iter()
            .filter(|(source, device)| here(**source, device.unit))
            .map(|(source, _)| *source)
            .collect();
        // All of them first: none may be held against what another had before.
        self.prefetch
            .live
            .retain(|entry| !sources.contains(&entry.source));
        for source in sources {
            self.source(source);
        }
    }

    /// An entry stands in memory: the rules about domain ids hold for it.
    fn stands(&mut self, source: u16, tag: u32, kind: Kind, guard: Option<Guard>) {
        let entry = Attachment {
            source,
            key: tag,
            tag,
            kind,
            device_tlb: false,
            rid_priv: false,
            guard,
        };
        self.prefetch.broken.extend(rules::broken(
            &self.prefetch.live,
            &entry,
            &self.unit.config,
        ));
        self.prefetch.live.push(entry);
    }

    /// With virtual commands, PASIDs come from the host (§11.4.16.4); RID_PASID is the
    /// driver's own affair.
    fn was_allocated(&mut self, source: u16, pasid: u32, rid: bool) {
        let held = &self.unit.registers.virtual_commands.allocated;
        if self.unit.config.virtual_commands && !rid && !held.contains(&pasid) {
            let rule = format!(
                "the PASID entry {pasid:#x} of {} is present, and VCMD did not allocate that PASID",
                crate::oracle::name(source)
            );
            self.prefetch.broken.push(("§11.4.16.4", rule));
        }
    }

    /// Every context entry that may serve a source: those of memory, and those cached.
    fn source(&mut self, source: u16) {
        let legacy = self.unit.mode() == Mode::Legacy;
        let snooped = self.unit.snoops();
        for table in self.context_tables(source) {
            let offset = if legacy {
                u64::from(source & 0xff) * 16
            } else {
                u64::from(source & 0x7f) * 32
            };
            let at = table + offset;
            self.used(at, Use::Source(source));
            let config = &self.unit.config;
            let values: Vec<CachedContext> = if legacy {
                self.states::<2>(at, snooped)
                    .into_iter()
                    .map(|words| legacy_context(words, config))
                    .collect()
            } else {
                self.states::<4>(at, snooped)
                    .into_iter()
                    .map(|words| scalable_context(words, config))
                    .collect()
            };
            let caching_mode = config.caching_mode;
            if let Some(CachedContext::Legacy(entry)) = values.last() {
                self.stands(source, 0, Kind::Legacy(*entry), None);
            }
            let held = self.unit.caches.contexts.entry(source).or_default();
            for value in values {
                if caching_mode || !matches!(value, CachedContext::Fault { .. }) {
                    Caches::add(held, value);
                }
            }
        }
        for value in self
            .unit
            .caches
            .contexts
            .get(&source)
            .cloned()
            .unwrap_or_default()
        {
            self.context(source, value);
        }
    }

    fn context_tables(&mut self, source: u16) -> Vec<u64> {
        let at = self.unit.latched.table() + u64::from(source >> 8) * 16;
        self.used(at, Use::Source(source));
        let config = &self.unit.config;
        let legacy = self.unit.mode() == Mode::Legacy;
        let entry = |words| {
            if legacy {
                root::legacy(words, config)
            } else {
                root::scalable(words, source as u8, config)
            }
        };
        let tables = self
            .states::<2>(at, self.unit.snoops())
            .into_iter()
            .map(entry);
        tables
            .filter_map(|root| match root {
                root::Root::Table(table) => Some(table),
                _ => None,
            })
            .collect()
    }

    fn context(&mut self, source: u16, value: CachedContext) {
        match value {
            CachedContext::Legacy(entry) if self.unit.mode() == Mode::Legacy => {
                self.attach(Attachment {
                    source,
                    key: NO_PASID,
                    tag: 0,
                    kind: Kind::Legacy(entry),
                    device_tlb: entry.kind == TranslationType::DeviceTlb,
                    rid_priv: false,
                    guard: None,
                })
            }
            CachedContext::Scalable(entry) if self.unit.mode() == Mode::Scalable => {
                self.scalable(source, &entry)
            }
            _ => {}
        }
    }

    fn scalable(&mut self, source: u16, context: &Scalable) {
        self.directory(source, context);
        let held = self
            .unit
            .caches
            .pasids
            .iter()
            .filter(|((owner, pasid), _)| *owner == source && *pasid < context.pasids);
        let mut held: Vec<(u32, CachedPasid)> = held
            .flat_map(|((_, pasid), values)| values.iter().map(|value| (*pasid, *value)))
            .collect();
        held.sort_unstable_by_key(|(pasid, _)| *pasid);
        for (pasid, value) in held {
            let rid = pasid == context.rid_pasid;
            let Ok(entry) = value.entry else { continue };
            if rid || context.pasid_enable {
                self.attach(Attachment {
                    source,
                    key: if rid { NO_PASID } else { pasid },
                    tag: pasid,
                    kind: Kind::Scalable(entry),
                    device_tlb: context.device_tlb,
                    rid_priv: rid && context.rid_priv,
                    guard: Guard::of(context, &value, rid),
                });
            }
        }
    }

    fn directory(&mut self, source: u16, context: &Scalable) {
        let snooped = self.unit.snoops();
        for index in 0..u64::from(context.pasids >> 6) {
            let at = context.directory + index * 8;
            if index % 512 == 0 {
                self.used(at, Use::Source(source));
            }
            for [word] in self.states::<1>(at, snooped) {
                let fault = match pasid::directory(word, &self.unit.config) {
                    pasid::Directory::Table(table) => {
                        self.used(table, Use::Source(source));
                        let first = (index << 6) as u32;
                        self.pasid_table(source, context, table, first, bit(word, 1));
                        continue;
                    }
                    pasid::Directory::NotPresent => Condition::Spd2,
                    pasid::Directory::Reserved => Condition::Spd3,
                };
                if self.unit.config.caching_mode {
                    let directories = &mut self.unit.caches.directories;
                    directories.insert(source, index as u32, fault, bit(word, 1));
                }
            }
        }
    }

    fn pasid_table(&mut self, source: u16, context: &Scalable, table: u64, first: u32, fpd: bool) {
        for slot in 0..64 {
            let at = table + u64::from(slot) * 64;
            let mut states = self.states::<8>(at, self.unit.snoops());
            if let Some(newest) = states.last().copied() {
                let value = pasid_value(newest, fpd, &self.unit.config);
                if let Ok(entry) = value.entry {
                    let pasid = first | slot;
                    let rid = pasid == context.rid_pasid;
                    let guard = Guard::of(context, &value, rid);
                    self.was_allocated(source, pasid, rid);
                    self.stands(source, pasid, Kind::Scalable(entry), guard);
                }
                states.extend(self.prefetch.history.note(at, newest));
            }
            for words in states {
                let value = pasid_value(words, fpd, &self.unit.config);
                if self.unit.config.caching_mode || value.entry.is_ok() {
                    Caches::add(
                        self.unit
                            .caches
                            .pasids
                            .entry((source, first | slot))
                            .or_default(),
                        value,
                    );
                }
            }
        }
    }
}
