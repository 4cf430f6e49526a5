//! Several units that differ, in one machine.

use crate::fake::{self, Fake, Registers};
use crate::world::*;
use iommu_core::*;
use std::sync::Arc;
use vtd::{Discovered, Driver, TimeLimits, Translating, UnitDescription};

struct Two {
    machine: Machine,
    fakes: [Arc<Fake>; 2],
    driver: Driver<Machine, Registers, Translating>,
}

/// Unit 0 remaps bus 0, unit 1 bus 1.
fn two_units(plans: [Plan; 2]) -> Two {
    let (machine, _) = plans[0].machine();
    let fakes = plans.map(|plan| Fake::new(machine.memory.clone(), plan.cap, plan.ecap));
    let ready: Vec<_> = (0..2)
        .map(|n| {
            let description = UnitDescription {
                index: n as u16,
                ..description()
            };
            Discovered::open(description, Registers(fakes[n].clone()), &machine)
                .unwrap()
                .quiesce(&machine, TimeLimits::default())
                .unwrap()
                .prepare(&machine, &plans[n].config())
                .unwrap()
        })
        .collect();
    let scopes = |device: DeviceId| Some(u16::from(device.source.bus())).filter(|&bus| bus < 2);
    let driver = Driver::new(machine.clone(), ready, Box::new(scopes), &plans[0].config)
        .unwrap()
        .enable()
        .unwrap();
    for fake in &fakes {
        fake.take_executed();
    }
    Two {
        machine,
        fakes,
        driver,
    }
}

impl Two {
    fn attach(&self, source: u16, to: Attachment) {
        let replaced = self.driver.replace(slot(source), to).unwrap();
        self.settle(replaced.owed);
    }

    fn settle(&self, owed: Owed<'_, vtd::Debt>) -> (u32, u32) {
        let mut batch = Batch::with_capacity(1).unwrap();
        batch.add(owed).unwrap();
        let mut flushed = self.driver.commit(&mut batch).unwrap();
        while let Some(frame) = flushed.frames.pop() {
            self.machine.release(frame);
        }
        (flushed.doorbells, flushed.waits)
    }
}

#[test]
fn a_domain_on_two_units_is_told_to_both_with_a_doorbell_each() {
    let two = two_units([Plan::legacy(), Plan::second_stage()]);
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let other = two.driver.create(device(0x100), &spec).unwrap();
    two.attach(0x108, Attachment::Domain(other));
    let domain = two.driver.create(device(0), &spec).unwrap();
    two.attach(0, Attachment::Domain(domain));
    two.attach(0x100, Attachment::Domain(domain));
    let scope = Scope::Range {
        range: pages(1, 1),
        leaf_only: true,
    };
    let owed = two.driver.invalidate(domain, scope).unwrap();
    assert_eq!(two.settle(owed), (2, 2));
    // Each by the id that the domain has there.
    assert_eq!(
        two.fakes.each_ref().map(|fake| fake.take_executed()),
        [
            vec![[0xf2 | 2 << 16, 0x1040]],
            vec![[0xf2 | 3 << 16, 0x1040]]
        ]
    );
}

#[test]
fn a_unit_that_has_nothing_of_the_domain_is_left_alone() {
    let two = two_units([Plan::legacy(), Plan::legacy()]);
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let domain = two.driver.create(device(0), &spec).unwrap();
    two.attach(0, Attachment::Domain(domain));
    two.attach(0, Attachment::Blocked);
    assert!(two.fakes[1].take_executed().is_empty());
    assert_eq!(two.driver.statistics(1).unwrap().doorbells, 2);
}

#[test]
fn a_domain_is_refused_on_a_unit_that_cannot_read_its_tables() {
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    // Large pages that the other unit lacks.
    let poor = Plan {
        cap: fake::CAP & !(0xf << 34),
        ..Plan::legacy()
    };
    let two = two_units([Plan::legacy(), poor]);
    let rich_domain = two.driver.create(device(0), &spec).unwrap();
    let poor_domain = two.driver.create(device(0x100), &spec).unwrap();
    let refused = two
        .driver
        .replace(slot(0x100), Attachment::Domain(rich_domain));
    assert_eq!(
        refused.unwrap_err(),
        BackendError::Unsupported(device(0x100))
    );
    two.attach(0, Attachment::Domain(poor_domain));
    // A format that it lacks.
    let two = two_units([Plan::first_stage(), Plan::second_stage()]);
    let format = TableFormat::FirstStage4;
    let first = two
        .driver
        .create(device(0), &DomainSpec::Paging(format))
        .unwrap();
    assert_eq!(
        two.driver
            .replace(slot(0x100), Attachment::Domain(first))
            .unwrap_err(),
        BackendError::FormatUnsupported {
            device: device(0x100),
            format
        }
    );
    // Tables that were not written back, on a unit that does not snoop.
    let coherent = Plan {
        ecap: fake::ECAP_LEGACY | 1,
        ..Plan::legacy()
    };
    let two = two_units([coherent, Plan::legacy()]);
    let snooped = two.driver.create(device(0), &spec).unwrap();
    assert!(
        two.driver
            .replace(slot(0x100), Attachment::Domain(snooped))
            .is_err()
    );
    let written_back = two.driver.create(device(0x100), &spec).unwrap();
    two.attach(0, Attachment::Domain(written_back));
}

#[test]
fn a_domain_goes_to_units_that_have_all_sizes_of_its_pages() {
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    // CAP.SSLPS: no large pages, of 2 MiB, of 1 GiB too.
    let with = |sizes: u64| Plan {
        cap: fake::CAP & !(0xf << 34) | sizes << 34,
        ..Plan::legacy()
    };
    let kinds = [0b00, 0b01, 0b11];
    for needed in kinds {
        for there in kinds {
            let two = two_units([with(needed), with(there)]);
            let domain = two.driver.create(device(0), &spec).unwrap();
            let replaced = two
                .driver
                .replace(slot(0x100), Attachment::Domain(domain))
                .map(|replaced| two.settle(replaced.owed));
            let fits = needed & !there == 0;
            assert_eq!(replaced.is_ok(), fits, "{needed:#b} on {there:#b}");
        }
    }
}

#[test]
fn a_unit_that_fails_does_not_keep_the_other_from_being_told() {
    let two = two_units([Plan::legacy(), Plan::legacy()]);
    let spec = DomainSpec::Paging(TableFormat::SecondStage4);
    let domain = two.driver.create(device(0), &spec).unwrap();
    two.attach(0, Attachment::Domain(domain));
    two.attach(0x100, Attachment::Domain(domain));
    two.fakes[0].state().asleep = true;
    let owed = two.driver.invalidate(domain, Scope::Everything).unwrap();
    let mut batch = Batch::with_capacity(1).unwrap();
    batch.add(owed).unwrap();
    let error = two.driver.commit(&mut batch).map(|_| ()).unwrap_err();
    assert!(matches!(error, FlushError::UnitTimedOut { unit: 0, .. }));
    assert_eq!(two.fakes[1].take_executed().len(), 1);
    assert_eq!(two.driver.quarantined().debts, 1);
}
