//! The descriptors for one change and one attachment (§6.5.3.3).

use super::debt::EntryChange;
use crate::abilities::Abilities;
use crate::domain::{Attachment, Domain};
use crate::queue::{
    Block, Blocks, ContextScope, Descriptor, DeviceTlbTarget, IotlbScope, PasidScope, block_limit,
};
use arrayvec::ArrayVec;
use iommu_core::{AddressRange, Iova, Order, Pasid, Stage};

/// The largest block in first-stage invalidations: that of the largest page. Larger ones
/// would be legal and gain nothing (QEMU refuses them).
const FIRST_STAGE_LIMIT: Order = Order::PAGE_1G;

/// Descriptors in the order in which they are queued.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them for each commit, on its stack"
)]
pub(super) enum Steps {
    /// A few that are known.
    Few(ArrayVec<Descriptor, 12>),
    /// One for each block of a range.
    Blocks { blocks: Blocks, of: Template },
}

/// What a block is put into.
#[derive(Clone, Copy, Debug)]
pub(super) enum Template {
    SecondStage {
        domain: u16,
        leaf_only: bool,
    },
    FirstStage {
        domain: u16,
        pasid: Pasid,
        leaf_only: bool,
    },
    Device {
        target: DeviceTlbTarget,
        pasid: Option<Pasid>,
    },
}

impl Template {
    fn with(self, block: Block) -> Descriptor {
        match self {
            Self::SecondStage { domain, leaf_only } => Descriptor::Iotlb(IotlbScope::Pages {
                domain,
                block,
                leaf_only,
            }),
            Self::FirstStage {
                domain,
                pasid,
                leaf_only,
            } => Descriptor::Iotlb(IotlbScope::PasidPages {
                domain,
                pasid,
                block,
                leaf_only,
            }),
            Self::Device { target, pasid } => Descriptor::DeviceTlb {
                target,
                pasid,
                block: Some(block),
            },
        }
    }
}

impl Steps {
    pub(super) fn none() -> Self {
        Self::Few(ArrayVec::new())
    }

    pub(super) fn of(descriptors: impl IntoIterator<Item = Descriptor>) -> Self {
        Self::Few(descriptors.into_iter().take(12).collect())
    }

    pub(super) fn one(descriptor: Descriptor) -> Self {
        let mut few = ArrayVec::new();
        few.push(descriptor);
        Self::Few(few)
    }

    /// The next descriptor.
    pub(super) fn take(&mut self) -> Option<Descriptor> {
        match self {
            Self::Few(few) => few.pop_at(0),
            Self::Blocks { blocks, of } => blocks.next().map(|block| of.with(block)),
        }
    }
}

/// The PASID that an attachment's cached translations are tagged with: requests without
/// one use RID_PASID, which the driver keeps at 0.
pub(super) fn tag(attachment: &Attachment) -> Pasid {
    attachment.slot.pasid.unwrap_or(Pasid::ZERO)
}

/// Translations of a range changed: drop them for one attachment.
pub(super) fn range(
    abilities: &Abilities,
    attachment: &Attachment,
    stage: Stage,
    range: AddressRange<Iova>,
    leaf_only: bool,
) -> Steps {
    let domain = attachment.domain_id;
    match stage {
        Stage::First => Steps::Blocks {
            blocks: Blocks::of(range, FIRST_STAGE_LIMIT),
            of: Template::FirstStage {
                domain,
                pasid: tag(attachment),
                leaf_only,
            },
        },
        Stage::Second => second_stage_range(abilities, domain, range, leaf_only),
    }
}

/// Page-selective as far as the unit can name the pages, else the whole domain.
fn second_stage_range(
    abilities: &Abilities,
    domain: u16,
    range: AddressRange<Iova>,
    leaf_only: bool,
) -> Steps {
    let largest = Blocks::of(range, Order::MAX)
        .map(|block| block.order)
        .max()
        .unwrap_or(Order::PAGE);
    let limit = abilities
        .second_stage_mask_limit()
        .and_then(|mask| block_limit(largest, mask));
    match limit {
        Some(limit) => Steps::Blocks {
            blocks: Blocks::of(range, limit),
            of: Template::SecondStage { domain, leaf_only },
        },
        None => Steps::one(Descriptor::Iotlb(IotlbScope::Domain(domain))),
    }
}

/// Everything may have changed: drop all that one attachment may use.
pub(super) fn everything(attachment: &Attachment, stage: Stage) -> Steps {
    let domain = attachment.domain_id;
    Steps::one(Descriptor::Iotlb(match stage {
        Stage::First => IotlbScope::Pasid {
            domain,
            pasid: tag(attachment),
        },
        Stage::Second => IotlbScope::Domain(domain),
    }))
}

/// The host permissions that an attachment's entry led to changed, or its slot leads there no
/// more (§6.5.3.4, table 29).
pub(super) fn permissions(attachment: &Attachment) -> Steps {
    if attachment.checked {
        Steps::one(Descriptor::HostPermissions {
            domain: attachment.domain_id,
        })
    } else {
        Steps::none()
    }
}

/// The IOTLB of what an entry led to that is gone (rows "PASID entry P 1→0" and "legacy
/// context entry").
fn iotlb_after_leaving(scalable: bool, attachment: &Attachment, second: bool) -> Descriptor {
    let domain = attachment.domain_id;
    Descriptor::Iotlb(if !scalable || second {
        IotlbScope::Domain(domain)
    } else {
        IotlbScope::Pasid {
            domain,
            pasid: tag(attachment),
        }
    })
}

/// A slot does not lead to a domain any more.
pub(super) fn left(scalable: bool, attachment: &Attachment, domain: Option<&Domain>) -> Steps {
    let mut few = ArrayVec::new();
    // Pass-through has no tables; in legacy mode its translations fall with the domain id.
    let second = domain.is_some_and(Domain::has_second_stage);
    few.push(if scalable {
        Descriptor::PasidCache(PasidScope::Pasid {
            domain: attachment.domain_id,
            pasid: tag(attachment),
        })
    } else {
        Descriptor::ContextCache(ContextScope::Device {
            domain: attachment.domain_id,
            source: attachment.slot.device.source,
        })
    });
    few.push(iotlb_after_leaving(scalable, attachment, second));
    Steps::Few(few)
}

/// The entries of a slot changed. `left` and `entered` are what it led to before and leads
/// to now, with their domains.
pub(super) fn entry(
    abilities: &Abilities,
    scalable: bool,
    change: &EntryChange,
    left: Option<(&Attachment, Option<&Domain>)>,
    entered: Option<&Attachment>,
) -> Steps {
    let mut context = ArrayVec::<Descriptor, 2>::new();
    let mut pasid = ArrayVec::<Descriptor, 4>::new();
    let mut iotlb = ArrayVec::<Descriptor, 4>::new();
    if change.tables_replaced {
        // The memory of the old table or directory is given up, so nothing that was read
        // from it, for whichever PASID, may stay (rows "scalable context entry" and
        // "PASID directory entry").
        pasid.push(Descriptor::PasidCache(PasidScope::Global));
        if change.context_changed {
            context.push(device_context(change, 0));
            iotlb.push(Descriptor::Iotlb(IotlbScope::Global));
        }
    }
    if let Some((attachment, domain)) = left {
        let mut steps = self::left(scalable, attachment, domain);
        while let Some(step) = steps.take() {
            match step {
                Descriptor::ContextCache(_) => context.push(step),
                Descriptor::PasidCache(_) => pasid.push(step),
                _ => iotlb.push(step),
            }
        }
    } else if let Some(entered) = entered.filter(|_| abilities.caches_absence()) {
        absence(
            scalable,
            change,
            entered,
            &mut context,
            &mut pasid,
            &mut iotlb,
        );
    }
    let mut few = ArrayVec::new();
    few.extend(context);
    few.extend(pasid);
    few.extend(iotlb);
    Steps::Few(few)
}

fn device_context(change: &EntryChange, domain: u16) -> Descriptor {
    Descriptor::ContextCache(ContextScope::Device {
        domain,
        source: change.source,
    })
}

/// An entry became present on a unit that may have cached that it was not. Such entries are
/// tagged with domain id 0; what followed from them, with the id that it has now.
fn absence(
    scalable: bool,
    change: &EntryChange,
    entered: &Attachment,
    context: &mut ArrayVec<Descriptor, 2>,
    pasid_cache: &mut ArrayVec<Descriptor, 4>,
    iotlb: &mut ArrayVec<Descriptor, 4>,
) {
    if change.root_grew {
        context.push(Descriptor::ContextCache(ContextScope::Global));
        pasid_cache.clear();
        iotlb.clear();
        if scalable {
            pasid_cache.push(Descriptor::PasidCache(PasidScope::Global));
        }
        iotlb.push(Descriptor::Iotlb(IotlbScope::Global));
        return;
    }
    if change.context_changed && context.is_empty() {
        context.push(device_context(change, 0));
    }
    let pasid = change.pasid.unwrap_or(Pasid::ZERO);
    for domain in [0, entered.domain_id] {
        if scalable {
            pasid_cache.push(Descriptor::PasidCache(PasidScope::Pasid { domain, pasid }));
            iotlb.push(Descriptor::Iotlb(IotlbScope::Pasid { domain, pasid }));
        } else {
            iotlb.push(Descriptor::Iotlb(IotlbScope::Domain(domain)));
        }
    }
}
