//! Hypercalls: as they could succeed, and spoilt.

use crate::belief::Belief;
use crate::tables::Tables;
use arrayvec::ArrayVec;
use guest_machine::{Machine, Random, iommu};
use iommu_abi::{
    Bind, Destroy, DeviceEntry, DeviceInfo, DeviceList, Errno, FaultEvent, FaultRead, Format,
    Granularity, Info, Invalidate, InvalidateModel, InvalidateRange, IoasAllocate, IoasMap,
    IoasRanges, IoasUnmap, IovaRange, Op, PasidAllocate, PasidFree, Probe, Unbind,
};
use iommu_core::{Gpa, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The longest argument.
const MOST_BYTES: usize = 256;

/// What a call is made with.
pub(crate) struct Caller<'m> {
    pub(crate) machine: &'m dyn Machine,
    /// Where arguments lie, and arrays.
    pub(crate) argument: Gpa,
    pub(crate) array: Gpa,
}

type Bytes = ArrayVec<u8, MOST_BYTES>;

fn bytes(argument: &(impl IntoBytes + Immutable)) -> Bytes {
    argument
        .as_bytes()
        .iter()
        .copied()
        .take(MOST_BYTES)
        .collect()
}

impl Caller<'_> {
    /// Makes one call of the interface. One in three is spoilt.
    pub(crate) fn call(&self, belief: &mut Belief, tables: &Tables, random: &mut Random) {
        let op = random.choice(Op::ALL.iter().copied()).unwrap_or(Op::Info);
        let mut argument = self.plausible(op, belief, tables, random);
        let is_spoilt = random.u8(..3) == 0;
        if is_spoilt {
            spoil(&mut argument, random);
        }
        if self.machine.write(self.argument, &argument).is_err() {
            return;
        }
        let result = self.machine.hypercall(op.as_u32(), self.argument);
        if Errno::from_register(result).is_ok() && !is_spoilt {
            self.learn(op, belief);
        }
    }

    /// Binds a table to its device as a good guest does: by the guest's library.
    pub(crate) fn bind(&self, belief: &mut Belief, root: Gpa) {
        let mut room = iommu::ROOM;
        let iommu = iommu::iommu_at(self.machine, self.argument, &mut room);
        let (Ok(mut iommu), Ok(root)) = (iommu, iommu::root(root)) else {
            return;
        };
        let mut first = None;
        let listed = iommu.devices(|device| first = first.or(Some(device.id)));
        let (Ok(_), Some(device)) = (listed, first) else {
            return;
        };
        belief.devices.learn(device.as_u32());
        let format = Format::X86_64Level4;
        let Ok(table) = iommu.allocate_user_table(device, format, root) else {
            return;
        };
        belief.tables.learn(table.id());
        if iommu.bind(device, &table).is_err() {
            // If that fails too, nothing is lost.
            let _ = iommu.replace(device, None, &table);
        }
    }

    /// Any operation, with an argument anywhere.
    pub(crate) fn rubbish(&self, random: &mut Random) {
        let start = self.machine.start();
        let operation = match random.u8(..4) {
            0 => random.u32(..),
            // All but the one that ends the guest, which is for its death.
            _ => match random.u32(0xf0..0x240) {
                0x203 => 0x1ff,
                operation => operation,
            },
        };
        let at = match random.u8(..6) {
            0 => random.u64(..),
            1 => start.memory_end().wrapping_sub(random.u64(..64)),
            2 => start.memory_base.wrapping_sub(random.u64(..64)),
            3 => start.memory_base.wrapping_add(random.u64(..)),
            _ => self.argument.as_u64() | random.u64(..PAGE_SIZE),
        };
        let _ = self.machine.hypercall(operation, Gpa::new(at));
    }

    fn plausible(&self, op: Op, belief: &Belief, tables: &Tables, random: &mut Random) -> Bytes {
        let array = self.array.as_u64();
        match op {
            Op::Info => bytes(&Info::new()),
            Op::DeviceList => bytes(&DeviceList {
                buffer: array,
                entry_size: size_of::<DeviceEntry>() as u32,
                capacity: random.u32(..8),
                ..DeviceList::new()
            }),
            Op::DeviceInfo => bytes(&DeviceInfo {
                device_id: belief.devices.any(random),
                ..DeviceInfo::new()
            }),
            Op::Destroy => bytes(&Destroy {
                id: belief.space(random),
                ..Destroy::new()
            }),
            Op::IoasAllocate => bytes(&self.address_space(belief, tables, random)),
            Op::IoasRanges => bytes(&IoasRanges {
                ioas_id: belief.space(random),
                buffer: array,
                capacity: random.u32(..4),
                ..IoasRanges::new()
            }),
            Op::IoasMap => bytes(&IoasMap {
                flags: IoasMap::READABLE | IoasMap::WRITEABLE | random.u32(..2),
                ioas_id: belief.managed.any(random),
                gpa: tables.any(random).as_u64(),
                length: PAGE_SIZE,
                iova: tables.address(random) & !(PAGE_SIZE.wrapping_sub(1)),
                ..IoasMap::new()
            }),
            Op::IoasUnmap => bytes(&IoasUnmap {
                ioas_id: belief.managed.any(random),
                iova: tables.address(random) & !(PAGE_SIZE.wrapping_sub(1)),
                length: PAGE_SIZE,
                ..IoasUnmap::new()
            }),
            Op::Bind => bytes(&Bind {
                flags: random.choice([0, Bind::REPLACE, Bind::PASID]).unwrap_or(0),
                device_id: belief.devices.any(random),
                ioas_id: belief.space(random),
                pasid: belief.pasids.any(random),
                ..Bind::new()
            }),
            Op::Unbind => bytes(&Unbind {
                device_id: belief.devices.any(random),
                ..Unbind::new()
            }),
            Op::Invalidate => bytes(&self.invalidation(belief, tables, random)),
            Op::FaultRead => bytes(&FaultRead {
                buffer: array,
                entry_size: size_of::<FaultEvent>() as u32,
                capacity: random.u32(..32),
                ..FaultRead::new()
            }),
            Op::PasidAllocate => bytes(&PasidAllocate {
                minimum: random.u32(..8),
                maximum: random.u32(8..64),
                ..PasidAllocate::new()
            }),
            Op::PasidFree => bytes(&PasidFree {
                pasid: belief.pasids.any(random),
                ..PasidFree::new()
            }),
            Op::Probe => bytes(&Probe {
                subject: random.u32(..8),
                number: random.u64(..64),
                device_id: belief.devices.any(random),
                ..Probe::new()
            }),
            // Whatever else there is: a size that may be right, and rubbish.
            _ => {
                let mut argument: Bytes = core::iter::repeat_with(|| random.u8(..))
                    .take(MOST_BYTES)
                    .collect();
                let size = random.u32(2..12).wrapping_mul(8).to_le_bytes();
                for (byte, value) in argument.iter_mut().zip(size.into_iter().chain([0; 4])) {
                    *byte = value;
                }
                argument
            }
        }
    }

    fn address_space(&self, belief: &Belief, tables: &Tables, random: &mut Random) -> IoasAllocate {
        let device_id = belief.devices.any(random);
        let own = IoasAllocate {
            device_id,
            ranges: self.array.as_u64(),
            range_capacity: random.u32(..4),
            ..IoasAllocate::new()
        };
        match random.bool() && !belief.tables.is_full() {
            true => IoasAllocate {
                flags: IoasAllocate::USER_TABLE,
                format: Format::X86_64Level4.as_u32(),
                user_page_directory: tables.any(random).as_u64(),
                ..own
            },
            false => own,
        }
    }

    fn invalidation(&self, belief: &Belief, tables: &Tables, random: &mut Random) -> Invalidate {
        let count = random.usize(..24);
        for number in 0..count as u64 {
            let range = InvalidateRange {
                address: tables.address(random) & !(PAGE_SIZE.wrapping_sub(1)),
                pages: 1 << random.u8(..20),
                flags: random.u32(..2),
                reserved: 0,
            };
            let offset = number.wrapping_mul(size_of::<InvalidateRange>() as u64);
            let at = Gpa::new(self.array.as_u64().wrapping_add(offset));
            let _ = self.machine.write(at, range.as_bytes());
        }
        let whole = random.u8(..4) == 0;
        let entries = Invalidate {
            ioas_id: belief.tables.any(random),
            granularity: Granularity::Ranges.as_u32(),
            entries: self.array.as_u64(),
            entry_size: size_of::<InvalidateRange>() as u32,
            entry_count: count as u32,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        };
        match whole {
            false => entries,
            true => Invalidate {
                granularity: Granularity::Everything.as_u32(),
                entries: 0,
                entry_size: 0,
                entry_count: 0,
                model: 0,
                ..entries
            },
        }
    }

    /// What a call that succeeded gave.
    fn learn(&self, op: Op, belief: &mut Belief) {
        match op {
            Op::DeviceList => {
                if let Some(entry) = self.read::<DeviceEntry>(self.array) {
                    belief.devices.learn(entry.device_id);
                }
            }
            Op::IoasAllocate => {
                if let Some(made) = self.read::<IoasAllocate>(self.argument) {
                    match made.flags & IoasAllocate::USER_TABLE {
                        0 => belief.managed.learn(made.ioas_id),
                        _ => belief.tables.learn(made.ioas_id),
                    }
                    let _ = self.read::<IovaRange>(self.array);
                }
            }
            Op::Destroy => {
                if let Some(gone) = self.read::<Destroy>(self.argument) {
                    belief.tables.forget(gone.id);
                    belief.managed.forget(gone.id);
                }
            }
            Op::PasidAllocate => {
                if let Some(taken) = self.read::<PasidAllocate>(self.argument) {
                    belief.pasids.learn(taken.pasid);
                }
            }
            _ => {}
        }
    }

    fn read<T: FromBytes + IntoBytes>(&self, at: Gpa) -> Option<T> {
        let mut value = T::new_zeroed();
        let read = self.machine.read(at, value.as_mut_bytes());
        read.ok().map(|()| value)
    }
}

/// Changes something: a bit, a byte, a size, all flags, a whole word.
fn spoil(argument: &mut Bytes, random: &mut Random) {
    let length = argument.len().max(8);
    let word = random.usize(..length / 4).wrapping_mul(4);
    let place = match random.u8(..6) {
        0 => 0..4,
        1 => 4..8,
        2 => word..word.wrapping_add(4),
        3 => word & !7..(word & !7).wrapping_add(8),
        _ => {
            let at = random.usize(..length);
            at..at.wrapping_add(1)
        }
    };
    let kind = random.u8(..4);
    for byte in argument.get_mut(place).unwrap_or_default() {
        *byte = match kind {
            0 => 0,
            1 => u8::MAX,
            2 => *byte ^ 1 << random.u8(..8),
            _ => random.u8(..),
        };
    }
}
