//! A unit that translates already: which domain ids are in use, whatever its tables say.

use crate::fake::*;
use crate::world::*;
use iommu_core::*;
use std::mem::ManuallyDrop;
use vtd::{Driver, Event, Preparing};

const EDU: u16 = 0x20;
const SCALABLE: u64 = 1 << 10;

/// Pages that firmware has filled, and left behind with translation on.
struct Firmware {
    plan: Plan,
    machine: Machine,
    fake: std::sync::Arc<Fake>,
}

impl Firmware {
    fn new(plan: Plan) -> Self {
        let (machine, fake) = plan.machine();
        Self {
            plan,
            machine,
            fake,
        }
    }

    /// A page that nobody gives back.
    fn page(&self) -> u64 {
        let frame = ManuallyDrop::new(self.machine.allocate(Order::PAGE).unwrap());
        frame.hpa().as_u64()
    }

    fn store(&self, at: u64, value: u64) {
        self.machine.memory.device_store(Hpa::new(at), value);
    }

    /// Goes away with this in RTADDR.
    fn leave(&self, root: u64) {
        self.fake.set64(RTADDR, root);
        self.fake.set32(GSTS, TE | SRTP);
        self.fake.state().root = root;
    }

    fn take_over(&self) -> Driver<Machine, Registers, Preparing> {
        self.plan.preparing(&self.machine, &self.fake)
    }

    /// How many ids were found, and whether all tables could be read.
    fn found(&self) -> Option<(u32, bool)> {
        let events = self.machine.events.lock().unwrap();
        events.iter().find_map(|event| match *event {
            Event::DomainIdsInUse {
                count, complete, ..
            } => Some((count, complete)),
            _ => None,
        })
    }
}

/// The id that the next domain gets on the unit.
fn next_id<S>(machine: &Machine, driver: &Driver<Machine, Registers, S>, source: u16) -> u16 {
    let capabilities = driver.capabilities(device(source)).unwrap();
    let format = TableFormat::ALL
        .into_iter()
        .find(|&format| capabilities.supports(format))
        .unwrap();
    let domain = driver
        .create(device(source), &DomainSpec::Paging(format))
        .unwrap();
    drop(
        driver
            .replace(slot(source), Attachment::Domain(domain))
            .unwrap(),
    );
    let events = machine.events.lock().unwrap();
    events
        .iter()
        .rev()
        .find_map(|event| match event {
            Event::Attached { domain_id, .. } => Some(*domain_id),
            _ => None,
        })
        .unwrap()
}

/// Legacy tables with these ids, each of a device of its own.
fn legacy_tables(firmware: &Firmware, ids: &[u64]) -> u64 {
    let (root, contexts) = (firmware.page(), firmware.page());
    firmware.store(root + 16 * 3, contexts | 1);
    for (devfn, id) in (0..).zip(ids) {
        firmware.store(contexts + 16 * devfn, 0x10_0001);
        firmware.store(contexts + 16 * devfn + 8, id << 8 | 2);
    }
    // Not present: whatever else it says is no id.
    firmware.store(contexts + 16 * 200 + 8, 9 << 8 | 2);
    root
}

#[test]
fn ids_in_legacy_tables_are_avoided_until_the_tables_are_gone() {
    let firmware = Firmware::new(Plan::legacy());
    let root = legacy_tables(&firmware, &[1, 2, 4, 2]);
    firmware.leave(root);
    let driver = firmware.take_over();
    assert_eq!(firmware.found(), Some((3, true)));
    // 3 is for whoever is passed through.
    assert_eq!(next_id(&firmware.machine, &driver, EDU), 5);
    assert_eq!(next_id(&firmware.machine, &driver, 0x28), 6);
    let driver = driver.enable().unwrap();
    assert_eq!(next_id(&firmware.machine, &driver, 0x30), 1);
    assert_eq!(next_id(&firmware.machine, &driver, 0x38), 2);
}

#[test]
fn a_unit_that_does_not_translate_has_no_ids_in_use() {
    let firmware = Firmware::new(Plan::legacy());
    let root = legacy_tables(&firmware, &[1, 2, 4]);
    firmware.leave(root);
    firmware.fake.set32(GSTS, SRTP);
    let driver = firmware.take_over();
    assert_eq!(firmware.found(), None);
    assert_eq!(next_id(&firmware.machine, &driver, EDU), 2);
}

#[test]
fn ids_in_pasid_tables_are_avoided_too() {
    let firmware = Firmware::new(Plan::second_stage());
    let (root, contexts) = (firmware.page(), firmware.page());
    let (directory, table) = (firmware.page(), firmware.page());
    // The upper half: devices from 16 on.
    firmware.store(root + 8, contexts | 1);
    firmware.store(contexts + 32 * 5, directory | 1);
    firmware.store(directory + 8 * 127, table | 1);
    for (pasid, id) in [(0, 1), (1, 3), (63, 2)] {
        firmware.store(table + 64 * pasid, 2 << 6 | 1);
        firmware.store(table + 64 * pasid + 8, id);
    }
    firmware.store(table + 64 * 7 + 8, 4);
    firmware.leave(root | SCALABLE);
    let driver = firmware.take_over();
    assert_eq!(firmware.found(), Some((3, true)));
    assert_eq!(
        next_id(&firmware.machine, &driver, EDU),
        5,
        "4 is passed through"
    );
}

#[test]
fn beside_tables_that_cannot_be_read_ids_come_from_the_top() {
    for root in [0xffff_ffff_ffff_f000, 0x7_0000_0000] {
        let firmware = Firmware::new(Plan::legacy());
        firmware.leave(root);
        let driver = firmware.take_over();
        assert_eq!(firmware.found(), Some((0, false)));
        assert_eq!(next_id(&firmware.machine, &driver, EDU), 0xfffe);
    }
}

#[test]
fn one_table_that_cannot_be_read_does_not_hide_the_others() {
    let firmware = Firmware::new(Plan::legacy());
    let root = legacy_tables(&firmware, &[0xfffe, 0xfffd]);
    firmware.store(root, 0x7_0000_0001);
    firmware.leave(root);
    let driver = firmware.take_over();
    assert_eq!(firmware.found(), Some((2, false)));
    // 0xffff is passed through.
    assert_eq!(next_id(&firmware.machine, &driver, EDU), 0xfffc);
}

#[test]
fn tables_that_lead_to_themselves_cost_no_more_than_the_limit() {
    let firmware = Firmware::new(Plan::second_stage());
    let root = firmware.page();
    for cell in 0..512 {
        // Present as whatever it is taken for, with the largest directory.
        firmware.store(root + 8 * cell, root | 7 << 9 | 1);
    }
    firmware.leave(root | SCALABLE);
    let driver = firmware.take_over();
    assert!(matches!(firmware.found(), Some((_, false))));
    next_id(&firmware.machine, &driver, EDU);
    driver.enable().unwrap();
}

#[test]
fn abort_mode_has_no_tables() {
    let firmware = Firmware::new(Plan::second_stage());
    firmware.leave(0x7_0000_0000 | 3 << 10);
    let driver = firmware.take_over();
    assert_eq!(firmware.found(), Some((0, true)));
    assert_eq!(next_id(&firmware.machine, &driver, EDU), 2);
}
