//! The platform keeps its promises, and notices who breaks theirs.

use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Coherence, Frame, FrameList, Order, Platform};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use test_platform::TestPlatform;

#[test]
fn blocks_are_zeroed_aligned_and_counted() {
    let platform = TestPlatform::new(8);
    let page = platform.allocate(Order::PAGE).unwrap();
    let block = platform.allocate(Order::new(2).unwrap()).unwrap();
    assert_eq!(platform.outstanding(), 5);
    assert_eq!(block.hpa().as_u64() & 0x3fff, 0);
    assert!(
        block
            .cells()
            .iter()
            .all(|cell| cell.load(Ordering::Relaxed) == 0)
    );
    assert!(platform.allocate(Order::new(2).unwrap()).is_err());
    platform.release(page);
    platform.release(block);
    assert_eq!(platform.outstanding(), 0);
}

#[test]
fn a_gap_is_used_again() {
    let platform = TestPlatform::new(3);
    let frames: Vec<Frame> = (0..3)
        .map(|_| platform.allocate(Order::PAGE).unwrap())
        .collect();
    let mut frames = frames.into_iter();
    let (first, middle, last) = (
        frames.next().unwrap(),
        frames.next().unwrap(),
        frames.next().unwrap(),
    );
    let hpa = middle.hpa();
    platform.release(middle);
    let again = platform.allocate(Order::PAGE).unwrap();
    assert_eq!(again.hpa(), hpa);
    assert_eq!(again.load(7), Some(0));
    for frame in [first, again, last] {
        platform.release(frame);
    }
}

#[test]
fn the_ordered_allocation_fails_once() {
    let platform = TestPlatform::new(8);
    platform.fail_allocation(2);
    let one = platform.allocate(Order::PAGE).unwrap();
    assert!(platform.failure_is_pending());
    assert!(platform.allocate(Order::PAGE).is_err());
    assert!(!platform.failure_is_pending());
    let two = platform.allocate(Order::PAGE).unwrap();
    platform.release(one);
    platform.release(two);
}

#[test]
fn hardware_behind_the_caches_sees_what_was_written_back_line_by_line() {
    let platform = TestPlatform::non_coherent(1);
    let mut page = platform.allocate(Order::PAGE).unwrap();
    let at = |index: u64| iommu_core::Hpa::new(page.hpa().as_u64() + index * 8);
    let (first, in_line, next_line) = (at(0), at(7), at(8));
    for index in [0, 7, 8] {
        page.store_private(index, 5);
    }
    assert_eq!(platform.device_load(first), Some(0));
    platform.write_back(&page, 0..1);
    assert_eq!(platform.device_load(first), Some(5));
    assert_eq!(platform.device_load(in_line), Some(5));
    assert_eq!(platform.device_load(next_line), Some(0));
    platform.publish64(&page, 8, 6, Coherence::Snooped);
    assert_eq!(platform.device_load(next_line), Some(0));
    platform.publish64(&page, 8, 6, Coherence::WriteBack);
    assert_eq!(platform.device_load(next_line), Some(6));
    platform.release(page);
}

#[test]
fn snooping_hardware_sees_every_store() {
    let platform = TestPlatform::new(1);
    let mut page = platform.allocate(Order::PAGE).unwrap();
    page.store_private(3, 9);
    let at = iommu_core::Hpa::new(page.hpa().as_u64() + 24);
    assert_eq!(platform.device_load(at), Some(9));
    platform.device_store(at, 10);
    assert_eq!(page.load(3), Some(10));
    platform.release(page);
}

#[test]
fn the_watcher_hears_of_every_step() {
    let platform = TestPlatform::new(1);
    let page = platform.allocate(Order::PAGE).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let seen = steps.clone();
    platform.watch(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    platform.publish64(&page, 0, 1, Coherence::Snooped);
    platform.write_back(&page, 0..8);
    platform.unwatch();
    platform.publish64(&page, 0, 2, Coherence::Snooped);
    assert_eq!(steps.load(Ordering::Relaxed), 2);
    platform.release(page);
}

#[test]
fn a_leaked_frame_is_adopted_and_the_adoption_counted() {
    let platform = TestPlatform::new(1);
    let hpa = platform.allocate(Order::PAGE).unwrap().leak();
    // SAFETY: allocated above, leaked, and this is its only owner.
    let frame = unsafe { platform.adopt(hpa, Order::PAGE) };
    assert_eq!(platform.adoptions().get(&hpa), Some(&1));
    platform.release(frame);
}

#[test]
#[should_panic(expected = "is not such a block")]
fn adopting_released_memory_panics() {
    let platform = TestPlatform::new(1);
    let frame = platform.allocate(Order::PAGE).unwrap();
    let hpa = frame.hpa();
    platform.release(frame);
    // SAFETY: none; the platform refuses before a frame comes into being.
    let _ = unsafe { platform.adopt(hpa, Order::PAGE) }.leak();
}

#[test]
fn frames_survive_a_list() {
    let platform = TestPlatform::new(3);
    let mut list = FrameList::new();
    for _ in 0..3 {
        list.push(platform.allocate(Order::PAGE).unwrap()).unwrap();
    }
    while let Some(frame) = list.pop() {
        platform.release(frame);
    }
    assert_eq!(platform.outstanding(), 0);
}

#[test]
fn locks_in_the_order_of_their_ranks_are_taken() {
    let platform = TestPlatform::new(1);
    let (low, high) = (Mutex::new(Rank::Domains, 1), Mutex::new(Rank::Queue, 2));
    let outer = low.lock(&platform);
    let inner = high.lock(&platform);
    assert_eq!(*outer + *inner, 3);
}

#[test]
#[should_panic(expected = "Domains taken while Queue is held")]
fn locks_against_the_order_panic() {
    let platform = TestPlatform::new(1);
    let (low, high) = (Mutex::new(Rank::Domains, 1), Mutex::new(Rank::Queue, 2));
    let _outer = high.lock(&platform);
    let _inner = low.lock(&platform);
}
