//! Giving a real device to a guest.

use super::lines::{Interrupt, Line};
use super::mediated::MediatedEdu;
use super::{Access, GuestError, Policy};
use crate::cpu::{apic, vectors};
use crate::devices::Mute;
use crate::host::Host;
use crate::remapping::{interrupt_source, route};
use crate::vm::Vm;
use crate::vm::passthrough::{Function, PassthroughDevice};
use alloc::boxed::Box;
use defmt::Display2Format;
use iommu_core::{DeviceId, IrqHandle, IrqMessage, SourceId, VmId};
use pci::PciAddress;

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
    if !let_ask(policy, id, device)? {
        let_translate(host, device);
    }
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
/// Whether it does, and so translates for itself too.
fn let_ask(policy: &Policy, id: VmId, device: DeviceId) -> Result<bool, GuestError> {
    let ats = match policy.host().may_ask(device) {
        Ok(ats) => ats,
        Err(Mute::Device) => return Ok(false),
        Err(why) => {
            defmt::info!("{}: asks for no pages: {}", device, Display2Format(&why));
            return Ok(false);
        }
    };
    policy
        .allow_page_requests(id, device, ats)
        .map_err(GuestError::Iommu)?;
    defmt::info!("{}: asks guest {=u16} for pages", device, id.0);
    Ok(true)
}

/// Lets the device translate for itself, where the command line and the firmware allow that. It
/// is blocked and at rest, and works without as well.
fn let_translate(host: &Host, device: DeviceId) {
    match host.remapping.let_translate(device) {
        Ok(()) => defmt::info!("{}: translates for itself (ats=vouched)", device),
        Err(why) => defmt::debug!(
            "{}: does not translate for itself: {}",
            device,
            Display2Format(&why)
        ),
    }
}

/// The message that leads to a vector of this CPU, and the entry behind it.
fn message(
    host: &Host,
    device: DeviceId,
    vector: vectors::Vector,
) -> Result<(Option<IrqHandle>, IrqMessage), GuestError> {
    if host.remapping.interrupts {
        let source = interrupt_source(host.bus, device);
        let routed = route(&host.remapping.driver, source, vector);
        let (entry, message) = routed.map_err(GuestError::Interrupt)?;
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
