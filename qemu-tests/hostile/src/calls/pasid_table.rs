//! Whole PASID tables.

use super::{Disturbs, Prepared, one, prepared};
use crate::belief::Belief;
use iommu_abi::{NO_ID, PasidTableBind, PasidTableInvalidate, PasidTableUnbind};

/// Entries of the smallest directory.
const ENTRIES: usize = 128;

/// A directory in the buffer: some entries lead to pages of data, some to the directory
/// itself, some nowhere. What devices write there meanwhile is PASID tables.
fn directory(belief: &Belief, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut entries = vec![0u64; ENTRIES];
    for _ in 0..random.usize(..4) {
        let at = random.usize(..ENTRIES);
        let pages = [
            one(&belief.data_pages, random),
            one(&belief.table_pages, random),
        ];
        let page = match random.u8(..4) {
            0 => belief.buffer & !0xfff,
            1 => 1 << 45,
            _ => one(&pages, random).flatten().unwrap_or(0),
        };
        entries[at] = page | 1;
    }
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

pub(super) fn bind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let device = belief.idle();
    let device_id = device.map_or(NO_ID, |device| device.handle);
    let asks = device.is_some_and(|device| device.asks) && random.bool();
    let call = prepared(PasidTableBind {
        flags: if asks {
            PasidTableBind::PAGE_REQUESTS
        } else {
            0
        },
        device_id,
        directory: belief.buffer & !0xfff,
        ..PasidTableBind::new()
    });
    Prepared {
        buffer: directory(belief, random),
        ..call
    }
    .learning(move |belief, _: &PasidTableBind| belief.keeps_pasids.push(device_id))
    .disturbing(Disturbs::Slot(device_id))
}

pub(super) fn unbind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let device_id = one(&belief.keeps_pasids, random).unwrap_or(NO_ID);
    prepared(PasidTableUnbind {
        device_id,
        ..PasidTableUnbind::new()
    })
    .learning(move |belief, _: &PasidTableUnbind| {
        belief.keeps_pasids.retain(|&device| device != device_id);
    })
    .disturbing(Disturbs::Slot(device_id))
}

pub(super) fn invalidate(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let first = random.u32(..0x2000);
    let device_id = one(&belief.keeps_pasids, random).unwrap_or(NO_ID);
    let call = prepared(PasidTableInvalidate {
        device_id,
        first_pasid: [0, first][random.usize(..2)],
        last_pasid: first + random.u32(..0x2000),
        ..PasidTableInvalidate::new()
    });
    Prepared {
        buffer: directory(belief, random),
        ..call
    }
    .disturbing(Disturbs::Slot(device_id))
}
