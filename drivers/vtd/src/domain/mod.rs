//! Domains: sets of translations that slots are attached to. A slab of fixed size; the
//! tables that the driver itself keeps are beside it, each behind a lock of its own.

mod attachments;
mod ids;
mod paging;

pub(crate) use attachments::{Attachment, AttachmentRef, Attachments};
pub(crate) use ids::{DomainIds, IdSet, Numbering};
pub(crate) use paging::{Kept, PagingTables};

use crate::queue::DeviceTlbTarget;
use crate::slots::Attributes;
use alloc::vec::Vec;
use iommu_core::{DeviceId, DomainHandle, Hpa, NestedSpec, Order, OutOfFrames, Stage, TableFormat};

/// What a domain translates by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translation {
    /// Tables, the driver's or the caller's, by their root.
    Tables {
        format: TableFormat,
        root: Hpa,
        /// The driver keeps them.
        owned: bool,
        /// What a unit must have so that it can read them.
        needs: Needs,
    },
    /// A guest's first stage above a parent.
    Nested(NestedSpec),
}

/// What tables were built for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Needs {
    /// They were not written back: only a unit that snoops can read them.
    pub(crate) snooping: bool,
    pub(crate) mib2: bool,
    pub(crate) gib1: bool,
    /// Bits of input address that they may use.
    pub(crate) iova_bits: u8,
    /// Bits of host address that their entries may have.
    pub(crate) host_bits: u8,
}

/// A domain.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) translation: Translation,
    /// The first of its attachments.
    pub(crate) first: Option<u16>,
    /// Nested domains above it that were not destroyed.
    pub(crate) children: u16,
    /// There were nested domains above it at some time.
    pub(crate) had_children: bool,
    /// It was destroyed; hardware may not know that all that was attached is gone.
    pub(crate) dying: bool,
    /// Hardware has confirmed that.
    pub(crate) settled: bool,
    /// What entries that lead to it say beside where its tables are.
    pub(crate) attributes: Attributes,
}

impl Domain {
    /// The stage that invalidations of it are for.
    pub(crate) fn stage(&self) -> Stage {
        match self.translation {
            Translation::Tables { format, .. } => format.stage(),
            Translation::Nested(_) => Stage::First,
        }
    }

    /// The format of its tables; `None` if a guest keeps them.
    pub(crate) fn table_format(&self) -> Option<TableFormat> {
        match self.translation {
            Translation::Tables { format, .. } => Some(format),
            Translation::Nested(_) => None,
        }
    }

    /// Whether hardware looks at a second-stage table for it, whose structures it caches by
    /// domain id alone.
    pub(crate) fn has_second_stage(&self) -> bool {
        match self.translation {
            Translation::Tables { format, .. } => format.stage() == Stage::Second,
            Translation::Nested(_) => true,
        }
    }
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    value: Option<Domain>,
}

/// All domains, attachments and domain ids: what the lock of rank `Domains` protects.
#[derive(Debug)]
pub(crate) struct Domains {
    entries: Vec<Entry>,
    pub(crate) attachments: Attachments,
    /// By position of the unit.
    pub(crate) ids: Vec<DomainIds>,
    /// Devices whose own TLBs are in use, sorted. Has its room from the beginning.
    pub(crate) device_tlbs: Vec<(DeviceId, DeviceTlbTarget)>,
    /// Places in that list for devices that are being turned on.
    promised: usize,
}

impl Domains {
    pub(crate) fn new(
        capacity: u16,
        attachments: u16,
        ids: Vec<DomainIds>,
    ) -> Result<Self, OutOfFrames> {
        let mut entries = Vec::new();
        entries
            .try_reserve_exact(usize::from(capacity))
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        entries.resize_with(usize::from(capacity), || Entry {
            generation: 0,
            value: None,
        });
        let mut device_tlbs = Vec::new();
        device_tlbs
            .try_reserve_exact(usize::from(attachments))
            .map_err(|_| OutOfFrames { order: Order::PAGE })?;
        Ok(Self {
            entries,
            attachments: Attachments::new(attachments)?,
            ids,
            device_tlbs,
            promised: 0,
        })
    }

    /// Promises a place for another device with a TLB of its own. Says whether there is one.
    pub(crate) fn promise_device_tlb(&mut self) -> bool {
        let spoken_for = self.device_tlbs.len().saturating_add(self.promised);
        let has_room = spoken_for < self.device_tlbs.capacity();
        self.promised = self.promised.saturating_add(usize::from(has_room));
        has_room
    }

    /// Keeps a promise: the device is told of invalidations from now on, or (`None`) it was
    /// not turned on after all.
    pub(crate) fn keep_promise(&mut self, device: DeviceId, target: Option<DeviceTlbTarget>) {
        self.promised = self.promised.saturating_sub(1);
        let Some(target) = target else {
            return;
        };
        let found = self
            .device_tlbs
            .binary_search_by_key(&device, |(known, _)| *known);
        match found {
            Ok(at) => {
                if let Some(known) = self.device_tlbs.get_mut(at) {
                    known.1 = target;
                }
            }
            Err(at) => self.device_tlbs.insert(at, (device, target)),
        }
    }

    /// How a device's own TLB is invalidated, if it is in use.
    pub(crate) fn device_tlb(&self, device: DeviceId) -> Option<DeviceTlbTarget> {
        let at = self
            .device_tlbs
            .binary_search_by_key(&device, |(device, _)| *device)
            .ok()?;
        self.device_tlbs.get(at).map(|(_, target)| *target)
    }

    /// The handle that the next domain will have, or `None` if there is no room.
    pub(crate) fn vacant(&self) -> Option<DomainHandle> {
        let free = |entry: &&(u16, &Entry)| entry.1.value.is_none();
        let (index, entry) = (0..).zip(&self.entries).find(|entry| free(&entry))?;
        Some(DomainHandle {
            index,
            generation: entry.generation,
        })
    }

    /// Adds a domain and returns its handle, if there is room.
    pub(crate) fn add(&mut self, translation: Translation) -> Option<DomainHandle> {
        self.add_with(translation, Attributes::default())
    }

    /// The same, with entries that say more.
    pub(crate) fn add_with(
        &mut self,
        translation: Translation,
        attributes: Attributes,
    ) -> Option<DomainHandle> {
        let handle = self.vacant()?;
        let entry = self.entries.get_mut(usize::from(handle.index))?;
        entry.value = Some(Domain {
            translation,
            first: None,
            children: 0,
            had_children: false,
            dying: false,
            settled: false,
            attributes,
        });
        Some(handle)
    }

    /// The domain that is meant, if it exists and was not destroyed.
    pub(crate) fn get(&self, handle: DomainHandle) -> Option<&Domain> {
        let entry = self.entries.get(usize::from(handle.index))?;
        entry
            .value
            .as_ref()
            .filter(|domain| entry.generation == handle.generation && !domain.dying)
    }

    pub(crate) fn get_mut(&mut self, handle: DomainHandle) -> Option<&mut Domain> {
        let entry = self.entries.get_mut(usize::from(handle.index))?;
        let generation = entry.generation;
        entry
            .value
            .as_mut()
            .filter(|domain| generation == handle.generation && !domain.dying)
    }

    /// The same, destroyed or not: hardware may still use it.
    pub(crate) fn known(&self, handle: DomainHandle) -> Option<&Domain> {
        let entry = self.entries.get(usize::from(handle.index))?;
        entry
            .value
            .as_ref()
            .filter(|_| entry.generation == handle.generation)
    }

    /// What entries that lead to a domain say: of a nested one, what its parent's say of the
    /// second stage.
    pub(crate) fn attributes(&self, handle: DomainHandle) -> Attributes {
        let Some(domain) = self.get(handle) else {
            return Attributes::default();
        };
        match domain.translation {
            Translation::Nested(spec) => self
                .get(spec.parent)
                .map_or(domain.attributes, |parent| parent.attributes),
            Translation::Tables { .. } => domain.attributes,
        }
    }

    pub(crate) fn by_index(&self, index: u16) -> Option<&Domain> {
        self.entries.get(usize::from(index))?.value.as_ref()
    }

    /// The handle of the domain at an index.
    pub(crate) fn handle(&self, index: u16) -> Option<DomainHandle> {
        let entry = self.entries.get(usize::from(index))?;
        entry.value.as_ref()?;
        Some(DomainHandle {
            index,
            generation: entry.generation,
        })
    }

    /// Nested domains above `parent`, destroyed or not, by ascending index.
    pub(crate) fn children(&self, parent: DomainHandle) -> impl Iterator<Item = (u16, &Domain)> {
        // Most domains have none, which the count tells without a look at all others.
        let has_some = self.known(parent).is_some_and(|domain| domain.had_children);
        (0..)
            .zip(&self.entries)
            .filter(move |_| has_some)
            .filter_map(|(index, entry)| Some((index, entry.value.as_ref()?)))
            .filter(move |(_, domain)| match domain.translation {
                Translation::Nested(spec) => spec.parent == parent,
                Translation::Tables { .. } => false,
            })
    }

    /// The attachments of a domain and of those nested on it, those on their way out
    /// included.
    pub(crate) fn users(&self, handle: DomainHandle) -> impl Iterator<Item = &Attachment> {
        let children = self.children(handle).map(|(_, child)| child);
        self.known(handle)
            .into_iter()
            .chain(children)
            .flat_map(|domain| self.attachments.of_domain(domain.first))
            .map(|(_, attachment)| attachment)
    }

    /// Takes a destroyed domain out, if no attachment to it is left and its own debt is
    /// settled.
    pub(crate) fn bury(&mut self, index: u16) {
        let Some(entry) = self.entries.get_mut(usize::from(index)) else {
            return;
        };
        let gone = |domain: &Domain| domain.settled && domain.first.is_none();
        if entry.value.as_ref().is_some_and(gone) {
            entry.value = None;
            entry.generation = entry.generation.wrapping_add(1);
        }
    }

    /// The debt of a domain's destruction is settled.
    pub(crate) fn settle_destruction(&mut self, handle: DomainHandle) {
        let entry = self.entries.get_mut(usize::from(handle.index));
        let domain = entry
            .filter(|entry| entry.generation == handle.generation)
            .and_then(|entry| entry.value.as_mut());
        if let Some(domain) = domain {
            domain.settled = true;
        }
        self.bury(handle.index);
    }

    /// The domain id that a domain has on a unit, if something of it is attached there.
    pub(crate) fn id_on(&self, domain: &Domain, unit: usize) -> Option<u16> {
        self.attachments
            .of_domain(domain.first)
            .find(|(_, attachment)| attachment.unit == unit)
            .map(|(_, attachment)| attachment.domain_id)
    }

    /// Adds an attachment to the lists; its domain must exist.
    pub(crate) fn attach(&mut self, attachment: Attachment) -> Option<u16> {
        let entries = &mut self.entries;
        let head = attachment
            .domain
            .and_then(|index| entries.get_mut(usize::from(index)))
            .and_then(|entry| entry.value.as_mut())
            .map(|domain| &mut domain.first);
        self.attachments.add(attachment, head)
    }

    /// Takes an attachment out for good, and its domain id with it if it was the last on
    /// its unit: hardware has forgotten both.
    pub(crate) fn release(&mut self, index: u16) -> Option<Attachment> {
        let domain = self.attachments.get(index)?.domain;
        let entries = &mut self.entries;
        let head = domain
            .and_then(|index| entries.get_mut(usize::from(index)))
            .and_then(|entry| entry.value.as_mut())
            .map(|domain| &mut domain.first);
        let attachment = self.attachments.remove(index, head)?;
        if let Some(domain) = domain {
            let still_used = self
                .by_index(domain)
                .and_then(|domain| self.id_on(domain, attachment.unit))
                .is_some();
            if !still_used && let Some(ids) = self.ids.get_mut(attachment.unit) {
                ids.give_back(attachment.domain_id);
            }
            self.bury(domain);
        }
        Some(attachment)
    }
}
