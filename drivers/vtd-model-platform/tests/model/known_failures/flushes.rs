//! Invalidations that were left out, or came too late.

use super::each;
use crate::device_tlbs::{self, CACHING};
use crate::guest::{ALL, BASE};
use crate::nesting::{self, Nest};
use crate::rig::{ONE, range, read, write};
use iommu_core::{Access, Backend, Iova, MapError, Order, Platform, Run};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vtd_model::{Access as Wants, Promptness};

const IQT: usize = 0x88;

#[test]
fn xsa_78_every_page_that_is_unmapped_is_flushed() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        // In one table, in another one, and one page of many.
        for (first, pages) in [(0x7000, 1), (0x1f_f000, 2), (0x4000_0000, 3)] {
            let frames: Vec<_> = (0..pages).map(|_| rig.page(1)).collect();
            for (at, frame) in (first..).step_by(0x1000).zip(&frames) {
                rig.map(domain, at, frame.hpa(), Access::READ_WRITE);
                rig.assert_reaches(&write(ONE, at), frame.hpa());
            }
            for (at, frame) in (first..).step_by(0x1000).zip(frames) {
                rig.unmap(domain, at, 1);
                // From here on it is somebody else's, and the model judges who reaches it.
                rig.platform.release(frame);
                rig.assert_blocked(&write(ONE, at));
            }
        }
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn xsa_80_after_a_call_that_failed_the_next_one_flushes_all_the_same() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let frame = rig.page(1);
        let run = Run {
            hpa: frame.hpa(),
            pages: 1,
        };
        let map = |at| {
            rig.driver
                .map(domain, Iova::new(at), &[run], Access::READ_WRITE)
        };
        for _ in 0..3 {
            rig.map(domain, 0x7000, frame.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, 0x7000), frame.hpa());
            // One for want of memory, one because something is there already.
            rig.platform.arena().fail_allocation(1);
            let failed = map(0x20_0000_0000);
            rig.platform.arena().fail_allocation(0);
            assert!(matches!(failed, Err(MapError::OutOfFrames(_))));
            assert!(matches!(map(0x7000), Err(MapError::Occupied(_))));
            rig.unmap(domain, 0x7000, 1);
            rig.assert_blocked(&read(ONE, 0x7000));
        }
        rig.platform.release(frame);
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn xsa_275_small_pages_are_not_merged_under_a_device() {
    each(|rig, format| {
        let block = rig.platform.allocate(Order::PAGE_2M).expect("2 MiB");
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let first = 0x4000_0000;
        // As one large page would lie, one after the other.
        for page in 0..512 {
            let hpa = iommu_core::Hpa::new(block.hpa().as_u64() + page * 0x1000);
            rig.map(domain, first + page * 0x1000, hpa, Access::READ_WRITE);
        }
        let kept = [(first, 99), (first + 100 * 0x1000, 412)];
        let at = block.hpa().as_u64();
        rig.with(|machine| {
            for (from, pages) in kept {
                machine.expect(ONE, None, from, pages * 0x1000, at + (from - first), true);
            }
        });
        // None of the others misses a step.
        rig.unmap(domain, first + 99 * 0x1000, 1);
        rig.assert_blocked(&read(ONE, first + 99 * 0x1000));
        rig.with(|machine| {
            for (from, pages) in kept {
                machine.release(ONE, None, from, pages * 0x1000);
            }
        });
        rig.unmap(domain, first, 512);
        rig.detach(ONE, None);
        rig.destroy(domain);
        rig.platform.release(block);
    });
}

#[test]
fn xsa_346_nothing_comes_back_before_its_flush() {
    each(|rig, format| {
        rig.assign(ONE, 1);
        let domain = rig.domain(ONE, format);
        rig.attach(ONE, None, domain);
        let frame = rig.page(1);
        rig.map(domain, 0x4000_0000, frame.hpa(), Access::READ_WRITE);
        let taken = rig.taken();
        let owed = rig.driver.unmap(domain, range(0x4000_0000, 1));
        let owed = owed.expect("unmapped");
        // The tables are empty, and hardware may still walk them.
        assert_eq!(rig.taken(), taken);
        rig.settle(owed);
        assert!(rig.taken() < taken);
        rig.platform.release(frame);
        rig.detach(ONE, None);
        rig.destroy(domain);
    });
}

#[test]
fn xsa_442_what_a_slot_led_to_is_forgotten_in_every_cache() {
    device_tlbs::each(Promptness::Prompt, |rig, case| {
        let [old, new] = [(); 2].map(|()| rig.domain(CACHING, case.format));
        let [first, second] = [(); 2].map(|()| rig.page(1));
        rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
        rig.map(new, 0x7000, second.hpa(), Access::READ_WRITE);
        rig.attach(CACHING, case.pasid, old);
        device_tlbs::enable(rig, false);
        let reached = |rig: &_| device_tlbs::access(rig, case, 0x7000).address();
        assert_eq!(reached(rig), Some(first.hpa().as_u64()));
        rig.attach(CACHING, case.pasid, new);
        rig.platform.release(first);
        assert_eq!(reached(rig), Some(second.hpa().as_u64()));
        rig.detach(CACHING, case.pasid);
        rig.platform.release(second);
        assert_eq!(reached(rig), None);
        rig.destroy(old);
        rig.destroy(new);
        let plain = vtd_model::Request {
            pasid: case.pasid,
            ..write(CACHING, 0x7000)
        };
        assert_eq!(plain.access, Wants::Write);
        rig.assert_blocked(&plain);
    });
}

#[test]
fn qi_batch_a_second_stage_that_was_never_attached_itself_is_flushed_too() {
    nesting::each(|rig, pasid| {
        let nest = Nest::new(rig, pasid);
        let capabilities = rig.driver.capabilities(crate::rig::device(ONE));
        if capabilities.expect("a unit").coherent {
            let data = nest.guest.data(3);
            nest.guest.map(nest.root, 0x5000, data, ALL);
            let request = nesting::at(pasid, read(ONE, 0x5000));
            rig.assert_reaches(&request, nest.guest.hpa(data));
            rig.unmap(nest.parent, data, 1);
            rig.platform.release(nest.guest.lose(data));
            rig.assert_blocked(&request);
            assert!(data >= BASE);
        }
        nest.end(pasid);
    });
}

#[test]
fn cve_2024_49993_an_empty_batch_waits_for_nothing() {
    each(|rig, _| {
        let doorbells = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&doorbells);
        rig.platform.before_writes(move |_, _, offset, _| {
            if offset == IQT {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut batch = rig.batch();
        for _ in 0..3 {
            rig.commit(&mut batch);
        }
        assert_eq!(doorbells.load(Ordering::Relaxed), 0);
    });
}
