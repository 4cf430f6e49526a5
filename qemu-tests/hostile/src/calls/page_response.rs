//! Answers to page requests: right ones, late ones, and ones to nobody.

use super::{Prepared, one, prepared, size_of};
use crate::belief::{Belief, Told};
use iommu_abi::{
    Errno, FromBytes, IntoBytes, LinuxPageResponse, LinuxPageResponseCode, LinuxPageResponseData,
    NO_ID, Op, PageAnswer, PageResponse, PageResponseCode,
};

/// Groups that one call answers at most.
const MOST: usize = 3;

pub(super) fn native(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let mut groups = belief.tellable();
    random.shuffle(&mut groups);
    groups.truncate(1 + random.usize(..MOST));
    if !belief.polite && random.u8(..6) == 0 {
        spoil(&mut groups, belief, random);
    }
    let entry_count = groups.len() as u32;
    let mut buffer = Vec::new();
    for told in &groups {
        let answer = PageAnswer {
            cookie: told.cookie,
            device_id: told.device,
            flags: told.pasid.map_or(0, |_| PageAnswer::PASID),
            pasid: told.pasid.unwrap_or(0),
            group: told.group,
            code: code(random).as_u32(),
            ..PageAnswer::default()
        };
        buffer.extend_from_slice(answer.as_bytes());
    }
    let call = prepared(PageResponse {
        answers: belief.buffer,
        entry_size: size_of::<PageAnswer>(),
        entry_count,
        ..PageResponse::new()
    });
    Prepared { buffer, ..call }.learning(move |belief, _: &PageResponse| {
        for told in &groups {
            belief.answered(*told);
        }
    })
}

/// One answered twice, one that is not known any more, one that is another's.
fn spoil(groups: &mut Vec<Told>, belief: &Belief, random: &mut fastrand::Rng) {
    let stranger = Told {
        device: one(&belief.devices, random).map_or(NO_ID, |device| device.handle),
        pasid: one(&belief.pasids, random),
        group: random.u32(..520),
        cookie: random.u64(..40),
        queue: NO_ID,
    };
    match groups.first().copied() {
        Some(first) if random.bool() => groups.push(first),
        Some(first) => groups.push(Told {
            cookie: stranger.cookie,
            ..first
        }),
        None => groups.push(stranger),
    }
}

/// A device that was told to stop asking is told to by its guest: ours goes on.
fn code(random: &mut fastrand::Rng) -> PageResponseCode {
    match random.u8(..16) {
        0 => PageResponseCode::Failure,
        1..4 => PageResponseCode::InvalidRequest,
        _ => PageResponseCode::Success,
    }
}

pub(super) fn of_linux(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let told = one(&belief.told, random);
    let device_id = match told {
        Some(told) => told.device,
        None => one(&belief.devices, random).map_or(NO_ID, |device| device.handle),
    };
    let pasid = told.and_then(|told| told.pasid);
    let code = match random.u8(..8) {
        0 => LinuxPageResponseCode::Invalid,
        _ => LinuxPageResponseCode::Success,
    };
    let data = LinuxPageResponseData {
        argsz: 24,
        version: 1,
        flags: pasid.map_or(0, |_| LinuxPageResponseData::PASID_VALID),
        pasid: pasid.unwrap_or(0),
        grpid: told.map_or_else(|| random.u32(..512), |told| told.group),
        code: code.as_u32(),
    };
    let call = prepared(LinuxPageResponse {
        device_id,
        structure: belief.buffer,
        ..LinuxPageResponse::new()
    });
    Prepared {
        buffer: data.as_bytes().to_vec(),
        ..call
    }
    .learning(move |belief, _: &LinuxPageResponse| {
        if let Some(told) = told {
            belief.answered(Told { cookie: 0, ..told });
        }
    })
}

/// Groups that a call answered, which succeeded.
pub(crate) fn answers(op: Op, back: &[u8]) -> u64 {
    match op {
        Op::LinuxPageResponse => 1,
        Op::PageResponse => PageResponse::read_from_prefix(back)
            .map_or(0, |(answered, _)| answered.completed.into()),
        _ => 0,
    }
}

/// Whether an answer came too late: the guest forgets what it was told until then.
pub(crate) fn found_nobody(op: Op, result: i64) -> bool {
    matches!(op, Op::PageResponse | Op::LinuxPageResponse)
        && result == -i64::from(Errno::ENOENT.as_u32())
}
