//! Devices behind bridges, in groups, with and without a reset, and what translates for
//! itself.

use crate::bench::{BLOCKED, Bench, Copier, Counter, Domain, Line, Page};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;
use iommu_core::{Access, Backend, Batch, DeviceId, Iova, Mmio, Nanoseconds, Segment, SourceId};
use kernel::devices::Distrust;
use kernel::guest::Order;
use kernel::memory::RegisterWindow;
use kernel::remapping::OwnTranslation;
use kernel::rules::Refusal;
use kernel::time::KernelClock;
use kernel::vcpu::Ending;
use pci::{
    CommandRegister, Config, Groups, InterruptRequester, Method, OutOfMemory, ResetLimits,
    Resetter, Topology, TranslationServices,
};
use vtd::InterruptSource;

const LONG: Nanoseconds = Nanoseconds::from_millis(900_000);

fn id(bus: u8, device: u8, function: u8) -> Result<DeviceId, Deviation> {
    let source = SourceId::new(bus, device, function).ok_or_else(Deviation::no_memory)?;
    Ok(DeviceId::new(Segment(0), source))
}

/// The `edu` device that is not on the root bus.
fn copier_behind_bridges(bench: &mut Bench) -> Result<Copier, Deviation> {
    let functions = bench.host().bus.topology.functions();
    let far = functions.iter().find(|function| {
        (function.vendor, function.device) == (edu::VENDOR, edu::DEVICE)
            && function.id.source.bus() != 0
    });
    let far =
        far.ok_or_else(|| Deviation::failed(format_args!("no edu device behind a bridge")))?;
    bench.copier_of(far.id)
}

fn only_alias(bench: &mut Bench, device: DeviceId) -> Result<DeviceId, Deviation> {
    let ids = bench.host().bus.topology.requesters(device);
    let ids: alloc::vec::Vec<_> = ids.collect();
    match ids[..] {
        [own, alias] if own == device.source => Ok(DeviceId::new(device.segment, alias)),
        _ => Err(Deviation::failed(format_args!("ids {ids:?}"))),
    }
}

boot_test!(
    requests_from_behind_a_bridge_come_under_the_bridges_id,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device pcie-pci-bridge,id=br1,bus=rp1 -device edu,bus=br1,addr=3,dma_mask=0xffffffffffffffff",
    widths = "48",
    caching = "off",
    cpus = "1",
    provokes = "refused-dma",
);
fn requests_from_behind_a_bridge_come_under_the_bridges_id(bench: &mut Bench) -> Outcome {
    let copier = copier_behind_bridges(bench)?;
    let alias = only_alias(bench, copier.id())?;
    check_eq!(
        alias,
        id(copier.id().source.bus(), 0, 0)?,
        "the bridge's id"
    );
    let domain = bench.domain(copier.id())?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ_WRITE)?;
    // Its own id alone is not enough: that is not how QEMU's bridge sends requests on.
    copier.attach(&domain)?;
    let fault = bench.fault_of(|| copier.load(at, 8))?;
    check_eq!(fault.device, alias, "who was refused");
    check!(BLOCKED.contains(&fault.reason), "why: {}", fault.reason);
    domain.attach(alias, None)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    domain.block(alias, None)?;
    let fault = bench.fault_of(|| copier.load(at, 8))?;
    check_eq!(fault.device, alias, "who was refused at last");
    Ok(())
}

boot_test!(
    devices_behind_a_bridge_keep_their_reserved_region_under_the_bridges_id,
    dmar = "reserved-bridged",
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device pcie-pci-bridge,id=br1,bus=rp1 -device edu,bus=br1,addr=3,dma_mask=0xffffffffffffffff -device edu,bus=br1,addr=5,dma_mask=0xffffffffffffffff",
    widths = "48",
    caching = "off",
    cpus = "1",
    provokes = "refused-dma",
);
fn devices_behind_a_bridge_keep_their_reserved_region_under_the_bridges_id(
    bench: &mut Bench,
) -> Outcome {
    /// The region of the canned table, and the page behind it.
    const REGION: Iova = Iova::new(0x0fff_c000);
    const BEHIND: Iova = Iova::new(0x0fff_e000);
    let all = bench.copiers(3)?;
    for device in all.into_iter().filter(|id| id.source.bus() != 0) {
        let copier = bench.copier_of(device)?;
        bench.permitted(|| copier.load(REGION, Copier::PAGE))?;
        let fault = bench.fault_of(|| copier.load(BEHIND, 8))?;
        let bridge = id(device.source.bus(), 0, 0)?;
        check_eq!(fault.device, bridge, "who was refused behind it");
    }
    Ok(())
}

boot_test!(
    a_device_with_more_ids_than_are_kept_is_refused_and_others_are_not,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device pcie-pci-bridge,id=b0,bus=rp1 -device pci-bridge,id=b1,bus=b0,chassis_nr=2,addr=1 -device pci-bridge,id=b2,bus=b1,chassis_nr=3,addr=1 -device pci-bridge,id=b3,bus=b2,chassis_nr=4,addr=1 -device pci-bridge,id=b4,bus=b3,chassis_nr=5,addr=1 -device pci-bridge,id=b5,bus=b4,chassis_nr=6,addr=1 -device pci-bridge,id=b6,bus=b5,chassis_nr=7,addr=1 -device pci-bridge,id=b7,bus=b6,chassis_nr=8,addr=1 -device pci-bridge,id=b8,bus=b7,chassis_nr=9,addr=1 -device pci-bridge,id=b9,bus=b8,chassis_nr=10,addr=1 -device pci-bridge,id=b10,bus=b9,chassis_nr=11,addr=1 -device pci-bridge,id=b11,bus=b10,chassis_nr=12,addr=1 -device pci-bridge,id=b12,bus=b11,chassis_nr=13,addr=1 -device pci-bridge,id=b13,bus=b12,chassis_nr=14,addr=1 -device pci-bridge,id=b14,bus=b13,chassis_nr=15,addr=1 -device pci-bridge,id=b15,bus=b14,chassis_nr=16,addr=1 -device edu,bus=b15,addr=3,dma_mask=0xffffffffffffffff",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "not for guests: its requests may come under the ids of more bridges",
);
fn a_device_with_more_ids_than_are_kept_is_refused_and_others_are_not(
    bench: &mut Bench,
) -> Outcome {
    /// Its own, those of fifteen conventional bridges, and that of the bridge above those.
    const IDS: usize = 17;
    let far = copier_behind_bridges(bench)?.id();
    let ids = bench.host().bus.topology.requesters(far).count();
    check_eq!(ids, IDS, "its ids");
    let order = guest_order(bench, "limits", far);
    check!(bench.guest(&order).is_err(), "it was given away");
    let order = guest_order(bench, "limits", id(0, 4, 0)?);
    bench.guest(&order).map(drop)
}

boot_test!(
    interrupts_from_behind_a_bridge_are_verified_by_bus,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device pcie-pci-bridge,id=br1,bus=rp1 -device edu,bus=br1,addr=3,dma_mask=0xffffffffffffffff",
    modes = "legacy",
    widths = "48",
    caching = "off",
    provokes = "foreign-interrupt",
);
fn interrupts_from_behind_a_bridge_are_verified_by_bus(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    static FOREIGN: Counter = Counter::new();
    let copier = copier_behind_bridges(bench)?;
    let device = copier.id();
    let requester = bench.host().bus.topology.interrupt_requester(device);
    let bus = device.source.bus();
    check_eq!(requester, InterruptRequester::Buses(bus, bus), "who");
    let source = InterruptSource::Buses {
        bridge: device,
        first: bus,
        last: bus,
    };
    let line = Line::allocate_from(bench.driver(), source, &CAME)?;
    copier.send_interrupts_as(line.message()?);
    copier.raise_interrupt();
    check!(CAME.came_after(0), "its interrupt did not come");
    // By its own id it would not be believed.
    let own = Line::allocate(bench.driver(), device, &FOREIGN)?;
    copier.send_interrupts_as(own.message()?);
    bench.fault_of(|| {
        copier.raise_interrupt();
        Ok(())
    })?;
    check_eq!(FOREIGN.count(), 0, "interrupts under its own id");
    Ok(())
}

fn guest_order(bench: &Bench, program: &'static str, device: DeviceId) -> Order<'static> {
    Order::new(program, bench.seed(), device)
}

boot_test!(
    a_guest_uses_a_device_behind_a_bridge,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device pcie-pci-bridge,id=br1,bus=rp1 -device edu,bus=br1,addr=3,dma_mask=0xffffffffffffffff",
    widths = "48",
    caching = "off",
    cpus = "1",
    seconds = "60",
    provokes = "refused-dma absent-interrupt",
    logs = "requests come as|reset by a bus reset",
);
fn a_guest_uses_a_device_behind_a_bridge(bench: &mut Bench) -> Outcome {
    let device = copier_behind_bridges(bench)?.id();
    let order = guest_order(bench, "nested-bind", device);
    let mut guest = bench.guest(&order)?;
    let ending = guest.run(LONG);
    check_eq!(
        ending,
        Ending::Finished(hypervisor_abi::Outcome::Pass),
        "how it ended"
    );
    let trials = guest.trials();
    check!(
        trials.all > 10 && trials.failed == 0,
        "{} of {} trials failed",
        trials.failed,
        trials.all
    );
    let ended = guest.end();
    check!(ended.is_ok(), "its end: {ended:?}");
    // And the id that it shares with its bus leads nowhere any more.
    let alias = only_alias(bench, device)?;
    let slot = iommu_core::Slot {
        device: alias,
        pasid: None,
    };
    let leads = bench.driver().attachment(slot)?;
    check_eq!(leads, iommu_core::Attachment::Blocked, "the bridge's id");
    Ok(())
}

/// Two functions of one device, without access control services.
fn twins() -> Result<(DeviceId, DeviceId), Deviation> {
    Ok((id(0, 7, 0)?, id(0, 7, 1)?))
}

boot_test!(
    a_device_whose_companion_the_hypervisor_uses_is_given_to_no_guest,
    machine = "-device edu,addr=7.0,multifunction=on,dma_mask=0xffffffffffffffff -device edu,addr=7.1,dma_mask=0xffffffffffffffff",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "0000:00:07.1 1234:11e8: in the group of 0000:00:07.0: functions of the same device",
);
fn a_device_whose_companion_the_hypervisor_uses_is_given_to_no_guest(bench: &mut Bench) -> Outcome {
    let (device, companion) = twins()?;
    let domain = bench.domain(companion)?;
    domain.attach(companion, None)?;
    let order = guest_order(bench, "limits", device);
    match bench.guest(&order) {
        Ok(_) => Err(Deviation::failed(format_args!("it was given away"))),
        Err(Deviation::Failed(why)) => {
            check!(
                why.contains(
                    "it cannot be kept apart from 0000:00:07.1, which the hypervisor uses"
                ),
                "{why}"
            );
            Ok(())
        }
        Err(other) => Err(other),
    }
}

boot_test!(
    a_device_whose_companion_nobody_uses_is_given_to_a_guest,
    machine = "-device edu,addr=7.0,multifunction=on,dma_mask=0xffffffffffffffff -device edu,addr=7.1,dma_mask=0xffffffffffffffff",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn a_device_whose_companion_nobody_uses_is_given_to_a_guest(bench: &mut Bench) -> Outcome {
    let (device, companion) = twins()?;
    let groups = &bench.host().bus.groups;
    check_eq!(groups.members(device).count(), 2, "members");
    check_eq!(groups.name(device), groups.name(companion), "the group");
    let order = guest_order(bench, "limits", device);
    bench.guest(&order).map(drop)
}

boot_test!(
    devices_behind_a_port_are_apart_by_its_access_control,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8.0,multifunction=on -device pcie-root-port,id=rp2,chassis=1,slot=2,addr=8.1 -device qemu-xhci,bus=rp1 -device qemu-xhci,bus=rp2",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "access control services turned on in 2 function(s)",
);
fn devices_behind_a_port_are_apart_by_its_access_control(bench: &mut Bench) -> Outcome {
    let bus = bench.host().bus;
    let controllers = [id(1, 0, 0)?, id(2, 0, 0)?];
    for device in controllers {
        check_eq!(
            bus.groups.members(device).count(),
            1,
            "members with {device}"
        );
    }
    // Before they were turned on, it was otherwise: the registers say so again.
    for port in [id(0, 8, 0)?, id(0, 8, 1)?] {
        let at = bus
            .topology
            .function(port)
            .and_then(|port| port.capabilities.acs);
        let at = at.ok_or_else(|| Deviation::failed(format_args!("{port} has no ACS")))?;
        let config = Config::new(&bus.ecam, port);
        config.write32(at + 4, 0);
    }
    let mut topology = Topology::new();
    let scanned = topology.scan(&bus.ecam, Segment(0), 0..=2);
    check!(scanned.is_ok(), "no memory");
    let groups = Groups::of(&topology);
    let groups = groups.map_err(|OutOfMemory| Deviation::failed(format_args!("no memory")))?;
    check_eq!(
        groups.members(controllers[0]).count(),
        2,
        "members without it"
    );
    Ok(())
}

boot_test!(
    devices_behind_a_port_without_access_control_are_one_group,
    qemu = "10.0",
    machine = "-global pcie-root-port.disable-acs=true -device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8.0,multifunction=on -device pcie-root-port,id=rp2,chassis=1,slot=2,addr=8.1 -device qemu-xhci,bus=rp1 -device qemu-xhci,bus=rp2",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "access control services turned on in 0 function(s)|lets what is behind it reach each other",
);
fn devices_behind_a_port_without_access_control_are_one_group(bench: &mut Bench) -> Outcome {
    let groups = &bench.host().bus.groups;
    let members: alloc::vec::Vec<_> = groups.members(id(1, 0, 0)?).collect();
    check_eq!(members, [id(1, 0, 0)?, id(2, 0, 0)?], "members");
    Ok(())
}

boot_test!(
    a_device_without_a_reset_is_given_to_no_guest,
    machine = "-device intel-hda,addr=7",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "0000:00:07.0: cannot be reset: it has no function-level reset",
);
fn a_device_without_a_reset_is_given_to_no_guest(bench: &mut Bench) -> Outcome {
    let order = guest_order(bench, "limits", id(0, 7, 0)?);
    match bench.guest(&order) {
        Err(Deviation::Failed(why)) => {
            check!(why.contains("has no reset that is known"), "{why}");
            Ok(())
        }
        Err(other) => Err(other),
        Ok(_) => Err(Deviation::failed(format_args!("it was given away"))),
    }
}

boot_test!(
    a_device_with_a_reset_of_its_bus_is_given_to_a_guest,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device intel-hda,bus=rp1",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "0000:01:00.0: reset by a bus reset",
);
fn a_device_with_a_reset_of_its_bus_is_given_to_a_guest(bench: &mut Bench) -> Outcome {
    let order = guest_order(bench, "limits", id(1, 0, 0)?);
    bench.guest(&order).map(drop)
}

/// Writes a register of a device in its BAR 0, resets it, and reads the register again.
fn survives(
    bench: &mut Bench,
    device: DeviceId,
    (register, value): (usize, u32),
) -> Result<(Method, u32, u32), Deviation> {
    let bus = bench.host().bus;
    let function = bus.topology.function(device);
    let bar = function.and_then(|function| function.bar(0).copied());
    let bar = bar.ok_or_else(|| Deviation::failed(format_args!("{device} has no registers")))?;
    let config = Config::new(&bus.ecam, device);
    config.set_command(CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE);
    let window = RegisterWindow::map(bar.base, bar.size as usize)?;
    window.write32(register, value);
    let before = window.read32(register);
    let resetter = Resetter {
        topology: &bus.topology,
        access: &bus.ecam,
        clock: &KernelClock,
        limits: ResetLimits::default(),
    };
    let done = resetter.reset(device, &|_| false);
    let done = done.map_err(|error| Deviation::failed(format_args!("{error}")))?;
    check!(
        !config
            .command()
            .contains(CommandRegister::BUS_MASTER_ENABLE),
        "it is a bus master after its reset"
    );
    Ok((done.method, before, window.read32(register)))
}

/// Where the first receive ring of these network devices lies (low half).
const E1000E_RING: (usize, u32) = (0x2800, 0x1234_5000);
const IGB_RING: (usize, u32) = (0xc000, 0x1234_5000);

boot_test!(
    a_function_level_reset_brings_registers_back,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device igb,bus=rp1",
    complains = "has no peer",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn a_function_level_reset_brings_registers_back(bench: &mut Bench) -> Outcome {
    let (method, before, after) = survives(bench, id(1, 0, 0)?, IGB_RING)?;
    check_eq!(method, Method::Function, "the method");
    check_eq!((before, after), (IGB_RING.1, 0), "the ring's address");
    Ok(())
}

boot_test!(
    a_bus_reset_brings_registers_back,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device e1000e,bus=rp1",
    complains = "has no peer",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn a_bus_reset_brings_registers_back(bench: &mut Bench) -> Outcome {
    // It claims to forget its state in D3hot, and does not: hence the row of the table.
    let device = id(1, 0, 0)?;
    let bus = bench.host().bus;
    let function = bus.topology.function(device);
    let power =
        function.and_then(|function| Some((function.capabilities.power?, function.bar(0)?)));
    let (power, bar) = power.ok_or_else(|| Deviation::failed(format_args!("no D3hot")))?;
    let config = Config::new(&bus.ecam, device);
    config.set_command(CommandRegister::MEMORY_ENABLE);
    let window = RegisterWindow::map(bar.base, bar.size as usize)?;
    window.write32(E1000E_RING.0, E1000E_RING.1);
    check_eq!(config.read32(power + 4) & 8, 0, "No_Soft_Reset");
    for state in [3, 0] {
        config.write32(power + 4, config.read32(power + 4) & !3 | state);
    }
    config.set_command(CommandRegister::MEMORY_ENABLE);
    check_eq!(
        window.read32(E1000E_RING.0),
        E1000E_RING.1,
        "what D3hot left"
    );
    let (method, before, after) = survives(bench, id(1, 0, 0)?, E1000E_RING)?;
    check_eq!(method, Method::Bus(id(0, 8, 0)?), "the method");
    check_eq!((before, after), (E1000E_RING.1, 0), "the ring's address");
    Ok(())
}

boot_test!(
    virtual_functions_are_of_their_physical_ones_unit_and_not_for_guests,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device igb,bus=rp1",
    complains = "has no peer",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
);
fn virtual_functions_are_of_their_physical_ones_unit_and_not_for_guests(
    bench: &mut Bench,
) -> Outcome {
    let host = bench.host();
    let physical = id(1, 0, 0)?;
    let at = host
        .bus
        .topology
        .function(physical)
        .and_then(|function| function.capabilities.sriov);
    let at = at.ok_or_else(|| Deviation::failed(format_args!("igb has no SR-IOV")))?;
    let config = Config::new(&host.bus.ecam, physical);
    // Two of them, on, their memory too.
    config.write32(at + 0x10, 2);
    config.write32(at + 8, 1 | 1 << 3);
    let mut topology = Topology::new();
    let scanned = topology.scan(&host.bus.ecam, Segment(0), 0..=2);
    check!(scanned.is_ok(), "no memory");
    let functions = topology.functions().iter();
    let found: alloc::vec::Vec<_> = functions
        .filter(|function| function.physical.is_some())
        .collect();
    check_eq!(found.len(), 2, "virtual functions");
    for function in found {
        check_eq!(topology.spoken_of(function.id), physical, "of whom");
        let alone = host.remapping.may_pass_through(function);
        check_eq!(alone, Err(Refusal::VirtualFunction), "for guests");
        defmt::info!(
            "{}: {=u16:04x}:{=u16:04x}",
            function.id,
            function.vendor,
            function.device
        );
    }
    Ok(())
}

boot_test!(
    a_device_that_firmware_vouches_for_translates_for_itself_when_told,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8,hotplug=off -device virtio-net-pci,bus=rp1,disable-legacy=on,iommu_platform=on,ats=on",
    complains = "has no peer",
    unit = "device-iotlb=on",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    append = "ats=vouched",
    logs = "translates for itself while a guest has it (ats=vouched)",
);
fn a_device_that_firmware_vouches_for_translates_for_itself_when_told(
    bench: &mut Bench,
) -> Outcome {
    let remapping = bench.host().remapping;
    let mut translator = Translator::new(bench)?;
    check!(!translator.is_on(), "on before anybody allowed it");
    let alone = translator.descriptors(bench)?;
    let on = remapping.let_translate(translator.device);
    check_eq!(on, Ok(()), "turned on");
    check!(translator.is_on(), "its register says off");
    let with_device = translator.descriptors(bench)?;
    check_eq!(with_device, alone + 1, "descriptors of a flush");
    let off = remapping.end_translating(translator.device);
    check_eq!(off, Ok(()), "turned off");
    check!(!translator.is_on(), "its register says on");
    check_eq!(translator.descriptors(bench)?, alone, "descriptors at last");
    translator.domain.block(translator.device, None)
}

boot_test!(
    a_device_that_firmware_vouches_for_does_not_translate_for_itself_untold,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8,hotplug=off -device virtio-net-pci,bus=rp1,disable-legacy=on,iommu_platform=on,ats=on",
    complains = "has no peer",
    unit = "device-iotlb=on",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "ATS stays off: no device may (ats=off)",
);
fn a_device_that_firmware_vouches_for_does_not_translate_for_itself_untold(
    bench: &mut Bench,
) -> Outcome {
    let remapping = bench.host().remapping;
    let mut translator = Translator::new(bench)?;
    let alone = translator.descriptors(bench)?;
    check_eq!(remapping.ats_trust(translator.device), Ok(()), "trust");
    let on = remapping.let_translate(translator.device);
    check_eq!(on, Err(OwnTranslation::SwitchedOff), "turned on");
    check!(!translator.is_on(), "its register says on");
    check_eq!(
        translator.descriptors(bench)?,
        alone,
        "descriptors of a flush"
    );
    translator.domain.block(translator.device, None)
}

boot_test!(
    a_device_stops_translating_for_itself_when_its_guest_is_gone,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8,hotplug=off -device virtio-net-pci,bus=rp1,disable-legacy=on,iommu_platform=on,ats=on",
    complains = "has no peer",
    unit = "device-iotlb=on",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    append = "ats=vouched",
    logs = "0000:01:00.0: translates for itself (ats=vouched)|0000:01:00.0: reset by",
);
fn a_device_stops_translating_for_itself_when_its_guest_is_gone(bench: &mut Bench) -> Outcome {
    let device = id(1, 0, 0)?;
    let order = guest_order(bench, "limits", device);
    // Its interrupts are by MSI-X alone, which guests are not given: so it goes no further.
    let refused = bench.guest(&order).err();
    check!(refused.is_some(), "a guest was given a device without MSI");
    let mut translator = Translator::new(bench)?;
    check!(!translator.is_on(), "its register says on");
    let alone = translator.descriptors(bench)?;
    let on = bench.host().remapping.let_translate(device);
    check_eq!(on, Ok(()), "turned on again");
    let with_device = translator.descriptors(bench)?;
    check_eq!(with_device, alone + 1, "descriptors of a flush");
    let off = bench.host().remapping.end_translating(device);
    check_eq!(off, Ok(()), "turned off");
    translator.domain.block(device, None)
}

/// A device with ATS at work in a domain.
struct Translator {
    device: DeviceId,
    services: TranslationServices,
    ecam: &'static kernel::pci::Ecam,
    domain: Domain,
    page: Page,
}

impl Translator {
    fn new(bench: &mut Bench) -> Result<Self, Deviation> {
        let bus = bench.host().bus;
        let device = id(1, 0, 0)?;
        let function = bus.topology.function(device);
        let function = function.ok_or_else(|| Deviation::failed(format_args!("no virtio")))?;
        let domain = bench.domain(device)?;
        domain.attach(device, None)?;
        Ok(Self {
            device,
            services: TranslationServices::of(function),
            ecam: &bus.ecam,
            domain,
            page: bench.page()?,
        })
    }

    fn is_on(&self) -> bool {
        self.services.are_on(self.ecam)
    }

    /// How many descriptors the flush of an unmapped page takes.
    fn descriptors(&mut self, bench: &mut Bench) -> Result<u64, Deviation> {
        let at = Iova::new(0x40_0000);
        self.domain.map(at, &self.page, Access::READ_WRITE)?;
        let owed = self.domain.unmap_without_flush(at)?;
        let mut batch = Batch::with_capacity(1).ok_or_else(Deviation::no_memory)?;
        batch.add(owed).map_err(|_| Deviation::no_memory())?;
        Ok(bench.driver().commit(&mut batch)?.descriptors.into())
    }
}

boot_test!(
    what_was_not_there_at_the_start_is_given_to_nobody,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    logs = "0000:00:08.0: what is plugged in behind it later stays blocked",
);
fn what_was_not_there_at_the_start_is_given_to_nobody(bench: &mut Bench) -> Outcome {
    let order = guest_order(bench, "limits", id(1, 0, 0)?);
    let refused = bench.guest(&order);
    let Err(Deviation::Failed(why)) = refused else {
        return Err(Deviation::failed(format_args!(
            "what is not there was given to a guest"
        )));
    };
    check!(
        why.contains("what is plugged in later is given to nobody"),
        "{why}"
    );
    let there = bench.copier()?.id();
    let order = guest_order(bench, "limits", there);
    bench.guest(&order).map(drop)
}

boot_test!(
    a_device_behind_a_port_that_firmware_does_not_list_is_not_trusted,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8,hotplug=off -device virtio-net-pci,bus=rp1,disable-legacy=on,iommu_platform=on,ats=on",
    complains = "has no peer",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    append = "ats=vouched",
    logs = "ATS stays off: the DMAR lists no ATS at 0000:00:08.0 (ATSR)",
);
fn a_device_behind_a_port_that_firmware_does_not_list_is_not_trusted(bench: &mut Bench) -> Outcome {
    let on = bench.host().remapping.let_translate(id(1, 0, 0)?);
    let why = Distrust::PortNotListed(id(0, 8, 0)?);
    check_eq!(on, Err(OwnTranslation::Distrusted(why)), "turned on");
    Ok(())
}

boot_test!(
    a_device_that_can_be_unplugged_is_not_trusted,
    machine = "-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=8 -device virtio-net-pci,bus=rp1,disable-legacy=on,iommu_platform=on,ats=on",
    complains = "has no peer",
    unit = "device-iotlb=on",
    modes = "legacy",
    widths = "48",
    caching = "off",
    cpus = "1",
    append = "ats=vouched",
    logs = "0000:00:08.0: what is plugged in behind it later stays blocked",
);
fn a_device_that_can_be_unplugged_is_not_trusted(bench: &mut Bench) -> Outcome {
    let on = bench.host().remapping.let_translate(id(1, 0, 0)?);
    let why = Distrust::Path(pci::AtsRefusal::HotPlug(id(0, 8, 0)?));
    check_eq!(on, Err(OwnTranslation::Distrusted(why)), "turned on");
    Ok(())
}
