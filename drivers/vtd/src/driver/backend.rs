//! The driver as a [`Backend`].

use super::Driver;
use super::capabilities::tables_of_the_caller;
use super::device_tlb::{DeviceTlb, DeviceTlbError};
use super::replace::leads_to;
use crate::Event;
use crate::domain::{Kept, Needs, PagingTables, Translation};
use crate::invalidation::{Debt, Kind};
use crate::slots::Attributes;
use crate::unit::Unit;
use io_pgtable::{Limits, PermissionTable, TableConfig};
use iommu_core::{
    Access, Address, AddressRange, AtsCapability, Attachment, Backend, BackendError, Batch,
    Coherence, DeviceCapabilities, DeviceId, DomainHandle, DomainSpec, FaultReason, FaultRecord,
    FlushError, Flushed, FrameList, Hpa, Iova, MapError, Mmio, NestedSpec, Observer, Owed,
    PAGE_SHIFT, PageAttributes, PageRequest, PageResponse, Platform, Replaced, Run, Scope,
    ServiceError, Slot, Stage, TableFormat, WalkStep,
};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    fn owe(&self, kind: Kind, frames: FrameList) -> Owed<'_, Debt> {
        Owed::new(Debt(kind), frames, self)
    }

    fn create_paging(
        &self,
        device: DeviceId,
        format: TableFormat,
        checked: bool,
        attributes: &PageAttributes,
    ) -> Result<DomainHandle, BackendError> {
        let (_, unit) = self.locate(device)?;
        if !unit.supports(format) {
            return Err(BackendError::FormatUnsupported { device, format });
        }
        if checked && !unit.checks_translated_requests() {
            return Err(BackendError::Unchecked(device));
        }
        let mut said = Attributes {
            snoop: attributes.snoop,
            memory_type: attributes.memory_type,
            uncached: attributes.uncached,
            ..Attributes::default()
        };
        if !unit.has_attributes(&said) {
            return Err(BackendError::AttributesUnsupported(device));
        }
        let config = table_config(unit, format.stage(), attributes);
        let kept = self.make_tables(format, config, checked)?;
        let translation = Translation::Tables {
            format,
            root: kept.table.root(),
            owned: true,
            needs: needs(&config),
        };
        said.permissions = kept.permissions.as_ref().map(PermissionTable::root);
        let added = self
            .domains
            .lock(&self.platform)
            .add_with(translation, said);
        let Some(handle) = added else {
            self.discard(kept);
            return Err(BackendError::OutOfDomains);
        };
        match self.paging.keep(&self.platform, handle, kept) {
            Ok(()) => Ok(handle),
            Err(kept) => {
                self.discard(kept);
                Err(BackendError::OutOfDomains)
            }
        }
    }

    fn make_tables(
        &self,
        format: TableFormat,
        config: TableConfig,
        checked: bool,
    ) -> Result<Kept, BackendError> {
        let mut kept = Kept {
            table: PagingTables::make(&self.platform, format, config)?,
            permissions: None,
        };
        if checked {
            match PermissionTable::new(&self.platform, config.coherence) {
                Ok(permissions) => kept.permissions = Some(permissions),
                Err(error) => {
                    self.discard(kept);
                    return Err(error.into());
                }
            }
        }
        Ok(kept)
    }

    /// Gives up tables that hardware never knew.
    fn discard(&self, kept: Kept) {
        let mut frames = kept.destroy(&self.platform);
        while let Some(frame) = frames.pop() {
            self.platform.release(frame);
        }
    }

    fn create_root(
        &self,
        device: DeviceId,
        format: TableFormat,
        root: Hpa,
    ) -> Result<DomainHandle, BackendError> {
        let (_, unit) = self.locate(device)?;
        if !unit.supports(format) {
            return Err(BackendError::FormatUnsupported { device, format });
        }
        let beyond = root.as_u64() >> unit.abilities.host_bits.min(63) != 0;
        if beyond || !root.is_aligned(PAGE_SHIFT) {
            return Err(BackendError::BeyondHostWidth(root));
        }
        self.add(tables_of_the_caller(format, root))
    }

    fn create_nested(
        &self,
        device: DeviceId,
        spec: NestedSpec,
    ) -> Result<DomainHandle, BackendError> {
        let (_, unit) = self.locate(device)?;
        let unsupported = Err(BackendError::Unsupported(device));
        let wants_more = spec.supervisor && !unit.abilities.ecap.srs();
        if !unit.can_nest() || wants_more || spec.format.stage() != Stage::First {
            return unsupported;
        }
        if !unit.supports(spec.format) {
            return Err(BackendError::FormatUnsupported {
                device,
                format: spec.format,
            });
        }
        let mut domains = self.domains.lock(&self.platform);
        let gone = BackendError::NoDomain(spec.parent);
        let parent = domains.get_mut(spec.parent).ok_or(gone)?;
        let Translation::Tables { format, .. } = parent.translation else {
            return unsupported;
        };
        // The guest's root goes through the second stage: §9.6, SPT.4.4.
        let width = format
            .input_bits()
            .min(unit.abilities.cap.guest_address_bits());
        let root_fits = spec.root.as_u64() >> width == 0 && spec.root.is_aligned(PAGE_SHIFT);
        if format.stage() != Stage::Second || !root_fits {
            return unsupported;
        }
        parent.children = parent.children.saturating_add(1);
        parent.had_children = true;
        let added = domains.add(Translation::Nested(spec));
        if added.is_none()
            && let Some(parent) = domains.get_mut(spec.parent)
        {
            parent.children = parent.children.saturating_sub(1);
        }
        added.ok_or(BackendError::OutOfDomains)
    }

    fn add(&self, translation: Translation) -> Result<DomainHandle, BackendError> {
        self.domains
            .lock(&self.platform)
            .add(translation)
            .ok_or(BackendError::OutOfDomains)
    }

    /// Marks a domain as destroyed, if nothing leads to it.
    fn condemn(&self, handle: DomainHandle) -> Result<(), BackendError> {
        let mut domains = self.domains.lock(&self.platform);
        let domain = domains.get(handle).ok_or(BackendError::NoDomain(handle))?;
        let attached = domains
            .attachments
            .of_domain(domain.first)
            .any(|(_, attachment)| !attachment.leaving);
        if attached || domain.children > 0 {
            return Err(BackendError::Busy(handle));
        }
        let parent = match domain.translation {
            Translation::Nested(spec) => Some(spec.parent),
            Translation::Tables { .. } => None,
        };
        if let Some(domain) = domains.get_mut(handle) {
            domain.dying = true;
        }
        if let Some(parent) = parent.and_then(|parent| domains.get_mut(parent)) {
            parent.children = parent.children.saturating_sub(1);
        }
        Ok(())
    }

    /// What is owed after translations became present.
    fn after_mapping(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
        checked: bool,
    ) -> Kind {
        if self.tells_of_mappings || checked {
            Kind::Mapped {
                domain: domain.into(),
                range: range.into(),
            }
        } else {
            Kind::Nothing
        }
    }
}

fn of_device_tlb(error: DeviceTlbError<ServiceError>) -> BackendError {
    match error {
        DeviceTlbError::Backend(error) => error,
        DeviceTlbError::Device(error) => BackendError::Device(error),
    }
}

/// What a table for this unit may contain.
fn table_config<M: Mmio>(unit: &Unit<M>, stage: Stage, attributes: &PageAttributes) -> TableConfig {
    TableConfig {
        limits: Limits {
            host_bits: unit.abilities.host_bits,
            leaves: unit.leaves(stage),
            snoop_control: unit.abilities.ecap.sc(),
        },
        iova_bits: unit.abilities.cap.guest_address_bits(),
        coherence: unit.paging_coherence(),
        snoop: attributes.snoop,
        memory_type: attributes.memory_type,
    }
}

/// What another unit must have to read such a table.
fn needs(config: &TableConfig) -> Needs {
    Needs {
        snooping: config.coherence == Coherence::Snooped,
        mib2: config.limits.leaves.mib2,
        gib1: config.limits.leaves.gib1,
        iova_bits: config.iova_bits,
        host_bits: config.limits.host_bits,
    }
}

impl<P, M, S> Backend for Driver<P, M, S>
where
    P: Platform + Observer<Event>,
    M: Mmio,
{
    type Debt = Debt;

    fn capabilities(&self, device: DeviceId) -> Result<DeviceCapabilities, BackendError> {
        self.locate(device).map(|(_, unit)| unit.capabilities())
    }

    fn create(&self, device: DeviceId, spec: &DomainSpec) -> Result<DomainHandle, BackendError> {
        match *spec {
            DomainSpec::Paging(format) => {
                self.create_paging(device, format, false, &PageAttributes::default())
            }
            DomainSpec::Root { format, root } => self.create_root(device, format, root),
            DomainSpec::Nested(spec) => self.create_nested(device, spec),
        }
    }

    fn create_with(
        &self,
        device: DeviceId,
        format: TableFormat,
        attributes: &PageAttributes,
    ) -> Result<DomainHandle, BackendError> {
        self.create_paging(device, format, false, attributes)
    }

    fn create_checked(
        &self,
        device: DeviceId,
        format: TableFormat,
    ) -> Result<DomainHandle, BackendError> {
        self.create_paging(device, format, true, &PageAttributes::default())
    }

    fn destroy(&self, domain: DomainHandle) -> Result<Owed<'_, Debt>, BackendError> {
        self.condemn(domain)?;
        let frames = self
            .paging
            .remove(&self.platform, domain)
            .map(|kept| kept.destroy(&self.platform))
            .unwrap_or_default();
        Ok(self.owe(Kind::Destroyed(domain.into()), frames))
    }

    fn map(
        &self,
        domain: DomainHandle,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Owed<'_, Debt>, MapError> {
        let (mapped, checked) = self
            .paging
            .with(&self.platform, domain, |kept| {
                let mapped = kept.map(&self.platform, iova, runs, access);
                mapped.map(|mapped| (mapped, kept.permissions.is_some()))
            })
            .ok_or(MapError::NotPaging(domain))??;
        let kind = self.after_mapping(domain, mapped.range, checked);
        Ok(self.owe(kind, FrameList::new()))
    }

    fn unmap(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
    ) -> Result<Owed<'_, Debt>, MapError> {
        let unmapped = self
            .paging
            .with(&self.platform, domain, |kept| {
                kept.unmap(&self.platform, range)
            })
            .ok_or(MapError::NotPaging(domain))??;
        let kind = match unmapped.changed {
            None => Kind::Nothing,
            Some(changed) => Kind::Changed {
                domain: domain.into(),
                range: changed.into(),
                leaf_only: unmapped.leaf_only,
            },
        };
        Ok(self.owe(kind, unmapped.frames))
    }

    fn replace(&self, slot: Slot, to: Attachment) -> Result<Replaced<'_, Debt>, BackendError> {
        self.replace_slot(slot, to)
    }

    fn attachment(&self, slot: Slot) -> Result<Attachment, BackendError> {
        self.locate(slot.device)?;
        Ok(leads_to(&self.domains.lock(&self.platform), slot))
    }

    fn invalidate(
        &self,
        domain: DomainHandle,
        scope: Scope,
    ) -> Result<Owed<'_, Debt>, BackendError> {
        let known = self.domains.lock(&self.platform).get(domain).is_some();
        if !known {
            return Err(BackendError::NoDomain(domain));
        }
        let kind = match scope {
            Scope::Everything => Kind::ChangedAll(domain.into()),
            Scope::Range { range, leaf_only } => Kind::Changed {
                domain: domain.into(),
                range: range.into(),
                leaf_only,
            },
        };
        Ok(self.owe(kind, FrameList::new()))
    }

    fn commit(&self, batch: &mut Batch<'_, Debt>) -> Result<Flushed, FlushError> {
        self.settle(batch)
    }

    fn reclaim(&self) -> Result<Flushed, FlushError> {
        self.forget_and_reclaim()
    }

    fn has_unconfirmed(&self) -> bool {
        self.is_unconfirmed()
    }

    fn drain_faults(&self, sink: &mut dyn FnMut(&FaultRecord)) {
        for unit in &self.units {
            unit.drain_faults(&self.platform, sink);
            self.watch_floods(unit);
        }
    }

    fn drain_page_requests(&self, sink: &mut dyn FnMut(&PageRequest)) {
        for unit in &self.units {
            unit.drain_page_requests(&self.platform, sink);
        }
    }

    fn respond(&self, response: &PageResponse) -> Result<(), BackendError> {
        self.answer(core::slice::from_ref(response))
    }

    fn respond_all(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        self.answer(responses)
    }

    fn enable_page_requests(
        &self,
        device: DeviceId,
        ats: AtsCapability,
        turn_on: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        let settings = DeviceTlb {
            queue_depth: ats.queue_depth,
            physical_function: ats.physical_function,
            page_requests: true,
        };
        self.enable_device_tlb(device, settings, turn_on)
            .map_err(of_device_tlb)
    }

    fn disable_page_requests(
        &self,
        device: DeviceId,
        turn_off: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        self.disable_device_tlb(device, turn_off)
            .map_err(of_device_tlb)
    }

    fn flush_page_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        self.flush_requests(slot)
    }

    fn explain(
        &self,
        slot: Slot,
        iova: Iova,
        access: Access,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        self.explain_request(slot, iova, access, step)
    }
}
