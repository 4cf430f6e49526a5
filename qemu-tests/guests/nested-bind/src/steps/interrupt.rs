//! Interrupts of the device.

use super::refuse::target;
use crate::session::Session;
use edu::{Causes, Direction, Edu, Transfer};
use guest_machine::iommu_guest::FaultEventKind;
use guest_machine::{Trouble, Window, iommu};
use hypervisor_abi::{Announce, Deed, TargetKind};
use iommu_core::{Gva, Iova, Nanoseconds};

/// The vector that the guest chose for its device.
const VECTOR: u8 = 0x51;
/// How long an interrupt may take.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(2_000);

fn interrupt_deed() -> Announce {
    Announce {
        deed: Deed::Interrupt as u32,
        ..Announce::new()
    }
}

fn arrives(session: &Session) -> Result<(), Trouble> {
    match session.calls.wait_for(VECTOR, PATIENCE)? {
        true => Ok(()),
        false => Err(Trouble::Unexpected {
            what: "interrupts",
            wanted: 1,
            found: 0,
        }),
    }
}

/// On demand, and at the end of a copy.
pub(crate) fn msi(session: &mut Session) -> Result<(), Trouble> {
    session.function.enable_msi(VECTOR)?;
    session.trial("raised", interrupt_deed(), |session| {
        session.edu.raise(Causes::new().with_requested(0x2a));
        arrives(session)
    })?;
    let causes = session.edu.acknowledge();
    Trouble::unless_equal("the cause", 0x2a, causes.requested().into())?;

    let (source, _) = session.map_random_page()?;
    let transfer = Transfer::new(Direction::FromMemory, Iova::new(source.as_u64()), 0, 64)?;
    session.trial("copied", interrupt_deed(), |session| {
        session.edu.start(&transfer, true)?;
        arrives(session)?;
        let limit = Edu::<Window>::PATIENCE;
        Ok(session.edu.wait(&session.machine(), limit)?)
    })?;
    let causes = session.edu.acknowledge();
    Trouble::unless_equal("copied", 1, causes.copied().into())
}

/// A write to an address that is an interrupt message: somebody else's is refused, the
/// device's own arrives.
pub(crate) fn foreign_message(session: &mut Session) -> Result<(), Trouble> {
    let own = target(session, TargetKind::OwnInterrupt)?;
    let foreign = target(session, TargetKind::ForeignInterrupt)?;
    let refused = Announce {
        deed: Deed::Access as u32,
        access: 2,
        destination: foreign.address,
        bytes: 4,
        ..Announce::new()
    };
    session.until_judged(|session| send(session, "refused", refused, foreign.data))?;
    // The guest is told of it only where the request carries the device's id.
    if let Some(fault) = iommu::read_fault(&mut session.iommu)? {
        let wanted = FaultEventKind::Interrupt.as_u32();
        let kind = fault.kind.map_or(0, FaultEventKind::as_u32);
        Trouble::unless_equal("the fault's kind", wanted.into(), kind.into())?;
    }
    send(
        session,
        "permitted",
        interrupt_deed_at(own.address),
        own.data,
    )?;
    arrives(session)?;
    session.no_fault()
}

fn interrupt_deed_at(address: u64) -> Announce {
    Announce {
        destination: address,
        bytes: 4,
        ..interrupt_deed()
    }
}

/// Lets the device write a message's data to an address.
fn send(session: &mut Session, part: &str, deed: Announce, data: u32) -> Result<(), Trouble> {
    let (at, page) = session.map_random_page()?;
    session.machine().write(page, &data.to_le_bytes())?;
    session.dma(Direction::FromMemory, at, 4)?;
    session.trial(part, deed, |session| {
        session.dma(Direction::ToMemory, Gva::new(deed.destination), 4)
    })
}
