//! Remapping entries and the messages that name them.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;

const TARGET: IrqTarget = IrqTarget {
    apic_id: 3,
    vector: 0x51,
    level: false,
};

/// An entry as hardware reads it.
fn entry(world: &World, index: u16) -> [u64; 2] {
    let at = (world.fake.get64(IRTA) & !0xfff) + 16 * u64::from(index);
    [at, at + 8].map(|at| world.machine.memory.device_load(Hpa::new(at)).unwrap())
}

#[test]
fn an_entry_belongs_to_its_source_and_is_not_present_until_it_is_routed() {
    let world = Plan::legacy().boot();
    let handle = world.driver.allocate(device(0x123), 2).unwrap();
    // SVT = 01, SQ = 00
    let owner = 1 << 18 | 0x123;
    assert_eq!(entry(&world, 0), [0, owner]);
    let message = world.driver.route(&handle, 1, TARGET).unwrap();
    // P, vector 51h, APIC id 3 in bits 47:40
    assert_eq!(entry(&world, 1), [0x300_0051_0001, owner]);
    assert_eq!(entry(&world, 0), [0, owner], "its neighbour is not");
    // FEEh, format, SHV; subhandle 1
    assert_eq!(
        message,
        IrqMessage {
            address: 0xfee0_0018,
            data: 1
        }
    );
    world.driver.free(handle).unwrap();
}

#[test]
fn redirecting_and_masking_make_hardware_forget_and_routing_first_does_not() {
    let world = Plan::legacy().boot();
    let handle = world.driver.allocate(device(1), 1).unwrap();
    world.driver.route(&handle, 0, TARGET).unwrap();
    assert!(world.fake.take_executed().is_empty());
    let elsewhere = IrqTarget {
        apic_id: 4,
        ..TARGET
    };
    world.driver.route(&handle, 0, elsewhere).unwrap();
    assert_eq!(world.fake.take_executed(), [[0x14, 0]]);
    world.driver.mask(&handle, 0).unwrap();
    assert_eq!(world.fake.take_executed(), [[0x14, 0]]);
    assert_eq!(entry(&world, 0)[0], 0);
    assert_ne!(entry(&world, 0)[1], 0, "it keeps its owner");
    world.driver.free(handle).unwrap();
    assert_eq!(entry(&world, 0), [0, 0]);
}

#[test]
fn a_unit_that_caches_absence_is_told_of_the_first_routing() {
    let world = Plan::legacy().caching().boot();
    let handle = world.driver.allocate(device(1), 1).unwrap();
    world.driver.route(&handle, 0, TARGET).unwrap();
    assert_eq!(world.fake.take_executed(), [[0x14, 0]]);
    world.driver.free(handle).unwrap();
}

#[test]
fn entries_come_back_after_the_flush_and_not_if_it_fails() {
    let world = Plan::legacy().boot();
    let first = world.driver.allocate(device(1), 256).unwrap();
    assert_eq!(
        world.driver.allocate(device(1), 1).unwrap_err(),
        IrqError::Exhausted { wanted: 1 }
    );
    world.driver.free(first).unwrap();
    // 256 entries at once: MHMV is 15.
    assert_eq!(world.fake.take_executed(), [[0x14 | 8 << 27, 0]]);
    let again = world.driver.allocate(device(1), 256).unwrap();
    world.fake.state().asleep = true;
    assert_eq!(world.driver.free(again).unwrap_err(), IrqError::Flush);
    assert!(world.driver.allocate(device(1), 1).is_err());
}

#[test]
fn runs_are_contiguous_and_an_entry_beyond_is_refused() {
    let world = Plan::legacy().boot();
    let one = world.driver.allocate(device(1), 3).unwrap();
    let two = world.driver.allocate(device(2), 4).unwrap();
    assert_eq!((one.first, two.first), (0, 3));
    assert_eq!(
        world.driver.route(&one, 3, TARGET).unwrap_err(),
        IrqError::NoSuchEntry(3)
    );
    world.driver.free(one).unwrap();
    world.driver.free(two).unwrap();
}

#[test]
fn wide_apic_ids_need_extended_mode() {
    let wide = IrqTarget {
        apic_id: 0x100,
        ..TARGET
    };
    let world = Plan::legacy().boot();
    let handle = world.driver.allocate(device(1), 1).unwrap();
    assert_eq!(
        world.driver.route(&handle, 0, wide).unwrap_err(),
        IrqError::ApicIdTooWide(0x100)
    );
    assert_eq!(
        world
            .driver
            .route(
                &handle,
                0,
                IrqTarget {
                    vector: 15,
                    ..TARGET
                }
            )
            .unwrap_err(),
        IrqError::BadVector(15)
    );
    assert_eq!(entry(&world, 0)[0], 0, "nothing was changed");
    world.driver.free(handle).unwrap();
}

#[test]
fn an_ioapic_entry_names_the_same_index_and_keeps_trigger_and_vector() {
    let world = Plan::legacy().boot();
    let _before = world.driver.allocate(device(1), 5).unwrap();
    let ioapic = world.driver.allocate(device(0xff00), 24).unwrap();
    let line = IrqTarget {
        level: true,
        ..TARGET
    };
    let message = world.driver.route(&ioapic, 2, line).unwrap();
    // Index 7, format, level, active low, vector 51h
    assert_eq!(
        vtd::ioapic_entry(&message, &line, true, false),
        7 << 49 | 1 << 48 | 1 << 15 | 1 << 13 | 0x51
    );
    assert_eq!(entry(&world, 7)[0] >> 4 & 1, 1, "TM");
    world.driver.free(ioapic).unwrap();
    world.driver.free(_before).unwrap();
}

#[test]
fn a_device_whose_unit_does_not_remap_gets_no_entry() {
    let world = Plan::legacy().boot();
    let stranger = DeviceId::new(Segment(4), SourceId::from_bits(1));
    assert_eq!(
        world.driver.allocate(stranger, 1).unwrap_err(),
        IrqError::NotRemapped(stranger)
    );
}

#[test]
fn devices_behind_a_bridge_are_verified_by_their_buses() {
    let world = Plan::legacy().boot();
    let source = vtd::InterruptSource::Buses {
        bridge: device(0x10),
        first: 2,
        last: 5,
    };
    let handle = world.driver.allocate_interrupts(source, 1).unwrap();
    // SVT = 10, SID = 0205h
    assert_eq!(entry(&world, 0), [0, 2 << 18 | 0x0205]);
    world.driver.free(handle).unwrap();
}
