//! Hypercalls of a guest that means harm, and of one that makes mistakes.
//!
//! The input is a sequence of calls whose argument fields are handles, addresses and sizes
//! that may exist, or raw bytes; between them the guest writes into its memory, devices
//! fault, and the hypervisor takes devices and memory away. A second guest looks on: nothing
//! of it may change.

mod argument;
mod neighbour;

use crate::Bytes;
use crate::common::machine::{ARGUMENT, SCATTERED, VM, device};
use crate::common::ring::RawRing;
use crate::common::{Machine, Setup};
use argument::Shape;
use iommu_abi::{Destroy, Errno, IntoBytes as _, IoasRanges, Op, RingEnter, RingSubmission};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{
    Access, AddressRange, FaultKind, FaultReason, FaultRecord, Gpa, Iova, Nanoseconds, Pasid, Run,
};
use neighbour::Neighbour;
use std::collections::HashMap;
use std::sync::Arc;

/// Devices of the guest at the start.
const DEVICES: [u8; 2] = [4, 5];
/// Where rings lie that are entered at once, and arguments of their operations behind.
const RING: u64 = 84 << 12;
/// Objects that the guest can have, devices included.
const OBJECTS: u16 = 8;
/// Longer programs find nothing that shorter ones do not.
const STEPS_MOST: usize = 48;

/// Operations by position, so that an old input still means the same; new ones go to
/// [`LATER`].
const OPERATIONS: [Op; 15] = [
    Op::Probe,
    Op::Info,
    Op::DeviceList,
    Op::DeviceInfo,
    Op::Destroy,
    Op::IoasAllocate,
    Op::IoasRanges,
    Op::IoasMap,
    Op::IoasUnmap,
    Op::Bind,
    Op::Unbind,
    Op::Invalidate,
    Op::FaultRead,
    Op::PasidAllocate,
    Op::PasidFree,
];
const LATER: [Op; 14] = [
    Op::PageResponse,
    Op::LinuxBindGpasid,
    Op::LinuxUnbindGpasid,
    Op::LinuxCacheInvalidate,
    Op::LinuxFaultRead,
    Op::LinuxPageResponse,
    Op::PasidTableBind,
    Op::PasidTableUnbind,
    Op::PasidTableInvalidate,
    Op::RingCreate,
    Op::RingEnter,
    Op::QueueAllocate,
    Op::QueueBind,
    Op::QueueUnbind,
];

/// Runs the program; what must hold is checked after every step.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let trial = Trial::new(&mut bytes);
    for _ in 0..STEPS_MOST {
        if bytes.is_empty() {
            break;
        }
        trial.step(&mut bytes);
    }
    trial.end();
}

struct Trial {
    machine: Machine,
    neighbour: Neighbour,
}

impl Trial {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let machine = setup(bytes).build();
        let neighbour = Neighbour::new(&machine);
        // From here on devices reach memory of either guest, and the neighbour's device
        // exactly what it did.
        let rams = [machine.ram.clone(), Arc::clone(&neighbour.ram)];
        machine.hardware.watch_reachable(move |reachable| {
            let strange = rams[0].strangers(reachable);
            let strange = rams[1].strangers(&strange.into_iter().collect());
            assert!(strange.is_empty(), "nobody's: {strange:#x?}");
        });
        for number in DEVICES {
            machine.assign(number);
        }
        Self { machine, neighbour }
    }

    fn step(&self, bytes: &mut Bytes<'_>) {
        match bytes.byte() {
            choice @ 0..=194 => {
                let op = OPERATIONS[usize::from(choice) % OPERATIONS.len()];
                self.call(bytes, op.as_u32().into(), &Shape::of(op));
            }
            choice @ 195..=205 => {
                let op = LATER[usize::from(choice) % LATER.len()];
                self.call(bytes, op.as_u32().into(), &Shape::of(op));
            }
            206..=209 => self.enter_ring(bytes),
            210..=214 => {
                let number = bytes.u64();
                self.call(bytes, number, &Shape::of(Op::Bind));
            }
            215..=234 => self.write(bytes),
            235..=240 => self.fault(bytes),
            241..=246 => self.lose(bytes.below(SCATTERED)),
            247..=249 => {
                let grown = self.machine.policy.memory_grew(VM);
                grown.expect("there is room");
            }
            250..=252 => self.give(bytes.one_of(&DEVICES)),
            _ => self.take_back(bytes.one_of(&DEVICES)),
        }
        assert_eq!(self.machine.hardware.parked(), (0, 0));
        self.neighbour.check(&self.machine);
    }

    /// A call; if it is refused, all is as it was.
    fn call(&self, bytes: &mut Bytes<'_>, operation: u64, shape: &Shape) {
        let argument = shape.fill(bytes);
        let at = self.place(bytes);
        for (offset, &byte) in (0..).zip(&argument) {
            let address = at.saturating_add(offset);
            if self.machine.ram.host(address).is_some() {
                self.machine.ram.write_bytes(address, &[byte]);
            }
        }
        let before = self.image();
        let answer = self.machine.policy.call(VM, operation, Gpa::new(at));
        match Errno::from_register(answer) {
            Ok(_) => {}
            Err(errno) => self.check_refused(operation, errno, at, &before),
        }
    }

    /// A ring with a few operations, whose arguments are anything, and entered; the guest may
    /// have written into it before.
    fn enter_ring(&self, bytes: &mut Bytes<'_>) {
        let ram = &self.machine.ram;
        let pages = [RING, RING + (1 << 12), ARGUMENT << 12];
        if pages.iter().any(|&page| ram.host(page).is_none()) {
            return;
        }
        let mut create = RawRing::ask(RING, 4, u32::from(bytes.u16()) << 16);
        if self.machine.call(&mut create) != 0 {
            return;
        }
        let first = u64::from(create.first);
        let count = 1 + bytes.below(4);
        for place in 0..count {
            let op = bytes.one_of(Op::ALL);
            let argument = Shape::of(op).fill(bytes);
            let at = RING + (1 << 12) + 256 * place;
            ram.write_bytes(at, &argument);
            let submission = RingSubmission {
                operation: op.as_u32(),
                flags: u32::from(bytes.byte() == 0xff),
                argument: at,
                user_data: place,
                reserved: 0,
            };
            let element = (first + place) & 3;
            ram.write_bytes(RING + 64 + 32 * element, submission.as_bytes());
        }
        let tail = u64::from(create.first.wrapping_add(count as u32));
        ram.write(
            RING,
            if bytes.byte() > 0xf0 {
                bytes.u64()
            } else {
                tail
            },
        );
        if bytes.byte() > 0xf0 {
            self.write(bytes);
        }
        let mut enter = RingEnter {
            ring_id: create.ring_id,
            limit: bytes.below(6) as u32,
            ..RingEnter::new()
        };
        let result = self.machine.call(&mut enter);
        assert!(enter.completed <= 4 && result <= 4, "{enter:?}: {result}");
        let mut destroy = Destroy {
            id: create.ring_id,
            ..Destroy::new()
        };
        if self.machine.ram.host(ARGUMENT << 12).is_some() {
            // An operation of the ring cannot have taken it away.
            assert_eq!(self.machine.call(&mut destroy), 0);
        }
    }

    /// Where an argument lies: nearly always somewhere good.
    fn place(&self, bytes: &mut Bytes<'_>) -> u64 {
        match bytes.byte() {
            0..=239 => ARGUMENT << 12,
            240..=247 => (ARGUMENT << 12) + 0xfe8,
            248 => (SCATTERED << 12) - 24,
            249 => crate::common::machine::READ_ONLY << 12,
            _ => bytes.u64(),
        }
    }

    fn check_refused(&self, operation: u64, errno: Errno, at: u64, before: &Image) {
        let op = Op::from_register(operation);
        if op == Some(Op::RingEnter) {
            // Operations before the one at which the ring stopped were done.
            return;
        }
        let after = self.image();
        let told = || format!("{op:?} answered {errno:?}");
        // What is before the wrong one was done.
        let in_part = matches!(
            op,
            Some(Op::Invalidate | Op::LinuxCacheInvalidate | Op::PasidTableInvalidate)
        );
        if !in_part || op == Some(Op::Invalidate) {
            assert_eq!(after.standing, before.standing, "{}", told());
            assert_eq!(after.spaces, before.spaces, "{}", told());
        }
        assert_eq!(after.resets, before.resets, "{}", told());
        if !in_part {
            assert_eq!(after.frames, before.frames, "{}", told());
        }
        // These say how much there is, and fill the buffer that was too small.
        let fills = errno == Errno::EMSGSIZE;
        if !fills {
            let own = |page: u64| in_part && self.is_at(page, at);
            let changed = after
                .memory
                .iter()
                .find(|(page, content)| before.memory.get(page) != Some(content) && !own(**page));
            assert!(changed.is_none(), "{}: {changed:x?}", told());
        }
    }

    /// Whether a host page holds the argument.
    fn is_at(&self, page: u64, at: u64) -> bool {
        [at, at.saturating_add(64)].iter().any(|&address| {
            let host = self.machine.ram.host(address);
            host.is_some_and(|(host, _)| host >> 12 == page)
        })
    }

    fn image(&self) -> Image {
        // This touches the argument's page, so it comes first.
        let spaces = self.spaces();
        Image {
            standing: self.machine.hardware.standing(),
            memory: self.machine.ram.contents(),
            frames: self.machine.platform.outstanding(),
            resets: self.machine.around.resets.lock().unwrap().len(),
            spaces,
        }
    }

    /// What each handle is, as far as a call without effect tells.
    fn spaces(&self) -> Vec<Option<Errno>> {
        let page = ARGUMENT << 12;
        let held = self.machine.ram.host(page).is_some();
        if !held {
            return Vec::new();
        }
        let saved = self.machine.ram.read_bytes(page, size_of::<IoasRanges>());
        let answers = (1..=u32::from(OBJECTS)).map(|ioas_id| {
            let mut ask = IoasRanges {
                ioas_id,
                ..IoasRanges::new()
            };
            let answer = self.machine.call(&mut ask);
            Errno::from_register(answer).err()
        });
        let answers = answers.collect();
        self.machine.ram.write_bytes(page, &saved);
        answers
    }

    /// The guest writes an entry of a table, or of an array, or anything else.
    fn write(&self, bytes: &mut Bytes<'_>) {
        let page = argument::page(bytes);
        let index = u64::from(bytes.u16()) % 512;
        let value = argument::word(bytes);
        let at = page + 8 * index;
        if self.machine.ram.host(at).is_some() {
            self.machine.ram.write(at, value);
        }
    }

    fn fault(&self, bytes: &mut Bytes<'_>) {
        let address = Iova::new(argument::word(bytes));
        let kind = match bytes.byte() & 3 {
            0 => FaultKind::Interrupt { index: 7 },
            1 => FaultKind::PageRequest { address },
            _ => FaultKind::Dma {
                address,
                access: bytes.one_of(&[Access::READ, Access::WRITE, Access::READ_WRITE]),
            },
        };
        let record = FaultRecord {
            unit: 0,
            device: device(bytes.below(8) as u8),
            pasid: Pasid::new(bytes.below(8) as u32).filter(|_| bytes.flag()),
            kind,
            reason: FaultReason(bytes.byte()),
            privileged: bytes.flag(),
            at: Nanoseconds(0),
        };
        let attribution = self.machine.policy.report(&record);
        let owner = attribution.map(|told| told.vm);
        assert!(owner.is_none_or(|vm| vm == VM), "the device of a guest");
    }

    /// Memory leaves the guest and gets another owner.
    fn lose(&self, page: u64) {
        let runs: Vec<Run> = self.machine.ram.remove(page, 1);
        if runs.is_empty() {
            return;
        }
        let gone = AddressRange::of_pages(Gpa::new(page << 12), 1).expect("a page");
        let forgotten = self.machine.policy.forget(VM, &gone, &runs);
        forgotten.expect("hardware answers");
        self.machine.ram.reuse(&runs);
        self.machine.hardware.cache_everything();
    }

    fn give(&self, number: u8) {
        let _ = self
            .machine
            .policy
            .assign(VM, device(number), u32::from(number));
    }

    fn take_back(&self, number: u8) {
        if self.machine.policy.take_back(VM, device(number)).is_ok() {
            let standing = self.machine.hardware.standing();
            let mut slots = standing.attached.keys();
            assert!(slots.all(|slot| slot.device != device(number)));
        }
    }

    fn end(self) {
        self.machine.policy.destroy_guest(VM).expect("gone");
        self.neighbour.check(&self.machine);
        self.neighbour.end(&self.machine);
        self.machine.check_nothing_left();
    }
}

/// All that a refused call must leave as it is.
struct Image {
    standing: crate::common::hardware::Standing,
    memory: HashMap<u64, Box<[u64; 512]>>,
    frames: usize,
    resets: usize,
    spaces: Vec<Option<Errno>>,
}

fn setup(bytes: &mut Bytes<'_>) -> Setup {
    let choices = bytes.byte();
    let format = [FirstStage4, SecondStage4, SecondStage3, SecondStage4][usize::from(choices & 3)];
    let setup = Setup {
        coherent: choices & 4 == 0,
        caching_mode: choices & 8 != 0,
        pasid_bits: if choices & 16 == 0 { 20 } else { 0 },
        iova_bits: if choices & 32 == 0 { 48 } else { 39 },
        ..Setup::new(format)
    };
    setup.quota(|quota| {
        quota.objects = OBJECTS;
        quota.shadow_pages = if choices & 64 == 0 { 128 } else { 8 };
        quota.fault_events = 4;
        quota.queues = 2;
        quota.queue_events = 8;
        quota.pasids = 3;
        quota.bindings = 4;
        quota.mappings = 6;
    })
}
