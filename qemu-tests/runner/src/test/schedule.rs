//! Cases side by side on the CPUs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::{Case, Finding};

/// CPUs of this machine.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs every case, `jobs` at a time, shows each finding as it comes, and gives them in the
/// order of the cases.
pub(super) fn run(
    cases: &[Case],
    jobs: usize,
    execute: impl Fn(&Case) -> Finding + Sync,
    show: impl Fn(&Finding) + Sync,
) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, cases.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, case)) = take(cases, &next) {
                    let finding = execute(case);
                    let mut findings = lock(&findings);
                    // Under the lock, so that the lines of two cases do not mix.
                    show(&finding);
                    findings.push((index, finding));
                }
            });
        }
    });
    let mut findings = findings
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

fn take<'c>(cases: &'c [Case], next: &AtomicUsize) -> Option<(usize, &'c Case)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    cases.get(index).map(|case| (index, case))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
