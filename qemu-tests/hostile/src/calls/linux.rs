//! The operations that take structures of `linux/iommu.h`.

use super::{Prepared, disturbance, one, prepared};
use crate::belief::{Belief, Bound, Table};
use iommu_abi::{
    IntoBytes, LinuxBindGpasid, LinuxCacheInvalidate, LinuxCacheInvalidateInfo, LinuxFaultRead,
    LinuxGpasidBindData, LinuxGranularity, LinuxInvAddrInfo, LinuxInvPasidInfo, LinuxUnbindGpasid,
    NO_ID,
};

fn bind_data(pasid: u32, root: u64) -> Vec<u8> {
    let header = LinuxGpasidBindData {
        argsz: 72,
        version: 1,
        format: LinuxGpasidBindData::FORMAT_INTEL_VTD,
        addr_width: 48,
        gpgd: root,
        hpasid: pasid.into(),
        ..LinuxGpasidBindData::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(72, 0);
    bytes
}

pub(super) fn bind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let slot = belief.free_slot();
    let (device, pasid) = slot.map_or((NO_ID, 0), |(device, pasid)| (device.handle, pasid));
    let roots = &belief.table_pages[..belief.table_pages.len().min(4)];
    let root = one(roots, random).unwrap_or(0);
    let call = prepared(LinuxBindGpasid {
        device_id: device,
        structure: belief.buffer,
        ..LinuxBindGpasid::new()
    });
    Prepared {
        buffer: bind_data(pasid, root),
        ..call
    }
    .learning(move |belief, back: &LinuxBindGpasid| {
        let handle = back.ioas_id;
        belief.tables.push(Table { handle, root });
        belief.passing.push(handle);
        belief.bound.push(Bound {
            device,
            pasid: Some(pasid),
            ioas: handle,
        });
    })
    .disturbing(disturbance(belief, device, Some(pasid)))
}

pub(super) fn unbind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let passing = |bound: &&Bound| bound.pasid.is_some() && belief.passing.contains(&bound.ioas);
    let all: Vec<Bound> = belief.bound.iter().filter(passing).copied().collect();
    let bound = one(&all, random);
    let (device, pasid) = bound.map_or((NO_ID, None), |bound| (bound.device, bound.pasid));
    let call = prepared(LinuxUnbindGpasid {
        device_id: device,
        structure: belief.buffer,
        ..LinuxUnbindGpasid::new()
    });
    Prepared {
        buffer: bind_data(pasid.unwrap_or(0), 0),
        ..call
    }
    .learning(move |belief, _: &LinuxUnbindGpasid| belief.release(device, pasid))
    .disturbing(disturbance(belief, device, pasid))
}

pub(super) fn invalidate(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let by_pasid: Vec<Bound> = belief
        .bound
        .iter()
        .filter(|bound| bound.pasid.is_some() && belief.table(bound.ioas).is_some())
        .copied()
        .collect();
    let bound = one(&by_pasid, random);
    let any = one(&belief.devices, random).map_or(NO_ID, |device| device.handle);
    let granularity = match (bound, random.u8(..3)) {
        (Some(_), 0) => LinuxGranularity::Pasid,
        (_, 1) => LinuxGranularity::Addr,
        _ => LinuxGranularity::Domain,
    };
    let pasid = bound.and_then(|bound| bound.pasid);
    let info = LinuxCacheInvalidateInfo {
        argsz: 56,
        version: 1,
        cache: LinuxCacheInvalidateInfo::IOTLB,
        granularity: granularity.as_u32() as u8,
        ..LinuxCacheInvalidateInfo::default()
    };
    let mut buffer = info.as_bytes().to_vec();
    match granularity {
        LinuxGranularity::Domain => {}
        LinuxGranularity::Pasid => {
            let info = LinuxInvPasidInfo {
                flags: LinuxInvPasidInfo::PASID,
                pasid: pasid.unwrap_or(0).into(),
                ..LinuxInvPasidInfo::default()
            };
            buffer.extend_from_slice(info.as_bytes());
        }
        LinuxGranularity::Addr => {
            let info = LinuxInvAddrInfo {
                flags: pasid.map_or(0, |_| LinuxInvAddrInfo::PASID),
                pasid: pasid.unwrap_or(0).into(),
                addr: random.u64(..0x400) << 12,
                granule_size: [0x1000, 0x20_0000][random.usize(..2)],
                nb_granules: random.u64(1..9),
                ..LinuxInvAddrInfo::default()
            };
            buffer.extend_from_slice(info.as_bytes());
        }
    }
    buffer.resize(56, 0);
    let call = prepared(LinuxCacheInvalidate {
        device_id: bound.map_or(any, |bound| bound.device),
        structure: belief.buffer,
        ..LinuxCacheInvalidate::new()
    });
    Prepared { buffer, ..call }
}

pub(super) fn fault_read(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    prepared(LinuxFaultRead {
        buffer: belief.buffer,
        capacity: if random.bool() { 16 } else { random.u32(..16) },
        ..LinuxFaultRead::new()
    })
}
