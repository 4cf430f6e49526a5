//! Giving a real device to a guest.

use super::lines::{Interrupt, Line};
use super::mediated::MediatedEdu;
use super::{Access, GuestError, Policy};
use crate::cpu::{apic, vectors};
use crate::devices::Mute;
use crate::host::Host;
use crate::remapping::Driver;
use crate::vm::Vm;
use crate::vm::passthrough::{Function, PassthroughDevice};
use alloc::boxed::Box;
use defmt::Display2Format;
use iommu_core::{DeviceId, IrqHandle, IrqMessage, IrqRemapper, IrqTarget, SourceId, VmId};
use pci::{InterruptRequester, PciAddress};
use vtd::InterruptSource;

/// Gives the device to the guest, blocked: its registers are mapped or stay with the
/// hypervisor, its configuration space is mediated, its interrupt is remapped and becomes a
/// virtual one.
pub(super) fn assign(
    vm: &mut Vm,
    id: VmId,
    policy: &Policy,
    host: &Host,
    device: DeviceId,
    access: Access,
) -> Result<Interrupt, GuestError> {
    let source = device.source;
    let virtual_id = on_bus_0(source);
    policy
        .assign(id, device, u32::from(virtual_id.bits()))
        .map_err(GuestError::Iommu)?;
    let_ask(policy, id, device)?;
    let address = PciAddress::new(
        device.segment.0,
        source.bus(),
        source.device(),
        source.function(),
    );
    let mut next = Vm::FIRST_BAR;
    let function =
        Function::new(&host.bus.ecam, address, &mut next).map_err(GuestError::Function)?;
    let registers = match access {
        Access::Whole => None,
        Access::Mediated => Some(MediatedEdu::new(&function, virtual_id)?),
    };
    let line = Line::take(vm.interrupts().clone())?;
    let (entry, message) = message(host, device, line.vector)?;
    let interrupt = Interrupt { entry, line };
    let way_in = interrupt.line.line();
    let device = PassthroughDevice::new(device, virtual_id, function, way_in, message);
    let added = match registers {
        None => vm.add_device(device),
        Some(registers) => vm.add_mediated(device, Box::new(registers)),
    };
    match added {
        Ok(()) => Ok(interrupt),
        Err(error) => {
            // What hardware does not forget now is reported by the driver.
            let _ = interrupt.give_back(&host.remapping.driver);
            Err(GuestError::Setup(error))
        }
    }
}

/// Lets the device ask its guest for pages, where all allow it. The guest sees whether it does
/// in the device's capabilities, and what lacks in the answer about SVA; why, the log tells.
fn let_ask(policy: &Policy, id: VmId, device: DeviceId) -> Result<(), GuestError> {
    let ats = match policy.host().may_ask(device) {
        Ok(ats) => ats,
        Err(Mute::Device) => return Ok(()),
        Err(why) => {
            defmt::info!("{}: asks for no pages: {}", device, Display2Format(&why));
            return Ok(());
        }
    };
    policy
        .allow_page_requests(id, device, ats)
        .map_err(GuestError::Iommu)?;
    defmt::info!("{}: asks guest {=u16} for pages", device, id.0);
    Ok(())
}

/// The message that leads to a vector of this CPU, and the entry behind it.
fn message(
    host: &Host,
    device: DeviceId,
    vector: vectors::Vector,
) -> Result<(Option<IrqHandle>, IrqMessage), GuestError> {
    if host.remapping.interrupts {
        let source = interrupt_source(host, device);
        let (entry, message) = route(&host.remapping.driver, source, vector)?;
        return Ok((Some(entry), message));
    }
    defmt::warn!(
        "{}: its interrupts are not remapped (unremapped-interrupts=allow): its guest can make it raise ANY interrupt of this machine",
        device
    );
    let message = apic::event_message(vector);
    // The upper half holds APIC ids of more than 8 bits, which need remapping.
    let message = IrqMessage {
        address: message.address,
        data: u32::from(message.data),
    };
    Ok((None, message))
}

/// Where the guest finds a device: its machine has one bus.
fn on_bus_0(source: SourceId) -> SourceId {
    SourceId::from_bits(source.devfn().into())
}

/// Whom the device's interrupts come from. A device with more ids than are kept track of is
/// held to its own; policy has refused it before.
fn interrupt_source(host: &Host, device: DeviceId) -> InterruptSource {
    match host.bus.topology.interrupt_requester(device) {
        Ok(InterruptRequester::Buses(first, last)) => InterruptSource::Buses {
            bridge: device,
            first,
            last,
        },
        Ok(InterruptRequester::Id(id)) => {
            InterruptSource::Function(DeviceId::new(device.segment, id))
        }
        Err(_) => InterruptSource::Function(device),
    }
}

/// A message that only this source can send, and that ends in a vector of this CPU.
pub(super) fn route(
    driver: &Driver,
    source: InterruptSource,
    vector: vectors::Vector,
) -> Result<(IrqHandle, IrqMessage), GuestError> {
    let entry = driver
        .allocate_interrupts(source, 1)
        .map_err(GuestError::Interrupt)?;
    let target = IrqTarget {
        apic_id: apic::id(),
        vector: vector.number(),
        level: false,
    };
    match driver.route(&entry, 0, target) {
        Ok(message) => Ok((entry, message)),
        Err(error) => {
            // As above.
            let _ = driver.free(entry);
            Err(GuestError::Interrupt(error))
        }
    }
}
