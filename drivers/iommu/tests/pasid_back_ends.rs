//! Where host PASIDs come from: any back-end that someone else supplies.

mod common;

use common::Setup;
use common::hardware::Unit;
use common::machine::{ARGUMENT, Host, VM, device};
use common::memory::GuestRam;
use iommu::{Config, Iommu, PasidAllocator, PasidBitmap, Quota};
use iommu_abi::{Argument, Bind, Errno, IoasAllocate, PasidAllocate, PasidFree};
use iommu_core::TableFormat::FirstStage4;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Attachment, Backend, Gpa, Pasid, Platform, Slot};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use test_platform::TestPlatform;

/// Gives out what somebody else says: few numbers, far up.
struct Elsewhere(Mutex<BTreeSet<u32>>);

impl Elsewhere {
    fn with(numbers: impl IntoIterator<Item = u32>) -> Self {
        Self(Mutex::new(Rank::Pasids, numbers.into_iter().collect()))
    }

    fn left(&self, platform: &dyn Platform) -> usize {
        self.0.lock(platform).len()
    }
}

impl PasidAllocator for Elsewhere {
    fn allocate(&self, platform: &dyn Platform, range: RangeInclusive<Pasid>) -> Option<Pasid> {
        let mut numbers = self.0.lock(platform);
        let range = range.start().as_u32()..=range.end().as_u32();
        let number = *numbers.range(range).next()?;
        numbers.remove(&number);
        Pasid::new(number)
    }

    fn free(&self, platform: &dyn Platform, pasid: Pasid) {
        let returned = self.0.lock(platform).insert(pasid.as_u32());
        assert!(returned, "it was given out");
    }
}

fn call<A: Argument>(
    policy: &Iommu<Unit, Arc<TestPlatform>, Host, &Elsewhere>,
    ram: &GuestRam,
    at: u64,
    argument: &mut A,
) -> i64 {
    ram.write_bytes(at, argument.as_bytes());
    let result = policy.call(VM, A::OP.as_u32().into(), Gpa::new(at));
    *argument = A::read_from_bytes(&ram.read_bytes(at, size_of::<A>())).expect("its size");
    result
}

#[test]
fn host_pasids_come_from_the_back_end_that_was_supplied_and_go_back_to_it() {
    let machine = Setup::new(FirstStage4).build();
    let (platform, ram) = (&machine.platform, &machine.ram);
    let elsewhere = Elsewhere::with([0x5_0001, 0x5_0002]);
    let policy = Iommu::new(
        Config::default(),
        Unit(machine.hardware.clone()),
        platform.clone(),
        Host(machine.around.clone()),
        &elsewhere,
    );
    let policy = policy.expect("memory");
    policy
        .create_guest(VM, Quota::default(), ram.clone())
        .expect("a guest");
    let device_id = policy.assign(VM, device(4), 0x20).expect("the device");
    let at = ARGUMENT << 12;
    let call_allocate = || {
        let mut ask = PasidAllocate {
            minimum: 7,
            maximum: 9,
            ..PasidAllocate::new()
        };
        (call(&policy, ram, at, &mut ask), ask.pasid)
    };
    // The guest's numbers are its own, whatever is behind them.
    assert_eq!(call_allocate(), (0, 7));
    assert_eq!(call_allocate(), (0, 8));
    let none_left = Errno::ENOSPC.to_register();
    assert_eq!(call_allocate().0, none_left);
    assert_eq!(elsewhere.left(platform), 0);
    let mut table = IoasAllocate {
        flags: IoasAllocate::USER_TABLE,
        format: 1,
        user_page_directory: 0x1000,
        device_id,
        ..IoasAllocate::new()
    };
    assert_eq!(call(&policy, ram, at, &mut table), 0);
    let mut bind = Bind {
        flags: Bind::PASID,
        device_id,
        ioas_id: table.ioas_id,
        pasid: 8,
        ..Bind::new()
    };
    assert_eq!(call(&policy, ram, at, &mut bind), 0);
    // Hardware sees the number that the back-end gave.
    let slot = Slot {
        device: device(4),
        pasid: Pasid::new(0x5_0002),
    };
    assert_ne!(policy.backend().attachment(slot), Ok(Attachment::Blocked));
    let mut free = PasidFree {
        pasid: 7,
        ..PasidFree::new()
    };
    assert_eq!(call(&policy, ram, at, &mut free), 0);
    assert_eq!(elsewhere.left(platform), 1);
    policy.destroy_guest(VM).expect("ended");
    assert_eq!(policy.backend().attachment(slot), Ok(Attachment::Blocked));
    assert_eq!(elsewhere.left(platform), 2);
}

#[test]
fn pasids_are_had_and_given_back_with_interrupts_off() {
    let machine = Setup::new(FirstStage4).build();
    let platform: &dyn Platform = &machine.platform;
    let one = Pasid::new(1).expect("20 bits");
    let back_ends: [&dyn PasidAllocator; 2] = [
        &PasidBitmap::new(10).expect("memory"),
        &Elsewhere::with([40]),
    ];
    for pasids in back_ends {
        // Within a section of the lock that comes before them.
        let owners = Mutex::new(Rank::Owners, ());
        let section = owners.lock(platform);
        let pasid = pasids.allocate(platform, one..=Pasid::MAX).expect("one");
        pasids.free(platform, pasid);
        let again = pasids.allocate(platform, one..=Pasid::MAX);
        assert_eq!(again, Some(pasid));
        drop(section);
    }
}
