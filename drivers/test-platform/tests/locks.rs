//! Locks of `iommu_core` between real threads.

use iommu_core::sync::Turn;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use test_platform::TestPlatform;

/// Long enough for a thread to begin to wait.
const A_WHILE: Duration = Duration::from_millis(50);

#[test]
fn a_lock_is_had_in_the_order_in_which_it_was_asked_for() {
    let platform = Arc::new(TestPlatform::new(1));
    let order = Arc::new(Turn::new(Vec::new()));
    let held = order.take(&*platform);
    let waiting: Vec<_> = (1..=3)
        .map(|number| {
            let (platform, order) = (platform.clone(), order.clone());
            let waiter = thread::spawn(move || order.take(&*platform).push(number));
            thread::sleep(A_WHILE);
            waiter
        })
        .collect();
    drop(held);
    // Whoever had it last asks again at once, and comes last.
    order.take(&*platform).push(0);
    for waiter in waiting {
        waiter.join().expect("a waiter");
    }
    assert_eq!(*order.take(&*platform), [1, 2, 3, 0]);
}
