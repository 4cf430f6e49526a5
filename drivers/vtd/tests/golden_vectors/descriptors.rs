//! Descriptors, as the driver makes them: from what is to be forgotten to words.

use crate::int;
use iommu_core::{Hpa, Iova, Order, Pasid, SourceId};
use vtd::queue::{
    Block, ContextScope, Descriptor, DeviceTlbTarget, IndexBlock, IotlbScope, PasidScope,
};
use vtd_golden::{Structure, Vector};

pub(crate) fn encode(v: &Vector) -> Option<Vec<u64>> {
    let descriptor = match v.structure {
        Structure::ContextCacheDescriptor => Descriptor::ContextCache(context_scope(v)),
        Structure::IotlbDescriptor | Structure::PasidIotlbDescriptor => {
            Descriptor::Iotlb(iotlb_scope(v))
        }
        Structure::PasidCacheDescriptor => Descriptor::PasidCache(pasid_scope(v)),
        Structure::DeviceTlbDescriptor => Descriptor::DeviceTlb {
            target: target(v),
            pasid: None,
            block: device_block(v),
        },
        Structure::PasidDeviceTlbDescriptor if v.is("GI") => {
            Descriptor::DeviceTlbAllPasids { target: target(v) }
        }
        Structure::PasidDeviceTlbDescriptor => Descriptor::DeviceTlb {
            target: target(v),
            pasid: Some(pasid(v)),
            block: device_block(v),
        },
        Structure::InterruptCacheDescriptor => {
            Descriptor::InterruptCache(v.is("G").then(|| IndexBlock {
                first: int(v, "IIDX"),
                mask: int(v, "IM"),
            }))
        }
        Structure::WaitDescriptor => Descriptor::Wait {
            status: Hpa::new(v.get("STATUS")),
            data: int(v, "DATA"),
            fence: v.is("FN"),
            interrupt: v.is("IF"),
            drain_page_requests: v.is("PD"),
        },
        Structure::PageGroupResponse => Descriptor::PageGroupResponse {
            source: SourceId::from_bits(int(v, "RID")),
            pasid: v.is("PP").then(|| pasid(v)),
            group: int(v, "PRGI"),
            code: int(v, "RC"),
        },
        _ => return None,
    };
    Some(descriptor.encode().to_vec())
}

fn pasid(v: &Vector) -> Pasid {
    Pasid::new(int(v, "PASID")).expect("20 bits")
}

fn context_scope(v: &Vector) -> ContextScope {
    let domain = int(v, "DID");
    match v.get("G") {
        1 => ContextScope::Global,
        2 => ContextScope::Domain(domain),
        _ => ContextScope::Device {
            domain,
            source: SourceId::from_bits(int(v, "SID")),
        },
    }
}

fn pasid_scope(v: &Vector) -> PasidScope {
    let domain = int(v, "DID");
    match v.get("G") {
        3 => PasidScope::Global,
        0 => PasidScope::Domain(domain),
        _ => PasidScope::Pasid {
            domain,
            pasid: pasid(v),
        },
    }
}

fn iotlb_scope(v: &Vector) -> IotlbScope {
    let domain = int(v, "DID");
    let block = Block {
        first: Iova::new(v.get("ADDR") << 12),
        order: Order::new(int(v, "AM")).expect("an order"),
    };
    let leaf_only = v.is("IH");
    match (v.structure, v.get("G")) {
        (Structure::PasidIotlbDescriptor, 2) => IotlbScope::Pasid {
            domain,
            pasid: pasid(v),
        },
        (Structure::PasidIotlbDescriptor, _) => IotlbScope::PasidPages {
            domain,
            pasid: pasid(v),
            block,
            leaf_only,
        },
        (_, 1) => IotlbScope::Global,
        (_, 2) => IotlbScope::Domain(domain),
        (_, _) => IotlbScope::Pages {
            domain,
            block,
            leaf_only,
        },
    }
}

fn target(v: &Vector) -> DeviceTlbTarget {
    DeviceTlbTarget {
        source: SourceId::from_bits(int(v, "SID")),
        physical: SourceId::from_bits(int(v, "PFSID")),
        pending: int(v, "MIP"),
    }
}

/// With S the lowest zero bit of the page number tells the size; all ones up to bit 62 of
/// the address mean everything.
fn device_block(v: &Vector) -> Option<Block> {
    let page = v.get("ADDR");
    if page == 0x7_ffff_ffff_ffff {
        return None;
    }
    let log2 = if v.is("S") {
        page.trailing_ones() + 1
    } else {
        0
    };
    Some(Block {
        first: Iova::new(page >> log2 << log2 << 12),
        order: Order::new(log2 as u8).expect("an order"),
    })
}
