//! The counted figures at the end of a run (`docs/wire.md`, "Figures").

use crate::host::Host;
use crate::log::{self, report};
use crate::remapping::faults;
use crate::{cpu, memory};
use vtd::Statistics;

/// Reports what units, memory and log have counted.
pub fn figures(host: &Host) {
    faults::drain();
    let driver = &host.remapping.driver;
    let sum = |count: fn(&Statistics) -> u64| -> u64 {
        let units = driver.units().filter_map(|unit| driver.statistics(unit));
        units.map(|statistics| count(&statistics)).sum()
    };
    report::figure("descriptors", sum(|s| s.descriptors));
    report::figure("doorbells", sum(|s| s.doorbells));
    report::figure("waits", sum(|s| s.waits));
    report::figure("refills", sum(|s| s.refills));
    report::figure("faults", sum(|s| s.faults));
    report::figure("faults-lost", sum(|s| s.fault_overflows));
    report::figure("fault-interrupts", faults::interrupts());
    report::figure("queue-errors", sum(|s| s.queue_errors));
    report::figure("wait-timeouts", sum(|s| s.timeouts));
    let longest = |time: fn(&Statistics) -> u64| -> u64 {
        let units = driver.units().filter_map(|unit| driver.statistics(unit));
        units.map(|statistics| time(&statistics)).max().unwrap_or(0)
    };
    report::figure("wait-ns-least", longest(|s| s.wait_times.least));
    report::figure("wait-ns-median", longest(|s| s.wait_times.median));
    report::figure("wait-ns-most", longest(|s| s.wait_times.most));
    report::figure("unclaimed-interrupts", cpu::vectors::unclaimed());
    let frames = memory::counters();
    report::figure("pages-free", frames.free);
    report::figure("pages-least-free", frames.least_free);
    report::figure("heap-bytes-used", memory::heap_counters().used as u64);
    report::figure("log-records-dropped", log::dropped());
}
