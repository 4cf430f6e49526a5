//! Interrupts that were raised by whom they did not belong to, or lost.

use crate::interrupts::{assert_arrives, assert_refused, each, to};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, device, read};
use iommu_core::{FaultReason, IrqMessage, IrqRemapper, Order, Platform};
use vtd::{InterruptSource, PostedDescriptor, PostedTarget};
use vtd_model::{Access, Config, InterruptOutcome, Outcome, PossibleInterrupt, Request};

/// Buses behind a bridge, both ends within.
const BEHIND: InterruptSource = InterruptSource::Buses {
    bridge: device_of_other(),
    first: 3,
    last: 5,
};

const fn device_of_other() -> iommu_core::DeviceId {
    iommu_core::DeviceId::new(
        iommu_core::Segment(0),
        iommu_core::SourceId::from_bits(OTHER),
    )
}

#[test]
fn xsa_33_behind_a_bridge_its_buses_and_no_others_use_an_entry() {
    each(false, |rig| {
        let handle = rig.driver.allocate_interrupts(BEHIND, 1).expect("an entry");
        let target = to(3, 0x41);
        let message = rig.driver.route(&handle, 0, target).expect("routed");
        for inside in [0x0300, OTHER, 0x0412, 0x05ff] {
            assert_arrives(rig, inside, &message, target);
        }
        for outside in [0x02ff, 0x0600, ONE, 0] {
            assert_refused(rig, outside, &message, FaultReason::INTERRUPT_SOURCE);
        }
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn xsa_49_no_entry_lets_in_anybody_but_its_source() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::legacy()).freedom(freedom).start();
        for source in [InterruptSource::Function(device(ONE)), BEHIND] {
            let handle = rig.driver.allocate_interrupts(source, 1).expect("an entry");
            let message = rig.driver.route(&handle, 0, to(3, 0x41)).expect("routed");
            let mine = |id: u16| match source {
                InterruptSource::Function(_) => id == ONE,
                InterruptSource::Buses { first, last, .. } => {
                    (first..=last).contains(&((id >> 8) as u8))
                }
            };
            // Every requester that there can be.
            for id in 0..=u16::MAX {
                let fates = rig
                    .with(|machine| machine.possible_interrupts(id, message.address, message.data));
                let blocked =
                    |fate: &PossibleInterrupt| matches!(fate, PossibleInterrupt::Blocked(_));
                assert_eq!(fates.iter().all(blocked), !mine(id), "{id:#06x}: {fates:?}");
            }
            rig.driver.free(handle).expect("freed");
        }
        rig.assert_clean();
    }
}

#[test]
fn xsa_36_an_entry_that_changes_hands_keeps_nothing_of_its_first_owner() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 4).expect("entries");
        let old: Vec<IrqMessage> = (0..4)
            .map(|index| {
                let target = to(2, 0x50 + index as u8);
                let message = rig.driver.route(&handle, index, target).expect("routed");
                assert_arrives(rig, ONE, &message, target);
                message
            })
            .collect();
        rig.driver.free(handle).expect("freed");
        let handle = rig.driver.allocate(device(OTHER), 4).expect("entries");
        // Not routed by the second owner yet: it gets nothing of the first one's either.
        for message in &old {
            assert_refused(
                rig,
                OTHER,
                message,
                FaultReason::INTERRUPT_ENTRY_NOT_PRESENT,
            );
        }
        let target = to(7, 0x61);
        let message = rig.driver.route(&handle, 0, target).expect("routed");
        assert_eq!(message, old[0], "the lowest free entries");
        assert_arrives(rig, OTHER, &message, target);
        assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_SOURCE);
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn xsa_59_a_malformed_interrupt_request_is_refused_and_hurts_nobody() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(OTHER), 1).expect("an entry");
        let target = to(3, 0x41);
        let good = rig.driver.route(&handle, 0, target).expect("routed");
        for _ in 0..20 {
            // Not a write of four bytes.
            for access in [Access::Read, Access::Atomic] {
                let request = Request {
                    access,
                    ..read(ONE, good.address)
                };
                let outcome = rig.with(|machine| machine.request(&request));
                assert!(matches!(outcome, Outcome::Blocked { .. }), "{outcome:?}");
            }
            // A remappable request with a subhandle beyond its 16 bits.
            let data = 1 << 16;
            let address = good.address | 1 << 3;
            let outcome = rig.with(|machine| machine.interrupt(ONE, address, data));
            assert!(matches!(outcome, InterruptOutcome::Blocked { .. }));
            assert_arrives(rig, OTHER, &good, target);
            rig.faults();
        }
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn cve_2011_1898_a_device_raises_no_interrupt_that_it_was_not_given() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
        let target = to(3, 0x41);
        let own = rig.driver.route(&handle, 0, target).expect("routed");
        assert_arrives(rig, ONE, &own, target);
        // The processors' own format, with which any vector could be written: start-up,
        // non-maskable, exceptions.
        for data in [0x08, 0x11, 0x41, 0x400, 0x600, 0x4500] {
            for apic_id in [0, 3, 0xff] {
                let message = IrqMessage {
                    address: 0xfee0_0000 | apic_id << 12,
                    data,
                };
                assert_refused(rig, ONE, &message, FaultReason::COMPATIBILITY_BLOCKED);
            }
        }
        for index in [1, 17, 255] {
            let message = IrqMessage {
                address: 0xfee0_0010 | index << 5,
                data: 0,
            };
            assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT);
        }
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn xsa_360_entries_come_back_however_often_they_were_used() {
    let rig = Plan::new(Config::legacy()).start();
    for round in 0..100 {
        // Nearly all of the 256.
        let handle = rig.driver.allocate(device(ONE), 32).expect("entries");
        let others = rig.driver.allocate(device(OTHER), 32).expect("entries");
        let target = to(3, 0x40 + (round % 32) as u8);
        let message = rig.driver.route(&handle, 31, target).expect("routed");
        assert_arrives(&rig, ONE, &message, target);
        if round % 2 == 0 {
            rig.driver.mask(&handle, 31).expect("masked");
        }
        rig.driver.free(handle).expect("freed");
        rig.driver.free(others).expect("freed");
    }
    rig.assert_clean();
}

#[test]
fn posted_msi_an_affinity_change_leaves_a_posted_neighbour_posted() {
    const NOTIFICATION: u8 = 0xf2;
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::everything()).freedom(freedom).start();
        let page = rig.platform.allocate(Order::PAGE).expect("a page");
        let descriptor = PostedDescriptor::of_frame(&page, 0).expect("one of 64");
        descriptor.prepare(7, false, NOTIFICATION);
        let handle = rig.driver.allocate(device(ONE), 2).expect("entries");
        let target = PostedTarget {
            descriptor: page.hpa(),
            vector: 0x51,
            urgent: false,
        };
        let posted = rig.driver.post(&handle, 1, target).expect("posted");
        for apic_id in 0..16 {
            let moved = to(apic_id, 0x41);
            let remapped = rig.driver.route(&handle, 0, moved).expect("routed");
            assert_arrives(&rig, ONE, &remapped, moved);
            let raised = rig.with(|machine| machine.interrupt(ONE, posted.address, posted.data));
            assert!(
                matches!(raised, InterruptOutcome::Posted { .. }),
                "{raised:?}"
            );
            // Noted in the descriptor, for the virtual CPU that runs.
            assert_ne!(descriptor.take(), [0; 4]);
        }
        // What the processor side keeps up to date is the descriptor, not the entry.
        descriptor.move_to(9, false);
        let raised = rig.with(|machine| machine.interrupt(ONE, posted.address, posted.data));
        assert!(matches!(
            raised,
            InterruptOutcome::Posted {
                notification: Some(_)
            }
        ));
        rig.driver.free(handle).expect("freed");
        rig.platform.release(page);
        rig.assert_clean();
    }
}
