//! The structures of `linux/iommu.h` lie as a C compiler lays them out: offsets and widths
//! as gcc prints them for Linux 5.10 on x86-64, copied here by hand and not from the types.

use iommu_abi::*;

/// Structure, offset of what the type begins with, and the fields in C's names.
type Row = (&'static str, &'static [(&'static str, usize, usize)]);

const BIND: Row = (
    "iommu_gpasid_bind_data",
    &[
        ("argsz", 0, 4),
        ("version", 4, 4),
        ("format", 8, 4),
        ("addr_width", 12, 4),
        ("flags", 16, 8),
        ("gpgd", 24, 8),
        ("hpasid", 32, 8),
        ("gpasid", 40, 8),
        ("padding", 48, 8),
    ],
);
const BIND_VTD: Row = (
    "iommu_gpasid_bind_data_vtd",
    &[("flags", 0, 8), ("pat", 8, 4), ("emt", 12, 4)],
);
const INVALIDATE: Row = (
    "iommu_cache_invalidate_info",
    &[
        ("argsz", 0, 4),
        ("version", 4, 4),
        ("cache", 8, 1),
        ("granularity", 9, 1),
        ("padding", 10, 6),
    ],
);
const INVALIDATE_PASID: Row = (
    "iommu_inv_pasid_info",
    &[("flags", 0, 4), ("archid", 4, 4), ("pasid", 8, 8)],
);
const INVALIDATE_ADDR: Row = (
    "iommu_inv_addr_info",
    &[
        ("flags", 0, 4),
        ("archid", 4, 4),
        ("pasid", 8, 8),
        ("addr", 16, 8),
        ("granule_size", 24, 8),
        ("nb_granules", 32, 8),
    ],
);
/// `iommu_fault` with the union's member at 8.
const UNRECOVERABLE: Row = (
    "iommu_fault, iommu_fault_unrecoverable",
    &[
        ("kind", 0, 4),
        ("padding", 4, 4),
        ("reason", 8, 4),
        ("flags", 12, 4),
        ("pasid", 16, 4),
        ("perm", 20, 4),
        ("addr", 24, 8),
        ("fetch_addr", 32, 8),
        ("unused", 40, 24),
    ],
);
const PAGE_REQUEST: Row = (
    "iommu_fault, iommu_fault_page_request",
    &[
        ("kind", 0, 4),
        ("padding", 4, 4),
        ("flags", 8, 4),
        ("pasid", 12, 4),
        ("grpid", 16, 4),
        ("perm", 20, 4),
        ("addr", 24, 8),
        ("private_data", 32, 16),
        ("unused", 48, 16),
    ],
);
const PAGE_RESPONSE: Row = (
    "iommu_page_response",
    &[
        ("argsz", 0, 4),
        ("version", 4, 4),
        ("flags", 8, 4),
        ("pasid", 12, 4),
        ("grpid", 16, 4),
        ("code", 20, 4),
    ],
);

#[track_caller]
fn check<T: Layout>((name, fields): Row) {
    let told: Vec<_> = T::FIELDS
        .iter()
        .map(|field| (field.name, field.offset, field.size))
        .collect();
    assert_eq!(told, fields, "{name}");
}

#[test]
fn every_field_lies_where_c_puts_it() {
    check::<LinuxGpasidBindData>(BIND);
    check::<LinuxGpasidBindDataVtd>(BIND_VTD);
    check::<LinuxCacheInvalidateInfo>(INVALIDATE);
    check::<LinuxInvPasidInfo>(INVALIDATE_PASID);
    check::<LinuxInvAddrInfo>(INVALIDATE_ADDR);
    check::<LinuxFaultUnrecoverable>(UNRECOVERABLE);
    check::<LinuxFaultPageRequest>(PAGE_REQUEST);
    check::<LinuxPageResponseData>(PAGE_RESPONSE);
}

#[test]
fn the_structures_are_as_long_as_c_says() {
    // With the union: what callers give as `argsz`.
    let bind = LinuxGpasidBindData::SIZE + LinuxGpasidBindDataVtd::SIZE;
    assert_eq!(bind, 72);
    let by_pasid = LinuxCacheInvalidateInfo::SIZE + LinuxInvPasidInfo::SIZE;
    let by_address = LinuxCacheInvalidateInfo::SIZE + LinuxInvAddrInfo::SIZE;
    assert_eq!((by_pasid, by_address), (32, 56));
    assert_eq!(LinuxFaultUnrecoverable::SIZE, 64);
    assert_eq!(LinuxFaultPageRequest::SIZE, 64);
    assert_eq!(LinuxPageResponseData::SIZE, 24);
}

#[test]
fn the_numbers_are_those_of_the_header() {
    let granularities = LinuxGranularity::ALL.iter().map(|one| one.as_u32());
    assert_eq!(granularities.collect::<Vec<_>>(), [0, 1, 2]);
    let codes = LinuxPageResponseCode::ALL.iter().map(|one| one.as_u32());
    assert_eq!(codes.collect::<Vec<_>>(), [0, 1, 2]);
    let reasons = LinuxFaultReason::ALL.iter().map(|one| one.as_u32());
    assert_eq!(reasons.collect::<Vec<_>>(), (0..=8).collect::<Vec<_>>());
    let types = LinuxFaultType::ALL.iter().map(|one| one.as_u32());
    assert_eq!(types.collect::<Vec<_>>(), [1, 2]);
    type Info = LinuxCacheInvalidateInfo;
    assert_eq!([Info::IOTLB, Info::DEV_IOTLB, Info::PASID], [1, 2, 4]);
    type Addr = LinuxInvAddrInfo;
    assert_eq!([Addr::PASID, Addr::ARCHID, Addr::LEAF], [1, 2, 4]);
    type Vtd = LinuxGpasidBindDataVtd;
    let flags = [Vtd::SRE, Vtd::EAFE, Vtd::PCD, Vtd::PWT, Vtd::EMTE, Vtd::CD];
    assert_eq!(flags, [1, 2, 4, 8, 16, 32]);
    type Request = LinuxFaultPageRequest;
    let flags = [
        Request::PASID_VALID,
        Request::LAST_PAGE,
        Request::PRIV_DATA,
        Request::RESPONSE_NEEDS_PASID,
    ];
    assert_eq!(flags, [1, 2, 4, 8]);
}
