//! A ring of operations in a guest's memory, written word by word.

use super::machine::{Machine, VM};
use super::memory::GuestRam;
use iommu::Figures;
use iommu_abi::{FromBytes as _, RingSubmission};
use iommu_abi::{IntoBytes as _, Layout as _, RingCompletion, RingCreate, RingEnter, RingIndices};
use iommu_core::{Gpa, VmId};

/// A ring whose indices, submissions and completions follow each other from `at` on.
pub struct RawRing {
    pub vm: VmId,
    pub at: u64,
    pub entries: u32,
    pub id: u32,
    /// Where the guest has come to: its tail, and the completions that it has read.
    pub tail: u32,
    pub head: u32,
}

/// Where the guest's own call lies that makes or enters a ring.
const CALL: u64 = 89 << 12;

impl RawRing {
    pub fn ask(at: u64, entries: u32, first: u32) -> RingCreate {
        let submissions = at + 64;
        RingCreate {
            indices: at,
            submissions,
            completions: submissions + u64::from(entries) * RingSubmission::SIZE as u64,
            entries,
            first,
            ..RingCreate::new()
        }
    }

    #[track_caller]
    pub fn new(machine: &Machine, at: u64, entries: u32, first: u32) -> Self {
        Self::of(machine, VM, &machine.ram, at, entries, first)
    }

    #[track_caller]
    pub fn of(
        machine: &Machine,
        vm: VmId,
        ram: &GuestRam,
        at: u64,
        entries: u32,
        first: u32,
    ) -> Self {
        let ask = Self::ask(at, entries, first);
        let (result, back) = call(machine, vm, ram, &ask);
        assert_eq!(result, 0);
        Self {
            vm,
            at,
            entries,
            id: back.ring_id,
            tail: first,
            head: first,
        }
    }

    fn submission_at(&self, index: u32) -> u64 {
        self.at + 64 + u64::from(index & (self.entries - 1)) * 32
    }

    pub fn completion_at(&self, index: u32) -> u64 {
        let completions = self.at + 64 + u64::from(self.entries) * 32;
        completions + u64::from(index & (self.entries - 1)) * 16
    }

    /// Writes a submission behind the last one, without telling of it.
    pub fn write(&mut self, ram: &GuestRam, submission: &RingSubmission) {
        ram.write_bytes(self.submission_at(self.tail), submission.as_bytes());
        self.tail = self.tail.wrapping_add(1);
    }

    pub fn submit(&mut self, ram: &GuestRam, operation: u32, argument: u64) {
        let user_data = 0xabcd_0000 + u64::from(self.tail);
        self.write(
            ram,
            &RingSubmission {
                operation,
                argument,
                user_data,
                ..RingSubmission::default()
            },
        );
        ram.write(self.at, self.tail.into());
    }

    pub fn enter(&self, machine: &Machine, ram: &GuestRam, limit: u32) -> (i64, RingEnter) {
        let ask = RingEnter {
            ring_id: self.id,
            limit,
            ..RingEnter::new()
        };
        call(machine, self.vm, ram, &ask)
    }

    pub fn indices(&self, ram: &GuestRam) -> RingIndices {
        RingIndices::read_from_bytes(&ram.read_bytes(self.at, RingIndices::SIZE)).unwrap()
    }

    /// Takes the completions that are there: number of the submission and result.
    #[track_caller]
    pub fn results(&mut self, ram: &GuestRam) -> Vec<i64> {
        let indices = self.indices(ram);
        assert_eq!(indices.completion_tail, indices.submission_head);
        let mut results = Vec::new();
        while u64::from(self.head) != indices.completion_tail {
            let bytes = ram.read_bytes(self.completion_at(self.head), RingCompletion::SIZE);
            let completion = RingCompletion::read_from_bytes(&bytes).unwrap();
            assert_eq!(completion.user_data, 0xabcd_0000 + u64::from(self.head));
            results.push(completion.result);
            self.head = self.head.wrapping_add(1);
        }
        ram.write(self.at + 8, self.head.into());
        results
    }
}

/// A call by a guest whose memory is `ram`.
pub fn call<A: iommu_abi::Argument>(
    machine: &Machine,
    vm: VmId,
    ram: &GuestRam,
    argument: &A,
) -> (i64, A) {
    ram.write_bytes(CALL, argument.as_bytes());
    let result = machine
        .policy
        .call(vm, A::OP.as_u32().into(), Gpa::new(CALL));
    let back = ram.read_bytes(CALL, A::SIZE);
    (result, A::read_from_bytes(&back).unwrap())
}

/// Calls and operations of rings so far.
pub fn counted(machine: &Machine) -> (u64, u64) {
    let Figures {
        calls,
        ring_operations,
        ..
    } = machine.policy.figures();
    (calls, ring_operations)
}
