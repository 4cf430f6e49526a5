//! Making a slot lead elsewhere.

use super::Driver;
use crate::Event;
use crate::domain::{Attachment, Domains, Translation};
use crate::invalidation::{Debt, EntryChange, Kind};
use crate::slots::{Attributes, Change, Target};
use crate::unit::Unit;
use iommu_core::{
    Attachment as To, BackendError, DeviceId, DomainHandle, FrameList, Mmio, Observer, Owed,
    Platform, Replaced, Slot,
};

/// What a slot will lead to, with everything that can fail already had.
struct Entering {
    target: Target,
    attributes: Attributes,
    domain: Option<DomainHandle>,
    /// The domain id was taken for this.
    fresh_id: bool,
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    pub(super) fn replace_slot(
        &self,
        slot: Slot,
        to: To,
    ) -> Result<Replaced<'_, Debt>, BackendError> {
        let (position, unit) = self.locate(slot.device)?;
        unit.check_slot(slot)?;
        let mut domains = self.domains.lock(&self.platform);
        let previous = leads_to(&domains, slot);
        if previous == to {
            return Ok(self.unchanged(previous));
        }
        let entering = enter(&mut domains, position, unit, slot, to)?;
        if let Some(e) = &entering
            && !self.may_enter(&domains, unit, slot, &e.attributes)
        {
            take_back(&mut domains, position, entering);
            return Err(BackendError::Unchecked(slot.device));
        }
        let target = entering.as_ref().map_or(Target::Blocked, |e| e.target);
        let attributes = entering.as_ref().map(|e| e.attributes).unwrap_or_default();
        let written = unit.tables.lock(&self.platform).set(
            &self.platform,
            slot.device.source,
            slot.pasid,
            &target,
            &attributes,
        );
        let change = match written {
            Ok(change) => change,
            Err(error) => {
                take_back(&mut domains, position, entering);
                return Err(error.into());
            }
        };
        let hitless = change.hitless;
        let debt = record(&mut domains, position, unit, slot, entering, change);
        drop(domains);
        self.platform.observe(&Event::Attached {
            device: slot.device,
            pasid: slot.pasid,
            domain: match to {
                To::Domain(domain) => Some(domain),
                _ => None,
            },
            domain_id: target.domain_id(),
        });
        Ok(Replaced {
            previous,
            hitless,
            owed: Owed::new(debt, FrameList::new(), self),
        })
    }

    fn unchanged(&self, previous: To) -> Replaced<'_, Debt> {
        Replaced {
            previous,
            hitless: true,
            owed: Owed::new(Debt(Kind::Nothing), FrameList::new(), self),
        }
    }
}

/// Where a slot leads now.
pub(super) fn leads_to(domains: &Domains, slot: Slot) -> To {
    let attachment = domains
        .attachments
        .of_slot(slot)
        .and_then(|index| domains.attachments.get(index));
    match attachment {
        None => To::Blocked,
        Some(attachment) => attachment
            .domain
            .and_then(|index| domains.handle(index))
            .map_or(To::PassThrough, To::Domain),
    }
}

fn enter<M: Mmio>(
    domains: &mut Domains,
    position: usize,
    unit: &Unit<M>,
    slot: Slot,
    to: To,
) -> Result<Option<Entering>, BackendError> {
    let (domain, translation) = match to {
        To::Blocked => return Ok(None),
        To::PassThrough if unit.abilities.ecap.pt() => (None, None),
        To::PassThrough => return Err(BackendError::Unsupported(slot.device)),
        To::Domain(handle) => {
            let domain = domains.get(handle).ok_or(BackendError::NoDomain(handle))?;
            (Some(handle), Some(domain.translation))
        }
    };
    if let Some(translation) = &translation {
        check_translation(domains, unit, slot.device, translation)?;
    }
    let attributes = domain.map_or_else(Attributes::default, |handle| domains.attributes(handle));
    if attributes.dirty && !unit.tracks_dirty() {
        return Err(BackendError::DirtyTrackingUnsupported(slot.device));
    }
    if !unit.has_attributes(&attributes) {
        return Err(BackendError::AttributesUnsupported(slot.device));
    }
    if !domains.attachments.has_room() {
        return Err(BackendError::OutOfDomains);
    }
    let (domain_id, fresh_id) = match domain {
        None => {
            let ids = domains.ids.get(position);
            let shared = ids.ok_or(BackendError::OutOfDomains)?.pass_through();
            (shared, false)
        }
        Some(handle) => domain_id(domains, position, handle)?,
    };
    let target = match translation {
        None => Some(Target::PassThrough { domain_id }),
        Some(translation) => target_of(domains, &translation, domain_id),
    };
    let entering = |target| Entering {
        target,
        attributes,
        domain,
        fresh_id,
    };
    match target {
        Some(target) => Ok(Some(entering(target))),
        None => {
            take_back(
                domains,
                position,
                Some(entering(Target::PassThrough { domain_id })),
            );
            Err(BackendError::Unsupported(slot.device))
        }
    }
}

fn check_translation<M: Mmio>(
    domains: &Domains,
    unit: &Unit<M>,
    device: DeviceId,
    translation: &Translation,
) -> Result<(), BackendError> {
    match translation {
        Translation::Tables { format, needs, .. } => unit.check_tables(device, *format, needs),
        Translation::Nested(spec) => {
            if !unit.can_nest() || !unit.supports(spec.format) {
                return Err(BackendError::Unsupported(device));
            }
            let parent = domains
                .get(spec.parent)
                .ok_or(BackendError::NoDomain(spec.parent))?;
            check_translation(domains, unit, device, &parent.translation)
        }
    }
}

/// The id that the domain has on the unit, or a new one.
fn domain_id(
    domains: &mut Domains,
    position: usize,
    handle: DomainHandle,
) -> Result<(u16, bool), BackendError> {
    let domain = domains.get(handle).ok_or(BackendError::NoDomain(handle))?;
    if let Some(id) = domains.id_on(domain, position) {
        return Ok((id, false));
    }
    let ids = domains.ids.get_mut(position);
    ids.and_then(|ids| ids.take())
        .map(|id| (id, true))
        .ok_or(BackendError::OutOfDomains)
}

pub(super) fn target_of(
    domains: &Domains,
    translation: &Translation,
    domain_id: u16,
) -> Option<Target> {
    match *translation {
        Translation::Tables { format, root, .. } => Some(Target::table(domain_id, format, root)),
        Translation::Nested(spec) => match domains.get(spec.parent)?.translation {
            Translation::Tables { format, root, .. } => Some(Target::nested(
                domain_id,
                (spec.format, spec.root),
                (spec.supervisor, spec.write_protect),
                (format, root),
            )),
            Translation::Nested(_) => None,
        },
    }
}

fn take_back(domains: &mut Domains, position: usize, entering: Option<Entering>) {
    if let Some(entering) = entering.filter(|entering| entering.fresh_id)
        && let Some(ids) = domains.ids.get_mut(position)
    {
        ids.give_back(entering.target.domain_id());
    }
}

/// Writes down what was done, and what is owed for it. Cannot fail.
fn record<M: Mmio>(
    domains: &mut Domains,
    position: usize,
    unit: &Unit<M>,
    slot: Slot,
    entering: Option<Entering>,
    change: Change,
) -> Debt {
    let left = domains.attachments.of_slot(slot);
    let tables_replaced = change.table_replaced || change.retired.is_some();
    let quiet = left.is_none()
        && !tables_replaced
        && !unit.abilities.caches_absence()
        && !unit.abilities.needs_write_buffer_flush();
    if let Some(attachment) = left.and_then(|index| domains.attachments.get_mut(index)) {
        attachment.leaving = true;
        attachment.debts = attachment.debts.saturating_add(1);
    }
    let entered = match entering {
        None => {
            domains.attachments.forget_slot(slot);
            None
        }
        Some(entering) => domains.attach(Attachment {
            slot,
            unit: position,
            domain_id: entering.target.domain_id(),
            domain: entering.domain.map(|handle| handle.index),
            leaving: false,
            checked: entering.attributes.permissions.is_some() && unit.checks_translated_requests(),
            debts: u8::from(!quiet),
            retired: change.retired,
        }),
    };
    if quiet {
        return Debt(Kind::Nothing);
    }
    let reference = |index: Option<u16>| index.and_then(|i| domains.attachments.reference(i));
    Debt(Kind::Entry(EntryChange {
        unit: position,
        source: slot.device.source,
        pasid: slot.pasid,
        left: reference(left),
        entered: reference(entered),
        root_grew: change.root_grew,
        context_changed: change.context_changed,
        tables_replaced,
    }))
}
