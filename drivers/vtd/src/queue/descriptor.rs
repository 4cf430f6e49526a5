//! The typed [`Descriptor`], which encodes nothing reserved (§6.5.2).

use super::layout::{
    ContextCacheLow, DeviceTlbHigh, DeviceTlbLow, HostPermissionLow, InterruptCacheLow, IotlbHigh,
    IotlbLow, PageGroupResponseHigh, PageGroupResponseLow, PasidCacheLow, PasidDeviceTlbHigh,
    PasidDeviceTlbLow, WaitHigh, WaitLow,
};
use super::{Block, IndexBlock};
use arrayvec::ArrayVec;
use iommu_core::{Hpa, PAGE_SHIFT, Pasid, SourceId};

/// What is dropped from the context-cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ContextScope {
    /// Everything.
    Global,
    /// Entries of a domain; in scalable mode everything, since the cache has no domain id
    /// there.
    Domain(u16),
    /// The entry of one source.
    Device {
        /// The domain id that the entry had; 0 for a cached entry that was not present.
        domain: u16,
        /// The source.
        source: SourceId,
    },
}

/// What is dropped from the PASID-cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PasidScope {
    /// Everything.
    Global,
    /// All entries of a domain.
    Domain(u16),
    /// One PASID's entries in a domain.
    Pasid {
        /// The domain id that the entry had; 0 for a cached entry that was not present.
        domain: u16,
        /// The PASID.
        pasid: Pasid,
    },
}

/// What is dropped from the IOTLB and the paging-structure caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum IotlbScope {
    /// Everything.
    Global,
    /// Everything of a domain, whatever the stage.
    Domain(u16),
    /// Second-stage translations of a block in a domain.
    Pages {
        /// Domain id.
        domain: u16,
        /// Which pages.
        block: Block,
        /// Paging-structure caches may stay (IH).
        leaf_only: bool,
    },
    /// Everything of one PASID in a domain.
    Pasid {
        /// Domain id.
        domain: u16,
        /// The PASID.
        pasid: Pasid,
    },
    /// First-stage and nested translations of a block, of one PASID in a domain.
    PasidPages {
        /// Domain id.
        domain: u16,
        /// The PASID.
        pasid: Pasid,
        /// Which pages.
        block: Block,
        /// Paging-structure caches may stay (IH).
        leaf_only: bool,
    },
}

/// A device with a TLB of its own, as its invalidations name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceTlbTarget {
    /// The function.
    pub source: SourceId,
    /// Its physical function, on a unit with ECAP.DIT; else 0.
    pub physical: SourceId,
    /// Invalidations that the physical function takes without back-pressure (queue depth
    /// of its ATS capability); 0 is 32.
    pub pending: u8,
}

impl DeviceTlbTarget {
    /// All that the device may have cached: of requests without PASID, and with any.
    pub fn everything(self, with_pasids: bool) -> ArrayVec<Descriptor, 2> {
        let plain = Descriptor::DeviceTlb {
            target: self,
            pasid: None,
            block: None,
        };
        let tagged = Descriptor::DeviceTlbAllPasids { target: self };
        core::iter::once(plain)
            .chain(with_pasids.then_some(tagged))
            .collect()
    }
}

/// An invalidation descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Descriptor {
    /// Type 1.
    ContextCache(ContextScope),
    /// Type 7.
    PasidCache(PasidScope),
    /// Type 2 or 6, by scope. Reads and writes are drained.
    Iotlb(IotlbScope),
    /// Type 3, or 8 if there is a PASID.
    DeviceTlb {
        /// The device.
        target: DeviceTlbTarget,
        /// `None` for translations of requests without PASID.
        pasid: Option<Pasid>,
        /// Which pages; `None` for all.
        block: Option<Block>,
    },
    /// Type 8, for all that a device cached for requests with any PASID.
    DeviceTlbAllPasids {
        /// The device.
        target: DeviceTlbTarget,
    },
    /// Type 4.
    InterruptCache(Option<IndexBlock>),
    /// Type 5: write `data` to `status`.
    Wait {
        /// Where to.
        status: Hpa,
        /// What.
        data: u32,
        /// Later descriptors start only after this one completed (FN).
        fence: bool,
        /// The invalidation event is raised (IF).
        interrupt: bool,
        /// Page requests that came before are in their queue when the status is written
        /// (PD; needs ECAP.PDS).
        drain_page_requests: bool,
    },
    /// Type 9.
    PageGroupResponse {
        /// Who asked.
        source: SourceId,
        /// With which PASID.
        pasid: Option<Pasid>,
        /// Page request group index, 9 bits.
        group: u16,
        /// 0 success, 1 invalid request, 15 failure.
        code: u8,
    },
    /// Type 10, global.
    HostPermissionCache,
    /// Type 10, all levels of one domain of host permissions.
    HostPermissions {
        /// HPTDID of the entries that lead to the table.
        domain: u16,
    },
}

/// Address of a Device-TLB invalidation that means all addresses (§6.5.2.5).
const DEVICE_TLB_EVERYTHING: u64 = 0x7_ffff_ffff_ffff;

impl Descriptor {
    /// The two words that go into the queue.
    pub const fn encode(self) -> [u64; 2] {
        match self {
            Self::ContextCache(scope) => [context_cache(scope).into_bits(), 0],
            Self::PasidCache(scope) => [pasid_cache(scope).into_bits(), 0],
            Self::Iotlb(scope) => iotlb(scope),
            Self::DeviceTlb {
                target,
                pasid,
                block,
            } => device_tlb(target, pasid, block),
            Self::DeviceTlbAllPasids { target } => {
                let [low, high] = device_tlb(target, Some(Pasid::ZERO), None);
                let all = PasidDeviceTlbHigh::from_bits(high).with_gi(true);
                [low, all.into_bits()]
            }
            Self::InterruptCache(block) => [interrupt_cache(block).into_bits(), 0],
            Self::Wait {
                status,
                data,
                fence,
                interrupt,
                drain_page_requests,
            } => [
                WaitLow::new()
                    .with_kind(5)
                    .with_iflag(interrupt)
                    .with_sw(true)
                    .with_fnflag(fence)
                    .with_pd(drain_page_requests)
                    .with_data(data)
                    .into_bits(),
                WaitHigh::new()
                    .with_address(status.as_u64() >> 2)
                    .into_bits(),
            ],
            Self::PageGroupResponse {
                source,
                pasid,
                group,
                code,
            } => [
                PageGroupResponseLow::new()
                    .with_kind(9)
                    .with_pp(pasid.is_some())
                    .with_rc(code & 0xf)
                    .with_rid(source.bits())
                    .with_pasid(pasid_bits(pasid))
                    .into_bits(),
                PageGroupResponseHigh::new()
                    .with_prgi(group & 0x1ff)
                    .into_bits(),
            ],
            Self::HostPermissionCache => [
                HostPermissionLow::new().with_kind(10).with_g(1).into_bits(),
                0,
            ],
            Self::HostPermissions { domain } => [
                HostPermissionLow::new()
                    .with_kind(10)
                    .with_g(2)
                    .with_hptdid(domain)
                    .into_bits(),
                0,
            ],
        }
    }
}

const fn pasid_bits(pasid: Option<Pasid>) -> u32 {
    match pasid {
        Some(pasid) => pasid.as_u32(),
        None => 0,
    }
}

const fn context_cache(scope: ContextScope) -> ContextCacheLow {
    let low = ContextCacheLow::new().with_kind(1);
    match scope {
        ContextScope::Global => low.with_g(1),
        ContextScope::Domain(did) => low.with_g(2).with_did(did),
        ContextScope::Device { domain, source } => {
            low.with_g(3).with_did(domain).with_sid(source.bits())
        }
    }
}

const fn pasid_cache(scope: PasidScope) -> PasidCacheLow {
    let low = PasidCacheLow::new().with_kind(7);
    match scope {
        PasidScope::Global => low.with_g(3),
        PasidScope::Domain(did) => low.with_g(0).with_did(did),
        PasidScope::Pasid { domain, pasid } => {
            low.with_g(1).with_did(domain).with_pasid(pasid.as_u32())
        }
    }
}

const fn iotlb(scope: IotlbScope) -> [u64; 2] {
    let low = IotlbLow::new().with_kind(2).with_dw(true).with_dr(true);
    let tagged = PasidCacheLow::new().with_kind(6);
    match scope {
        IotlbScope::Global => [low.with_g(1).into_bits(), 0],
        IotlbScope::Domain(did) => [low.with_g(2).with_did(did).into_bits(), 0],
        IotlbScope::Pages {
            domain,
            block,
            leaf_only,
        } => [
            low.with_g(3).with_did(domain).into_bits(),
            iotlb_block(block, leaf_only),
        ],
        IotlbScope::Pasid { domain, pasid } => [
            tagged
                .with_g(2)
                .with_did(domain)
                .with_pasid(pasid.as_u32())
                .into_bits(),
            0,
        ],
        IotlbScope::PasidPages {
            domain,
            pasid,
            block,
            leaf_only,
        } => [
            tagged
                .with_g(3)
                .with_did(domain)
                .with_pasid(pasid.as_u32())
                .into_bits(),
            iotlb_block(block, leaf_only),
        ],
    }
}

const fn iotlb_block(block: Block, leaf_only: bool) -> u64 {
    IotlbHigh::new()
        .with_am(block.order.log2())
        .with_ih(leaf_only)
        .with_addr(block.first.as_u64() >> PAGE_SHIFT)
        .into_bits()
}

const fn interrupt_cache(block: Option<IndexBlock>) -> InterruptCacheLow {
    let low = InterruptCacheLow::new().with_kind(4);
    match block {
        None => low,
        Some(block) => low
            .with_g(1)
            .with_im(block.mask & 0x1f)
            .with_iidx(block.first),
    }
}

const fn device_tlb(
    target: DeviceTlbTarget,
    pasid: Option<Pasid>,
    block: Option<Block>,
) -> [u64; 2] {
    let (s, addr) = device_tlb_block(block);
    let (pfsid_low, pfsid_high) = (
        (target.physical.bits() & 0xf) as u8,
        target.physical.bits() >> 4,
    );
    match pasid {
        None => [
            DeviceTlbLow::new()
                .with_kind(3)
                .with_mip(target.pending & 0x1f)
                .with_sid(target.source.bits())
                .with_pfsid_low(pfsid_low)
                .with_pfsid_high(pfsid_high)
                .into_bits(),
            DeviceTlbHigh::new().with_s(s).with_addr(addr).into_bits(),
        ],
        Some(pasid) => [
            PasidDeviceTlbLow::new()
                .with_kind(8)
                .with_mip(target.pending & 0x1f)
                .with_sid(target.source.bits())
                .with_pasid(pasid.as_u32())
                .with_pfsid_low(pfsid_low)
                .with_pfsid_high(pfsid_high)
                .into_bits(),
            PasidDeviceTlbHigh::new()
                .with_s(s)
                .with_addr(addr)
                .into_bits(),
        ],
    }
}

/// S and page number: the lowest zero bit of the page number tells the size (§6.5.2.5).
const fn device_tlb_block(block: Option<Block>) -> (bool, u64) {
    let Some(block) = block else {
        return (true, DEVICE_TLB_EVERYTHING);
    };
    let page = block.first.as_u64() >> PAGE_SHIFT;
    let log2 = block.order.log2();
    if log2 == 0 {
        return (false, page);
    }
    let pages = block.order.pages();
    // For 2^n pages bits n-2..0 of the page number are 1 and bit n-1 is 0.
    let ones = (pages >> 1).wrapping_sub(1);
    (true, (page & !pages.wrapping_sub(1)) | ones)
}
