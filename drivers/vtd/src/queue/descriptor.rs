//! Invalidation descriptors (§6.5.2): layouts, and the typed [`Descriptor`] that makes
//! nothing reserved.
//!
//! A descriptor has 128 bits; in a queue of 256-bit slots the upper half is 0.

use arrayvec::ArrayVec;
use bitfield_struct::bitfield;
use iommu_core::{Address, AddressRange, Hpa, Iova, Order, PAGE_SHIFT, Pasid, SourceId};

/// Lower word of a Context-cache Invalidate Descriptor (§6.5.2.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct ContextCacheLow {
    /// Type, bits 3:0: 1.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Domain id.
    pub did: u16,
    /// Source id.
    pub sid: u16,
    /// Function mask.
    #[bits(2)]
    pub fm: u8,
    #[bits(14)]
    __: u16,
}

/// Lower word of an IOTLB Invalidate Descriptor (§6.5.2.3).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IotlbLow {
    /// Type, bits 3:0: 2.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 domain, 3 page in domain.
    #[bits(2)]
    pub g: u8,
    /// Drain writes.
    pub dw: bool,
    /// Drain reads.
    pub dr: bool,
    #[bits(8)]
    __: u8,
    /// Domain id.
    pub did: u16,
    __: u32,
}

/// Upper word of the IOTLB and PASID-IOTLB descriptors (§6.5.2.3, §6.5.2.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct IotlbHigh {
    /// Address mask: 2^AM pages.
    #[bits(6)]
    pub am: u8,
    /// Invalidation hint: only leaf entries changed.
    pub ih: bool,
    #[bits(5)]
    __: u8,
    /// Page number.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of a Device-TLB Invalidate Descriptor (§6.5.2.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbLow {
    /// Type, bits 3:0: 3.
    #[bits(4)]
    pub kind: u8,
    __: u8,
    /// Physical function's source id, bits 3:0.
    #[bits(4)]
    pub pfsid_low: u8,
    /// Maximum invalidations pending; 0 is 32.
    #[bits(5)]
    pub mip: u8,
    #[bits(11)]
    __: u16,
    /// Source id.
    pub sid: u16,
    #[bits(4)]
    __: u8,
    /// Physical function's source id, bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
}

/// Upper word of a Device-TLB Invalidate Descriptor (§6.5.2.5).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbHigh {
    /// The lowest zero bit of the address tells the size.
    pub s: bool,
    #[bits(11)]
    __: u16,
    /// Page number and size.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of an Interrupt Entry Cache Invalidate Descriptor (§6.5.2.8).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct InterruptCacheLow {
    /// Type, bits 3:0: 4.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 0 global, 1 by index.
    #[bits(1)]
    pub g: u8,
    #[bits(22)]
    __: u32,
    /// Index mask: 2^IM entries.
    #[bits(5)]
    pub im: u8,
    /// First index.
    pub iidx: u16,
    __: u16,
}

/// Lower word of an Invalidation Wait Descriptor (§6.5.2.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct WaitLow {
    /// Type, bits 3:0: 5.
    #[bits(4)]
    pub kind: u8,
    /// Raise the invalidation event.
    pub iflag: bool,
    /// Write the status data.
    pub sw: bool,
    /// Fence: what follows starts after this completed.
    pub fnflag: bool,
    /// Drain page requests first (needs ECAP.PDS).
    pub pd: bool,
    #[bits(24)]
    __: u32,
    /// Status data.
    pub data: u32,
}

/// Upper word of an Invalidation Wait Descriptor (§6.5.2.9).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct WaitHigh {
    #[bits(2)]
    __: u8,
    /// Status address, bits 63:2.
    #[bits(62)]
    pub address: u64,
}

/// Lower word of the PASID-based IOTLB and PASID-cache descriptors (§6.5.2.2, §6.5.2.4).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidCacheLow {
    /// Type, bits 3:0: 6 for the IOTLB, 7 for the PASID-cache.
    #[bits(4)]
    pub kind: u8,
    /// Granularity. IOTLB: 2 PASID, 3 page in PASID. PASID-cache: 0 domain, 1 PASID in
    /// domain, 3 global.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Domain id.
    pub did: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

/// Lower word of a PASID-based Device-TLB Invalidate Descriptor (§6.5.2.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbLow {
    /// Type, bits 3:0: 8.
    #[bits(4)]
    pub kind: u8,
    /// Maximum invalidations pending; 0 is 32.
    #[bits(5)]
    pub mip: u8,
    #[bits(3)]
    __: u8,
    /// Physical function's source id, bits 3:0.
    #[bits(4)]
    pub pfsid_low: u8,
    /// Source id.
    pub sid: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    /// Physical function's source id, bits 15:4.
    #[bits(12)]
    pub pfsid_high: u16,
}

/// Upper word of a PASID-based Device-TLB Invalidate Descriptor (§6.5.2.6).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbHigh {
    /// For all PASIDs.
    pub gi: bool,
    #[bits(10)]
    __: u16,
    /// The lowest zero bit of the address tells the size.
    pub s: bool,
    /// Page number and size.
    #[bits(52)]
    pub addr: u64,
}

/// Lower word of a Page Group Response Descriptor (§7.6.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageGroupResponseLow {
    /// Type, bits 3:0: 9.
    #[bits(4)]
    pub kind: u8,
    /// The request carried a PASID.
    pub pp: bool,
    #[bits(7)]
    __: u8,
    /// Response code: 0 success, 1 invalid request, 15 failure.
    #[bits(4)]
    pub rc: u8,
    /// Requester.
    pub rid: u16,
    /// PASID, if PP.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

/// Upper word of a Page Group Response Descriptor (§7.6.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageGroupResponseHigh {
    #[bits(3)]
    __: u8,
    /// Page request group index.
    #[bits(9)]
    pub prgi: u16,
    #[bits(52)]
    __: u64,
}

/// Lower word of a Host Permission Table Cache Invalidate Descriptor (§6.5.2.7).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct HostPermissionLow {
    /// Type, bits 3:0: 10.
    #[bits(4)]
    pub kind: u8,
    /// Granularity: 1 global, 2 HPT domain, 3 page in HPT domain.
    #[bits(2)]
    pub g: u8,
    #[bits(10)]
    __: u16,
    /// Host permission table domain id.
    pub hptdid: u16,
    __: u32,
}

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

/// A size-aligned block of pages, as page-selective invalidations name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Block {
    /// First address, a multiple of the block's size.
    pub first: Iova,
    /// Number of pages.
    pub order: Order,
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
}

/// A size-aligned block of interrupt indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IndexBlock {
    /// First index, a multiple of the block's size.
    pub first: u16,
    /// 2^mask entries, at most ECAP.MHMV.
    pub mask: u8,
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
                drain_page_requests,
            } => [
                WaitLow::new()
                    .with_kind(5)
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

/// The size-aligned blocks that make up a range exactly, in ascending order, none larger
/// than `limit`.
#[derive(Clone, Debug)]
pub struct Blocks {
    next_page: u64,
    pages_left: u64,
    limit: Order,
}

impl Blocks {
    /// The blocks of `range`, whose ends are rounded outwards to pages.
    pub fn of(range: AddressRange<Iova>, limit: Order) -> Self {
        Self {
            next_page: range.first().as_u64() >> PAGE_SHIFT,
            pages_left: range.pages(),
            limit,
        }
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.pages_left == 0 {
            return None;
        }
        // The largest power of two that divides the start and fits into the rest.
        let aligned = self.next_page.trailing_zeros().min(52) as u8;
        let fits = self.pages_left.ilog2().min(52) as u8;
        let order = Order::new(aligned.min(fits).min(self.limit.log2()))?;
        let first = Iova::from_u64(self.next_page << PAGE_SHIFT);
        self.next_page = self.next_page.saturating_add(order.pages());
        self.pages_left = self.pages_left.saturating_sub(order.pages());
        Some(Block { first, order })
    }
}

/// The largest block that page-selective invalidations of a unit can name, given the
/// largest aligned block within the range: `None` if pages so large that they might lie in
/// the range cannot be named whole, so that only a coarser scope drops them for certain
/// (§6.5.3.2: a large page is invalidated by a mask of its size or more).
pub const fn block_limit(largest: Order, mask_limit: u8) -> Option<Order> {
    let page = if largest.log2() >= 18 {
        18
    } else if largest.log2() >= 9 {
        9
    } else {
        0
    };
    if page > mask_limit {
        return None;
    }
    Order::new(mask_limit)
}

/// Index blocks that make up `count` entries from `first` on, none larger than
/// 2^`limit` entries. At most 32 are needed for any run of 65,536.
pub fn index_blocks(first: u16, count: u16, limit: u8) -> ArrayVec<IndexBlock, 32> {
    let mut blocks = ArrayVec::new();
    let (mut next, mut left) = (u32::from(first), u32::from(count));
    while left > 0 {
        let aligned = next.trailing_zeros().min(15) as u8;
        let fits = left.ilog2() as u8;
        let mask = aligned.min(fits).min(limit & 0xf);
        if blocks
            .try_push(IndexBlock {
                first: next as u16,
                mask,
            })
            .is_err()
        {
            // Only with a small limit: the caller then invalidates everything.
            blocks.clear();
            return blocks;
        }
        next = next.saturating_add(1 << mask);
        left = left.saturating_sub(1 << mask);
    }
    blocks
}
