//! Rings that the hypervisor polls: a guest's operations are done though it never exits for
//! them.

use alloc::sync::Arc;

use iommu_abi::{Argument, Info, IntoBytes as _, Op, RingCreate, RingIndices, RingSubmission};
use iommu_core::{Gpa, GuestMemory, Nanoseconds, PAGE_SIZE};
use kernel::guest::{Guest, Order, Stopper};
use kernel::time;
use kernel::turns::{self, Task, Turn};
use kernel::vcpu::Ending;
use kernel::vm::{Answer, GuestRam};
use limits::deed;

use crate::bench::{Bench, end};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

/// Operations that are submitted.
const OPERATIONS: u64 = 5;
/// Of the ring.
const ENTRIES: u32 = 8;
/// Where things lie in the ring's page, and the arguments in the next.
const COMPLETION_TAIL: u64 = 24;
const STATE: u64 = 32;
const SUBMISSIONS: u64 = 64;
const COMPLETIONS: u64 = SUBMISSIONS + 32 * ENTRIES as u64;
const ARGUMENT: u64 = 256;
/// In the machine's time.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(2_000);

/// The part of a guest's program that uses the ring, while its CPU loops with interrupts off.
struct Writer {
    ram: Arc<GuestRam>,
    ring: Gpa,
    guest: Stopper,
    until: Option<Nanoseconds>,
    done: bool,
}

fn at(page: Gpa, offset: u64) -> Gpa {
    Gpa::new(page.as_u64() + offset)
}

impl Writer {
    fn submit(&self) {
        for place in 0..OPERATIONS {
            let argument = at(self.ring, PAGE_SIZE + ARGUMENT * place);
            let submission = RingSubmission {
                operation: Op::Info.as_u32(),
                flags: 0,
                argument: argument.as_u64(),
                user_data: 0xface + place,
                reserved: 0,
            };
            // All of it is the guest's memory.
            let _ = self.ram.copy_out(argument, Info::new().as_bytes());
            let element = at(self.ring, SUBMISSIONS + 32 * place);
            let _ = self.ram.copy_out(element, submission.as_bytes());
        }
        let _ = self.ram.write_once(self.ring, OPERATIONS);
    }
}

impl Task for Writer {
    fn turn(&mut self) -> Turn {
        let now = time::now();
        let Some(until) = self.until else {
            self.submit();
            self.until = Some(Nanoseconds(now.0 + PATIENCE.0));
            return Turn::Wait(Nanoseconds(now.0 + 1_000_000));
        };
        self.done = self.ram.read_once(at(self.ring, COMPLETION_TAIL)) == Ok(OPERATIONS);
        if self.done || now >= until {
            self.guest.stop();
            return Turn::Over;
        }
        Turn::Wait(Nanoseconds(now.0 + 1_000_000))
    }
}

/// A ring of the guest's in two pages of its memory that its program does not use.
fn ring(guest: &Guest) -> Result<Gpa, Deviation> {
    let vm = guest.vm();
    let page = Gpa::new(vm.start().free_from.next_multiple_of(PAGE_SIZE));
    let argument = at(page, PAGE_SIZE);
    let create = RingCreate {
        indices: page.as_u64(),
        submissions: page.as_u64() + SUBMISSIONS,
        completions: page.as_u64() + COMPLETIONS,
        entries: ENTRIES,
        ..RingCreate::new()
    };
    let written = vm.ram().copy_out(argument, create.as_bytes());
    written.map_err(|_| Deviation::failed(format_args!("{argument} is no memory")))?;
    let operation = RingCreate::OP.as_u32().into();
    check_eq!(
        vm.hypercall(operation, argument.as_u64()),
        Answer::Return(0),
        "making the ring"
    );
    Ok(page)
}

boot_test!(
    operations_in_a_polled_ring_are_done_without_an_exit_of_their_guest,
    caching = "off",
    widths = "48",
    cpus = "1 2",
);
fn operations_in_a_polled_ring_are_done_without_an_exit_of_their_guest(
    bench: &mut Bench,
) -> Outcome {
    let copier = bench.copier()?;
    let mut guest = bench.guest(&Order {
        parameter: deed::LOOP,
        ..Order::new("limits", bench.seed(), copier.id())
    })?;
    guest.set_limit(Nanoseconds(20 * PATIENCE.0));
    let page = ring(&guest)?;
    let ram = guest.vm().ram().clone();
    let state = ram.read_once(at(page, STATE));
    check_eq!(state, Ok(RingIndices::POLLED), "what the ring tells");
    let mut writer = Writer {
        ram: ram.clone(),
        ring: page,
        guest: guest.stopper(),
        until: None,
        done: false,
    };
    turns::together(&mut [&mut guest, &mut writer]);
    check_eq!(guest.ending(), Some(Ending::Stopped), "how it ended");
    check!(writer.done, "nobody looked at the ring");
    for place in 0..OPERATIONS {
        let completion = at(page, COMPLETIONS + 16 * place);
        let words = [ram.read_once(completion), ram.read_once(at(completion, 8))];
        check_eq!(words, [Ok(0xface + place), Ok(0)], "completion {place}");
        let mut info = Info::new();
        let argument = at(page, PAGE_SIZE + ARGUMENT * place);
        let read = ram.copy_in(argument, info.as_mut_bytes());
        check!(
            read.is_ok() && info.version > 0,
            "result {place} is missing"
        );
    }
    let calls = {
        let mut exits = guest.exits().figures();
        exits.find_map(|(name, count)| (name == "exits.hypercall").then_some(count))
    };
    check_eq!(calls, Some(0), "exits for calls");
    drop((writer, ram));
    end(guest)
}
