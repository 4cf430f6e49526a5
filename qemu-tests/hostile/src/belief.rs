//! What a guest believes to have. With several virtual CPUs, and a hypervisor that takes
//! things away, it may be wrong; it serves to make calls that can succeed.

use iommu_abi::{Op, QueueKind};

/// A device, as the guest knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Device {
    pub(crate) handle: u32,
    pub(crate) source: u16,
    pub(crate) pasids: bool,
    /// It is shared: only PASIDs of it can be bound.
    pub(crate) slice: bool,
    /// It may be bound so that it asks for pages.
    pub(crate) asks: bool,
}

/// A group of page requests that the guest has read of and not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) device: u32,
    pub(crate) pasid: Option<u32>,
    pub(crate) group: u32,
    /// 0 if it was told by the structures of `linux/iommu.h`, which have none.
    pub(crate) cookie: u64,
    /// The queue that it was read from.
    pub(crate) queue: u32,
}

/// A ring of operations of the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    pub(crate) handle: u32,
    /// Where its indices lie; submissions and completions follow.
    pub(crate) at: u64,
}

/// A queue of events of the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Queue {
    pub(crate) handle: u32,
    pub(crate) kind: QueueKind,
}

/// A page table of the guest's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) handle: u32,
    pub(crate) root: u64,
}

/// A mapping in an address space that the hypervisor keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub(crate) ioas: u32,
    pub(crate) iova: u64,
    pub(crate) pages: u64,
    pub(crate) gpa: u64,
    pub(crate) writable: bool,
}

/// A page that a table of the guest's own maps, of which the hypervisor was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Woven {
    pub(crate) ioas: u32,
    pub(crate) gva: u64,
    pub(crate) gpa: u64,
}

/// A device, or a PASID of it, and what it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound {
    pub(crate) device: u32,
    pub(crate) pasid: Option<u32>,
    pub(crate) ioas: u32,
}

/// All of it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Belief {
    /// The guest makes no mistake.
    pub(crate) polite: bool,
    pub(crate) devices: Vec<Device>,
    pub(crate) tables: Vec<Table>,
    pub(crate) managed: Vec<u32>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) pasids: Vec<u32>,
    pub(crate) bound: Vec<Bound>,
    pub(crate) woven: Vec<Woven>,
    /// Tables that go with their binding.
    pub(crate) passing: Vec<u32>,
    /// Devices whose PASID table the guest keeps.
    pub(crate) keeps_pasids: Vec<u32>,
    pub(crate) rings: Vec<Ring>,
    pub(crate) queues: Vec<Queue>,
    /// Which queues tell of which objects.
    pub(crate) routes: Vec<(u32, u32)>,
    /// Groups that wait for the guest's answer, the oldest first.
    pub(crate) told: Vec<Told>,
    /// PASIDs that were taken since the guest began.
    pub(crate) pasids_taken: u64,
    /// Page-table pages of the guest that lie in its table area.
    pub(crate) table_pages: Vec<u64>,
    /// Pages for data.
    pub(crate) data_pages: Vec<u64>,
    /// Where results of calls go.
    pub(crate) buffer: u64,
}

/// The most that a guest remembers of each kind.
const MOST: usize = 48;

impl Belief {
    pub(crate) fn is_bound(&self, ioas: u32) -> bool {
        self.bound.iter().any(|bound| bound.ioas == ioas)
    }

    pub(crate) fn spaces(&self) -> Vec<u32> {
        let tables = self.tables.iter().map(|table| table.handle);
        tables.chain(self.managed.iter().copied()).collect()
    }

    pub(crate) fn table(&self, handle: u32) -> Option<Table> {
        self.tables
            .iter()
            .find(|table| table.handle == handle)
            .copied()
    }

    pub(crate) fn forget_space(&mut self, ioas: u32) {
        self.tables.retain(|table| table.handle != ioas);
        self.managed.retain(|&handle| handle != ioas);
        self.mappings.retain(|mapping| mapping.ioas != ioas);
        self.woven.retain(|woven| woven.ioas != ioas);
        self.bound.retain(|bound| bound.ioas != ioas);
        self.passing.retain(|&handle| handle != ioas);
        self.forget_object(ioas);
    }

    /// A slot uses something else, or nothing: what came with its binding is gone.
    pub(crate) fn release(&mut self, device: u32, pasid: Option<u32>) {
        let slot = |bound: &&Bound| (bound.device, bound.pasid) == (device, pasid);
        let old = self.bound.iter().find(slot).map(|bound| bound.ioas);
        self.bound
            .retain(|bound| (bound.device, bound.pasid) != (device, pasid));
        // What waited was answered with its binding, or nobody will.
        self.told
            .retain(|told| (told.device, told.pasid) != (device, pasid));
        let gone = |ioas: &u32| self.passing.contains(ioas) && !self.is_bound(*ioas);
        if let Some(ioas) = old.filter(gone) {
            self.forget_space(ioas);
        }
    }

    /// A device is another's now.
    pub(crate) fn lose_device(&mut self, device: u32) {
        let of_device = |bound: &&Bound| bound.device == device;
        while let Some(bound) = self.bound.iter().find(of_device).copied() {
            self.release(bound.device, bound.pasid);
        }
        self.devices.retain(|known| known.handle != device);
        self.keeps_pasids.retain(|&known| known != device);
        self.told.retain(|told| told.device != device);
    }

    /// The group of this cookie is answered, or without one the oldest that is named so.
    pub(crate) fn answered(&mut self, answer: Told) {
        let named = |told: &Told| (told.device, told.pasid, told.group);
        let place = self.told.iter().position(|told| {
            let by_cookie = answer.cookie != 0 && told.cookie != 0;
            named(told) == named(&answer) && (!by_cookie || told.cookie == answer.cookie)
        });
        if let Some(place) = place {
            self.told.remove(place);
        }
    }

    /// Whether a device could ask, and nothing is bound to it.
    pub(crate) fn asks_nothing(&self) -> bool {
        let bound = |handle: u32| self.bound.iter().any(|bound| bound.device == handle);
        let mut devices = self.devices.iter();
        devices.any(|device| device.asks && !bound(device.handle))
    }

    /// Groups that can be answered by their cookie.
    pub(crate) fn tellable(&self) -> Vec<Told> {
        let told = self.told.iter().filter(|told| told.cookie != 0);
        told.copied().collect()
    }

    /// A call is about to be made. What it does to groups that wait is more than the guest
    /// learns from it.
    pub(crate) fn before(&mut self, op: Op) {
        let ends_any = matches!(
            op,
            Op::PasidTableBind | Op::PasidTableUnbind | Op::PasidTableInvalidate
        );
        if ends_any {
            self.told.clear();
        }
    }

    /// The guest reads of a group.
    pub(crate) fn tell(&mut self, told: Told) {
        if self.told.len() == MOST {
            self.told.remove(0);
        }
        self.told.push(told);
    }

    /// A device that nothing is bound to.
    pub(crate) fn idle(&self) -> Option<Device> {
        let used = |device: &&Device| {
            self.bound.iter().any(|bound| bound.device == device.handle)
                || self.keeps_pasids.contains(&device.handle)
        };
        let mut whole = self.devices.iter().filter(|device| !device.slice);
        whole.find(|device| !used(device)).copied()
    }

    /// Whether a PASID uses a table that came with its binding.
    pub(crate) fn has_passing_pasid(&self) -> bool {
        self.bound
            .iter()
            .any(|bound| bound.pasid.is_some() && self.passing.contains(&bound.ioas))
    }

    /// A PASID of a device that is taken and bound nowhere there.
    pub(crate) fn free_slot(&self) -> Option<(Device, u32)> {
        let devices = self.devices.iter().filter(|device| device.pasids);
        devices
            .flat_map(|device| self.pasids.iter().map(move |&pasid| (*device, pasid)))
            .find(|(device, pasid)| {
                let taken =
                    |bound: &Bound| (bound.device, bound.pasid) == (device.handle, Some(*pasid));
                !self.bound.iter().any(taken)
            })
    }

    /// Nothing tells of an object that is no more.
    pub(crate) fn forget_object(&mut self, handle: u32) {
        self.routes.retain(|(_, object)| *object != handle);
        self.rings.retain(|ring| ring.handle != handle);
        self.queues.retain(|queue| queue.handle != handle);
        // Groups that it told of were answered in the guest's place.
        self.told.retain(|told| told.queue != handle);
    }

    /// A queue and an object that has none of its kind.
    pub(crate) fn routable(&self) -> Option<(u32, u32)> {
        let devices = self.devices.iter().map(|device| device.handle);
        let objects: Vec<u32> = devices.chain(self.spaces()).collect();
        let kind = |handle: u32| {
            let queue = self.queues.iter().find(|queue| queue.handle == handle);
            queue.map(|queue| queue.kind)
        };
        self.queues.iter().find_map(|queue| {
            let taken = |object: u32| {
                let mut routes = self.routes.iter();
                routes.any(|route| route.1 == object && kind(route.0) == Some(queue.kind))
            };
            let free = objects.iter().copied().find(|&object| !taken(object));
            Some((queue.handle, free?))
        })
    }

    pub(crate) fn idle_queues(&self) -> Vec<u32> {
        let idle = |queue: &&Queue| !self.routes.iter().any(|route| route.0 == queue.handle);
        let queues = self.queues.iter().filter(idle);
        queues.map(|queue| queue.handle).collect()
    }

    pub(crate) fn weave(&mut self, woven: Woven) {
        self.woven
            .retain(|old| (old.ioas, old.gva) != (woven.ioas, woven.gva));
        if self.woven.len() == MOST {
            self.woven.remove(0);
        }
        self.woven.push(woven);
    }

    /// Addresses at which a slot should reach something: address, guest page, writable.
    pub(crate) fn reachable(&self, device: u32, pasid: Option<u32>) -> Vec<(u64, u64, bool)> {
        let bound = self
            .bound
            .iter()
            .find(|bound| bound.device == device && bound.pasid == pasid);
        let Some(bound) = bound else {
            return Vec::new();
        };
        match self.table(bound.ioas) {
            Some(table) => self
                .woven
                .iter()
                .filter(|woven| woven.ioas == table.handle)
                .map(|woven| (woven.gva, woven.gpa, true))
                .collect(),
            None => self
                .mappings
                .iter()
                .filter(|mapping| mapping.ioas == bound.ioas)
                .flat_map(|mapping| {
                    (0..mapping.pages).map(move |page| {
                        let offset = page * 0x1000;
                        (
                            mapping.iova.wrapping_add(offset),
                            mapping.gpa + offset,
                            mapping.writable,
                        )
                    })
                })
                .collect(),
        }
    }
}
