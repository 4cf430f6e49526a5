//! Which tables serve which requests.

use crate::caches::CachedPasid;
use crate::remapping::{FirstStage, SecondStage, first_stage_of};
use crate::tables::context::{Legacy, Scalable, TranslationType};
use crate::tables::pasid::{Entry, Granular, Permissions};

/// What a request's tables are, once its context and PASID entry are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Legacy(Legacy),
    Scalable(Entry),
}

/// Requests of one source, with one PASID or none, and the entry that may serve them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attachment {
    pub(super) source: u16,
    /// PASID, or `NO_PASID`.
    pub(super) key: u32,
    pub(super) tag: u32,
    pub(super) kind: Kind,
    /// The context entry lets the device keep translations of its own.
    pub(super) device_tlb: bool,
    pub(super) rid_priv: bool,
    /// What translated requests are checked against, if the context entry says so.
    pub(super) guard: Option<Guard>,
}

/// A host permission table in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Guard {
    pub(super) root: Permissions,
    /// FPD of the context or PASID entry.
    pub(super) fpd: bool,
    /// Requests without PASID stand for those of every PASID (EPTR is clear, §6.2.6.2).
    pub(super) shared: bool,
}

impl Guard {
    /// The table that checks translated requests without PASID (`rid`), or with the PASID
    /// of the entry.
    pub(super) fn of(context: &Scalable, value: &CachedPasid, rid: bool) -> Option<Self> {
        let entry = value.entry.ok()?;
        let used = context.permissions && context.device_tlb;
        (used && (rid || context.translated_pasid)).then_some(Self {
            root: entry.permissions,
            fpd: context.fpd || value.fpd,
            shared: !context.translated_pasid,
        })
    }
}

impl Attachment {
    pub(super) fn domain(&self) -> u16 {
        match self.kind {
            Kind::Legacy(entry) => entry.domain,
            Kind::Scalable(entry) => entry.domain,
        }
    }

    /// The second stage, where it stands alone.
    pub(super) fn second(&self, coherent: bool) -> Option<SecondStage> {
        match self.kind {
            Kind::Legacy(entry) if entry.kind != TranslationType::PassThrough => {
                Some(SecondStage {
                    domain: entry.domain,
                    table: entry.table,
                    levels: entry.levels,
                    flags: false,
                    snooped: coherent,
                })
            }
            Kind::Scalable(entry) if entry.kind == Granular::Second => {
                Some(SecondStage::of(&entry))
            }
            _ => None,
        }
    }

    /// The first stage, alone or nested.
    pub(super) fn first(&self) -> Option<(FirstStage, Entry)> {
        match self.kind {
            Kind::Scalable(entry) if entry.kind.has_first() => {
                Some((first_stage_of(&entry, self.tag), entry))
            }
            _ => None,
        }
    }
}
