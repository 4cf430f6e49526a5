//! The check that every argument goes through, for every operation; each refusal beside a
//! twin that differs in one thing.

mod common;

use common::machine::{ARGUMENT, READ_ONLY as READ_ONLY_MEMORY, ROOT, VM, rid};
use common::ring::RawRing;
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::Gpa;
use iommu_core::TableFormat::SecondStage4;

const AT: u64 = ARGUMENT << 12;
const BUFFER: u64 = 82 << 12;
const RING: u64 = 60 << 12;

/// A good call of an operation, as bytes, with what describes it.
struct Call {
    op: Op,
    bytes: Vec<u8>,
    fields: &'static [Field],
    flags: u32,
}

fn call<A: Argument>(argument: A) -> Call {
    Call {
        op: A::OP,
        bytes: argument.as_bytes().to_vec(),
        fields: A::FIELDS,
        flags: A::FLAGS,
    }
}

impl Call {
    fn make(&self, bench: &Bench) -> Result<u64, Errno> {
        self.make_at(bench, AT)
    }

    fn make_at(&self, bench: &Bench, at: u64) -> Result<u64, Errno> {
        bench.machine.ram.write_bytes(at, &self.bytes);
        self.execute(bench, at)
    }

    fn execute(&self, bench: &Bench, at: u64) -> Result<u64, Errno> {
        let op = self.op.as_u32().into();
        Errno::from_register(bench.machine.policy.call(VM, op, Gpa::new(at)))
    }

    fn set32(mut self, offset: usize, value: u32) -> Self {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn with_tail(mut self, tail: &[u8]) -> Self {
        self.bytes.extend_from_slice(tail);
        let size = self.bytes.len() as u32;
        self.set32(0, size)
    }
}

/// A good call of every operation, on a fresh machine, together with that machine.
fn good(op: Op) -> (Bench, Call) {
    let bench = Bench::new(Setup::new(SecondStage4));
    let device_id = bench.device_id;
    let space = |flags| IoasAllocate {
        device_id,
        flags,
        ..IoasAllocate::new()
    };
    let managed = |bench: &Bench| {
        let mut ask = space(0);
        assert_eq!(bench.machine.call(&mut ask), 0);
        ask.ioas_id
    };
    let map = |ioas_id| IoasMap {
        flags: IoasMap::READABLE,
        ioas_id,
        gpa: 0x20_000,
        length: 0x1000,
        ..IoasMap::new()
    };
    let queue = QueueAllocate {
        kind: QueueKind::Events.as_u32(),
        depth: 4,
        ..QueueAllocate::new()
    };
    let made = |bench: &Bench| {
        let mut ask = queue;
        assert_eq!(bench.machine.call(&mut ask), 0);
        ask.queue_id
    };
    let argument = match op {
        Op::Probe => call(Probe {
            subject: 1,
            number: 0x120,
            ..Probe::new()
        }),
        Op::Info => call(Info::new()),
        Op::DeviceList => call(DeviceList {
            buffer: BUFFER,
            entry_size: 16,
            capacity: 4,
            ..DeviceList::new()
        }),
        Op::DeviceInfo => call(DeviceInfo {
            device_id,
            ..DeviceInfo::new()
        }),
        Op::Destroy => call(Destroy {
            id: managed(&bench),
            ..Destroy::new()
        }),
        Op::IoasAllocate => call(bench.user_table(ROOT)),
        Op::IoasRanges => call(IoasRanges {
            ioas_id: managed(&bench),
            capacity: 4,
            buffer: BUFFER,
            ..IoasRanges::new()
        }),
        Op::IoasMap => call(map(managed(&bench))),
        Op::IoasUnmap => {
            let ioas_id = managed(&bench);
            let mut mapped = map(ioas_id);
            assert_eq!(bench.machine.call(&mut mapped), 0);
            call(IoasUnmap {
                ioas_id,
                iova: mapped.iova,
                length: 0x1000,
                ..IoasUnmap::new()
            })
        }
        Op::Bind => call(Bind {
            device_id,
            ioas_id: bench.allocate(ROOT),
            ..Bind::new()
        }),
        Op::Unbind => {
            let table = bench.allocate(ROOT);
            assert_eq!(bench.bind(device_id, table), 0);
            call(Unbind {
                device_id,
                ..Unbind::new()
            })
        }
        Op::Invalidate => call(Invalidate {
            ioas_id: bench.allocate(ROOT),
            granularity: 1,
            ..Invalidate::new()
        }),
        Op::PageResponse => call(PageResponse {
            answers: BUFFER,
            entry_size: 32,
            ..PageResponse::new()
        }),
        Op::FaultRead => call(FaultRead {
            buffer: BUFFER,
            entry_size: 64,
            capacity: 4,
            ..FaultRead::new()
        }),
        Op::PasidAllocate => call(PasidAllocate {
            minimum: 1,
            maximum: 9,
            ..PasidAllocate::new()
        }),
        Op::PasidFree => {
            let mut ask = PasidAllocate {
                minimum: 1,
                maximum: 9,
                ..PasidAllocate::new()
            };
            assert_eq!(bench.machine.call(&mut ask), 0);
            call(PasidFree {
                pasid: ask.pasid,
                ..PasidFree::new()
            })
        }
        Op::LinuxBindGpasid => call(LinuxBindGpasid {
            device_id,
            structure: linux_bind_data(&bench),
            ..LinuxBindGpasid::new()
        }),
        Op::LinuxUnbindGpasid => {
            let structure = linux_bind_data(&bench);
            let mut bind = LinuxBindGpasid {
                device_id,
                structure,
                ..LinuxBindGpasid::new()
            };
            assert_eq!(bench.machine.call(&mut bind), 0);
            call(LinuxUnbindGpasid {
                device_id,
                structure,
                ..LinuxUnbindGpasid::new()
            })
        }
        Op::LinuxCacheInvalidate => {
            let info = LinuxCacheInvalidateInfo {
                argsz: 16,
                version: 1,
                cache: LinuxCacheInvalidateInfo::IOTLB,
                ..LinuxCacheInvalidateInfo::default()
            };
            bench.machine.ram.write_bytes(BUFFER, info.as_bytes());
            call(LinuxCacheInvalidate {
                device_id,
                structure: BUFFER,
                ..LinuxCacheInvalidate::new()
            })
        }
        Op::LinuxFaultRead => call(LinuxFaultRead {
            buffer: BUFFER,
            capacity: 4,
            ..LinuxFaultRead::new()
        }),
        Op::LinuxPageResponse => {
            bench.allow_asking();
            let mut bind = Bind {
                flags: Bind::PAGE_REQUESTS,
                device_id,
                ioas_id: bench.allocate(ROOT),
                ..Bind::new()
            };
            assert_eq!(bench.machine.call(&mut bind), 0);
            bench.asks(rid(4), 7);
            let data = LinuxPageResponseData {
                argsz: 24,
                version: 1,
                grpid: 7,
                ..LinuxPageResponseData::default()
            };
            bench.machine.ram.write_bytes(BUFFER, data.as_bytes());
            call(LinuxPageResponse {
                device_id,
                structure: BUFFER,
                ..LinuxPageResponse::new()
            })
        }
        Op::PasidTableBind => call(pasid_table(&bench)),
        Op::PasidTableUnbind => {
            assert_eq!(bench.machine.call(&mut pasid_table(&bench)), 0);
            call(PasidTableUnbind {
                device_id,
                ..PasidTableUnbind::new()
            })
        }
        Op::PasidTableInvalidate => {
            assert_eq!(bench.machine.call(&mut pasid_table(&bench)), 0);
            call(PasidTableInvalidate {
                device_id,
                last_pasid: 100,
                ..PasidTableInvalidate::new()
            })
        }
        Op::RingCreate => call(RawRing::ask(RING, 8, 0)),
        Op::RingEnter => call(RingEnter {
            ring_id: RawRing::new(&bench.machine, RING, 8, 0).id,
            ..RingEnter::new()
        }),
        Op::QueueAllocate => call(queue),
        Op::QueueBind => call(QueueBind {
            queue_id: made(&bench),
            object_id: device_id,
            ..QueueBind::new()
        }),
        Op::QueueUnbind => {
            let (queue_id, object_id) = (made(&bench), device_id);
            assert_eq!(
                bench.machine.call(&mut QueueBind {
                    queue_id,
                    object_id,
                    ..QueueBind::new()
                }),
                0
            );
            call(QueueUnbind {
                queue_id,
                object_id,
                ..QueueUnbind::new()
            })
        }
    };
    assert_eq!(argument.op, op);
    (bench, argument)
}

/// A good `struct iommu_gpasid_bind_data` at [`BUFFER`].
fn linux_bind_data(bench: &Bench) -> u64 {
    let mut pasid = PasidAllocate {
        minimum: 9,
        maximum: 9,
        ..PasidAllocate::new()
    };
    assert_eq!(bench.machine.call(&mut pasid), 0);
    let data = LinuxGpasidBindData {
        argsz: 72,
        version: 1,
        format: LinuxGpasidBindData::FORMAT_INTEL_VTD,
        addr_width: 48,
        gpgd: ROOT,
        hpasid: 9,
        ..LinuxGpasidBindData::default()
    };
    let ram = &bench.machine.ram;
    ram.write_bytes(BUFFER, data.as_bytes());
    let vtd = LinuxGpasidBindDataVtd::default();
    ram.write_bytes(BUFFER + 56, vtd.as_bytes());
    BUFFER
}

/// A PASID table of the guest's: one page of its directory is there, and empty.
fn pasid_table(bench: &Bench) -> PasidTableBind {
    PasidTableBind {
        device_id: bench.device_id,
        directory: 50 << 12,
        ..PasidTableBind::new()
    }
}

/// For every operation: the good call with a change has this result.
#[track_caller]
fn for_each(change: impl Fn(Call) -> Option<Call>, expected: Option<Errno>) {
    let mut tried = 0;
    for &op in Op::ALL {
        let (bench, call) = good(op);
        let Some(call) = change(call) else { continue };
        tried += 1;
        assert_eq!(call.make(&bench).err(), expected, "{op:?}");
    }
    assert!(tried > 0);
}

#[test]
fn every_good_call_succeeds() {
    for_each(Some, None);
}

#[test]
fn an_argument_shorter_than_version_1_is_refused() {
    for_each(
        |call| {
            let size = call.bytes.len() as u32 - 1;
            Some(call.set32(0, size))
        },
        Some(Errno::EINVAL),
    );
    for size in [0, 1, 3, 4, 7, 8] {
        for_each(|call| Some(call.set32(0, size)), Some(Errno::EINVAL));
    }
}

#[test]
fn an_unknown_tail_is_accepted_if_it_is_zero_and_refused_if_not() {
    for length in [1, 8, 127, 128, 129, 700] {
        for_each(|call| Some(call.with_tail(&vec![0; length])), None);
        let mut tail = vec![0; length];
        tail[length - 1] = 1;
        for_each(|call| Some(call.with_tail(&tail)), Some(Errno::E2BIG));
    }
}

#[test]
fn an_argument_larger_than_any_version_is_refused_without_being_looked_at() {
    for size in [ARGUMENT_MAX as u32 + 1, u32::MAX] {
        for_each(|call| Some(call.set32(0, size)), Some(Errno::E2BIG));
    }
}

#[test]
fn every_unknown_flag_is_refused() {
    for &op in Op::ALL {
        let (bench, mut call) = good(op);
        let flags = u32::from_le_bytes(call.bytes[4..8].try_into().unwrap());
        for flag in (0..32).map(|bit| 1u32 << bit) {
            if call.flags & flag == 0 {
                call = call.set32(4, flags | flag);
                assert_eq!(
                    call.make(&bench),
                    Err(Errno::EOPNOTSUPP),
                    "{op:?} {flag:#x}"
                );
            }
        }
        assert!(
            call.set32(4, flags).make(&bench).is_ok(),
            "{op:?}: its twin"
        );
    }
}

#[test]
fn every_reserved_field_must_be_zero() {
    for &op in Op::ALL {
        let (_, call) = good(op);
        for field in call.fields {
            if field.direction != Direction::Reserved {
                continue;
            }
            for byte in field.offset..field.offset + field.size {
                let (bench, mut call) = good(op);
                call.bytes[byte] = 1;
                let result = call.make(&bench);
                assert_eq!(result, Err(Errno::EOPNOTSUPP), "{op:?} byte {byte}");
                call.bytes[byte] = 0;
                assert!(call.make(&bench).is_ok(), "{op:?}: nothing had happened");
            }
        }
    }
}

#[test]
fn what_stands_in_fields_for_results_does_not_matter() {
    for &op in Op::ALL {
        let (bench, mut call) = good(op);
        for field in call.fields {
            if field.direction == Direction::Out {
                call.bytes[field.offset..field.offset + field.size].fill(0xff);
            }
        }
        assert!(call.make(&bench).is_ok(), "{op:?}");
        // They hold results now, and nothing else was touched.
        let after = bench.machine.ram.read_bytes(AT, call.bytes.len());
        for field in call.fields {
            let range = field.offset..field.offset + field.size;
            match field.direction {
                Direction::Out => assert_ne!(after[range], vec![0xff; field.size], "{op:?}"),
                Direction::InOut => {}
                _ => assert_eq!(after[range.clone()], call.bytes[range], "{op:?}"),
            }
        }
    }
}

#[test]
fn an_argument_outside_the_guests_memory_is_a_fault() {
    for &op in Op::ALL {
        let (bench, call) = good(op);
        for nowhere in [0x600_000, 0x600_000 - 4, u64::MAX, u64::MAX - 7, 1 << 52] {
            let result = call.execute(&bench, nowhere);
            assert_eq!(result, Err(Errno::EFAULT), "{op:?} at {nowhere:#x}");
        }
        assert!(call.make(&bench).is_ok(), "{op:?}: nothing had happened");
    }
}

#[test]
fn an_argument_may_lie_across_pages_that_are_apart_and_must_not_lie_across_the_end() {
    for &op in Op::ALL {
        let (bench, call) = good(op);
        let across = (84 << 12) - 4;
        assert!(call.make_at(&bench, across).is_ok(), "{op:?}");
        let (bench, call) = good(op);
        // The scattered part ends at page 96; what is beyond does not exist.
        let end = (96 << 12) - 8;
        bench.machine.ram.write_bytes(end, &call.bytes[..8]);
        assert_eq!(call.execute(&bench, end), Err(Errno::EFAULT), "{op:?}");
    }
}

#[test]
fn results_must_be_writable_before_anything_happens() {
    for &op in Op::ALL {
        let (bench, call) = good(op);
        let has_results = call
            .fields
            .iter()
            .any(|field| matches!(field.direction, Direction::Out | Direction::InOut));
        let result = call.make_at(&bench, READ_ONLY_MEMORY << 12);
        if has_results {
            assert_eq!(result, Err(Errno::EFAULT), "{op:?}");
            assert!(call.make(&bench).is_ok(), "{op:?}: nothing had happened");
        } else {
            assert!(result.is_ok(), "{op:?}");
        }
    }
}

#[test]
fn numbers_that_are_no_operation_are_refused() {
    let bench = Bench::new(Setup::new(SecondStage4));
    for number in [0, 1, 0xff, 0x105, 0x1ff, 0x200, u64::MAX, 0x101 | 1 << 32] {
        let result = bench.machine.policy.call(VM, number, Gpa::new(AT));
        assert_eq!(result, Errno::ENOTTY.to_register(), "{number:#x}");
    }
    bench.end();
}

#[test]
fn arrays_must_lie_in_the_guests_memory_and_have_elements_of_a_known_size() {
    for (buffer, entry_size, errno) in [
        (BUFFER, 16, None),
        (BUFFER, 24, None),
        (BUFFER, 15, Some(Errno::EINVAL)),
        (BUFFER, 0, Some(Errno::EINVAL)),
        (BUFFER, 4097, Some(Errno::E2BIG)),
        (0x600_000, 16, Some(Errno::EFAULT)),
        (READ_ONLY_MEMORY << 12, 16, Some(Errno::EFAULT)),
        (u64::MAX - 3, 16, Some(Errno::EOVERFLOW)),
    ] {
        let bench = Bench::new(Setup::new(SecondStage4));
        let mut ask = DeviceList {
            buffer,
            entry_size,
            capacity: 4,
            ..DeviceList::new()
        };
        let result = bench.machine.call(&mut ask);
        assert_eq!(
            Errno::from_register(result).err(),
            errno,
            "{buffer:#x} {entry_size}"
        );
    }
}

#[test]
fn an_invalidation_array_is_read_entry_by_entry_from_the_guests_memory() {
    let (bench, table) = Bench::bound(Setup::new(SecondStage4));
    for (entries, entry_size, count, errno, completed) in [
        (80u64 << 12, 24u32, 0u32, None, 0u32),
        (80 << 12, 24, 2, None, 2),
        (80 << 12, 32, 2, None, 2),
        (80 << 12, 23, 2, Some(Errno::EINVAL), 0),
        (0x600_000, 24, 1, Some(Errno::EFAULT), 0),
        // Beyond a count of 0 nothing is read.
        (0x600_000, 24, 0, None, 0),
        (u64::MAX - 7, 24, 1, Some(Errno::EFAULT), 0),
        // The second entry lies across the end of memory.
        ((96 << 12) - 32, 24, 2, Some(Errno::EFAULT), 1),
    ] {
        let entry = InvalidateRange {
            address: 0x5000,
            pages: 1,
            ..InvalidateRange::default()
        };
        for index in 0..u64::from(count) {
            let at = entries.wrapping_add(u64::from(entry_size) * index);
            if at < 95 << 12 || at == (96 << 12) - 32 {
                bench.machine.ram.write_bytes(at, &[0; 32]);
                bench.machine.ram.write_bytes(at, entry.as_bytes());
            }
        }
        let mut ask = Invalidate {
            ioas_id: table,
            granularity: 2,
            entries,
            entry_size,
            entry_count: count,
            model: 1,
            ..Invalidate::new()
        };
        let result = Errno::from_register(bench.machine.call(&mut ask));
        assert_eq!(result.err(), errno, "{entries:#x} {entry_size} {count}");
        assert_eq!(ask.completed, completed);
    }
    bench.end();
}
