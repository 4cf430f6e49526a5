//! Waiting for invalidations by interrupt.

use crate::rig::{ONE, Plan, Rig};
use iommu_core::{Access, TableFormat};
use vtd::{Message, ModeRequest};
use vtd_model::{Config, Freedom, Origin};

const MESSAGE: Message = Message {
    address: 0xfee0_2000,
    data: 0x52,
};

const FREEDOMS: [Freedom; 3] = [
    Freedom::Pessimist(1),
    Freedom::Random(2),
    Freedom::Random(3),
];

fn units() -> [(Config, ModeRequest, TableFormat); 3] {
    let second = TableFormat::SecondStage4;
    [
        (Config::legacy(), ModeRequest::Legacy, second),
        (Config::scalable(), ModeRequest::SecondStage, second),
        (
            Config::everything(),
            ModeRequest::FirstStage,
            TableFormat::FirstStage4,
        ),
    ]
}

fn each(mut test: impl FnMut(&Rig, TableFormat)) {
    for (config, mode, format) in units() {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            test(&rig, format);
            crate::rig::assert_clean(&rig.platform);
        }
    }
}

/// Maps and unmaps a page, which owes hardware one flush in the end.
fn flush(rig: &Rig, format: TableFormat) {
    flush_after(rig, format, || ());
}

fn flush_after(rig: &Rig, format: TableFormat, before: impl FnOnce()) {
    let domain = rig.domain(ONE, format);
    rig.attach(ONE, None, domain);
    let page = rig.page(1);
    rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
    let waits = rig.driver.statistics(0).expect("a unit").waits;
    before();
    rig.unmap(domain, 0x7000, 1);
    assert_eq!(rig.driver.statistics(0).expect("a unit").waits, waits + 1);
    iommu_core::Platform::release(&*rig.platform, page);
}

fn lost(rig: &Rig) -> u64 {
    rig.driver.statistics(0).expect("a unit").lost_completions
}

#[test]
fn a_sleeping_cpu_is_woken_by_each_completion_that_was_answered() {
    each(|rig, format| {
        assert!(rig.driver.wake_on_completion(0, Some(MESSAGE)));
        flush(rig, format);
        rig.driver.completed(0);
        rig.platform.sleep_deeply(false);
        for _ in 0..4 {
            flush_and_answer(rig, format);
        }
        // Without it no message is sent, and nothing is waited for.
        assert!(rig.driver.wake_on_completion(0, None));
        rig.platform.interrupts();
        flush(rig, format);
        assert_eq!(rig.platform.interrupts(), []);
    });
}

/// One flush, whose interrupt is answered as its handler does.
fn flush_and_answer(rig: &Rig, format: TableFormat) {
    flush_after(rig, format, || {
        rig.driver.completed(0);
        rig.platform.interrupts();
        rig.with(|machine| machine.take_messages());
    });
    // A unit that is quick enough sends it before anybody sleeps.
    let mut sent = rig.platform.interrupts();
    sent.extend(rig.with(|machine| machine.take_messages()));
    assert_eq!(sent.len(), 1, "{sent:?}");
    let found = (sent[0].address, sent[0].data, sent[0].origin);
    let expected = (
        MESSAGE.address,
        MESSAGE.data.into(),
        Origin::InvalidationEvent(0),
    );
    assert_eq!(found, expected);
    assert!(rig.driver.completed(0), "it was this unit's");
    assert!(!rig.driver.completed(0), "and is answered");
}

#[test]
fn an_interrupt_that_is_lost_or_never_answered_costs_a_nap() {
    for deaf in [false, true] {
        each(|rig, format| {
            assert!(rig.driver.wake_on_completion(0, Some(MESSAGE)));
            rig.platform.sleep_deeply(deaf);
            // Nobody answers: every second completion finds IWC set, and is not told.
            for _ in 0..3 {
                flush(rig, format);
            }
            assert!(lost(rig) > 0);
        });
    }
}

#[test]
fn a_masked_message_is_held_back_and_sent_when_it_is_unmasked() {
    each(|rig, format| {
        assert!(rig.driver.wake_on_completion(0, Some(MESSAGE)));
        rig.driver.mask_completion(0, true);
        flush(rig, format);
        assert_eq!(rig.platform.interrupts(), []);
        assert_eq!(rig.with(|machine| machine.take_messages()), []);
        rig.driver.mask_completion(0, false);
        let sent = rig.with(|machine| machine.take_messages());
        assert_eq!(sent.len(), 1, "the one that was held back");
        assert!(rig.driver.completed(0));
        // What was answered while it was masked is not sent.
        rig.driver.mask_completion(0, true);
        flush(rig, format);
        assert!(rig.driver.completed(0));
        rig.driver.mask_completion(0, false);
        assert_eq!(rig.with(|machine| machine.take_messages()), []);
    });
}

#[test]
fn a_unit_without_a_queue_has_no_such_message() {
    let config = Config {
        queued_invalidation: false,
        interrupt_remapping: false,
        x2apic: false,
        max_handle_mask: 0,
        ..Config::legacy()
    };
    let rig = Plan::new(config).start();
    assert!(!rig.driver.wake_on_completion(0, Some(MESSAGE)));
    assert!(!rig.driver.wake_on_completion(7, Some(MESSAGE)));
    assert!(!rig.driver.completed(0));
    rig.driver.mask_completion(0, true);
    rig.assert_clean();
}
