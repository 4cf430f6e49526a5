//! The driver's counters, held against what arrives at the unit.

use crate::rig::{ONE, Plan, read};
use crate::units;
use iommu_core::{Access, Nanoseconds, Platform as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const IQT: usize = 0x88;
/// Slots of the driver's queue.
const SLOTS: u64 = vtd::queue::SLOTS as u64;

#[test]
fn doorbells_descriptors_waits_and_faults_are_those_that_the_unit_saw() {
    for kind in units::all() {
        if !kind.config.queued_invalidation {
            continue;
        }
        eprintln!("{}", kind.name);
        let rig = Plan::new(kind.config.clone()).mode(kind.mode).start();
        // Wide slots have 32 bytes, and IQT counts bytes.
        let slot_bytes = if kind.config.scalable_mode || kind.config.abort_dma {
            32
        } else {
            16
        };
        let doorbells = Arc::new(AtomicU64::new(0));
        let descriptors = Arc::new(AtomicU64::new(0));
        let tail = Arc::new(AtomicU64::new(u64::MAX));
        let (rung, written) = (doorbells.clone(), descriptors.clone());
        rig.platform
            .before_writes(move |machine, unit, offset, value| {
                if offset == IQT {
                    let before = machine.read(unit, IQT, vtd_model::Width::Qword);
                    let size = SLOTS * slot_bytes;
                    rung.fetch_add(1, Ordering::Relaxed);
                    written.fetch_add(
                        (value + size - before) % size / slot_bytes,
                        Ordering::Relaxed,
                    );
                    tail.store(value, Ordering::Relaxed);
                }
            });
        let before = rig.driver.statistics(0).expect("a unit");
        let begun = rig.platform.now();
        let format = iommu_core::TableFormat::ALL
            .into_iter()
            .find(|&format| {
                let can = iommu_core::Backend::capabilities(&rig.driver, crate::rig::device(ONE));
                can.expect("a unit").supports(format)
            })
            .expect("a format");
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let page = rig.page(1);
        for round in 0..5 {
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.unmap(domain, 0x7000, 1 + round);
            rig.with(|machine| machine.request(&read(ONE, 0x7000)));
            assert_eq!(rig.faults().len(), 1);
        }
        let after = rig.driver.statistics(0).expect("a unit");
        let rung = doorbells.load(Ordering::Relaxed);
        assert!(rung >= 5);
        assert_eq!(after.doorbells - before.doorbells, rung);
        assert_eq!(after.waits - before.waits, rung, "a wait for each doorbell");
        assert_eq!(
            after.descriptors - before.descriptors,
            descriptors.load(Ordering::Relaxed)
        );
        assert_eq!(after.faults - before.faults, 5);
        let times = after.wait_times;
        assert_eq!(times.count - before.wait_times.count, rung);
        assert!(times.least <= times.median && times.least <= times.most);
        assert!(times.least > 0, "looking at the clock takes time");
        assert!(Nanoseconds(times.most) <= rig.platform.now().since(Nanoseconds(0)));
        assert!(rig.platform.now().since(begun).0 >= times.least * 5);
        rig.platform.release(page);
    }
}
