//! Page Request Descriptor, 32 bytes of which 16 are used (§7.4.1.1).

use bitfield_struct::bitfield;
use iommu_core::{
    Access, DeviceId, Iova, Nanoseconds, PAGE_SHIFT, PageRequest, Pasid, Segment, Slot, SourceId,
};

/// Word 0 (§7.4.1.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageRequest0 {
    /// Type: 1.
    pub kind: u8,
    /// The request carries a PASID.
    pub pp: bool,
    #[bits(7)]
    __: u8,
    /// Requester.
    pub rid: u16,
    /// PASID, if PP.
    #[bits(20)]
    pub pasid: u32,
    /// Execution is asked for.
    pub exr: bool,
    /// Supervisor rights are asked for.
    pub pmr: bool,
    #[bits(10)]
    __: u16,
}

/// Word 1 (§7.4.1.1).
#[bitfield(u64, defmt = cfg(feature = "defmt"))]
#[derive(PartialEq, Eq)]
pub struct PageRequest1 {
    /// Reading is asked for.
    pub rdr: bool,
    /// Writing is asked for.
    pub wrr: bool,
    /// Last page in group.
    pub lpig: bool,
    /// Page request group index.
    #[bits(9)]
    pub prgi: u16,
    /// Page number.
    #[bits(52)]
    pub addr: u64,
}

/// The type of a page request.
const PAGE_REQUEST: u8 = 1;

/// What the words say; `None` for a stop marker, to which no answer is owed, and for what is
/// no page request.
pub fn parse(
    segment: Segment,
    word0: PageRequest0,
    word1: PageRequest1,
    at: Nanoseconds,
) -> Option<PageRequest> {
    let stop_marker = word0.pp() && word1.lpig() && !word1.rdr() && !word1.wrr();
    if word0.kind() != PAGE_REQUEST || stop_marker {
        return None;
    }
    let pasid = if word0.pp() {
        Some(Pasid::new(word0.pasid())?)
    } else {
        None
    };
    let access = match (word1.rdr(), word1.wrr()) {
        (false, false) => Access::NONE,
        (true, false) => Access::READ,
        (false, true) => Access::WRITE,
        (true, true) => Access::READ_WRITE,
    };
    Some(PageRequest {
        slot: Slot {
            device: DeviceId::new(segment, SourceId::from_bits(word0.rid())),
            pasid,
        },
        address: Iova::new(word1.addr() << PAGE_SHIFT),
        access,
        privileged: word0.pmr(),
        group: word1.prgi(),
        last: word1.lpig(),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(word0: u64, word1: u64) -> Option<PageRequest> {
        parse(
            Segment(0),
            PageRequest0::from_bits(word0),
            PageRequest1::from_bits(word1),
            Nanoseconds(0),
        )
    }

    #[test]
    fn a_request_says_who_wants_what() {
        let request = parsed(0x0000_1207_0020_0101, 0x5000 | 0x1f << 3 | 6).unwrap();
        assert_eq!(request.slot.device.source.bits(), 0x20);
        assert_eq!(request.slot.pasid, Pasid::new(0x1207));
        assert_eq!(request.address, Iova::new(0x5000));
        assert_eq!(request.access, Access::WRITE);
        assert_eq!((request.group, request.last), (0x1f, true));
    }

    #[test]
    fn a_stop_marker_is_no_request_and_the_same_without_a_pasid_is() {
        assert_eq!(parsed(0x101, 4), None);
        assert!(parsed(0x001, 4).is_some());
        assert!(parsed(0x101, 5).is_some());
    }

    #[test]
    fn another_type_is_no_request() {
        assert_eq!(parsed(0x002, 5), None);
    }
}
