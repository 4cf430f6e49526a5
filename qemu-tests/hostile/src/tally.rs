//! What was done, and whether it was enough to prove something.

use iommu_abi::{Errno, Op};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Counts of one run, or of many.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Hypercalls.
    pub calls: u64,
    /// By number of operation: calls, and those that succeeded.
    pub ops: BTreeMap<u32, (u64, u64)>,
    /// By error number.
    pub errnos: BTreeMap<u32, u64>,
    /// Requests of devices, and those that went through.
    pub requests: (u64, u64),
    /// Guests that died.
    pub kills: u64,
    /// Bindings that took the place of another one, or came where one had been.
    pub rebinds: u64,
    /// Pages that were taken from a guest that lived on.
    pub taken_pages: u64,
    /// Operations of rings that were done, and those of them that succeeded.
    pub ring_operations: (u64, u64),
    /// Requests of devices that guests share, and those that went through.
    pub shared_requests: (u64, u64),
    /// Pages that devices asked for.
    pub asked: u64,
    /// Groups of those requests that were whole.
    pub groups: u64,
    /// Groups that guests read of.
    pub told: u64,
    /// Groups that guests answered.
    pub answered_by_guests: u64,
    /// Groups that guests or, in their place, the hypervisor answered.
    pub answered_by_software: u64,
    /// Groups that units answered by themselves.
    pub answered_by_units: u64,
    /// Devices that changed hands.
    pub moves: u64,
    /// Times that hardware did not answer in time.
    pub stalls: u64,
    /// Allocations that failed.
    pub failures: u64,
    /// Changes of ownership and outcomes of requests that were held against who owns what.
    pub containment: u64,
    /// Steps at which another virtual CPU could have gone on, and those at which one did.
    pub steps: (u64, u64),
    /// Runs.
    pub runs: u64,
    /// How long calls of a well-behaved guest took, by operation, beside hostile ones.
    pub latencies: BTreeMap<u32, Vec<Latency>>,
    /// The same where it was alone.
    pub alone: BTreeMap<u32, Vec<Latency>>,
    /// The most turns that a call waited beside hostile guests, and its run's seed.
    pub slowest: (u32, u64),
    /// What was left when all guests were gone.
    pub leaks: u64,
}

/// How long a call took. Everybody goes on at the same pace then, as on CPUs of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Latency {
    /// Its own steps.
    pub steps: u32,
    /// Turns of waiting loops among them: for hardware, and for locks that others hold.
    pub waits: u32,
}

/// A call of a well-behaved guest may wait for so many turns, whatever its neighbours do.
///
/// What it waits for is bounded: rounds of its own through a unit's queue, as many as it has
/// slots and address spaces to tell of; what the hypervisor does to the guest itself at the
/// time, which is the same; and for a slot whose device asks for pages, the rest of one pass
/// over the units' page requests and a whole one, each with a wait for every 128 answers.
pub const LATENCY_LIMIT: u32 = 300;

impl Tally {
    pub(crate) fn call(&mut self, op: Option<Op>, result: i64) {
        self.calls += 1;
        if let Some(op) = op {
            let count = self.ops.entry(op.as_u32()).or_default();
            count.0 += 1;
            count.1 += u64::from(result >= 0);
        }
        if result < 0 {
            let number = u32::try_from(result.unsigned_abs()).unwrap_or(u32::MAX);
            *self.errnos.entry(number).or_default() += 1;
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        for (op, (calls, good)) in &other.ops {
            let count = self.ops.entry(*op).or_default();
            count.0 += calls;
            count.1 += good;
        }
        for (errno, count) in &other.errnos {
            *self.errnos.entry(*errno).or_default() += count;
        }
        self.requests.0 += other.requests.0;
        self.requests.1 += other.requests.1;
        self.ring_operations.0 += other.ring_operations.0;
        self.ring_operations.1 += other.ring_operations.1;
        self.shared_requests.0 += other.shared_requests.0;
        self.shared_requests.1 += other.shared_requests.1;
        self.asked += other.asked;
        self.groups += other.groups;
        self.told += other.told;
        self.answered_by_guests += other.answered_by_guests;
        self.answered_by_software += other.answered_by_software;
        self.answered_by_units += other.answered_by_units;
        self.kills += other.kills;
        self.rebinds += other.rebinds;
        self.taken_pages += other.taken_pages;
        self.moves += other.moves;
        self.stalls += other.stalls;
        self.failures += other.failures;
        self.containment += other.containment;
        self.steps.0 += other.steps.0;
        self.steps.1 += other.steps.1;
        self.runs += other.runs;
        self.leaks += other.leaks;
        self.slowest = self.slowest.max(other.slowest);
        for (all, more) in [
            (&mut self.latencies, &other.latencies),
            (&mut self.alone, &other.alone),
        ] {
            for (op, steps) in more {
                all.entry(*op).or_default().extend(steps);
            }
        }
    }

    /// Why the counts prove nothing; empty if they do.
    pub fn shortfalls(&self) -> Vec<String> {
        let mut short = Vec::new();
        for op in Op::ALL {
            let (calls, good) = self.ops.get(&op.as_u32()).copied().unwrap_or_default();
            if calls == 0 || good * 5 < calls {
                short.push(format!(
                    "{} succeeded in {good} of {calls} calls",
                    op.name()
                ));
            }
        }
        for errno in Errno::ALL {
            if !self.errnos.contains_key(&errno.as_u32()) {
                short.push(format!("{} was never seen", errno.name()));
            }
        }
        let (requests, through) = self.requests;
        if requests == 0 || through * 10 < requests * 3 || through * 10 > requests * 9 {
            short.push(format!(
                "{through} of {requests} device requests went through"
            ));
        }
        let minima = [
            ("guests killed", self.kills, self.calls / 200),
            ("rebinds", self.rebinds, self.calls / 100),
            (
                "pages taken from living guests",
                self.taken_pages,
                self.calls / 200,
            ),
            (
                "operations of rings that succeeded",
                self.ring_operations.1,
                self.calls / 100,
            ),
            (
                "requests of shared devices that went through",
                self.shared_requests.1,
                self.calls / 500,
            ),
            ("pages that devices asked for", self.asked, self.calls / 50),
            (
                "groups of page requests that guests read of",
                self.told,
                self.calls / 400,
            ),
            (
                "groups of page requests answered by guests",
                self.answered_by_guests,
                self.calls / 1000,
            ),
            (
                "groups of page requests answered in a guest's place",
                self.answered_in_place(),
                self.calls / 1000,
            ),
            ("device requests", self.requests.0, self.calls / 2),
            ("containment checks", self.containment, self.calls),
            ("switches between virtual CPUs", self.steps.1, self.calls),
        ];
        for (what, count, minimum) in minima {
            if count < minimum.max(1) {
                short.push(format!("{count} {what}, fewer than {minimum}"));
            }
        }
        if self.latencies.is_empty() || self.alone.is_empty() {
            short.push("no latency was measured".to_owned());
        }
        short
    }

    /// Groups that the hypervisor answered, because their guest could not or must not.
    pub fn answered_in_place(&self) -> u64 {
        self.answered_by_software
            .saturating_sub(self.answered_by_guests)
    }

    /// Calls of well-behaved guests that took too long.
    pub fn too_late(&self) -> u64 {
        let all = self.latencies.values().flatten();
        all.filter(|latency| latency.waits > LATENCY_LIMIT).count() as u64
    }

    /// The longest of them, in words, if there was one.
    pub(crate) fn late_words(&self) -> Option<String> {
        let (waits, _) = self.slowest;
        (waits > LATENCY_LIMIT).then(|| {
            format!(
                "a call of a well-behaved guest waited {waits} turns, more than {LATENCY_LIMIT}"
            )
        })
    }

    /// All of it, for people.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| {
            text.push_str(&words);
            text.push('\n');
        };
        line(format!(
            "{} runs, {} steps, {} switches",
            self.runs, self.steps.0, self.steps.1
        ));
        line("operation          calls  succeeded   steps, waiting: median alone, beside others, worst alone, beside others".to_owned());
        for op in Op::ALL {
            let (calls, good) = self.ops.get(&op.as_u32()).copied().unwrap_or_default();
            let mut words = format!(
                "{:16} {calls:>8}  {:>7.1} %",
                op.name(),
                percent(good, calls)
            );
            let spreads = [&self.alone, &self.latencies].map(|all| {
                all.get(&op.as_u32())
                    .map(|all| spread(all))
                    .unwrap_or_default()
            });
            for at in [0, 1] {
                for spread in spreads {
                    let _ = write!(words, "  {:>5} {:>3}", spread[at].steps, spread[at].waits);
                }
            }
            line(words);
        }
        let errnos: Vec<String> = self
            .errnos
            .iter()
            .map(|(number, count)| {
                let name = Errno::from_u32(*number).map_or("?", Errno::name);
                format!("{name} {count}")
            })
            .collect();
        line(format!("errors: {}", errnos.join(", ")));
        line(format!(
            "device requests: {}, {:.1} % went through",
            self.requests.0,
            percent(self.requests.1, self.requests.0)
        ));
        line(format!(
            "{} guests killed, {} rebinds, {} devices moved, {} pages taken, {} allocations failed, {} stalls",
            self.kills, self.rebinds, self.moves, self.taken_pages, self.failures, self.stalls
        ));
        line(format!(
            "{} operations of rings, {:.1} % succeeded; {} requests of shared devices, {:.1} % went through",
            self.ring_operations.0,
            percent(self.ring_operations.1, self.ring_operations.0),
            self.shared_requests.0,
            percent(self.shared_requests.1, self.shared_requests.0),
        ));
        line(format!(
            "{} pages asked for, {} groups whole: {} read of by guests, {} answered by them, {} in their place, {} by units",
            self.asked,
            self.groups,
            self.told,
            self.answered_by_guests,
            self.answered_in_place(),
            self.answered_by_units,
        ));
        line(format!("{} containment checks", self.containment));
        line(format!(
            "the longest that a well-behaved guest's call waited: {} turns beside hostile guests (--run {}), {} alone; limit {LATENCY_LIMIT}",
            self.slowest.0,
            self.slowest.1,
            longest(&self.alone),
        ));
        text
    }
}

fn longest(all: &BTreeMap<u32, Vec<Latency>>) -> u32 {
    let waits = all.values().flatten().map(|latency| latency.waits);
    waits.max().unwrap_or(0)
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Median and worst, of steps and of waits each.
fn spread(all: &[Latency]) -> [Latency; 2] {
    let of = |pick: fn(&Latency) -> u32| {
        let mut sorted: Vec<u32> = all.iter().map(pick).collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        [median, sorted.last().copied().unwrap_or(0)]
    };
    let (steps, waits) = (of(|all| all.steps), of(|all| all.waits));
    [0, 1].map(|at| Latency {
        steps: steps[at],
        waits: waits[at],
    })
}
