//! What a fault record says (§11.4.7.6).

use crate::registers::{FrcdHigh, FrcdLow};
use iommu_core::{
    Access, DeviceId, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, Pasid, Segment,
    SourceId,
};

/// A record of a unit of this number and segment, read at this time.
pub fn decode(
    unit: u16,
    segment: Segment,
    low: FrcdLow,
    high: FrcdHigh,
    at: Nanoseconds,
) -> FaultRecord {
    let reason = FaultReason(high.fr());
    let pasid = if high.pp() {
        Pasid::new(high.pv()).filter(|pasid| *pasid != Pasid::ZERO || may_carry_zero(reason))
    } else {
        None
    };
    FaultRecord {
        unit,
        device: DeviceId::new(segment, SourceId::from_bits(high.sid())),
        pasid,
        kind: kind(reason, low, high),
        reason,
        privileged: high.pp() && high.privileged(),
        at,
    }
}

/// Whether a request that was refused for this reason may have carried PASID 0.
///
/// The driver keeps RID_PASID at 0, so a request that carries 0 is refused at its context
/// entry at the latest (RTA and SCT conditions, SCT.9 above all). A record of a later
/// refusal that names PASID 0 is of a request without one: QEMU 10.0 writes RID_PASID with
/// PP = 1 into all records of scalable mode, where §11.4.7.6 wants PP = 0.
const fn may_carry_zero(reason: FaultReason) -> bool {
    reason.0 >= FaultReason::TABLE_MODE.0 && reason.0 < FaultReason::PASID_DIRECTORY_ERROR.0
}

fn kind(reason: FaultReason, low: FrcdLow, high: FrcdHigh) -> FaultKind {
    if reason.is_interrupt() {
        return FaultKind::Interrupt {
            index: low.interrupt_index(),
        };
    }
    let address = Iova::new(low.fi() << iommu_core::PAGE_SHIFT);
    let access = match (high.t1(), high.t2()) {
        (false, true) => return FaultKind::PageRequest { address },
        (false, false) => Access::WRITE,
        (true, false) => Access::READ,
        (true, true) => Access::READ_WRITE,
    };
    FaultKind::Dma { address, access }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(low: u64, high: u64) -> FaultRecord {
        decode(
            3,
            Segment(1),
            FrcdLow::from_bits(low),
            FrcdHigh::from_bits(high),
            Nanoseconds(7),
        )
    }

    #[test]
    fn a_refused_read_of_edu_is_told_as_it_was() {
        // As QEMU 10.0 records a legacy read of 0x9000 by 00:04.0, its PASID field rubbish.
        let record = decoded(0x9000, 0xc0ff_ff06_0000_0020);
        assert_eq!(record.device.source.bits(), 0x20);
        assert_eq!(record.pasid, None);
        assert_eq!(record.reason, FaultReason::READ_DENIED);
        assert_eq!(
            record.kind,
            FaultKind::Dma {
                address: Iova::new(0x9000),
                access: Access::READ
            }
        );
    }

    #[test]
    fn a_pasid_counts_only_if_the_request_carried_one() {
        let without = 0x8012_3471_0000_0020;
        assert_eq!(decoded(0, without).pasid, None);
        let with = without | 1 << 31;
        assert_eq!(decoded(0, with).pasid, Pasid::new(0x01234));
    }

    #[test]
    fn pasid_0_is_no_pasid_unless_the_request_was_refused_for_carrying_it() {
        let zero = |reason: u64| decoded(0, 0x8000_0000_8000_0020 | reason << 32).pasid;
        assert_eq!(zero(0x71), None);
        assert_eq!(zero(0x05), None);
        assert_eq!(zero(0x48), Some(Pasid::ZERO));
        assert_eq!(zero(0x31), Some(Pasid::ZERO));
    }

    #[test]
    fn an_interrupt_fault_names_its_index() {
        let record = decoded(0x1234 << 48, 0x8000_0022_0000_0020);
        assert_eq!(record.kind, FaultKind::Interrupt { index: 0x1234 });
    }

    #[test]
    fn type_bits_tell_four_kinds_of_request() {
        let access = |t1: u64, t2: u64| decoded(0, 0x71_0000_0020 | t1 << 62 | t2 << 28).kind;
        let dma = |access| FaultKind::Dma {
            address: Iova::new(0),
            access,
        };
        assert_eq!(access(0, 0), dma(Access::WRITE));
        assert_eq!(access(1, 0), dma(Access::READ));
        assert_eq!(access(1, 1), dma(Access::READ_WRITE));
        assert_eq!(
            access(0, 1),
            FaultKind::PageRequest {
                address: Iova::new(0)
            }
        );
    }
}
