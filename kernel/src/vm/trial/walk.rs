//! What a guest's table says of an address, by the rules of the first stage (§3.6, §9.8).
//!
//! Written apart from `io-pgtable` and the shadow engine on purpose: it is what they are
//! held against.

use iommu_core::{Access, Gpa, GuestMemory};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Why a request must be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Refusal {
    /// No table is bound.
    Blocked,
    /// The address is not canonical.
    NotCanonical,
    /// An entry is not present.
    NotPresent,
    /// A write, and an entry on the way is read-only.
    WriteDenied,
    /// An entry on the way is the supervisor's.
    Supervisor,
    /// An entry has a reserved bit.
    Reserved,
    /// An entry leads outside the guest's memory.
    Outside,
    /// A write to the interrupt address range that is not the device's own message.
    ForeignInterrupt,
}

impl Refusal {
    /// The word in a witness.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::NotCanonical => "not-canonical",
            Self::NotPresent => "not-present",
            Self::WriteDenied => "write-denied",
            Self::Supervisor => "supervisor",
            Self::Reserved => "reserved",
            Self::Outside => "outside-memory",
            Self::ForeignInterrupt => "foreign-interrupt",
        }
    }
}

/// Address bits of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LEVELS: u32 = 4;

/// Where a user request goes, byte for byte.
pub(super) fn walk(
    memory: &dyn GuestMemory,
    root: Gpa,
    address: u64,
    access: Access,
    host_bits: u32,
) -> Result<Gpa, Refusal> {
    let sign = address.cast_signed() >> 47;
    if sign != 0 && sign != -1 {
        return Err(Refusal::NotCanonical);
    }
    let too_high = ADDRESS & u64::MAX.checked_shl(host_bits).unwrap_or(0);
    let (mut table, mut rights) = (root.as_u64(), Flags::all());
    for level in (1..=LEVELS).rev() {
        let shift = 12 + 9 * (level - 1);
        let index = address >> shift & 0x1ff;
        let at = Gpa::new(table + index * 8);
        let value = memory.read_once(at).map_err(|_| Refusal::Outside)?;
        let flags = Flags::from_bits_retain(value);
        if !flags.contains(Flags::PRESENT) {
            return Err(Refusal::NotPresent);
        }
        let large = level > 1 && flags.contains(Flags::HUGE_PAGE);
        let misplaced =
            large && (level == 4 || value & ADDRESS & ((1 << shift) - 1) & !0x1000 != 0);
        if value & too_high != 0 || misplaced {
            return Err(Refusal::Reserved);
        }
        rights &= flags;
        if large || level == 1 {
            let within = address & ((1 << shift) - 1);
            let page = value & ADDRESS & !((1 << shift) - 1);
            return leaf(memory, Gpa::new(page | within), rights, access);
        }
        table = value & ADDRESS;
    }
    Err(Refusal::NotPresent)
}

fn leaf(memory: &dyn GuestMemory, gpa: Gpa, rights: Flags, access: Access) -> Result<Gpa, Refusal> {
    if !rights.contains(Flags::USER_ACCESSIBLE) {
        return Err(Refusal::Supervisor);
    }
    if access.writes() && !rights.contains(Flags::WRITABLE) {
        return Err(Refusal::WriteDenied);
    }
    match memory.resolve(gpa, access) {
        Ok(_) => Ok(gpa),
        Err(_) => Err(Refusal::Outside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::GuestRam;
    use test_platform::TestPlatform;

    const ADDRESS_BITS: u32 = 40;

    /// Tables at pages 1 to 4, a page at 5; the leaf's and the upper entries' value.
    fn tables(leaf: u64, uppers: [u64; 3]) -> GuestRam {
        let platform = TestPlatform::new(64);
        let ram =
            GuestRam::new(&platform, Gpa::new(0), 16, &mut fastrand::Rng::with_seed(1)).unwrap();
        let [four, three, two] = uppers;
        for (at, value) in [
            (0x1008, four),
            (0x2010, three),
            (0x3018, two),
            (0x4020, leaf),
        ] {
            ram.write_once(Gpa::new(at), value).unwrap();
        }
        // The platform's memory must outlive the frames.
        std::mem::forget(platform);
        ram
    }

    const GOOD: [u64; 3] = [0x2007, 0x3007, 0x4007];
    const AT: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12;

    fn walked(leaf: u64, uppers: [u64; 3], access: Access) -> Result<Gpa, Refusal> {
        let ram = tables(leaf, uppers);
        walk(&ram, Gpa::new(0x1000), AT | 0x123, access, ADDRESS_BITS)
    }

    #[test]
    fn a_good_table_leads_to_the_byte() {
        assert_eq!(walked(0x5007, GOOD, Access::WRITE), Ok(Gpa::new(0x5123)));
    }

    #[test]
    fn rights_are_those_that_all_levels_have() {
        let write = |leaf, uppers| walked(leaf, uppers, Access::WRITE);
        assert_eq!(write(0x5005, GOOD), Err(Refusal::WriteDenied));
        let read_only_above = [0x2005, 0x3007, 0x4007];
        assert_eq!(write(0x5007, read_only_above), Err(Refusal::WriteDenied));
        assert!(walked(0x5007, read_only_above, Access::READ).is_ok());
        let supervisor_above = [0x2007, 0x3003, 0x4007];
        assert_eq!(write(0x5007, supervisor_above), Err(Refusal::Supervisor));
    }

    #[test]
    fn what_leads_outside_memory_is_told_from_what_leads_nowhere() {
        let write = |leaf, uppers| walked(leaf, uppers, Access::WRITE);
        assert_eq!(write(0x1_0007, GOOD), Err(Refusal::Outside));
        assert_eq!(
            write(0x5007, [0x2007, 0x3007, 0x10_4007]),
            Err(Refusal::Outside)
        );
        assert_eq!(write(0x5006, GOOD), Err(Refusal::NotPresent));
        assert_eq!(write(0x5007 | 1 << 51, GOOD), Err(Refusal::Reserved));
    }

    #[test]
    fn a_large_page_leads_to_the_byte_within() {
        let uppers = [0x2007, 0x3007, 0x0087];
        let ram = tables(0, uppers);
        let at = AT & !(0x1ff << 12) | 5 << 12 | 0x45;
        let walked = walk(&ram, Gpa::new(0x1000), at, Access::READ, ADDRESS_BITS);
        assert_eq!(walked, Ok(Gpa::new(0x5045)));
        let misplaced = tables(0, [0x2007, 0x3007, 0x4087]);
        let walked = walk(&misplaced, Gpa::new(0x1000), at, Access::READ, ADDRESS_BITS);
        assert_eq!(walked, Err(Refusal::Reserved));
    }

    #[test]
    fn an_address_between_the_halves_is_not_canonical() {
        let ram = tables(0x5007, GOOD);
        let walk = |at| walk(&ram, Gpa::new(0x1000), at, Access::READ, ADDRESS_BITS);
        assert_eq!(walk(1 << 47), Err(Refusal::NotCanonical));
        assert_eq!(walk(u64::MAX << 47), Err(Refusal::NotPresent));
    }
}
