//! Performance counters.

use crate::rig::{FREEDOMS, ONE, Plan, Rig, read};
use iommu_core::{Access, TableFormat};
use vtd::{Count, Filter, Message, ModeRequest, PerformanceError};
use vtd_model::{Config, Origin, Perfmon};

/// Group 0, event 1: requests that come in (table 49).
const REQUESTS: Count = Count {
    group: 0,
    events: 1 << 1,
    interrupt: false,
    freeze: false,
    filter: None,
};

const MESSAGE: Message = Message {
    address: 0xfee0_3000,
    data: 0x61,
};

fn counting() -> Config {
    counting_with(Perfmon::default())
}

fn counting_with(perfmon: Perfmon) -> Config {
    Config {
        enhanced_commands: true,
        perfmon: Some(perfmon),
        ..Config::scalable()
    }
}

/// A rig whose device asks for one page.
fn rig(config: Config, freedom: vtd_model::Freedom) -> Rig {
    let rig = Plan::new(config)
        .mode(ModeRequest::SecondStage)
        .freedom(freedom)
        .start();
    let domain = rig.domain(ONE, TableFormat::SecondStage4);
    rig.attach(ONE, None, domain);
    let page = rig.page(1);
    rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
    rig
}

fn ask(rig: &Rig, times: u32) {
    for _ in 0..times {
        rig.with(|machine| machine.request(&read(ONE, 0x7000)));
    }
}

#[test]
fn a_counter_counts_what_it_was_told_while_it_is_enabled() {
    for freedom in FREEDOMS {
        let rig = rig(counting(), freedom);
        let counters = rig.driver.performance(0).expect("the unit counts");
        let can = counters.capabilities();
        assert_eq!((can.counters, can.width), (8, 40));
        assert!(counters.group(0).is_some_and(|group| group.events & 2 != 0));
        assert_eq!(counters.group(can.groups), None);
        counters.configure(3, &REQUESTS).expect("it can be counted");
        ask(&rig, 2);
        assert_eq!(counters.read(3), Ok(0));
        counters.enable(3).expect("it is accepted");
        ask(&rig, 5);
        assert_eq!(counters.read(3), Ok(5));
        assert_eq!(
            counters.configure(3, &REQUESTS),
            Err(PerformanceError::Counting(3))
        );
        counters.disable(3).expect("it counted");
        ask(&rig, 1);
        assert_eq!(counters.read(3), Ok(5));
        counters.reset_values().expect("it can");
        assert_eq!(counters.read(3), Ok(0));
        rig.assert_clean();
    }
}

#[test]
fn freezing_stops_all_counters_at_once() {
    for freedom in FREEDOMS {
        let rig = rig(counting(), freedom);
        let counters = rig.driver.performance(0).expect("the unit counts");
        for counter in [0, 7] {
            counters
                .configure(counter, &REQUESTS)
                .expect("it can be counted");
            counters.enable(counter).expect("it is accepted");
        }
        ask(&rig, 2);
        counters.freeze().expect("it can");
        assert_eq!(counters.is_frozen(7), Ok(true));
        ask(&rig, 3);
        assert_eq!([counters.read(0), counters.read(7)], [Ok(2), Ok(2)]);
        counters.unfreeze().expect("it can");
        assert_eq!(counters.is_frozen(7), Ok(false));
        ask(&rig, 1);
        assert_eq!([counters.read(0), counters.read(7)], [Ok(3), Ok(3)]);
        counters.reset_configuration().expect("it can");
        ask(&rig, 1);
        assert_eq!(counters.read(0), Ok(3));
        rig.assert_clean();
    }
}

#[test]
fn an_overflow_is_told_once_interrupts_and_freezes_as_wanted() {
    for freedom in FREEDOMS {
        for (interrupt, freeze) in [(false, false), (true, false), (false, true)] {
            let rig = rig(counting(), freedom);
            let counters = rig.driver.performance(0).expect("the unit counts");
            counters.set_interrupt(Some(MESSAGE)).expect("it can");
            let count = Count {
                interrupt,
                freeze,
                ..REQUESTS
            };
            counters.configure(0, &count).expect("it can be counted");
            counters.set(0, u64::MAX - 1).expect("it stands still");
            counters.enable(0).expect("it is accepted");
            ask(&rig, 1);
            assert_eq!(counters.take_overflow(0), Ok(false));
            assert_eq!(counters.read(0), Ok((1 << 40) - 1), "the bits that it has");
            ask(&rig, 3);
            assert_eq!(counters.take_overflow(0), Ok(true));
            assert_eq!(counters.take_overflow(0), Ok(false));
            assert_eq!(counters.is_frozen(0), Ok(freeze));
            assert_eq!(counters.read(0), Ok(if freeze { 0 } else { 2 }));
            assert_eq!(counters.acknowledge(), interrupt);
            assert!(!counters.acknowledge());
            let sent = rig.with(|machine| machine.take_messages());
            let sent: Vec<_> = sent
                .iter()
                .map(|it| (it.address, it.data, it.origin))
                .collect();
            let expected = (
                MESSAGE.address,
                u32::from(MESSAGE.data),
                Origin::PerformanceEvent(0),
            );
            assert_eq!(sent, if interrupt { vec![expected] } else { vec![] });
            rig.assert_clean();
        }
    }
}

#[test]
fn what_a_unit_cannot_count_is_refused_before_it_is_asked() {
    let rig = rig(
        counting_with(Perfmon {
            freeze_on_overflow: false,
            interrupt_on_overflow: false,
            level_filter: false,
            writable_while_enabled: false,
            ..Perfmon::default()
        }),
        FREEDOMS[0],
    );
    let counters = rig.driver.performance(0).expect("the unit counts");
    let unsupported = Err(PerformanceError::Unsupported);
    let with = |filter| Count {
        filter: Some(filter),
        ..REQUESTS
    };
    for count in [
        Count {
            events: 0,
            ..REQUESTS
        },
        Count {
            events: 1 << 27,
            ..REQUESTS
        },
        Count {
            group: 14,
            ..REQUESTS
        },
        Count {
            freeze: true,
            ..REQUESTS
        },
        Count {
            interrupt: true,
            ..REQUESTS
        },
        with(Filter::Levels(1)),
        with(Filter::Requester(ONE)),
        Count {
            events: 3,
            ..with(Filter::AddressTypes(1))
        },
    ] {
        assert_eq!(counters.configure(0, &count), unsupported, "{count:?}");
    }
    assert_eq!(
        counters.configure(8, &REQUESTS),
        Err(PerformanceError::NoCounter(8))
    );
    assert_eq!(counters.enable(8), Err(PerformanceError::NoCounter(8)));
    assert_eq!(counters.set_interrupt(None), unsupported);
    // Nothing was configured, as the unit finds for itself.
    assert_eq!(counters.enable(0), Err(PerformanceError::Refused(16)));
    // The permitted twins.
    assert_eq!(
        counters.configure(0, &with(Filter::AddressTypes(1))),
        Ok(())
    );
    assert_eq!(counters.enable(0), Ok(()));
    assert_eq!(counters.set(0, 7), Err(PerformanceError::Counting(0)));
    ask(&rig, 2);
    assert_eq!(counters.read(0), Ok(2));
    counters.disable(0).expect("it counted");
    assert_eq!(
        counters.configure(0, &with(Filter::AddressTypes(2))),
        Ok(())
    );
    assert_eq!(counters.enable(0), Ok(()));
    ask(&rig, 2);
    assert_eq!(counters.read(0), Ok(2), "no translation request came");
    rig.assert_clean();
}

#[test]
fn a_unit_without_counters_says_so() {
    let rig = Plan::new(Config::scalable()).start();
    assert_eq!(
        rig.driver.performance(0).map(drop),
        Err(PerformanceError::NoCounters)
    );
    assert_eq!(
        rig.driver.performance(3).map(drop),
        Err(PerformanceError::NoUnit(3))
    );
    rig.assert_clean();
}
