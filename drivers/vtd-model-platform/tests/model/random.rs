//! Random sequences of calls on random units, shrunk to a short one where they fail.

use crate::rig::{ONE, OTHER, Plan, Rig, device, range, slot};
use crate::units;
use iommu_core::{
    Access, Attachment, Backend, Batch, DomainHandle, DomainSpec, Frame, Iova, Platform, Run,
    TableFormat,
};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use vtd::Debt;
use vtd_model::{Freedom, Request};

/// Choices are reduced to what there is when they are made.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create {
        source: u8,
        format: u8,
    },
    Destroy {
        domain: u8,
    },
    Map {
        domain: u8,
        page: u8,
        pages: u8,
        writable: bool,
    },
    Unmap {
        domain: u8,
        page: u8,
        pages: u8,
    },
    Attach {
        slot: u8,
        domain: u8,
    },
    Block {
        slot: u8,
    },
    Request {
        slot: u8,
        page: u8,
        write: bool,
    },
    Commit,
    OutOfMemory {
        after: u8,
    },
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let any8 = any::<u8>;
    prop_oneof![
        3 => (any8(), any8()).prop_map(|(source, format)| Step::Create { source, format }),
        1 => any8().prop_map(|domain| Step::Destroy { domain }),
        6 => (any8(), any8(), 1..4u8, any::<bool>())
            .prop_map(|(domain, page, pages, writable)| Step::Map { domain, page, pages, writable }),
        4 => (any8(), any8(), 1..8u8)
            .prop_map(|(domain, page, pages)| Step::Unmap { domain, page, pages }),
        5 => (any8(), any8()).prop_map(|(slot, domain)| Step::Attach { slot, domain }),
        2 => any8().prop_map(|slot| Step::Block { slot }),
        4 => (any8(), any8(), any::<bool>())
            .prop_map(|(slot, page, write)| Step::Request { slot, page, write }),
        3 => Just(Step::Commit),
        1 => (1..6u8).prop_map(|after| Step::OutOfMemory { after }),
        1 => Just(Step::Forget),
    ]
}

/// Pages that steps map: neighbours in a table, and others in tables of their own.
const PLACES: [u64; 8] = [
    0x0000_1000,
    0x0000_2000,
    0x0000_3000,
    0x001f_f000,
    0x0020_0000,
    0x3fff_f000,
    0x4000_0000,
    0x70_0000_0000,
];

struct Known {
    handle: DomainHandle,
    format: TableFormat,
    pages: BTreeMap<u64, (Frame, bool)>,
}

struct Course<'r> {
    rig: &'r Rig,
    sources: Vec<u16>,
    slots: Vec<(u16, Option<u32>)>,
    domains: Vec<Known>,
    leads: BTreeMap<(u16, Option<u32>), Attachment>,
    batch: Batch<'r, Debt>,
    /// Unmapped, and perhaps still known to hardware.
    leaving: Vec<Frame>,
}

impl<'r> Course<'r> {
    fn new(rig: &'r Rig) -> Self {
        let sources = vec![ONE, OTHER, 0x0420];
        let mut slots = Vec::new();
        for &source in &sources {
            rig.assign(source, 1);
            slots.push((source, None));
            let capabilities = rig.driver.capabilities(device(source)).expect("a unit");
            if capabilities.pasid_bits > 0 {
                slots.extend([Some(1), Some(70), Some(0x9000)].map(|pasid| (source, pasid)));
            }
        }
        Self {
            rig,
            sources,
            slots,
            domains: Vec::new(),
            leads: BTreeMap::new(),
            batch: Batch::with_capacity(256).expect("room"),
            leaving: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create { source, format } => self.create(source, format),
            Step::Destroy { domain } => self.destroy(domain),
            Step::Map {
                domain,
                page,
                pages,
                writable,
            } => self.map(domain, page, pages, writable),
            Step::Unmap {
                domain,
                page,
                pages,
            } => self.unmap(domain, page, pages),
            Step::Attach { slot, domain } => {
                if let Some(at) = index(domain, self.domains.len()) {
                    let to = Attachment::Domain(self.domains[at].handle);
                    self.replace(slot, to);
                }
            }
            Step::Block { slot } => self.replace(slot, Attachment::Blocked),
            Step::Request { slot, page, write } => self.request(slot, page, write),
            Step::Commit => self.commit(),
            Step::OutOfMemory { after } => {
                self.rig.platform.arena().fail_allocation(after.into());
            }
            Step::Forget => self.rig.with(|machine| machine.forget(0)),
        }
        crate::rig::assert_clean(&self.rig.platform);
    }

    /// Memory was short, by order; then nothing may have changed.
    fn was_short(&self) -> bool {
        let short = !self.rig.platform.arena().failure_is_pending();
        self.rig.platform.arena().fail_allocation(0);
        short
    }

    fn create(&mut self, source: u8, format: u8) {
        let source = self.sources[usize::from(source) % self.sources.len()];
        let format = TableFormat::ALL[usize::from(format) % 5];
        if self.domains.len() == 6 {
            return;
        }
        let spec = DomainSpec::Paging(format);
        if let Ok(handle) = self.rig.driver.create(device(source), &spec) {
            self.domains.push(Known {
                handle,
                format,
                pages: BTreeMap::new(),
            });
        }
    }

    fn destroy(&mut self, domain: u8) {
        let Some(at) = index(domain, self.domains.len()) else {
            return;
        };
        let attached = self
            .leads
            .values()
            .any(|to| *to == Attachment::Domain(self.domains[at].handle));
        match self.rig.driver.destroy(self.domains[at].handle) {
            Ok(owed) => {
                assert!(!attached);
                self.batch.add(owed).expect("room");
                let known = self.domains.remove(at);
                let frames = known.pages.into_values().map(|(frame, _)| frame);
                self.leaving.extend(frames);
            }
            Err(_) => assert!(attached),
        }
    }

    fn map(&mut self, domain: u8, page: u8, pages: u8, writable: bool) {
        let Some(at) = index(domain, self.domains.len()) else {
            return;
        };
        let first = PLACES[usize::from(page) % PLACES.len()];
        let places = (first..).step_by(0x1000).take(pages.into());
        // Fresh pages are no table's, so an order to fail waits for the driver.
        let failing = self.rig.platform.arena().failure_is_pending();
        if failing {
            self.rig.platform.arena().fail_allocation(0);
        }
        let frames: Vec<Frame> = places.clone().map(|_| self.rig.page(1)).collect();
        if failing {
            self.rig.platform.arena().fail_allocation(2);
        }
        let runs: Vec<Run> = frames
            .iter()
            .map(|frame| Run {
                hpa: frame.hpa(),
                pages: 1,
            })
            .collect();
        let access = if writable {
            Access::READ_WRITE
        } else {
            Access::READ
        };
        let known = &mut self.domains[at];
        let occupied = places.clone().any(|place| known.pages.contains_key(&place));
        let result = self
            .rig
            .driver
            .map(known.handle, Iova::new(first), &runs, access);
        match result {
            Ok(owed) => {
                assert!(!occupied);
                self.batch.add(owed).expect("room");
                for (place, frame) in places.zip(frames) {
                    known.pages.insert(place, (frame, writable));
                }
            }
            Err(error) => {
                assert!(
                    occupied || first >> known.format.input_bits() != 0 || failing,
                    "{error:?}"
                );
                // Never reachable.
                frames
                    .into_iter()
                    .for_each(|f| self.rig.platform.release(f));
            }
        }
        if failing {
            self.was_short();
        }
    }

    fn unmap(&mut self, domain: u8, page: u8, pages: u8) {
        let Some(at) = index(domain, self.domains.len()) else {
            return;
        };
        let first = PLACES[usize::from(page) % PLACES.len()];
        let known = &mut self.domains[at];
        if let Ok(owed) = self
            .rig
            .driver
            .unmap(known.handle, range(first, pages.into()))
        {
            self.batch.add(owed).expect("room");
            for place in (first..).step_by(0x1000).take(pages.into()) {
                let gone = known.pages.remove(&place);
                self.leaving.extend(gone.map(|(frame, _)| frame));
            }
        }
    }

    fn replace(&mut self, slot_index: u8, to: Attachment) {
        let (source, pasid) = self.slots[usize::from(slot_index) % self.slots.len()];
        match self.rig.driver.replace(slot(source, pasid), to) {
            Ok(replaced) => {
                let before = self.leads.insert((source, pasid), to);
                assert_eq!(replaced.previous, before.unwrap_or(Attachment::Blocked));
                self.batch.add(replaced.owed).expect("room");
            }
            Err(_) => {
                let before = self.leads.get(&(source, pasid)).copied();
                let now = self.rig.driver.attachment(slot(source, pasid));
                assert_eq!(now, Ok(before.unwrap_or(Attachment::Blocked)));
            }
        }
    }

    fn request(&mut self, slot: u8, page: u8, write: bool) {
        let (source, pasid) = self.slots[usize::from(slot) % self.slots.len()];
        let place = PLACES[usize::from(page) % PLACES.len()];
        let request = request(source, pasid, place, write);
        let outcome = self.rig.with(|machine| machine.request(&request));
        let records = self.rig.faults();
        assert_eq!(records.len(), usize::from(outcome.address().is_none()));
    }

    /// Hardware has forgotten: memory is free, and every request ends where it must.
    fn commit(&mut self) {
        self.rig.platform.arena().fail_allocation(0);
        self.rig.commit(&mut self.batch);
        for frame in self.leaving.drain(..) {
            self.rig.platform.release(frame);
        }
        for &(source, pasid) in &self.slots {
            let domain = match self.leads.get(&(source, pasid)) {
                Some(Attachment::Domain(handle)) => {
                    self.domains.iter().find(|known| known.handle == *handle)
                }
                _ => None,
            };
            for place in PLACES {
                let page = domain.and_then(|known| known.pages.get(&place));
                for write in [false, true] {
                    let request = request(source, pasid, place, write);
                    match page {
                        Some((frame, writable)) if *writable || !write => {
                            self.rig.assert_reaches(&request, frame.hpa());
                        }
                        _ => self.rig.assert_blocked(&request),
                    }
                }
            }
        }
    }

    /// Everything is given back, and nothing is left.
    fn end(mut self) {
        for at in 0..self.slots.len() {
            self.replace(at as u8, Attachment::Blocked);
        }
        while !self.domains.is_empty() {
            self.destroy(0);
        }
        self.commit();
        self.rig.assert_clean();
    }
}

fn index(choice: u8, count: usize) -> Option<usize> {
    usize::from(choice).checked_rem(count)
}

fn request(source: u16, pasid: Option<u32>, address: u64, write: bool) -> Request {
    let request = if write {
        Request::write(source, address)
    } else {
        Request::read(source, address)
    };
    Request { pasid, ..request }
}

/// The same cases on every run.
pub(crate) fn cases(count: u32) -> TestRunner {
    let config = Cases {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Cases::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, random)
}

/// How many cases: `MODEL_CASES` in the environment, for long runs.
pub(crate) fn count(usual: u32) -> u32 {
    let wanted = std::env::var("MODEL_CASES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn run(rig: &Rig, steps: &[Step]) {
    let mut course = Course::new(rig);
    for &step in steps {
        course.step(step);
    }
    course.commit();
    course.end();
}

#[test]
fn whatever_is_done_in_whatever_order_hardware_follows() {
    let kinds = units::all();
    let strategy = (
        0..kinds.len(),
        0..kinds.len(),
        any::<u64>(),
        any::<bool>(),
        prop::collection::vec(step(), 1..60),
    );
    let result = cases(count(60)).run(&strategy, |(first, second, seed, pessimist, steps)| {
        let freedom = if pessimist {
            Freedom::Pessimist(seed)
        } else {
            Freedom::Random(seed)
        };
        let mut plan = Plan::new(kinds[first].config.clone())
            .mode(kinds[first].mode)
            .freedom(freedom)
            .device(0x0420, 1);
        let other = &kinds[second];
        // A unit without the mode that is asked for takes the best that it has.
        plan.units.push(other.config.clone());
        plan.mode = if plan.units.iter().all(|unit| unit.scalable_mode) {
            plan.mode
        } else {
            vtd::ModeRequest::Automatic
        };
        if !plan
            .units
            .iter()
            .all(|unit| unit.first_stage && unit.second_stage)
        {
            plan.mode = vtd::ModeRequest::Automatic;
        }
        let rig = plan.start();
        run(&rig, &steps);
        let taken = rig.taken();
        if !steps
            .iter()
            .any(|step| matches!(step, Step::OutOfMemory { .. }))
        {
            run(&rig, &steps);
            // Context and PASID tables stay; nothing else does.
            assert_eq!(rig.taken(), taken, "the second time costs nothing more");
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
