//! A guest's own tables, used by hardware above the host's second stage.

use crate::guest::{ALL, Guest, LARGE, PRESENT, USER};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, range, read, slot, write};
use iommu_core::{
    Access, Attachment, Backend, BackendError, DomainHandle, DomainSpec, FaultReason, Gpa,
    NestedSpec, Platform, Scope, TableFormat,
};
use std::sync::Arc;
use vtd::ModeRequest;
use vtd_model::{Config, Request};

pub(crate) struct Nest<'r> {
    rig: &'r Rig,
    source: u16,
    pub(crate) guest: Arc<Guest>,
    pub(crate) parent: DomainHandle,
    pub(crate) nested: DomainHandle,
    pub(crate) root: u64,
}

/// What a first stage says of privileged requests: whether there are any, and whether they may
/// write what is read-only.
#[derive(Clone, Copy)]
pub(crate) struct Privileges {
    pub(crate) supervisor: bool,
    pub(crate) write_protect: bool,
}

impl Privileges {
    pub(crate) const NONE: Self = Self {
        supervisor: false,
        write_protect: true,
    };
}

const PAGES: u64 = 64;

impl<'r> Nest<'r> {
    pub(crate) fn new(rig: &'r Rig, pasid: Option<u32>) -> Self {
        let parent = rig.domain(ONE, TableFormat::SecondStage4);
        Self::over(rig, (ONE, pasid), parent, Privileges::NONE)
    }

    /// A guest with an empty table of its own, which a device of its uses, over a second stage
    /// that maps its memory.
    pub(crate) fn over(
        rig: &'r Rig,
        (source, pasid): (u16, Option<u32>),
        parent: DomainHandle,
        privileges: Privileges,
    ) -> Self {
        rig.assign(source, 1);
        let guest = Guest::new(&rig.platform, 1, PAGES, 42);
        for page in 0..PAGES {
            let gpa = crate::guest::BASE + page * 0x1000;
            rig.map(parent, gpa, guest.hpa(gpa), Access::READ_WRITE);
        }
        let root = guest.table();
        let nested = nested(rig, source, parent, root, privileges);
        rig.attach(source, pasid, nested);
        Self {
            rig,
            source,
            guest,
            parent,
            nested,
            root,
        }
    }

    /// Tells hardware what the guest changed.
    fn invalidate(&self, first: u64, pages: u64, leaf_only: bool) {
        let scope = Scope::Range {
            range: range(first, pages),
            leaf_only,
        };
        let owed = self.rig.driver.invalidate(self.nested, scope);
        self.rig.settle(owed.expect("a domain"));
    }

    pub(crate) fn end(self, pasid: Option<u32>) {
        self.rig.detach(self.source, pasid);
        assert_eq!(
            self.rig.driver.destroy(self.parent).map(drop),
            Err(BackendError::Busy(self.parent))
        );
        self.rig.destroy(self.nested);
        self.rig.destroy(self.parent);
        for frame in self.guest.take_all() {
            self.rig.platform.release(frame);
        }
        self.rig.assert_clean();
    }
}

/// A domain of a guest's table at `root` in its memory.
pub(crate) fn nested(
    rig: &Rig,
    source: u16,
    parent: DomainHandle,
    root: u64,
    privileges: Privileges,
) -> DomainHandle {
    let spec = NestedSpec {
        parent,
        format: TableFormat::FirstStage4,
        root: Gpa::new(root),
        supervisor: privileges.supervisor,
        write_protect: privileges.write_protect,
    };
    let created = rig.driver.create(device(source), &DomainSpec::Nested(spec));
    created.expect("it nests")
}

pub(crate) fn each(mut test: impl FnMut(&Rig, Option<u32>)) {
    let configs = [
        Config::scalable(),
        Config::scalable().with_caching_mode(),
        Config::scalable().non_coherent(),
        Config::everything(),
        Config {
            page_selective: false,
            max_address_mask: 0,
            ..Config::scalable()
        },
    ];
    for config in configs {
        for freedom in FREEDOMS {
            for pasid in [None, Some(5)] {
                let rig = Plan::new(config.clone())
                    .mode(ModeRequest::SecondStage)
                    .freedom(freedom)
                    .start();
                eprintln!("{config:?} {freedom:?} {pasid:?}");
                test(&rig, pasid);
            }
        }
    }
}

pub(crate) fn at(pasid: Option<u32>, request: Request) -> Request {
    Request { pasid, ..request }
}

#[test]
fn a_device_reaches_what_both_stages_allow() {
    each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        if !rig
            .driver
            .capabilities(device(ONE))
            .expect("a unit")
            .coherent
        {
            nest.end(pasid);
            return;
        }
        let guest = &nest.guest;
        let [first, second] = [guest.data(3), guest.data(8)];
        guest.map(nest.root, 0x7f00_1234_5000, first, ALL);
        guest.map(nest.root, 0x7f00_1234_6000, second, PRESENT | USER);
        let read = |address| at(pasid, read(ONE, address));
        let write = |address| at(pasid, write(ONE, address));
        rig.assert_reaches(&read(0x7f00_1234_5678), guest.hpa(first));
        rig.assert_reaches(&write(0x7f00_1234_5678), guest.hpa(first));
        rig.assert_reaches(&read(0x7f00_1234_6000), guest.hpa(second));
        rig.assert_faults(&write(0x7f00_1234_6000), FaultReason::SCALABLE_WRITE_DENIED);
        rig.assert_faults(
            &read(0x7f00_1234_7000),
            FaultReason::FIRST_STAGE_NOT_PRESENT,
        );
        rig.assert_faults(&read(0x8000_0000_0000), FaultReason::NOT_CANONICAL);
        guest.map(nest.root, 0x1000, 0x7fff_0000, ALL);
        rig.assert_faults(&read(0x1000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        guest.map(nest.root, 0x2000, first, ALL & !USER);
        rig.assert_faults(&read(0x2000), FaultReason::USER_DENIED);
        guest.map(nest.root, 0x3000, first | 1 << 50, ALL);
        rig.assert_faults(&read(0x3000), FaultReason::FIRST_STAGE_RESERVED);
        rig.assert_blocked(&Request {
            source: OTHER,
            ..read(0x7f00_1234_5000)
        });
        nest.end(pasid);
    });
}

#[test]
fn what_the_guest_changes_is_forgotten_when_it_says_so() {
    each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        if !rig
            .driver
            .capabilities(device(ONE))
            .expect("a unit")
            .coherent
        {
            nest.end(pasid);
            return;
        }
        let guest = &nest.guest;
        let [first, second] = [guest.data(3), guest.data(8)];
        let request = at(pasid, read(ONE, 0x5000));
        guest.map(nest.root, 0x5000, first, ALL);
        rig.assert_reaches(&request, guest.hpa(first));
        guest.map(nest.root, 0x5000, second, ALL);
        nest.invalidate(0x5000, 1, true);
        rig.assert_reaches(&request, guest.hpa(second));
        guest.unmap(nest.root, 0x5000);
        nest.invalidate(0x5000, 1, true);
        rig.assert_faults(&request, FaultReason::FIRST_STAGE_NOT_PRESENT);
        // A table is taken out and another put in.
        guest.map(nest.root, 0x5000, first, ALL);
        rig.assert_reaches(&request, guest.hpa(first));
        let other = guest.table();
        guest.store(other + 8 * 5, second | ALL);
        guest.store(guest.entry(nest.root, 4, 0x5000, 2), other | ALL);
        nest.invalidate(0, 512, false);
        rig.assert_reaches(&request, guest.hpa(second));
        nest.end(pasid);
    });
}

#[test]
fn memory_that_the_guest_loses_is_reached_through_none_of_its_tables() {
    each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        let guest = &nest.guest;
        if !rig
            .driver
            .capabilities(device(ONE))
            .expect("a unit")
            .coherent
        {
            nest.end(pasid);
            return;
        }
        let [data, kept] = [guest.data(3), guest.data(4)];
        guest.map(nest.root, 0x5000, data, ALL);
        guest.map(nest.root, 0x6000, kept, ALL);
        guest.map(nest.root, 0x20_0000, data, ALL);
        rig.assert_reaches(&at(pasid, write(ONE, 0x5000)), guest.hpa(data));
        rig.assert_reaches(&at(pasid, write(ONE, 0x20_0000)), guest.hpa(data));
        // A leaf of the guest's, then one of its tables.
        rig.unmap(nest.parent, data, 1);
        rig.platform.release(guest.lose(data));
        for address in [0x5000, 0x20_0000] {
            rig.assert_faults(
                &at(pasid, read(ONE, address)),
                FaultReason::SECOND_STAGE_NOT_PRESENT,
            );
        }
        rig.assert_reaches(&at(pasid, read(ONE, 0x6000)), guest.hpa(kept));
        let table = guest.load(guest.entry(nest.root, 4, 0x6000, 2)) & !0xfff;
        rig.unmap(nest.parent, table, 1);
        rig.platform.release(guest.lose(table));
        rig.assert_blocked(&at(pasid, read(ONE, 0x6000)));
        nest.end(pasid);
    });
}

#[test]
fn a_large_page_of_the_guest_reaches_each_page_behind_it() {
    each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        if !rig
            .driver
            .capabilities(device(ONE))
            .expect("a unit")
            .coherent
        {
            nest.end(pasid);
            return;
        }
        let guest = &nest.guest;
        // The whole of the guest's memory lies in one block of 2 MiB.
        let entry = guest.entry(nest.root, 4, 0x4000_0000, 2);
        guest.store(entry, crate::guest::BASE | LARGE | ALL);
        for page in [0, 7, 40] {
            let gpa = guest.data(page);
            let gva = 0x4000_0000 + page * 0x1000;
            rig.assert_reaches(&at(pasid, write(ONE, gva)), guest.hpa(gpa));
        }
        rig.assert_faults(
            &at(pasid, read(ONE, 0x4000_0000 + 100 * 0x1000)),
            FaultReason::SECOND_STAGE_NOT_PRESENT,
        );
        guest.store(entry, 0);
        // The guest names one page of it.
        nest.invalidate(0x4000_0000, 512, true);
        rig.assert_blocked(&at(pasid, read(ONE, 0x4000_7000)));
        nest.end(pasid);
    });
}

#[test]
fn a_host_table_and_a_guest_table_take_turns_and_neither_is_taken_for_the_other() {
    each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        if !rig
            .driver
            .capabilities(device(ONE))
            .expect("a unit")
            .coherent
        {
            nest.end(pasid);
            return;
        }
        let guest = &nest.guest;
        let data = guest.data(3);
        guest.map(nest.root, 0x5000, data, ALL);
        let host = rig.domain(ONE, TableFormat::FirstStage4);
        rig.map(host, 0x5000, guest.hpa(data), Access::READ_WRITE);
        let at = guest.hpa(data).as_u64();
        rig.with(|machine| machine.expect(ONE, pasid, 0x5000, 0x1000, at, true));
        for domain in [host, nest.nested, host, nest.nested] {
            let replaced = rig
                .driver
                .replace(slot(ONE, pasid), Attachment::Domain(domain))
                .expect("it leads there");
            assert!(replaced.hitless);
            rig.settle(replaced.owed);
            rig.with(|machine| machine.sweep());
            rig.assert_clean();
        }
        rig.with(|machine| machine.release(ONE, pasid, 0x5000, 0x1000));
        rig.destroy(host);
        nest.end(pasid);
    });
}

#[test]
fn a_unit_without_nesting_refuses_it() {
    let config = Config {
        nested: false,
        ..Config::scalable()
    };
    let rig = Plan::new(config).mode(ModeRequest::SecondStage).start();
    let parent = rig.domain(ONE, TableFormat::SecondStage4);
    let spec = NestedSpec {
        parent,
        format: TableFormat::FirstStage4,
        root: Gpa::new(0x1000),
        supervisor: false,
        write_protect: true,
    };
    assert_eq!(
        rig.driver.create(device(ONE), &DomainSpec::Nested(spec)),
        Err(BackendError::Unsupported(device(ONE)))
    );
}
