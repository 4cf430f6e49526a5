//! Another guest of the same machine, whose device and table nobody else may change.

use crate::common::machine::{LEAVES, ROOT, device, rid};
use crate::common::memory::GuestRam;
use crate::common::tables::FULL;
use crate::common::{Machine, oracle};
use iommu::Quota;
use iommu_abi::{Argument, Bind, Errno, IoasAllocate};
use iommu_core::{Access, Gpa, VmId};
use std::sync::Arc;

const VM: VmId = VmId(4);
const DEVICE: u8 = 9;
const ARGUMENT: u64 = 0x8000;
/// Addresses that its table maps.
const MAPPED: std::ops::Range<u64> = 5..9;

/// The other guest: a table of its own, bound to its device.
pub(super) struct Neighbour {
    pub(super) ram: Arc<GuestRam>,
}

impl Neighbour {
    pub(super) fn new(machine: &Machine) -> Self {
        let ram = Arc::new(GuestRam::default());
        ram.add(0, 16, 0xa_0000, Access::READ_WRITE, Some(3));
        for table in [0x1000, 0x2000, 0x3000] {
            ram.write(table, (table + 0x1000) | FULL);
        }
        for page in MAPPED {
            ram.write(LEAVES + 8 * page, (page + 5) << 12 | FULL);
        }
        // Until its memory counts as a guest's, nothing is checked.
        machine.hardware.watch_reachable(|_| ());
        let quota = Quota {
            shadow_pages: 64,
            ..Quota::default()
        };
        machine
            .policy
            .create_guest(VM, quota, ram.clone())
            .expect("another guest");
        let device_id = machine.policy.assign(VM, device(DEVICE), 9 << 3);
        let device_id = device_id.expect("its device");
        let neighbour = Self { ram };
        let table = neighbour.call(
            machine,
            IoasAllocate {
                flags: IoasAllocate::USER_TABLE,
                format: 1,
                user_page_directory: ROOT,
                device_id,
                ..IoasAllocate::new()
            },
        );
        let ioas_id = table.ioas_id;
        neighbour.call(
            machine,
            Bind {
                device_id,
                ioas_id,
                ..Bind::new()
            },
        );
        neighbour
    }

    fn call<A: Argument>(&self, machine: &Machine, argument: A) -> A {
        self.ram.write_bytes(ARGUMENT, argument.as_bytes());
        let op = A::OP.as_u32().into();
        let answer = machine.policy.call(VM, op, Gpa::new(ARGUMENT));
        Errno::from_register(answer).expect("a good call");
        let bytes = self.ram.read_bytes(ARGUMENT, size_of::<A>());
        A::read_from_bytes(&bytes).expect("its size")
    }

    /// Its device sees what its table says.
    pub(super) fn check(&self, machine: &Machine) {
        for page in MAPPED {
            let address = page << 12;
            let expected = oracle::translate(&self.ram, ROOT, address).expect("mapped");
            let walked = machine.hardware.walk(rid(DEVICE), address);
            assert_eq!(walked, Some((expected.host, expected.write)));
        }
    }

    pub(super) fn end(self, machine: &Machine) {
        machine.policy.destroy_guest(VM).expect("gone");
    }
}
