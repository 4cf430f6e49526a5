//! Giving a real device to a guest.

use super::{GuestError, Policy};
use crate::cpu::{apic, vectors};
use crate::host::Host;
use crate::remapping::Driver;
use crate::vm::Vm;
use crate::vm::passthrough::{Function, InterruptLine, PassthroughDevice};
use alloc::boxed::Box;
use iommu_core::{DeviceId, IrqHandle, IrqMessage, IrqRemapper, IrqTarget, SourceId, VmId};
use pci::{InterruptRequester, PciAddress};
use vtd::InterruptSource;

/// Gives the device to the guest, blocked: its registers are mapped, its configuration space
/// is mediated, its interrupt is remapped and becomes a virtual one.
pub(super) fn assign(
    vm: &mut Vm,
    id: VmId,
    policy: &Policy,
    host: &Host,
    device: DeviceId,
    virtual_id: SourceId,
) -> Result<(), GuestError> {
    policy
        .assign(id, device, u32::from(virtual_id.bits()))
        .map_err(GuestError::Iommu)?;
    let source = device.source;
    let address = PciAddress::new(
        device.segment.0,
        source.bus(),
        source.device(),
        source.function(),
    );
    let mut next = Vm::FIRST_BAR;
    let function =
        Function::new(&host.bus.ecam, address, &mut next).map_err(GuestError::Function)?;
    // Handlers are for ever, so what they use is too.
    let line: &'static InterruptLine =
        Box::leak(Box::new(InterruptLine::new(vm.interrupts().clone())));
    let message = if host.remapping.interrupts {
        // The entry is never given back: neither is the vector that it leads to.
        let source = interrupt_source(host, device);
        let (_entry, message) = route(&host.remapping.driver, source, line)?;
        message
    } else {
        unremapped(device, line)?
    };
    vm.add_device(PassthroughDevice::new(
        device, virtual_id, function, line, message,
    ))
    .map_err(GuestError::Setup)
}

/// A message to the CPU itself, where interrupts are not remapped and the command line
/// accepts that.
fn unremapped(
    device: DeviceId,
    handler: &'static dyn vectors::Handler,
) -> Result<IrqMessage, GuestError> {
    defmt::warn!(
        "{}: its interrupts are not remapped (unremapped-interrupts=allow): its guest can make it raise ANY interrupt of this machine",
        device
    );
    let vector = vectors::allocate(handler).map_err(|_| GuestError::OutOfVectors)?;
    let message = apic::event_message(vector);
    Ok(IrqMessage {
        // The upper half holds APIC ids of more than 8 bits, which need remapping.
        address: message.address,
        data: u32::from(message.data),
    })
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

/// A message that only this source can send, and that ends in `handler`.
pub(super) fn route(
    driver: &Driver,
    source: InterruptSource,
    handler: &'static dyn vectors::Handler,
) -> Result<(IrqHandle, IrqMessage), GuestError> {
    let vector = vectors::allocate(handler).map_err(|_| GuestError::OutOfVectors)?;
    let entry = driver
        .allocate_interrupts(source, 1)
        .map_err(GuestError::Interrupt)?;
    let target = IrqTarget {
        apic_id: apic::id(),
        vector: vector.number(),
        level: false,
    };
    let message = driver
        .route(&entry, 0, target)
        .map_err(GuestError::Interrupt)?;
    Ok((entry, message))
}
