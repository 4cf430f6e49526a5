//! Interrupts of devices: who may raise which, and when a change is seen.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device};
use iommu_core::{
    FaultKind, FaultReason, IrqError, IrqHandle, IrqMessage, IrqRemapper, IrqTarget, SourceId,
};
use vtd::{InterruptConfig, InterruptSource};
use vtd_model::{Config, InterruptOutcome, Message, Origin};

pub(crate) fn each(extended: bool, mut test: impl FnMut(&Rig)) {
    let write_buffer = Config {
        write_buffer_flush: true,
        ..Config::legacy()
    };
    let narrow = Config {
        max_handle_mask: 0,
        ..Config::legacy()
    };
    let configs = [
        Config::legacy(),
        Config::legacy().with_caching_mode(),
        Config::legacy().non_coherent(),
        write_buffer,
        narrow,
        Config::everything(),
    ];
    for config in configs {
        for freedom in FREEDOMS {
            let plan = Plan {
                interrupts: Some(InterruptConfig {
                    entries_log2: 8,
                    extended,
                }),
                ..Plan::new(config.clone()).freedom(freedom)
            };
            let rig = plan.start();
            test(&rig);
            rig.assert_clean();
        }
    }
}

pub(crate) fn to(apic_id: u32, vector: u8) -> IrqTarget {
    IrqTarget {
        apic_id,
        vector,
        level: false,
    }
}

/// Sends a message often: whatever hardware has cached, it comes to the same.
#[track_caller]
pub(crate) fn send(rig: &Rig, source: u16, message: &IrqMessage) -> InterruptOutcome {
    let send = || rig.with(|machine| machine.interrupt(source, message.address, message.data));
    let first = send();
    for _ in 0..8 {
        assert_eq!(send(), first);
    }
    first
}

#[track_caller]
pub(crate) fn assert_arrives(rig: &Rig, source: u16, message: &IrqMessage, target: IrqTarget) {
    let address = 0xfee0_0000
        | u64::from(target.apic_id & 0xff) << 12
        | u64::from(target.apic_id & !0xff) << 32;
    let expected = Message {
        address,
        // Edge, asserted, fixed delivery.
        data: 1 << 14 | u32::from(target.vector),
        origin: Origin::Remapped(source),
    };
    assert_eq!(
        send(rig, source, message),
        InterruptOutcome::Delivered(expected)
    );
}

#[track_caller]
pub(crate) fn assert_refused(rig: &Rig, source: u16, message: &IrqMessage, reason: FaultReason) {
    rig.faults();
    let outcome = send(rig, source, message);
    let InterruptOutcome::Blocked { condition, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(condition.code(), reason.0);
    let records = rig.faults();
    assert!(!records.is_empty());
    for record in records {
        assert_eq!((record.device, record.reason), (device(source), reason));
        assert!(matches!(record.kind, FaultKind::Interrupt { .. }));
    }
}

#[test]
fn an_interrupt_arrives_where_it_was_routed_and_only_from_its_owner() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 4).expect("entries");
        for index in 0..4 {
            let target = to(0x10 + u32::from(index), 0x40 + index as u8);
            let message = rig.driver.route(&handle, index, target).expect("routed");
            assert_arrives(rig, ONE, &message, target);
            assert_refused(rig, OTHER, &message, FaultReason::INTERRUPT_SOURCE);
        }
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn entries_of_a_bus_are_used_by_what_lies_there_and_by_nobody_else() {
    let bus = SourceId::from_bits(OTHER).bus();
    each(false, |rig| {
        let source = InterruptSource::Buses {
            bridge: device(OTHER),
            first: bus,
            last: bus,
        };
        let handle = rig.driver.allocate_interrupts(source, 1).expect("an entry");
        let target = to(3, 0x41);
        let message = rig.driver.route(&handle, 0, target).expect("routed");
        assert_arrives(rig, OTHER, &message, target);
        assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_SOURCE);
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn an_extended_apic_id_arrives_whole_or_is_refused() {
    let target = to(0x0012_3456, 0x51);
    each(true, |rig| {
        let handle = rig.driver.allocate(device(ONE), 1).expect("entries");
        let message = rig.driver.route(&handle, 0, target).expect("routed");
        assert_arrives(rig, ONE, &message, target);
        rig.driver.free(handle).expect("freed");
    });
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 1).expect("entries");
        assert_eq!(
            rig.driver.route(&handle, 0, target),
            Err(IrqError::ApicIdTooWide(target.apic_id))
        );
        rig.driver.free(handle).expect("freed");
    });
}

#[test]
fn a_change_is_seen_when_the_call_returns() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 2).expect("entries");
        let route = |target| rig.driver.route(&handle, 1, target).expect("routed");
        let message = route(to(1, 0x41));
        // Not routed yet, and perhaps cached so.
        let neighbour = IrqMessage { data: 0, ..message };
        assert_refused(
            rig,
            ONE,
            &neighbour,
            FaultReason::INTERRUPT_ENTRY_NOT_PRESENT,
        );
        assert_arrives(rig, ONE, &message, to(1, 0x41));
        for vector in 0x42..0x46 {
            assert_eq!(route(to(2, vector)), message);
            assert_arrives(rig, ONE, &message, to(2, vector));
        }
        rig.driver.mask(&handle, 1).expect("masked");
        assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT);
        assert_eq!(route(to(3, 0x50)), message);
        assert_arrives(rig, ONE, &message, to(3, 0x50));
        rig.driver.free(handle).expect("freed");
        assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT);
    });
}

#[test]
fn entries_that_are_given_to_another_device_are_no_longer_the_first_ones() {
    each(false, |rig| {
        let mut last: Option<(u16, IrqMessage)> = None;
        for round in 0..20 {
            let (mine, other) = [(ONE, OTHER), (OTHER, ONE)][round % 2];
            let handle = rig.driver.allocate(device(mine), 1).expect("entries");
            let target = to(7, 0x60 + round as u8);
            let message = rig.driver.route(&handle, 0, target).expect("routed");
            if let Some((owner, old)) = last {
                assert_eq!(old, message, "the lowest free entry");
                assert_refused(rig, owner, &old, FaultReason::INTERRUPT_SOURCE);
            }
            assert_arrives(rig, mine, &message, target);
            assert_refused(rig, other, &message, FaultReason::INTERRUPT_SOURCE);
            rig.driver.free(handle).expect("freed");
            last = Some((mine, message));
        }
    });
}

#[test]
fn a_run_of_entries_is_forgotten_whole_when_it_is_freed() {
    each(false, |rig| {
        let handle = rig.driver.allocate(device(ONE), 4).expect("entries");
        let messages: Vec<IrqMessage> = (0..4)
            .map(|index| {
                let target = to(2, 0x50 + index as u8);
                let message = rig.driver.route(&handle, index, target).expect("routed");
                assert_arrives(rig, ONE, &message, target);
                message
            })
            .collect();
        rig.driver.free(handle).expect("freed");
        for message in messages {
            assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT);
        }
    });
}

#[test]
fn what_is_not_an_entry_of_anybody_is_refused() {
    each(false, |rig| {
        let remappable = |index: u64| IrqMessage {
            address: 0xfee0_0010 | index << 5,
            data: 0,
        };
        assert_refused(
            rig,
            ONE,
            &remappable(3),
            FaultReason::INTERRUPT_ENTRY_NOT_PRESENT,
        );
        assert_refused(rig, ONE, &remappable(256), FaultReason::INTERRUPT_INDEX);
        let compatibility = IrqMessage {
            address: 0xfee0_0000,
            data: 0x41,
        };
        assert_refused(rig, ONE, &compatibility, FaultReason::COMPATIBILITY_BLOCKED);
    });
}

#[test]
fn all_entries_can_be_taken_and_one_more_is_refused() {
    each(false, |rig| {
        let mut handles: Vec<IrqHandle> = Vec::new();
        let error = loop {
            match rig.driver.allocate(device(ONE), 32) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert_eq!(error, IrqError::Exhausted { wanted: 32 });
        assert_eq!(handles.len(), 8);
        for handle in handles {
            let message = rig.driver.route(&handle, 31, to(1, 0x41)).expect("routed");
            assert_arrives(rig, ONE, &message, to(1, 0x41));
            rig.driver.free(handle).expect("freed");
            assert_refused(rig, ONE, &message, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT);
        }
    });
}

/// Interrupts that go to a running guest (§5.2).
mod posted {
    use super::*;
    use iommu_core::{Hpa, Platform};
    use vtd::{PostError, PostedDescriptor, PostedTarget};

    const VECTOR: u8 = 0x51;
    const NOTIFICATION: u8 = 0xf2;

    fn target(descriptor: Hpa, urgent: bool) -> PostedTarget {
        PostedTarget {
            descriptor,
            vector: VECTOR,
            urgent,
        }
    }

    fn notification(apic_id: u32) -> InterruptOutcome {
        InterruptOutcome::Posted {
            notification: Some(Message {
                address: 0xfee0_0000 | u64::from(apic_id) << 12,
                data: NOTIFICATION.into(),
                origin: Origin::Notification(ONE),
            }),
        }
    }

    const QUIET: InterruptOutcome = InterruptOutcome::Posted { notification: None };

    fn rigs() -> impl Iterator<Item = Rig> {
        FREEDOMS.into_iter().flat_map(|freedom| {
            [
                Config::everything(),
                Config::everything().with_caching_mode(),
                Config::everything().non_coherent(),
            ]
            .map(|config| Plan::new(config).freedom(freedom).start())
        })
    }

    #[test]
    fn a_posted_interrupt_is_noted_and_notified_once() {
        for rig in rigs() {
            let page = rig
                .platform
                .allocate(iommu_core::Order::PAGE)
                .expect("a page");
            let descriptor = PostedDescriptor::of_frame(&page, 3).expect("one of 64");
            let at = Hpa::new(page.hpa().as_u64() + 3 * 64);
            descriptor.prepare(7, false, NOTIFICATION);
            let handle = rig.driver.allocate(device(ONE), 2).expect("entries");
            let message = rig
                .driver
                .post(&handle, 1, target(at, false))
                .expect("posted");
            let raise =
                || rig.with(|machine| machine.interrupt(ONE, message.address, message.data));
            assert_eq!(raise(), notification(7));
            assert_eq!(raise(), QUIET, "one is outstanding");
            let mut vectors = [0; 4];
            vectors[usize::from(VECTOR / 64)] = 1 << (VECTOR % 64);
            assert_eq!(descriptor.take(), vectors);
            assert_eq!(descriptor.take(), [0; 4]);
            // The virtual CPU moves, and is notified there.
            descriptor.move_to(9, false);
            assert_eq!(raise(), notification(9));
            descriptor.take();
            descriptor.suppress(true);
            assert_eq!(raise(), QUIET);
            assert_eq!(descriptor.take(), vectors, "noted all the same");
            rig.driver
                .post(&handle, 1, target(at, true))
                .expect("urgent");
            assert_eq!(raise(), notification(9));
            // Another device may not use the entry.
            let forged =
                rig.with(|machine| machine.interrupt(OTHER, message.address, message.data));
            assert!(matches!(forged, InterruptOutcome::Blocked { .. }));
            assert_eq!(rig.faults().len(), 1);
            rig.driver.free(handle).expect("free");
            rig.platform.release(page);
            rig.assert_clean();
        }
    }

    #[test]
    fn what_was_posted_while_nobody_was_notified_is_found_when_it_is_looked_for() {
        // §5.2.5: preempted, then halted, then running again.
        for rig in rigs() {
            let page = rig
                .platform
                .allocate(iommu_core::Order::PAGE)
                .expect("a page");
            let descriptor = PostedDescriptor::of_frame(&page, 0).expect("one of 64");
            descriptor.prepare(7, false, NOTIFICATION);
            let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
            let message = rig
                .driver
                .post(&handle, 0, target(page.hpa(), false))
                .expect("posted");
            let raise =
                || rig.with(|machine| machine.interrupt(ONE, message.address, message.data));
            assert!(!descriptor.is_pending());
            descriptor.suppress(true);
            assert_eq!(raise(), QUIET);
            descriptor.suppress(false);
            assert!(descriptor.is_pending(), "of which nobody was told");
            descriptor.take();
            assert!(!descriptor.is_pending());
            // While it is halted another vector wakes the hypervisor.
            descriptor.notify_with(0xe7);
            let expected = InterruptOutcome::Posted {
                notification: Some(Message {
                    address: 0xfee0_7000,
                    data: 0xe7,
                    origin: Origin::Notification(ONE),
                }),
            };
            assert_eq!(raise(), expected);
            descriptor.notify_with(NOTIFICATION);
            assert_eq!(raise(), QUIET, "the one before was not looked at");
            descriptor.take();
            assert_eq!(raise(), notification(7));
            rig.driver.free(handle).expect("free");
            rig.platform.release(page);
            rig.assert_clean();
        }
    }

    #[test]
    fn a_cpu_with_a_wide_number_is_notified_in_extended_mode() {
        // §9.11: NDST has 32 bits there; §5.1.5.2: 31:8 go into the upper address.
        let plan = Plan {
            interrupts: Some(InterruptConfig {
                entries_log2: 8,
                extended: true,
            }),
            ..Plan::new(Config::everything())
        };
        let rig = plan.start();
        let page = rig
            .platform
            .allocate(iommu_core::Order::PAGE)
            .expect("a page");
        let descriptor = PostedDescriptor::of_frame(&page, 0).expect("one of 64");
        descriptor.prepare(0x12_3456, true, NOTIFICATION);
        let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
        let message = rig
            .driver
            .post(&handle, 0, target(page.hpa(), false))
            .expect("posted");
        let found = rig.with(|machine| machine.interrupt(ONE, message.address, message.data));
        let expected = InterruptOutcome::Posted {
            notification: Some(Message {
                address: 0x0012_3400_fee5_6000,
                data: NOTIFICATION.into(),
                origin: Origin::Notification(ONE),
            }),
        };
        assert_eq!(found, expected);
        rig.driver.free(handle).expect("free");
        rig.platform.release(page);
        rig.assert_clean();
    }

    #[test]
    fn an_entry_goes_from_remapped_to_posted_and_back() {
        for rig in rigs() {
            let page = rig
                .platform
                .allocate(iommu_core::Order::PAGE)
                .expect("a page");
            let descriptor = PostedDescriptor::of_frame(&page, 0).expect("one of 64");
            descriptor.prepare(7, false, NOTIFICATION);
            let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
            let message = rig.driver.route(&handle, 0, to(3, 0x41)).expect("routed");
            let remapped = send(&rig, ONE, &message);
            assert!(matches!(remapped, InterruptOutcome::Delivered(_)));
            let same = rig.driver.post(&handle, 0, target(page.hpa(), false));
            assert_eq!(same, Ok(message));
            let raise =
                || rig.with(|machine| machine.interrupt(ONE, message.address, message.data));
            assert_eq!(raise(), notification(7));
            assert_eq!(rig.driver.route(&handle, 0, to(3, 0x41)), Ok(message));
            assert_eq!(send(&rig, ONE, &message), remapped);
            rig.platform.release(page);
            rig.assert_clean();
        }
    }

    #[test]
    fn what_cannot_be_posted_is_refused_by_name() {
        let rig = Plan::new(Config::everything()).start();
        let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
        for at in [0x1020, 1 << 46] {
            let at = Hpa::new(at);
            let refused = rig.driver.post(&handle, 0, target(at, false));
            assert_eq!(refused, Err(PostError::Descriptor(at)));
        }
        let rig = Plan::new(Config::legacy()).start();
        let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
        let refused = rig.driver.post(&handle, 0, target(Hpa::new(0x1000), false));
        assert_eq!(refused, Err(PostError::Unsupported { unit: 0 }));
    }
}

#[test]
fn interrupts_are_remapped_again_after_a_suspension() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::legacy()).freedom(freedom).start();
        let handle = rig.driver.allocate(device(ONE), 1).expect("an entry");
        let target = to(3, 0x41);
        let message = rig.driver.route(&handle, 0, target).expect("routed");
        assert_arrives(&rig, ONE, &message, target);
        let platform = rig.platform.clone();
        let driver = rig.driver.suspend().expect("it pauses");
        let driver = driver.resume().expect("it wakes");
        let rig = Rig::new(platform, driver.enable().expect("it translates again"));
        assert_arrives(&rig, ONE, &message, target);
        assert_refused(&rig, OTHER, &message, FaultReason::INTERRUPT_SOURCE);
        rig.assert_clean();
    }
}
