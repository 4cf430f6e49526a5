//! The hypercalls: how each is made so that it can succeed, what its guest learns from it, and
//! how it is spoilt.
//!
//! [`plan`] has one arm for each operation of the interface and no other: an operation that is
//! added and not made here does not compile.

mod linux;
mod page_response;
mod pasid_table;

pub(crate) use page_response::{answers, found_nobody};

use crate::belief::{Belief, Bound, Mapping, Queue, Ring, Table};
use iommu_abi::{
    Argument, Bind, Destroy, DeviceEntry, DeviceInfo, DeviceList, Direction, Entry, FaultEvent,
    FaultRead, Field, Format, Granularity, Info, IntoBytes, Invalidate, InvalidateModel,
    InvalidateRange, IoasAllocate, IoasMap, IoasRanges, IoasUnmap, IovaRange, NO_ID, Op,
    PasidAllocate, PasidFree, Probe, QueueAllocate, QueueBind, QueueKind, QueueUnbind, RingCreate,
    RingEnter, Structure, Subject, Unbind, Use,
};

/// What the guest makes of a call that succeeded, from the argument as it came back.
type Lesson = Box<dyn Fn(&mut Belief, &[u8]) + Send>;

/// A call that is ready to be made.
pub(crate) struct Prepared {
    pub(crate) op: Op,
    pub(crate) argument: Vec<u8>,
    fields: &'static [Field],
    /// Bytes that the guest writes into its buffer before.
    pub(crate) buffer: Vec<u8>,
    lesson: Lesson,
    /// What it changes on purpose: requests there may see the old or the new.
    pub(crate) disturbs: Disturbs,
}

/// Which promises do not hold while a call is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disturbs {
    Nothing,
    Slot(u32),
    /// What its operations do, of which each says so: the guest promises nothing before it has
    /// learnt from them.
    Ring,
    Pages {
        ioas: u32,
        iova: u64,
        pages: u64,
    },
}

/// More address spaces than this are given up before new ones are made.
const SPACES: usize = 8;
const MAPPINGS: usize = 16;
const PASIDS: usize = 4;
const RINGS: usize = 2;
const QUEUES: usize = 2;

/// An operation that can succeed now: `op`, or what must come before it.
pub(crate) fn possible(op: Op, belief: &Belief) -> Op {
    let unbound = belief.spaces().iter().any(|&ioas| !belief.is_bound(ioas));
    let free_pasid = belief
        .pasids
        .iter()
        .any(|&pasid| !is_bound_pasid(belief, pasid));
    match op {
        _ if belief.devices.is_empty() => match op {
            Op::Probe | Op::Info | Op::FaultRead | Op::LinuxFaultRead | Op::DeviceList => op,
            Op::RingCreate | Op::RingEnter | Op::QueueAllocate => possible_object(op, belief),
            _ => Op::DeviceList,
        },
        // Who shall answer must be asked, and read of it.
        Op::PageResponse | Op::LinuxPageResponse
            if belief.told.is_empty()
                && belief.asks_nothing()
                && belief.keeps_pasids.is_empty() =>
        {
            possible(Op::Bind, belief)
        }
        Op::PageResponse if belief.tellable().is_empty() => Op::FaultRead,
        Op::LinuxPageResponse if belief.told.is_empty() => Op::LinuxFaultRead,
        // Nothing else can be bound to such a device.
        Op::Bind | Op::Unbind | Op::LinuxBindGpasid | Op::LinuxUnbindGpasid
            if !belief.keeps_pasids.is_empty() =>
        {
            Op::PasidTableUnbind
        }
        // Of a device that is shared only PASIDs can be bound.
        Op::Bind if belief.pasids.is_empty() && belief.devices.iter().all(|known| known.slice) => {
            Op::PasidAllocate
        }
        Op::Destroy if belief.idle_queues().len() > 1 || belief.rings.len() > 2 => op,
        Op::RingCreate | Op::RingEnter | Op::QueueAllocate => possible_object(op, belief),
        Op::QueueBind if belief.queues.is_empty() => Op::QueueAllocate,
        Op::QueueBind if belief.routable().is_none() => Op::QueueUnbind,
        Op::QueueUnbind if belief.routes.is_empty() && belief.routable().is_some() => Op::QueueBind,
        Op::QueueUnbind if belief.routes.is_empty() => possible_object(Op::QueueAllocate, belief),
        Op::Destroy if !unbound && belief.bound.is_empty() => Op::IoasAllocate,
        Op::Destroy if !unbound => Op::Unbind,
        Op::IoasAllocate if belief.spaces().len() >= SPACES => possible(Op::Destroy, belief),
        Op::IoasRanges | Op::Bind if belief.spaces().is_empty() => Op::IoasAllocate,
        Op::IoasMap if belief.managed.is_empty() => possible(Op::IoasAllocate, belief),
        Op::IoasMap if belief.mappings.len() >= MAPPINGS => Op::IoasUnmap,
        Op::IoasUnmap if belief.mappings.is_empty() => possible(Op::IoasMap, belief),
        Op::Unbind if belief.bound.is_empty() => possible(Op::Bind, belief),
        Op::Invalidate if belief.tables.is_empty() => possible(Op::IoasAllocate, belief),
        Op::PasidFree if belief.pasids.is_empty() => Op::PasidAllocate,
        Op::PasidFree if !free_pasid => Op::Unbind,
        Op::PasidAllocate if belief.pasids.len() >= PASIDS && free_pasid => Op::PasidFree,
        Op::PasidAllocate if belief.pasids.len() >= PASIDS => Op::Unbind,
        Op::LinuxBindGpasid if belief.pasids.is_empty() => Op::PasidAllocate,
        Op::LinuxBindGpasid if belief.free_slot().is_none() => Op::PasidAllocate,
        Op::LinuxBindGpasid if belief.spaces().len() >= SPACES => possible(Op::Destroy, belief),
        Op::LinuxUnbindGpasid if !belief.has_passing_pasid() => {
            possible(Op::LinuxBindGpasid, belief)
        }
        Op::PasidTableBind if belief.idle().is_none() => possible(Op::Unbind, belief),
        Op::PasidTableUnbind | Op::PasidTableInvalidate if belief.keeps_pasids.is_empty() => {
            possible(Op::PasidTableBind, belief)
        }
        _ => op,
    }
}

/// What needs no device.
fn possible_object(op: Op, belief: &Belief) -> Op {
    match op {
        Op::RingCreate if belief.rings.len() >= RINGS => Op::RingEnter,
        Op::RingEnter if belief.rings.is_empty() => Op::RingCreate,
        Op::QueueAllocate if belief.queues.len() < QUEUES => op,
        Op::QueueAllocate if belief.routes.is_empty() => Op::Destroy,
        Op::QueueAllocate => Op::QueueUnbind,
        _ => op,
    }
}

fn is_bound_pasid(belief: &Belief, pasid: u32) -> bool {
    belief.bound.iter().any(|bound| bound.pasid == Some(pasid))
}

/// A call of this operation that succeeds if the belief is right and there is memory.
pub(crate) fn plan(op: Op, belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    match op {
        Op::Probe => probe(belief, random),
        Op::Info => prepared(Info::new()),
        Op::DeviceList => device_list(belief, random),
        Op::DeviceInfo => device_info(belief, random),
        Op::Destroy => destroy(belief, random),
        Op::IoasAllocate => ioas_allocate(belief, random),
        Op::IoasRanges => ioas_ranges(belief, random),
        Op::IoasMap => ioas_map(belief, random),
        Op::IoasUnmap => ioas_unmap(belief, random),
        Op::Bind => bind(belief, random),
        Op::Unbind => unbind(belief, random),
        Op::Invalidate => invalidate(belief, random),
        Op::FaultRead => fault_read(belief, random),
        Op::PageResponse => page_response::native(belief, random),
        Op::PasidAllocate => pasid_allocate(belief, random),
        Op::PasidFree => pasid_free(belief, random),
        Op::LinuxBindGpasid => linux::bind(belief, random),
        Op::LinuxUnbindGpasid => linux::unbind(belief, random),
        Op::LinuxCacheInvalidate => linux::invalidate(belief, random),
        Op::LinuxFaultRead => linux::fault_read(belief, random),
        Op::LinuxPageResponse => page_response::of_linux(belief, random),
        Op::PasidTableBind => pasid_table::bind(belief, random),
        Op::PasidTableUnbind => pasid_table::unbind(belief, random),
        Op::PasidTableInvalidate => pasid_table::invalidate(belief, random),
        Op::RingCreate => ring_create(belief, random),
        Op::RingEnter => ring_enter(belief, random),
        Op::QueueAllocate => queue_allocate(random),
        Op::QueueBind => queue_bind(belief),
        Op::QueueUnbind => queue_unbind(belief, random),
    }
}

fn prepared<A: Argument>(argument: A) -> Prepared {
    Prepared {
        op: A::OP,
        argument: argument.as_bytes().to_vec(),
        fields: A::FIELDS,
        buffer: Vec::new(),
        lesson: Box::new(|_, _| ()),
        disturbs: Disturbs::Nothing,
    }
}

impl Prepared {
    /// What the guest learns from the argument of a call that succeeded.
    pub(crate) fn learn(&self, belief: &mut Belief, back: &[u8]) {
        (self.lesson)(belief, back);
    }

    fn learning<A: Argument>(mut self, lesson: impl Fn(&mut Belief, &A) + Send + 'static) -> Self {
        self.lesson = Box::new(move |belief, bytes| {
            if let Ok((argument, _)) = A::read_from_prefix(bytes) {
                lesson(belief, &argument);
            }
        });
        self
    }

    fn disturbing(mut self, disturbs: Disturbs) -> Self {
        self.disturbs = disturbs;
        self
    }
}

fn one<T: Copy>(of: &[T], random: &mut fastrand::Rng) -> Option<T> {
    random.choice(of).copied()
}

/// Mostly one that is wanted.
fn preferred<T: Copy>(
    of: &[T],
    wanted: impl Fn(&T) -> bool,
    random: &mut fastrand::Rng,
) -> Option<T> {
    let best: Vec<T> = of.iter().copied().filter(wanted).collect();
    if best.is_empty() || random.u8(..4) == 0 {
        one(of, random)
    } else {
        one(&best, random)
    }
}

fn probe(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let subject = one(Subject::ALL, random).unwrap_or(Subject::Operation);
    let device = one(&belief.devices, random).map_or(NO_ID, |device| device.handle);
    let (number, device_id) = match subject {
        Subject::Operation => (one(Op::ALL, random).map_or(0, Op::as_u32), NO_ID),
        Subject::Structure => (
            one(Structure::ALL, random).map_or(0, Structure::as_u32),
            NO_ID,
        ),
        Subject::Format => (one(Format::ALL, random).map_or(0, Format::as_u32), device),
        Subject::Use if device != NO_ID => (one(Use::ALL, random).map_or(0, Use::as_u32), device),
        _ => (random.u32(..4), NO_ID),
    };
    let subject = if subject == Subject::Use && device == NO_ID {
        Subject::Granularity
    } else {
        subject
    };
    prepared(Probe {
        subject: subject.as_u32(),
        number: number.into(),
        device_id,
        ..Probe::new()
    })
}

fn size_of<E: Entry>() -> u32 {
    E::SIZE as u32
}

fn device_list(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    prepared(DeviceList {
        buffer: belief.buffer,
        entry_size: size_of::<DeviceEntry>() + 8 * random.u32(..2),
        capacity: 8,
        ..DeviceList::new()
    })
}

fn device_info(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    prepared(DeviceInfo {
        device_id: one(&belief.devices, random).map_or(NO_ID, |device| device.handle),
        ..DeviceInfo::new()
    })
}

fn destroy(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let unbound: Vec<u32> = belief
        .spaces()
        .into_iter()
        .filter(|&ioas| !belief.is_bound(ioas))
        .collect();
    let mut idle = belief.idle_queues();
    if belief.rings.len() > 1 || random.u8(..8) == 0 {
        idle.extend(belief.rings.iter().map(|ring| ring.handle));
    }
    let of_spaces = !unbound.is_empty() && (idle.is_empty() || random.bool());
    let id = match of_spaces {
        true => one(&unbound, random),
        false => one(&idle, random),
    };
    let id = id.unwrap_or(NO_ID);
    prepared(Destroy {
        id,
        ..Destroy::new()
    })
    .learning(move |belief, _: &Destroy| belief.forget_space(id))
}

fn ioas_allocate(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let device_id = one(&belief.devices, random).map_or(NO_ID, |device| device.handle);
    // As many of one kind as of the other.
    let user = belief.tables.len() <= belief.managed.len();
    let ranges = if random.bool() {
        (belief.buffer, 4)
    } else {
        (0, 0)
    };
    let common = IoasAllocate {
        device_id,
        ranges: ranges.0,
        range_capacity: ranges.1,
        ..IoasAllocate::new()
    };
    if !user {
        return prepared(common)
            .learning(|belief, back: &IoasAllocate| belief.managed.push(back.ioas_id));
    }
    let roots = &belief.table_pages[..belief.table_pages.len().min(4)];
    let root = one(roots, random).unwrap_or(0);
    prepared(IoasAllocate {
        flags: IoasAllocate::USER_TABLE,
        format: Format::X86_64Level4.as_u32(),
        user_page_directory: root,
        ..common
    })
    .learning(move |belief, back: &IoasAllocate| {
        let handle = back.ioas_id;
        belief.tables.push(Table { handle, root });
    })
}

fn ioas_ranges(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    prepared(IoasRanges {
        ioas_id: one(&belief.spaces(), random).unwrap_or(NO_ID),
        capacity: 4,
        buffer: belief.buffer,
        ..IoasRanges::new()
    })
    .learning(|_, back: &IoasRanges| {
        debug_assert!(back.count as usize * size_of::<IovaRange>() as usize <= 64);
    })
}

/// Where guests map, apart from what the hypervisor chooses: in tables of their own, and at
/// the ends of tables.
const PLACES: [u64; 8] = [
    0x0000_1000,
    0x0000_8000,
    0x001f_d000,
    0x0020_0000,
    0x3fff_e000,
    0x4000_0000,
    0xfedf_e000,
    0x38_0000_0000,
];

fn ioas_map(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let ioas_id =
        preferred(&belief.managed, |&ioas| belief.is_bound(ioas), random).unwrap_or(NO_ID);
    let at = random.usize(..belief.data_pages.len().max(1));
    let gpa = belief.data_pages.get(at).copied().unwrap_or(0);
    let mut pages = 1;
    while pages < 4
        && random.bool()
        && belief.data_pages.get(at + pages as usize) == Some(&(gpa + pages * 0x1000))
    {
        pages += 1;
    }
    let iova = PLACES[random.usize(..PLACES.len())];
    let interrupts = (0xfee0_0000_u64).saturating_sub(iova) >> 12;
    if (1..4).contains(&interrupts) {
        pages = pages.min(interrupts);
    }
    let free = !belief.mappings.iter().any(|mapping| {
        mapping.ioas == ioas_id
            && mapping.iova < iova + pages * 0x1000
            && iova < mapping.iova.wrapping_add(mapping.pages * 0x1000)
    });
    let writable = random.u8(..4) != 0;
    let mut flags = IoasMap::READABLE;
    if writable {
        flags |= IoasMap::WRITEABLE;
    }
    if free && random.bool() {
        flags |= IoasMap::FIXED_IOVA;
    }
    prepared(IoasMap {
        flags,
        ioas_id,
        gpa,
        length: pages * 0x1000,
        iova,
        ..IoasMap::new()
    })
    .learning(move |belief, back: &IoasMap| {
        belief.mappings.push(Mapping {
            ioas: ioas_id,
            iova: back.iova,
            pages,
            gpa,
            writable,
        });
    })
}

fn ioas_unmap(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let Some(mapping) = one(&belief.mappings, random) else {
        return prepared(IoasUnmap::new());
    };
    let ioas_id = mapping.ioas;
    if random.u8(..8) == 0 {
        return prepared(IoasUnmap {
            ioas_id,
            iova: 0,
            length: u64::MAX,
            ..IoasUnmap::new()
        })
        .learning(move |belief, _: &IoasUnmap| {
            belief.mappings.retain(|mapping| mapping.ioas != ioas_id);
        })
        .disturbing(Disturbs::Pages {
            ioas: ioas_id,
            iova: 0,
            pages: u64::MAX >> 12,
        });
    }
    prepared(IoasUnmap {
        ioas_id,
        iova: mapping.iova,
        length: mapping.pages * 0x1000,
        ..IoasUnmap::new()
    })
    .learning(move |belief, _: &IoasUnmap| belief.mappings.retain(|known| *known != mapping))
    .disturbing(Disturbs::Pages {
        ioas: ioas_id,
        iova: mapping.iova,
        pages: mapping.pages,
    })
}

fn bind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let mut device = one(&belief.devices, random);
    if device.is_some_and(|device| device.slice) && belief.pasids.is_empty() {
        let mut whole = belief.devices.iter();
        device = whole.find(|device| !device.slice).copied();
    }
    let filled = |ioas: &u32| {
        belief.mappings.iter().any(|mapping| mapping.ioas == *ioas)
            || belief.woven.iter().any(|woven| woven.ioas == *ioas)
    };
    let ioas_id = preferred(&belief.spaces(), filled, random).unwrap_or(NO_ID);
    let pasid = device
        .filter(|device| device.pasids && (device.slice || random.u8(..4) == 0))
        .and_then(|_| one(&belief.pasids, random));
    let device_id = device.map_or(NO_ID, |device| device.handle);
    let replaces = belief
        .bound
        .iter()
        .any(|bound| bound.device == device_id && bound.pasid == pasid);
    let mut flags = 0;
    if device.is_some_and(|device| device.asks) && random.u8(..8) != 0 {
        flags |= Bind::PAGE_REQUESTS;
    }
    if pasid.is_some() {
        flags |= Bind::PASID;
    }
    if replaces {
        flags |= Bind::REPLACE;
    }
    prepared(Bind {
        flags,
        device_id,
        ioas_id,
        pasid: pasid.unwrap_or(0),
        ..Bind::new()
    })
    .learning(move |belief, _: &Bind| {
        belief.release(device_id, pasid);
        belief.bound.push(Bound {
            device: device_id,
            pasid,
            ioas: ioas_id,
        });
    })
    .disturbing(disturbance(belief, device_id, pasid))
}

/// What a call changes that leads a slot elsewhere: promises are made of requests without
/// PASID, and of all of a shared device's.
fn disturbance(belief: &Belief, handle: u32, pasid: Option<u32>) -> Disturbs {
    let mut devices = belief.devices.iter();
    let is_slice = devices.any(|device| device.handle == handle && device.slice);
    if pasid.is_none() || is_slice {
        Disturbs::Slot(handle)
    } else {
        Disturbs::Nothing
    }
}

fn unbind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let Some(bound) = one(&belief.bound, random) else {
        return prepared(Unbind::new());
    };
    prepared(Unbind {
        flags: bound.pasid.map_or(0, |_| Unbind::PASID),
        device_id: bound.device,
        pasid: bound.pasid.unwrap_or(0),
        ..Unbind::new()
    })
    .learning(move |belief, _: &Unbind| belief.release(bound.device, bound.pasid))
    .disturbing(disturbance(belief, bound.device, bound.pasid))
}

fn invalidate(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let table = preferred(
        &belief.tables,
        |table| belief.is_bound(table.handle),
        random,
    );
    let ioas_id = table.map_or(NO_ID, |table| table.handle);
    if random.u8(..4) == 0 {
        return prepared(Invalidate {
            ioas_id,
            granularity: Granularity::Everything.as_u32(),
            ..Invalidate::new()
        });
    }
    let of_table: Vec<u64> = belief
        .woven
        .iter()
        .filter(|woven| woven.ioas == ioas_id)
        .map(|woven| woven.gva)
        .collect();
    let count = random.u32(1..5);
    let mut buffer = Vec::new();
    for _ in 0..count {
        let pages = [1, 1, 2, 8, 512][random.usize(..5)];
        let address = one(&of_table, random).unwrap_or(PLACES[random.usize(..PLACES.len())]);
        let range = InvalidateRange {
            address,
            pages,
            flags: 0,
            reserved: 0,
        };
        buffer.extend_from_slice(range.as_bytes());
    }
    Prepared {
        buffer,
        ..prepared(Invalidate {
            ioas_id,
            granularity: Granularity::Ranges.as_u32(),
            entries: belief.buffer,
            entry_size: size_of::<InvalidateRange>(),
            entry_count: count,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        })
    }
}

/// Tells that one page of a table changed, by way of an array at `buffer`.
pub(crate) fn invalidate_page(ioas_id: u32, address: u64, buffer: u64) -> Prepared {
    let range = InvalidateRange {
        address,
        pages: 1,
        flags: InvalidateRange::LEAF,
        reserved: 0,
    };
    Prepared {
        buffer: range.as_bytes().to_vec(),
        ..prepared(Invalidate {
            ioas_id,
            granularity: Granularity::Ranges.as_u32(),
            entries: buffer,
            entry_size: size_of::<InvalidateRange>(),
            entry_count: 1,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        })
    }
}

fn fault_read(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    prepared(FaultRead {
        buffer: belief.buffer,
        entry_size: size_of::<FaultEvent>(),
        capacity: if random.bool() { 16 } else { random.u32(..16) },
        queue_id: match one(&belief.queues, random) {
            Some(queue) if random.bool() => queue.handle,
            _ => NO_ID,
        },
        ..FaultRead::new()
    })
}

/// Entries of every ring.
pub(crate) const ENTRIES: u64 = 4;
/// Bytes of a ring: indices, submissions and completions.
pub(crate) const RING_BYTES: u64 = 64 + ENTRIES * (32 + 16);
/// Where rings lie, from the start of the page that results go to.
pub(crate) const RING_OFFSET: u64 = 0xc00;

fn ring_create(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let place = random.u64(..RINGS as u64);
    let used = belief.rings.iter().map(|ring| ring.at);
    let page = belief.buffer & !0xfff;
    let at = |place: u64| page + RING_OFFSET + place * 0x180;
    // Two that lie upon each other would be a mistake.
    let used: Vec<u64> = used.collect();
    let free = (0..2).map(|step| at((place + step) % 2));
    let at = free
        .into_iter()
        .find(|at| !used.contains(at))
        .unwrap_or(at(0));
    prepared(RingCreate {
        indices: at,
        submissions: at + 64,
        completions: at + 64 + 32 * ENTRIES,
        entries: ENTRIES as u32,
        first: [0, u32::MAX - 1, random.u32(..)][random.usize(..3)],
        ..RingCreate::new()
    })
    .learning(move |belief, back: &RingCreate| {
        let handle = back.ring_id;
        belief.rings.push(Ring { handle, at });
    })
}

/// Of a ring into which nothing new was written.
fn ring_enter(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let ring = one(&belief.rings, random);
    enter(ring.map_or(NO_ID, |ring| ring.handle))
}

pub(crate) fn enter(ring_id: u32) -> Prepared {
    prepared(RingEnter {
        ring_id,
        ..RingEnter::new()
    })
}

fn queue_allocate(random: &mut fastrand::Rng) -> Prepared {
    let kind = one(QueueKind::ALL, random).unwrap_or(QueueKind::Events);
    prepared(QueueAllocate {
        kind: kind.as_u32(),
        depth: random.u32(1..8),
        ..QueueAllocate::new()
    })
    .learning(move |belief, back: &QueueAllocate| {
        let handle = back.queue_id;
        belief.queues.push(Queue { handle, kind });
    })
}

fn queue_bind(belief: &Belief) -> Prepared {
    let (queue_id, object_id) = belief.routable().unwrap_or((NO_ID, NO_ID));
    prepared(QueueBind {
        queue_id,
        object_id,
        ..QueueBind::new()
    })
    .learning(move |belief, _: &QueueBind| belief.routes.push((queue_id, object_id)))
}

fn queue_unbind(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let (queue_id, object_id) = one(&belief.routes, random).unwrap_or((NO_ID, NO_ID));
    prepared(QueueUnbind {
        queue_id,
        object_id,
        ..QueueUnbind::new()
    })
    .learning(move |belief, _: &QueueUnbind| {
        belief
            .routes
            .retain(|route| *route != (queue_id, object_id));
    })
}

fn pasid_allocate(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let minimum = random.u32(1..100);
    let _ = belief;
    prepared(PasidAllocate {
        minimum,
        maximum: minimum + random.u32(8..1000),
        ..PasidAllocate::new()
    })
    .learning(|belief, back: &PasidAllocate| {
        belief.pasids.push(back.pasid);
        belief.pasids_taken += 1;
    })
}

fn pasid_free(belief: &Belief, random: &mut fastrand::Rng) -> Prepared {
    let free: Vec<u32> = belief
        .pasids
        .iter()
        .copied()
        .filter(|&pasid| !is_bound_pasid(belief, pasid))
        .collect();
    let pasid = one(&free, random).unwrap_or(0);
    prepared(PasidFree {
        pasid,
        ..PasidFree::new()
    })
    .learning(move |belief, _: &PasidFree| belief.pasids.retain(|known| *known != pasid))
}

/// What a spoilt call is made with.
pub(crate) struct Spoilt {
    pub(crate) operation: u64,
    pub(crate) address: u64,
}

/// Numbers at the edges of things.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    0xfff,
    0x1000,
    0x1001,
    0x10_0000,
    0x1f_f000,
    0x7fff_ffff,
    0xfedf_f000,
    0xfee0_0000,
    0xffff_f000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_e000,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

/// Makes one thing of a call wrong, or unusual.
pub(crate) fn spoil(call: &mut Prepared, address: u64, random: &mut fastrand::Rng) -> Spoilt {
    let mut spoilt = Spoilt {
        operation: call.op.as_u32().into(),
        address,
    };
    match random.u8(..16) {
        0 => spoil_size(&mut call.argument, random),
        1 => call.argument[4 + random.usize(..4)] ^= 1 << random.u8(..8),
        2 => spoilt.address = strange_address(address, random),
        3 => {
            spoilt.operation = match random.u8(..4) {
                0 => u64::from(random.u32(..0x200)),
                1 => spoilt.operation | 1 << random.u32(32..64),
                2 => random.u64(..),
                _ => EDGES[random.usize(..EDGES.len())],
            };
        }
        4 => {
            for byte in &mut call.buffer {
                if random.u8(..8) == 0 {
                    *byte = random.u8(..);
                }
            }
        }
        _ => spoil_field(call, random),
    }
    spoilt
}

fn spoil_size(argument: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let known = argument.len() as u32;
    let size = match random.u8(..8) {
        0 => 0,
        1 => random.u32(..known),
        2 => 4097,
        3 => u32::MAX,
        4 => known - 1,
        _ => {
            // A newer caller; what it has to say may be nothing.
            let tail = random.usize(1..64);
            argument.resize(argument.len() + tail, 0);
            if random.bool() {
                let at = known as usize + random.usize(..tail);
                argument[at] = 1;
            }
            argument.len() as u32
        }
    };
    argument[..4].copy_from_slice(&size.to_le_bytes());
}

fn strange_address(address: u64, random: &mut fastrand::Rng) -> u64 {
    match random.u8(..4) {
        0 => address + random.u64(1..8),
        // Across the end of a page, which the next one may follow or not.
        1 => (address | 0xfff) - random.u64(..32),
        2 => EDGES[random.usize(..EDGES.len())],
        _ => random.u64(..),
    }
}

fn spoil_field(call: &mut Prepared, random: &mut fastrand::Rng) {
    let fields: Vec<&Field> = call
        .fields
        .iter()
        .filter(|field| field.offset >= 4 && field.direction != Direction::Out)
        .collect();
    let Some(field) = random.choice(fields) else {
        return;
    };
    let mut bytes = [0; 8];
    let range = field.offset..field.offset + field.size;
    bytes[..field.size].copy_from_slice(&call.argument[range.clone()]);
    let old = u64::from_le_bytes(bytes);
    let new = match random.u8(..8) {
        0 => old ^ 1 << random.usize(..8 * field.size),
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => u64::from(random.u8(..20)),
        4 => old.wrapping_add(0x1000),
        5 => 0,
        6 => old / 2,
        _ => EDGES[random.usize(..EDGES.len())],
    };
    call.argument[range].copy_from_slice(&new.to_le_bytes()[..field.size]);
}
