//! A guest binds its own page tables, and devices see what they say.

mod common;

use common::machine::{CONTIGUOUS, device, rid};
use common::tables::{FULL, PS};
use common::{Machine, Setup};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_guest::{FlushList, Format};
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

const ROOT: u64 = 0x1000;

fn frame(address: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(address))
}

fn page(address: u64) -> Page {
    Page::containing_address(VirtAddr::new(address))
}

/// Guest tables at pages 1 to 4 that map 0x1000 × n, for entries of the last level.
fn simple_table(machine: &Machine) {
    machine.ram.write(0x1000, 0x2000 | FULL);
    machine.ram.write(0x2000, 0x3000 | FULL);
    machine.ram.write(0x3000, 0x4000 | FULL);
    machine.ram.write(0x4000 + 8 * 5, 0x9000 | FULL);
}

#[test]
fn a_device_sees_the_guests_pages_once_bound_and_not_before_or_after() {
    for format in [FirstStage4, SecondStage4, SecondStage3] {
        let machine = Setup::new(format).build();
        machine.assign(4);
        simple_table(&machine);
        let mut guest = machine.guest();
        let mut devices = Vec::new();
        guest.devices(|device| devices.push(device)).unwrap();
        let device_id = devices[0].id;
        let table = guest
            .allocate_user_table(device_id, Format::X86_64Level4, frame(ROOT))
            .unwrap();
        assert_eq!(machine.hardware.walk(rid(4), 0x5000), None);
        guest.bind(device_id, &table).unwrap();
        machine.check_translation(rid(4), ROOT, 0x5000);
        assert!(machine.hardware.walk(rid(4), 0x5000).is_some());
        machine.check_translation(rid(4), ROOT, 0x6000);

        machine.ram.write(0x4000 + 8 * 6, 0xa000 | FULL);
        let mut flush = FlushList::<(), 4>::new(&table);
        flush
            .add(table.mapped(Page::range_inclusive(page(0x6000), page(0x6000))))
            .unwrap();
        guest.flush(&mut flush).unwrap();
        machine.check_translation(rid(4), ROOT, 0x6000);
        assert!(machine.hardware.walk(rid(4), 0x6000).is_some());

        machine.ram.write(0x4000 + 8 * 5, 0);
        flush
            .add(table.changed(Page::range_inclusive(page(0x5000), page(0x5000))))
            .unwrap();
        guest.flush(&mut flush).unwrap();
        machine.check_translation(rid(4), ROOT, 0x5000);
        drop(flush);

        guest.unbind(device_id).unwrap();
        assert_eq!(machine.hardware.walk(rid(4), 0x6000), None);
        guest.destroy_table(table).unwrap();
        machine.policy.destroy_guest(common::machine::VM).unwrap();
        machine.check_nothing_left();
        assert_eq!(
            machine.around.resets.lock().unwrap().as_slice(),
            [device(4), device(4)]
        );
    }
}

#[test]
fn a_large_page_over_scattered_memory_becomes_small_ones() {
    for format in [FirstStage4, SecondStage4, SecondStage3] {
        let machine = Setup::new(format).build();
        machine.assign(4);
        simple_table(&machine);
        // Guest pages 0 to 511, of which few exist; and 2 MiB that are contiguous.
        machine.ram.write(0x3000 + 8, FULL | PS);
        machine.ram.write(0x3000 + 16, CONTIGUOUS << 12 | FULL | PS);
        let mut guest = machine.guest();
        let mut devices = Vec::new();
        guest.devices(|device| devices.push(device)).unwrap();
        let table = guest
            .allocate_user_table(devices[0].id, Format::X86_64Level4, frame(ROOT))
            .unwrap();
        guest.bind(devices[0].id, &table).unwrap();
        for number in 0..1024 {
            machine.check_translation(rid(4), ROOT, 0x20_0000 + number * 0x1000);
        }
    }
}
