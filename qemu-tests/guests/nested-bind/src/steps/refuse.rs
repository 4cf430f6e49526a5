//! Entries that must not work, each beside one that does.

use crate::session::Session;
use guest_machine::Trouble;
use hypervisor_abi::{TargetEntry, TargetKind};
use iommu_core::{Access, FaultReason, Gva};
use zerocopy::FromZeros;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// A reserved bit wherever addresses have fewer than 52 bits.
const TOP_ADDRESS_BIT: u64 = 1 << 51;

/// Why an entry that points outside the guest's memory is refused: no second stage leads
/// there, or the address has more bits than it has.
const OUTSIDE: &[FaultReason] = &[
    FaultReason::SECOND_STAGE_NOT_PRESENT,
    FaultReason::NESTED_BEYOND_WIDTH,
    FaultReason::NESTED_TABLE_DENIED,
    FaultReason::SCALABLE_INTO_INTERRUPT_RANGE,
    FaultReason::SCALABLE_BEYOND_WIDTH,
];

/// A page with an entry of this level for it, both ready to be played with.
struct Bench {
    at: Gva,
    good: u64,
    entry: iommu_core::Gpa,
}

impl Bench {
    fn new(session: &mut Session, level: u8) -> Result<Self, Trouble> {
        // The device's buffer holds other bytes than the page, so that a write shows.
        let (source, _) = session.map_random_page()?;
        session.load_buffer(source)?;
        let (at, page) = (session.fresh_address()?, session.random_page()?);
        session.map(at, page)?;
        let entry = session
            .space
            .entry(session.machine(), at, level)?
            .ok_or(Trouble::Unsuitable("an entry"))?;
        let good = session.machine().load(entry)?;
        Ok(Self { at, good, entry })
    }

    /// With a bad entry an access is refused; with the good one the same access works.
    fn compare(
        &self,
        session: &mut Session,
        bad: u64,
        access: Access,
        reasons: &[FaultReason],
    ) -> Result<(), Trouble> {
        session.machine().store(self.entry, bad)?;
        session.invalidate(&[self.at])?;
        let refused = session.refused("refused", self.at, access, reasons);
        // Whatever came of it, no bad entry stays behind.
        session.machine().store(self.entry, self.good)?;
        session.invalidate(&[self.at])?;
        refused?;
        session.permitted("permitted", self.at, access)
    }
}

fn with_address(entry: u64, address: u64) -> u64 {
    (entry & (PRESENT | WRITABLE | USER)) | (address & 0x000f_ffff_ffff_f000)
}

/// A page that may only be read.
pub(crate) fn read_only(session: &mut Session) -> Result<(), Trouble> {
    let bench = Bench::new(session, 1)?;
    let reasons = [
        FaultReason::SCALABLE_WRITE_DENIED,
        FaultReason::WRITE_DENIED,
    ];
    bench.compare(session, bench.good & !WRITABLE, Access::WRITE, &reasons)?;
    session
        .machine()
        .store(bench.entry, bench.good & !WRITABLE)?;
    session.invalidate(&[bench.at])?;
    session.permitted("read", bench.at, Access::READ)
}

/// A page that only supervisor requests may reach; a device's are user requests.
pub(crate) fn supervisor_page(session: &mut Session) -> Result<(), Trouble> {
    let bench = Bench::new(session, 1)?;
    let reasons = [FaultReason::USER_DENIED];
    bench.compare(session, bench.good & !USER, Access::WRITE, &reasons)
}

/// An entry with a reserved bit.
pub(crate) fn reserved_bit(session: &mut Session) -> Result<(), Trouble> {
    let bench = Bench::new(session, 1)?;
    let reasons = [FaultReason::FIRST_STAGE_RESERVED];
    let bad = bench.good | TOP_ADDRESS_BIT;
    bench.compare(session, bad, Access::WRITE, &reasons)
}

/// The first page beyond the guest's memory.
pub(crate) fn leaf_outside_memory(session: &mut Session) -> Result<(), Trouble> {
    let beyond = session.machine().start().memory_end();
    leaf_to(session, beyond)
}

/// A page that the hypervisor keeps between the guest's.
pub(crate) fn leaf_to_canary(session: &mut Session) -> Result<(), Trouble> {
    let target = target(session, TargetKind::Canary)?;
    leaf_to(session, target.address)
}

/// The hypervisor itself.
pub(crate) fn leaf_to_hypervisor(session: &mut Session) -> Result<(), Trouble> {
    let target = target(session, TargetKind::Hypervisor)?;
    leaf_to(session, target.address)
}

/// The remapping unit's registers.
pub(crate) fn leaf_to_registers(session: &mut Session) -> Result<(), Trouble> {
    let target = target(session, TargetKind::UnitRegisters)?;
    leaf_to(session, target.address)
}

/// A translation into the interrupt address range.
pub(crate) fn leaf_to_interrupt_range(session: &mut Session) -> Result<(), Trouble> {
    leaf_to(session, 0xfee0_0000)
}

fn leaf_to(session: &mut Session, address: u64) -> Result<(), Trouble> {
    let bench = Bench::new(session, 1)?;
    let bad = with_address(bench.good, address);
    bench.compare(session, bad, Access::WRITE, OUTSIDE)
}

/// A table outside the guest's memory.
pub(crate) fn table_outside_memory(session: &mut Session) -> Result<(), Trouble> {
    let bench = Bench::new(session, 2)?;
    let target = target(session, TargetKind::Canary)?;
    let bad = with_address(bench.good, target.address);
    bench.compare(session, bad, Access::WRITE, OUTSIDE)
}

/// The first target of a kind.
pub(crate) fn target(session: &Session, kind: TargetKind) -> Result<TargetEntry, Trouble> {
    let mut targets: [TargetEntry; 32] = FromZeros::new_zeroed();
    let count = session.calls.targets(&mut targets)?;
    targets
        .into_iter()
        .take(count)
        .find(|entry| entry.kind == kind as u32)
        .ok_or(Trouble::Unsuitable("a target of this kind"))
}
