//! Every operation of the interface has a function here, which makes that call and no other.

use crate::{
    AddressWidth, ArgumentMemory, DeviceId, DirectorySize, EventQueue, FlushList, Format,
    GuestPasid, Hypercall, Iommu, LinuxEvent, Op, QueueKind, Rights, RingMemory, UserTable, Wishes,
};
use core::sync::atomic::AtomicU64;
use iommu_abi::{
    Argument, Capabilities, Errno, FaultEvent, FaultEventKind, FaultRead, IntoBytes,
    LinuxFaultPageRequest, LinuxFaultRead, LinuxFaultType,
};
use std::cell::RefCell;
use std::vec;
use std::vec::Vec;
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

const MEMORY: PhysAddr = PhysAddr::new(0x5000);
/// Where arrays begin, behind the argument.
const ARRAY: usize = 256;

/// Writes down what was called. Reading events gives one page request; all else succeeds
/// without a result, or fails as told.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<Op>>,
    errno: Option<Errno>,
}

fn put<T: IntoBytes + zerocopy::Immutable>(bytes: &mut [u8], at: usize, value: &T) {
    value.write_to(&mut bytes[at..at + size_of::<T>()]).unwrap();
}

fn argument<A: Argument>(bytes: &[u8]) -> A {
    A::read_from_bytes(&bytes[..size_of::<A>()]).unwrap()
}

impl Hypercall for Recorder {
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
        self.calls.borrow_mut().push(operation);
        if let Some(errno) = self.errno {
            return errno.to_register();
        }
        let bytes = memory.bytes_mut();
        match operation {
            Op::FaultRead => {
                let event = FaultEvent {
                    kind: FaultEventKind::PageRequest.as_u32(),
                    flags: FaultEvent::LAST,
                    ..FaultEvent::default()
                };
                let read: FaultRead = argument(bytes);
                put(bytes, ARRAY, &event);
                put(bytes, 0, &FaultRead { count: 1, ..read });
            }
            Op::LinuxFaultRead => {
                let request = LinuxFaultPageRequest {
                    kind: LinuxFaultType::PageReq.as_u32(),
                    flags: LinuxFaultPageRequest::LAST_PAGE,
                    ..LinuxFaultPageRequest::default()
                };
                let read: LinuxFaultRead = argument(bytes);
                put(bytes, ARRAY, &request);
                put(bytes, 0, &LinuxFaultRead { count: 1, ..read });
            }
            _ => {}
        }
        0
    }
}

type Client<'m, 'r> = Iommu<'m, &'r Recorder>;

fn root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(0x8000))
}

fn page() -> Page {
    Page::containing_address(VirtAddr::new(0x7000))
}

const DEVICE: DeviceId = DeviceId::from_u32(7);
const PASID: GuestPasid = GuestPasid::from_u32(9);

/// Uses the function for an operation. What is returned is that call's result, as far as the
/// recorder's answers make sense.
fn use_wrapper(client: &mut Client, operation: Op) -> Result<(), crate::Error> {
    let table = UserTable::new(3, Capabilities::INVALIDATE_ON_MAP);
    let queue = EventQueue {
        id: 4,
        kind: QueueKind::Events,
    };
    // Without a wildcard: a new operation does not compile until it has a function.
    match operation {
        Op::Probe => client.probe_operation(Op::Bind).map(drop),
        Op::Info => client.info().map(drop),
        Op::DeviceList => client.devices(|_| ()).map(drop),
        Op::DeviceInfo => client.device(DEVICE).map(drop),
        Op::Destroy => client.destroy_table(table).map_err(|(error, _)| error),
        Op::IoasAllocate => client
            .allocate_user_table(DEVICE, Format::X86_64Level4, root())
            .map(drop),
        Op::IoasRanges => client.ranges(&table, |_| ()).map(drop),
        Op::IoasMap => {
            let space = client.allocate_managed(DEVICE, &Wishes::default())?;
            let memory = PhysAddr::new(0x9000);
            client.map(&space, memory, 4096, Rights::Read).map(drop)
        }
        Op::IoasUnmap => {
            let space = client.allocate_managed(DEVICE, &Wishes::default())?;
            client.unmap_everything(&space).map(drop)
        }
        Op::Bind => client.bind(DEVICE, &table),
        Op::Unbind => client.unbind(DEVICE),
        Op::Invalidate => client.flush_everything(&table),
        Op::FaultRead => client.next_event().map(drop),
        Op::PageResponse => {
            let Some(crate::Event::PageRequest(request)) = client.next_event()? else {
                panic!("a page request was given");
            };
            client.answer(&[request.group.unwrap().served()]).map(drop)
        }
        Op::PasidAllocate => client.allocate_pasid(1, 9).map(drop),
        Op::PasidFree => client.free_pasid(PASID),
        Op::LinuxBindGpasid => client
            .linux_bind(DEVICE, PASID, root(), AddressWidth::Bits48)
            .map(drop),
        Op::LinuxUnbindGpasid => {
            let bound = client.linux_bind(DEVICE, PASID, root(), AddressWidth::Bits48)?;
            client.linux_unbind(bound).map_err(|(error, _)| error)
        }
        Op::LinuxCacheInvalidate => {
            let bound = client.linux_bind(DEVICE, PASID, root(), AddressWidth::Bits48)?;
            let mut list = FlushList::<(), 4>::new(bound.table());
            let pages = Page::range_inclusive(page(), page());
            list.add(bound.table().changed(pages)).ok();
            client.linux_flush(&bound, &mut list).map(drop)
        }
        Op::LinuxFaultRead => client.linux_read_events(|_| ()).map(drop),
        Op::LinuxPageResponse => {
            let mut group = None;
            client.linux_read_events(|event| {
                if let LinuxEvent::PageRequest(request) = event {
                    group = request.group;
                }
            })?;
            let answer = group.unwrap().refused();
            client.linux_answer(answer).map_err(|(error, _)| error)
        }
        Op::PasidTableBind => client
            .bind_pasid_table(DEVICE, root(), DirectorySize::from_pdts(0).unwrap(), false)
            .map(drop),
        Op::PasidTableUnbind => {
            let size = DirectorySize::from_pdts(0).unwrap();
            let (table, _) = client.bind_pasid_table(DEVICE, root(), size, false)?;
            client.unbind_pasid_table(table).map_err(|(error, _)| error)
        }
        Op::PasidTableInvalidate => {
            let size = DirectorySize::from_pdts(0).unwrap();
            let (table, _) = client.bind_pasid_table(DEVICE, root(), size, false)?;
            client.look_at_entries(table.changed(3..=3)).map(drop)
        }
        Op::RingCreate | Op::RingEnter => {
            let words: Vec<AtomicU64> = (0..512).map(|_| AtomicU64::new(0)).collect();
            // SAFETY: the recorder looks at no address.
            let memory = unsafe { RingMemory::new(&words, PhysAddr::new(0xa000)) }.unwrap();
            let mut ring = client.create_ring(memory).map_err(|(error, _)| error)?;
            if operation == Op::RingCreate {
                return Ok(());
            }
            let mut round = ring.round();
            let _ticket = round.add(&iommu_abi::Info::new()).unwrap();
            match client.enter(round) {
                // The recorder does nothing and calls it success.
                Err(crate::Error::Nonsense(Op::RingEnter)) => Ok(()),
                other => other.map(drop),
            }
        }
        Op::QueueAllocate => client.allocate_queue(QueueKind::Events, 8).map(drop),
        Op::QueueBind => client.queue_table(&queue, &table),
        Op::QueueUnbind => client.unqueue_table(&queue, &table),
    }
}

fn calls_of(operation: Op, recorder: &Recorder) -> Result<(), crate::Error> {
    let mut bytes = vec![0; 4096];
    // SAFETY: the recorder looks at no address.
    let memory = unsafe { ArgumentMemory::new(&mut bytes, MEMORY) }.unwrap();
    use_wrapper(&mut Iommu::new(recorder, memory), operation)
}

#[test]
fn every_operation_has_a_function_that_makes_its_call() {
    for &operation in Op::ALL {
        let recorder = Recorder::default();
        let result = calls_of(operation, &recorder);
        let calls = recorder.calls.borrow();
        assert_eq!(calls.last(), Some(&operation), "{operation:?}: {calls:?}");
        assert_eq!(result, Ok(()), "{operation:?}");
    }
}

#[test]
fn a_refusal_comes_back_as_an_error_that_names_the_operation() {
    for &operation in Op::ALL {
        let recorder = Recorder {
            errno: Some(Errno::EDQUOT),
            ..Recorder::default()
        };
        let refused = calls_of(operation, &recorder).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EDQUOT), "{operation:?}");
        // Nothing goes on after a refusal.
        let calls = recorder.calls.borrow();
        assert_eq!(calls.len(), 1, "{operation:?}: {calls:?}");
    }
}
