//! What page requests cost those who wait: answers are given together, a slot is drained twice
//! at most, and passes over the units' queues serve whoever came before they began.

mod common;

use common::machine::{ROOT, VM, device, page_request, rid};
use common::{Bench, Setup};
use iommu_abi::{Bind, PasidAllocate};
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{Nanoseconds, Pasid, Platform as _, Slot};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn ask(bench: &Bench, slot: Slot, groups: std::ops::Range<u16>) {
    let mut state = bench.machine.hardware.state.lock().unwrap();
    state
        .asked
        .extend(groups.map(|group| page_request(slot, group)));
}

/// A device that asks, with its table bound, and by so many PASIDs too.
fn asking(pasids: u32) -> Bench {
    let bench = Bench::new(Setup::new(FirstStage4));
    bench.allow_asking();
    let ioas_id = bench.allocate(ROOT);
    let bind = |flags, pasid| {
        let result = bench.machine.call(&mut Bind {
            flags: Bind::PAGE_REQUESTS | flags,
            device_id: bench.device_id,
            ioas_id,
            pasid,
            ..Bind::new()
        });
        assert_eq!(result, 0);
    };
    bind(0, 0);
    for _ in 0..pasids {
        let mut ask = PasidAllocate {
            minimum: 1,
            maximum: 100,
            ..PasidAllocate::new()
        };
        assert_eq!(bench.machine.call(&mut ask), 0);
        bind(Bind::PASID, ask.pasid);
    }
    bench
}

fn answered_at_once(bench: &Bench) -> Vec<usize> {
    let mut state = bench.machine.hardware.state.lock().unwrap();
    std::mem::take(&mut state.answered_at_once)
}

#[test]
fn what_a_pass_refuses_is_answered_together() {
    for (asked, together) in [
        (1, vec![1]),
        (40, vec![40]),
        (128, vec![128]),
        (200, vec![128, 72]),
    ] {
        // It was not bound for asking.
        let (bench, _) = Bench::bound(Setup::new(FirstStage4));
        ask(&bench, rid(4), 0..asked);
        let served = bench.machine.policy.serve_page_requests();
        assert_eq!((served.requests, served.told), (asked.into(), 0));
        assert_eq!((served.answered, served.unanswered), (asked.into(), 0));
        assert_eq!(answered_at_once(&bench), together);
        let state = bench.machine.hardware.state.lock().unwrap();
        let groups: Vec<u16> = state.answered.iter().map(|answer| answer.group).collect();
        assert_eq!(groups, (0..asked).collect::<Vec<_>>());
        drop(state);
        bench.end();
    }
}

#[test]
fn groups_that_wait_are_refused_together_when_their_slot_is_unbound() {
    let bench = asking(0);
    ask(&bench, rid(4), 0..20);
    assert_eq!(bench.machine.policy.serve_page_requests().told, 20);
    assert_eq!(answered_at_once(&bench), []);
    assert_eq!(bench.unbind(bench.device_id), 0);
    assert_eq!(answered_at_once(&bench), [16, 4]);
    bench.end();
}

#[test]
fn a_slot_is_drained_once_more_where_requests_were_dropped_and_never_again() {
    for (overflows, drains) in [(false, 1), (true, 2)] {
        let bench = asking(0);
        // Neighbours ask so much that there is never any room.
        bench.machine.hardware.state.lock().unwrap().overflows = overflows;
        assert_eq!(bench.unbind(bench.device_id), 0);
        let state = bench.machine.hardware.state.lock().unwrap();
        assert_eq!(state.drained, vec![rid(4); drains]);
        assert_eq!(state.passes, 1);
        drop(state);
        bench.end();
    }
}

#[test]
fn all_that_a_guest_has_bound_ends_with_one_pass() {
    let bench = asking(3);
    // By a PASID whose end is not the last: it is taken when all are.
    let slot = Slot {
        pasid: Pasid::new(1),
        ..rid(4)
    };
    ask(&bench, slot, 5..6);
    bench.machine.policy.take_back(VM, device(4)).unwrap();
    let state = bench.machine.hardware.state.lock().unwrap();
    assert_eq!((state.drained.len(), state.passes), (4, 1));
    assert!(state.asked.is_empty());
    assert_eq!(state.answered.len(), 1);
    drop(state);
    bench.end();
}

#[test]
fn what_was_asked_before_somebody_came_is_taken_when_they_leave() {
    let (bench, _) = Bench::bound(Setup::new(FirstStage4));
    let bench = Arc::new(bench);
    let hardware = bench.machine.hardware.clone();
    let platform = bench.machine.platform.clone();
    let (called, calls) = mpsc::channel();
    let released = Arc::new(Mutex::new(()));
    let held = released.lock().unwrap();
    let gate = released.clone();
    hardware.after_taking({
        let hardware = hardware.clone();
        move || {
            // The pass that is made has looked already.
            let late = page_request(rid(4), 7);
            hardware.state.lock().unwrap().asked.push(late);
            called.send(()).unwrap();
            drop(gate.lock());
        }
    });
    std::thread::scope(|scope| {
        let policy = &bench.machine.policy;
        let first = scope.spawn(|| policy.serve_page_requests());
        calls.recv().unwrap();
        let second = scope.spawn(|| policy.serve_page_requests());
        // It waits for its turn: nobody else lets time pass.
        let begun = platform.now();
        while platform.now().since(begun) < Nanoseconds::from_micros(50) {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        assert_eq!(first.join().unwrap().requests, 0);
        assert_eq!(second.join().unwrap().answered, 1);
    });
    assert_eq!(hardware.state.lock().unwrap().passes, 2);
}
