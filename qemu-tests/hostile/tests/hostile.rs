//! A short campaign, as a test: whatever guests do, every promise holds; broken drivers are
//! caught; the same seed does the same.

use hostile::{Campaign, Fault};
use std::time::Duration;

fn campaign(seed: u64, calls: u64) -> Campaign {
    Campaign {
        seed,
        calls,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        patience: Duration::from_secs(20),
    }
}

#[test]
fn whatever_guests_do_every_promise_holds() {
    let verdict = campaign(1, 6_000).run(|_, _| ());
    assert!(verdict.failures.is_empty(), "{:#?}", verdict.failures);
    assert_eq!((verdict.violations, verdict.tally.leaks), (0, 0));
    assert_eq!(verdict.tally.too_late(), 0, "{}", verdict.tally.report());
    // Errors that a unit must be ill for are seldom: the long run asks for each of them.
    let seldom = |words: &String| words.ends_with("was never seen");
    let short: Vec<String> = verdict.tally.shortfalls();
    let short: Vec<&String> = short.iter().filter(|words| !seldom(words)).collect();
    assert!(short.is_empty(), "{short:#?}\n{}", verdict.tally.report());
}

#[test]
fn every_broken_driver_is_caught() {
    for fault in Fault::ALL {
        let caught = campaign(1, 0).catch(fault);
        let caught = caught.unwrap_or_else(|calls| panic!("{fault:?}: not in {calls} calls"));
        assert!(!caught.words.is_empty());
    }
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    let [first, again, other] = [5, 5, 6].map(|seed| campaign(seed, 1_000).run(|_, _| ()).tally);
    assert_eq!(first.report(), again.report());
    assert_ne!(first.report(), other.report());
}

#[test]
fn real_threads_break_no_promise() {
    let verdict = campaign(1, 1_000).on_threads(|_, _| ());
    assert!(verdict.failures.is_empty(), "{:#?}", verdict.failures);
    assert!(verdict.tally.calls > 200);
}
