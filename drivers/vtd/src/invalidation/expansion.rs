//! From debts to descriptors, one at a time, for one unit.
//!
//! First everything that the unit itself caches, then what devices cache: a device may ask
//! again at once, and must not be answered from the IOTLB (§6.5.2.12).
//!
//! An expansion can be left and taken up again while attachments come and go: it goes on
//! behind the last attachment that it told, in the order of their places. An attachment
//! that came since need not be told, since it came after the change.

use super::debt::{Debt, EntryChange, Kind};
use super::steps::{self, Steps, Template};
use crate::abilities::Abilities;
use crate::domain::{Attachment, AttachmentRef, Domain, Domains};
use crate::queue::{Blocks, Descriptor, IotlbScope};
use arrayvec::ArrayVec;
use iommu_core::{DomainHandle, Order, Stage};

/// What of the unit matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// Position of the unit.
    pub(crate) unit: usize,
    pub(crate) abilities: Abilities,
    pub(crate) scalable: bool,
    /// Devices may be told (only while translation is on).
    pub(crate) devices: bool,
    /// A wait that only fences; `None` where invalidations are done one by one.
    pub(crate) fence: Option<Descriptor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    Unit,
    Devices,
    /// What is cached of host permissions, when all else is told.
    Permissions,
    Done,
}

/// The attachments told so far for the current debt.
#[derive(Clone, Copy, Default, Debug)]
struct Cursor {
    /// Of the domain itself (`None`), or of the nested domain with this index.
    child: Option<u16>,
    /// Place of the last one.
    after: Option<u16>,
}

/// A source of descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Expansion<'d> {
    debts: &'d [Debt],
    scene: Scene,
    pass: Pass,
    next_debt: usize,
    cursor: Cursor,
    steps: Steps,
    /// Looked at, and not taken yet.
    ahead: Option<Descriptor>,
    /// A PASID-based IOTLB invalidation was queued after the last fence.
    unfenced: bool,
    /// Every device is still to be told, those before `next_debt` excepted.
    all_devices: bool,
}

impl<'d> Expansion<'d> {
    pub(crate) fn new(debts: &'d [Debt], scene: Scene) -> Self {
        Self {
            debts,
            scene,
            pass: Pass::Unit,
            next_debt: 0,
            cursor: Cursor::default(),
            steps: Steps::none(),
            ahead: None,
            unfenced: false,
            all_devices: false,
        }
    }

    /// What is told behind all else: that host permissions changed (§6.5.3.4).
    pub(crate) fn permissions(debts: &'d [Debt], scene: Scene) -> Self {
        Self {
            pass: Pass::Permissions,
            ..Self::new(debts, scene)
        }
    }

    /// All that can be told: what the unit is given, and then everything to every device
    /// behind it that has a TLB.
    pub(crate) fn everything(scene: Scene, unit: ArrayVec<Descriptor, 5>) -> Self {
        Self {
            steps: Steps::of(unit),
            all_devices: scene.devices,
            ..Self::new(&[], scene)
        }
    }

    /// Whether nothing is left to tell.
    pub(crate) fn is_done(&mut self, domains: &Domains) -> bool {
        if self.ahead.is_none() {
            self.ahead = self.produce(domains);
        }
        self.ahead.is_none()
    }

    /// The next descriptor.
    pub(crate) fn next(&mut self, domains: &Domains) -> Option<Descriptor> {
        let descriptor = match self.ahead.take() {
            Some(descriptor) => Some(descriptor),
            None => self.produce(domains),
        };
        self.fenced(descriptor?)
    }

    /// Type 3 is ordered behind type 2 and not behind type 6 (§6.5.2.12): a fence is put
    /// between.
    fn fenced(&mut self, descriptor: Descriptor) -> Option<Descriptor> {
        match descriptor {
            Descriptor::Iotlb(IotlbScope::Pasid { .. } | IotlbScope::PasidPages { .. }) => {
                self.unfenced = true;
            }
            Descriptor::DeviceTlb { pasid: None, .. } if self.unfenced => {
                self.unfenced = false;
                if let Some(fence) = self.scene.fence {
                    self.ahead = Some(descriptor);
                    return Some(fence);
                }
            }
            _ => {}
        }
        Some(descriptor)
    }

    fn produce(&mut self, domains: &Domains) -> Option<Descriptor> {
        loop {
            if let Some(descriptor) = self.steps.take() {
                return Some(descriptor);
            }
            if self.all_devices {
                self.next_device(domains);
                continue;
            }
            if self.pass == Pass::Done {
                return None;
            }
            match self.debts.get(self.next_debt) {
                None => self.next_pass(),
                Some(debt) => self.advance(domains, debt.0),
            }
        }
    }

    /// Everything that the next device may have cached; ends the walk over them.
    fn next_device(&mut self, domains: &Domains) {
        let Some((device, target)) = domains.device_tlbs.get(self.next_debt).copied() else {
            self.all_devices = false;
            self.next_debt = 0;
            return;
        };
        self.next_debt = self.next_debt.saturating_add(1);
        let attached = domains
            .attachments
            .iter()
            .any(|(_, found)| found.unit == self.scene.unit && found.slot.device == device);
        if attached {
            let with_pasids = self.scene.scalable && self.scene.abilities.ecap.pasid();
            self.steps = Steps::of(target.everything(with_pasids));
        }
    }

    fn next_pass(&mut self) {
        self.next_debt = 0;
        self.cursor = Cursor::default();
        self.pass = match self.pass {
            Pass::Unit if self.scene.devices => Pass::Devices,
            _ => Pass::Done,
        };
    }

    fn debt_done(&mut self) {
        self.next_debt = self.next_debt.saturating_add(1);
        self.cursor = Cursor::default();
    }

    /// Fills `steps` with what the debt still wants, or goes on to the next one.
    fn advance(&mut self, domains: &Domains, kind: Kind) {
        match kind {
            Kind::Nothing => self.debt_done(),
            Kind::Entry(change) => {
                if change.unit == self.scene.unit {
                    self.steps = self.entry_steps(domains, &change);
                }
                self.debt_done();
            }
            Kind::Destroyed(handle)
            | Kind::EntriesChanged(handle)
            | Kind::ChangedAll(handle)
            | Kind::Mapped { domain: handle, .. }
            | Kind::Changed { domain: handle, .. } => {
                match next_attachment(domains, handle.into(), self.cursor, self.scene.unit) {
                    None => self.debt_done(),
                    Some(found) => {
                        self.steps = self.attachment_steps(domains, kind, &found);
                        self.cursor = found.cursor;
                    }
                }
            }
        }
    }

    fn entry_steps(&self, domains: &Domains, change: &EntryChange) -> Steps {
        let resolve = |reference: Option<AttachmentRef>| {
            reference.and_then(|reference| domains.attachments.resolve(reference))
        };
        let left = resolve(change.left);
        match self.pass {
            Pass::Permissions => left.map_or(Steps::none(), steps::permissions),
            Pass::Unit => steps::entry(
                &self.scene.abilities,
                self.scene.scalable,
                change,
                left.map(|attachment| (attachment, domain_of(domains, attachment))),
                resolve(change.entered),
            ),
            _ => left.map_or(Steps::none(), |attachment| {
                device_everything(domains, attachment)
            }),
        }
    }

    fn attachment_steps(&self, domains: &Domains, kind: Kind, found: &Found<'_>) -> Steps {
        match self.pass {
            Pass::Unit => self.unit_steps(domains, kind, found),
            Pass::Permissions if found.told_already(domains, Stage::Second) => Steps::none(),
            Pass::Permissions => steps::permissions(found.attachment),
            _ => device_steps(domains, kind, found),
        }
    }

    fn unit_steps(&self, domains: &Domains, kind: Kind, found: &Found<'_>) -> Steps {
        let abilities = &self.scene.abilities;
        let attachment = found.attachment;
        if let Kind::Destroyed(_) | Kind::EntriesChanged(_) = kind {
            return steps::left(self.scene.scalable, attachment, Some(found.domain));
        }
        let stage = found.stage();
        if found.told_already(domains, stage) {
            return Steps::none();
        }
        match kind {
            Kind::Changed {
                range, leaf_only, ..
            } => steps::range(abilities, attachment, stage, range.get(), leaf_only),
            // Only second-stage tables may be cached as not present (§6.1).
            Kind::Mapped { range, .. } if abilities.caches_absence() && stage == Stage::Second => {
                steps::range(abilities, attachment, stage, range.get(), false)
            }
            Kind::ChangedAll(_) => steps::everything(attachment, stage),
            _ => Steps::none(),
        }
    }
}

/// An attachment that a debt concerns.
struct Found<'a> {
    cursor: Cursor,
    attachment: &'a Attachment,
    domain: &'a Domain,
}

impl Found<'_> {
    /// The stage whose tables changed, as this attachment uses them: of a nested domain
    /// above the one that changed, the second.
    fn stage(&self) -> Stage {
        match self.cursor.child {
            Some(_) => Stage::Second,
            None => self.domain.stage(),
        }
    }

    /// Whether an attachment before this one has the same tags in the unit's caches.
    fn told_already(&self, domains: &Domains, stage: Stage) -> bool {
        let tag = steps::tag(self.attachment);
        domains
            .attachments
            .of_domain(self.domain.first)
            .take_while(|(index, _)| Some(*index) != self.cursor.after)
            .any(|(_, earlier)| {
                earlier.unit == self.attachment.unit
                    && (stage == Stage::Second || steps::tag(earlier) == tag)
            })
    }
}

fn domain_of<'a>(domains: &'a Domains, attachment: &Attachment) -> Option<&'a Domain> {
    domains.by_index(attachment.domain?)
}

/// The next attachment on `unit` behind the cursor: those of the domain, then those of the
/// nested domains above it.
fn next_attachment(
    domains: &Domains,
    handle: DomainHandle,
    cursor: Cursor,
    unit: usize,
) -> Option<Found<'_>> {
    let domain = domains.known(handle)?;
    let own = (None, domain);
    let children = domains
        .children(handle)
        .map(|(index, child)| (Some(index), child));
    core::iter::once(own)
        .chain(children)
        .skip_while(|(child, _)| *child < cursor.child)
        .find_map(|(child, domain)| {
            let after = cursor.after.filter(|_| child == cursor.child);
            domains
                .attachments
                .of_domain(domain.first)
                .find(|(index, attachment)| {
                    attachment.unit == unit && after.is_none_or(|after| *index > after)
                })
                .map(|(index, attachment)| Found {
                    cursor: Cursor {
                        child,
                        after: Some(index),
                    },
                    attachment,
                    domain,
                })
        })
}

/// All that a device caches for the requests of one slot.
fn device_everything(domains: &Domains, attachment: &Attachment) -> Steps {
    match domains.device_tlb(attachment.slot.device) {
        None => Steps::none(),
        Some(target) => Steps::one(Descriptor::DeviceTlb {
            target,
            pasid: attachment.slot.pasid,
            block: None,
        }),
    }
}

fn device_steps(domains: &Domains, kind: Kind, found: &Found<'_>) -> Steps {
    let attachment = found.attachment;
    match kind {
        // A device knows the addresses of the first stage only, so a change of the second
        // stage below cannot be told by address.
        Kind::Changed { range, .. } if found.cursor.child.is_none() => {
            match domains.device_tlb(attachment.slot.device) {
                None => Steps::none(),
                Some(target) => Steps::Blocks {
                    blocks: Blocks::of(range.get(), Order::MAX),
                    of: Template::Device {
                        target,
                        pasid: attachment.slot.pasid,
                    },
                },
            }
        }
        Kind::Changed { .. }
        | Kind::ChangedAll(_)
        | Kind::EntriesChanged(_)
        | Kind::Destroyed(_) => device_everything(domains, attachment),
        _ => Steps::none(),
    }
}
