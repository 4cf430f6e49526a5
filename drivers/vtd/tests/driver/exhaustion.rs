//! Memory ends in the middle of anything: at every place, by frames and by the heap, what
//! was begun is undone, and the same call works when there is memory again.

use crate::heap;
use crate::world::*;
use iommu_core::*;
use std::ops::Range;
use vtd::{DeviceTlb, Inspected, InterruptSource};

const EDU: u16 = 0x20;
const NET: u16 = 0x0119;
/// Nothing was attached on this bus.
const FAR: u16 = 0x7f00;
/// Mapped, as a large page, in the first domain.
const LARGE: u64 = 1 << 9;

/// A machine in the middle of its work: two domains, one of them with a device that
/// caches, a PASID and a large page.
struct Scene {
    world: World,
    domains: [DomainHandle; 2],
}

impl Scene {
    fn new(plan: Plan) -> Self {
        let world = plan.boot();
        let domains = [world.domain(), world.domain()];
        for domain in domains {
            world.map(domain, 5);
        }
        let run = Run {
            hpa: Hpa::new(0x4000_0000),
            pages: 512,
        };
        let owed = world.driver.map(
            domains[0],
            Iova::new(LARGE << 12),
            &[run],
            Access::READ_WRITE,
        );
        world.commit(owed.unwrap());
        world.attach(slot(EDU), Attachment::Domain(domains[0]));
        world.attach(slot(NET), Attachment::Domain(domains[0]));
        Self { world, domains }
    }

    /// All that hardware reads, and all that the driver tells of itself.
    fn state(&self) -> Vec<String> {
        let driver = &self.world.driver;
        let mut lines = Vec::new();
        driver.inspect(UNIT, &mut |found| {
            // The queue's registers move with every flush.
            if !matches!(found, Inspected::Register { .. }) {
                lines.push(format!("{found:x?}"));
            }
        });
        for source in [EDU, NET, FAR] {
            lines.push(format!("{:?}", driver.attachment(slot(source))));
            for page in [5, 6, LARGE, LARGE + 1, LARGE + 511] {
                lines.push(format!("{:?}", self.world.walk(slot(source), page)));
            }
        }
        lines.push(format!("{:?}", driver.quarantined()));
        lines.push(format!("{} pages", self.world.machine.memory.outstanding()));
        lines
    }
}

/// Where memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Frames,
    Heap,
}

impl Source {
    fn fail(self, scene: &Scene, n: u64) {
        match self {
            Self::Frames => scene.world.machine.memory.fail_allocation(n),
            Self::Heap => heap::fail_allocation(n),
        }
    }

    fn is_pending(self, scene: &Scene) -> bool {
        match self {
            Self::Frames => scene.world.machine.memory.failure_is_pending(),
            Self::Heap => heap::failure_is_pending(),
        }
    }
}

/// Fails the first, second, … allocation of `act`, each on a scene of its own, until there
/// are no more; says how many there were. `act` says whether it succeeded; if not, nothing
/// may have changed, and it must succeed afterwards.
fn allocations(what: &str, source: Source, plan: Plan, act: &dyn Fn(&Scene) -> bool) -> u64 {
    for n in 1..100 {
        let scene = Scene::new(plan);
        let before = scene.state();
        source.fail(&scene, n);
        let succeeded = act(&scene);
        let pending = source.is_pending(&scene);
        source.fail(&scene, 0);
        if pending {
            assert!(succeeded, "{what}: fails though nothing else did");
            return n - 1;
        }
        assert!(
            !succeeded,
            "{what}: {source:?} {n} was asked for and not needed"
        );
        assert_eq!(scene.state(), before, "{what}: after {source:?} {n} failed");
        assert!(act(&scene), "{what}: again after {source:?} {n}");
    }
    panic!("{what}: no end of allocations");
}

/// An operation, how many frames it may take in any mode, and whether it may use the heap.
struct Operation {
    name: &'static str,
    frames: Range<u64>,
    heap: bool,
    act: fn(&Scene) -> bool,
}

fn settle(scene: &Scene, owed: Owed<'_, vtd::Debt>) -> bool {
    // Batches are the caller's.
    let mut batch = heap::outside(|| Batch::with_capacity(1).unwrap());
    batch.add(owed).unwrap();
    let mut flushed = scene.world.driver.commit(&mut batch).unwrap();
    while let Some(frame) = flushed.frames.pop() {
        scene.world.machine.release(frame);
    }
    heap::outside(|| drop(batch));
    true
}

fn replace(scene: &Scene, slot: Slot, to: Attachment) -> bool {
    match scene.world.driver.replace(slot, to) {
        Ok(replaced) => settle(scene, replaced.owed),
        Err(BackendError::OutOfFrames(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn map(scene: &Scene, page: u64, pages: u64) -> bool {
    let run = Run {
        hpa: Hpa::new(0x7_0000_0000),
        pages,
    };
    let at = Iova::new(page << 12);
    match scene
        .world
        .driver
        .map(scene.domains[0], at, &[run], Access::READ_WRITE)
    {
        Ok(owed) => settle(scene, owed),
        Err(MapError::OutOfFrames(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn unmap(scene: &Scene, range: AddressRange<Iova>) -> bool {
    match scene.world.driver.unmap(scene.domains[0], range) {
        Ok(owed) => settle(scene, owed),
        Err(MapError::OutOfFrames(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn create(scene: &Scene, spec: &DomainSpec) -> bool {
    match scene.world.driver.create(device(EDU), spec) {
        Ok(_) => true,
        Err(BackendError::OutOfFrames(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn enable_tlb(scene: &Scene, source: u16) -> bool {
    let settings = DeviceTlb {
        queue_depth: 0,
        physical_function: SourceId::from_bits(source),
        page_requests: false,
    };
    scene
        .world
        .driver
        .enable_device_tlb(device(source), settings, || Ok::<(), ()>(()))
        .is_ok()
}

/// Every operation of [`Backend`], of [`IrqRemapper`] and of the driver itself.
const OPERATIONS: &[Operation] = &[
    Operation {
        name: "capabilities",
        frames: 0..1,
        heap: false,
        act: |scene| scene.world.driver.capabilities(device(EDU)).is_ok(),
    },
    Operation {
        name: "create, paging",
        frames: 1..2,
        heap: false,
        act: |scene| create(scene, &DomainSpec::Paging(scene.world.format())),
    },
    Operation {
        name: "create, root",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let (format, root) = (scene.world.format(), Hpa::new(0x12_3000));
            create(scene, &DomainSpec::Root { format, root })
        },
    },
    Operation {
        name: "destroy",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let driver = &scene.world.driver;
            settle(scene, driver.destroy(scene.domains[1]).unwrap())
        },
    },
    Operation {
        name: "map, new tables",
        frames: 2..4,
        heap: false,
        act: |scene| map(scene, 1 << 27, 1),
    },
    Operation {
        name: "map, over many tables",
        frames: 2..10,
        heap: false,
        act: |scene| map(scene, (1 << 18) - 700, 1400),
    },
    Operation {
        name: "map, in a table that there is",
        frames: 0..1,
        heap: false,
        act: |scene| map(scene, 6, 1),
    },
    Operation {
        name: "unmap",
        frames: 0..1,
        heap: false,
        act: |scene| unmap(scene, pages(5, 1)),
    },
    Operation {
        name: "unmap, within a large page",
        frames: 1..2,
        heap: false,
        act: |scene| unmap(scene, pages(LARGE + 1, 1)),
    },
    Operation {
        name: "replace, a new device",
        frames: 1..4,
        heap: true,
        act: |scene| replace(scene, slot(FAR), Attachment::Domain(scene.domains[0])),
    },
    Operation {
        name: "replace, another domain",
        frames: 0..2,
        heap: false,
        act: |scene| replace(scene, slot(EDU), Attachment::Domain(scene.domains[1])),
    },
    Operation {
        name: "replace, blocked",
        frames: 0..1,
        heap: false,
        act: |scene| replace(scene, slot(EDU), Attachment::Blocked),
    },
    Operation {
        name: "attachment",
        frames: 0..1,
        heap: false,
        act: |scene| scene.world.driver.attachment(slot(EDU)).is_ok(),
    },
    Operation {
        name: "invalidate",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let scope = Scope::Everything;
            let owed = scene.world.driver.invalidate(scene.domains[0], scope);
            settle(scene, owed.unwrap())
        },
    },
    Operation {
        name: "drain_faults, drain_page_requests",
        frames: 0..1,
        heap: false,
        act: |scene| {
            heap::outside(|| {
                scene
                    .world
                    .fake
                    .fault(0, 0x9000, 1 << 62 | 5 << 32 | u64::from(EDU))
            });
            let mut told = 0;
            scene.world.driver.drain_faults(&mut |_| told += 1);
            scene.world.driver.drain_page_requests(&mut |_| told += 1);
            told == 1
        },
    },
    Operation {
        name: "explain",
        frames: 0..1,
        heap: false,
        act: |scene| scene.world.walk(slot(EDU), 5).is_ok(),
    },
    Operation {
        name: "allocate, route, mask and free interrupts",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let driver = &scene.world.driver;
            let source = InterruptSource::Function(device(EDU));
            let handle = driver.allocate_interrupts(source, 4).unwrap();
            let target = IrqTarget {
                apic_id: 1,
                vector: 0x41,
                level: false,
            };
            driver.route(&handle, 2, target).unwrap();
            driver.mask(&handle, 2).unwrap();
            driver.free(handle).is_ok()
        },
    },
    Operation {
        name: "silence, a device without an entry",
        frames: 1..2,
        heap: true,
        act: |scene| scene.world.driver.silence(device(FAR), true).is_ok(),
    },
    Operation {
        name: "silence, an attached device",
        frames: 0..1,
        heap: true,
        act: |scene| scene.world.driver.silence(device(EDU), true).is_ok(),
    },
];

/// Those that only a unit with everything has.
const MORE: &[Operation] = &[
    Operation {
        name: "create, nested",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let parent = DomainSpec::Root {
                format: TableFormat::SecondStage4,
                root: Hpa::new(0x12_3000),
            };
            let parent = scene.world.driver.create(device(EDU), &parent).unwrap();
            create(
                scene,
                &DomainSpec::Nested(NestedSpec {
                    parent,
                    format: TableFormat::FirstStage4,
                    root: Gpa::new(0x5000),
                    supervisor: false,
                    write_protect: true,
                }),
            )
        },
    },
    Operation {
        name: "replace, a first PASID",
        frames: 1..3,
        heap: true,
        act: |scene| {
            replace(
                scene,
                pasid_slot(EDU, 70),
                Attachment::Domain(scene.domains[0]),
            )
        },
    },
    Operation {
        name: "replace, a PASID beyond the directory",
        frames: 2..4,
        heap: true,
        act: |scene| {
            replace(
                scene,
                pasid_slot(EDU, 0xf_0000),
                Attachment::Domain(scene.domains[0]),
            )
        },
    },
    Operation {
        name: "enable_device_tlb",
        frames: 0..1,
        heap: true,
        act: |scene| enable_tlb(scene, NET),
    },
    Operation {
        name: "enable_device_tlb and disable_device_tlb",
        frames: 0..1,
        heap: true,
        act: |scene| {
            enable_tlb(scene, NET)
                && scene
                    .world
                    .driver
                    .disable_device_tlb(device(NET), || Ok::<(), ()>(()))
                    .is_ok()
        },
    },
    Operation {
        name: "respond",
        frames: 0..1,
        heap: false,
        act: |scene| {
            let response = PageResponse {
                slot: slot(NET),
                group: 1,
                code: ResponseCode::Success,
            };
            scene.world.driver.respond(&response).is_ok()
        },
    },
];

fn hold(operations: &[Operation], plan: Plan) {
    for operation in operations {
        let frames = allocations(operation.name, Source::Frames, plan, &operation.act);
        let heap = allocations(operation.name, Source::Heap, plan, &operation.act);
        assert!(
            operation.frames.contains(&frames),
            "{}: {frames} frames",
            operation.name
        );
        assert!(
            operation.heap || heap == 0,
            "{}: {heap} of the heap",
            operation.name
        );
    }
}

#[test]
fn every_operation_undoes_what_it_began_in_legacy_mode() {
    hold(OPERATIONS, Plan::legacy());
}

#[test]
fn every_operation_undoes_what_it_began_with_second_stages() {
    hold(OPERATIONS, Plan::second_stage());
}

#[test]
fn every_operation_undoes_what_it_began_with_first_stages() {
    hold(OPERATIONS, Plan::first_stage());
}

#[test]
fn every_operation_of_a_unit_that_has_everything_undoes_what_it_began() {
    let plan = Plan::rich();
    let ecap = plan.ecap | 1 << 29 | 1 << 42;
    hold(MORE, Plan { ecap, ..plan });
    hold(OPERATIONS, Plan { ecap, ..plan });
}
