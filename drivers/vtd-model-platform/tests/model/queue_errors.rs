//! Queues that stop: refused descriptors, silent devices, answers that nobody asked for.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, read};
use iommu_core::{
    Access, Attachment, Backend, DomainHandle, FlushError, Frame, Nanoseconds, Platform,
    TableFormat,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vtd::{Event, ModeRequest, TimeLimits};
use vtd_model::{Config, Freedom, Machine, Promptness, Rule, Width};

const IQT: usize = 0x88;
const IQA: usize = 0x90;
/// A function with a device-TLB that never answers.
const SILENT: u16 = 0x0420;

/// What is put in the place of a descriptor.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Type 0.
    NoType,
    /// An IOTLB invalidation of no granularity.
    NoGranularity,
    /// A device-TLB invalidation of a device that never answers.
    Silent,
}

impl Damage {
    fn words(self) -> [u64; 2] {
        match self {
            Self::NoType => [0, 0],
            Self::NoGranularity => [2, 0],
            Self::Silent => [3 | (SILENT as u64) << 32, 0x7fff_ffff_ffff_f001],
        }
    }
}

/// Damages the descriptor at this position of the next batch, once. Says how many
/// descriptors the batch had.
fn damage(rig: &Rig, position: usize, damage: Damage) -> Arc<AtomicUsize> {
    let length = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&length);
    rig.platform
        .before_writes(move |machine, unit, offset, tail| {
            if offset != IQT || seen.load(Ordering::Relaxed) != 0 {
                return;
            }
            let slots = queued(machine, unit, tail);
            seen.store(slots.len(), Ordering::Relaxed);
            if let Some(&slot) = slots.get(position) {
                let [low, high] = damage.words();
                machine.write_u64(slot, low);
                machine.write_u64(slot + 8, high);
            }
        });
    length
}

/// Where the descriptors lie that a write of the tail adds.
fn queued(machine: &mut Machine, unit: usize, tail: u64) -> Vec<u64> {
    let address = machine.read(unit, IQA, Width::Qword);
    let slot = if address & 0x800 == 0 { 16 } else { 32 };
    let bytes = 4096 << (address & 7);
    let mut at = machine.read(unit, IQT, Width::Qword);
    let mut slots = Vec::new();
    while at != tail {
        slots.push((address & !0xfff) + at);
        at = (at + slot) % bytes;
    }
    slots
}

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (config, mode) in [
        (
            Config {
                device_tlb: true,
                ..Config::legacy()
            },
            ModeRequest::Legacy,
        ),
        (Config::scalable_with_ats(), ModeRequest::SecondStage),
        (Config::scalable_with_ats(), ModeRequest::FirstStage),
    ] {
        for freedom in FREEDOMS {
            let plan = Plan::new(config.clone()).mode(mode).freedom(freedom);
            plans.push(Plan {
                limits: TimeLimits {
                    command: Nanoseconds::from_millis(10),
                    flush: Nanoseconds::from_millis(10),
                },
                ..plan.ats_device(SILENT, 0, Promptness::Never)
            });
        }
    }
    plans
}

fn format(plan: &Plan) -> TableFormat {
    match plan.mode {
        ModeRequest::FirstStage => TableFormat::FirstStage4,
        _ => TableFormat::SecondStage4,
    }
}

/// Only the queue's own errors, which the damage is.
#[track_caller]
fn assert_only_queue_errors(rig: &Rig) {
    for violation in rig.platform.take_violations() {
        assert_eq!(violation.rule, Rule::Queue, "{violation:?}");
        assert!(violation.message.contains("queue error"), "{violation:?}");
    }
}

/// A domain with a page at 0x7000, 0x9000, … and a device attached to it.
fn mapped(rig: &Rig, format: TableFormat, source: u16) -> (DomainHandle, Vec<Frame>) {
    let domain = rig.domain(source, format);
    rig.attach(source, None, domain);
    let pages: Vec<Frame> = (0..3).map(|_| rig.page(1)).collect();
    for (page, at) in pages.iter().zip((0x7000..).step_by(0x2000)) {
        rig.map(domain, at, page.hpa(), Access::READ_WRITE);
    }
    (domain, pages)
}

/// Unmaps the three pages in one batch, and commits.
fn unmap_all(rig: &Rig, domain: DomainHandle) -> Result<(), FlushError> {
    let mut batch = rig.batch();
    for at in (0x7000..).step_by(0x2000).take(3) {
        let owed = rig.driver.unmap(domain, crate::rig::range(at, 1));
        batch.add(owed.expect("unmapped")).expect("room");
    }
    let flushed = rig.driver.commit(&mut batch)?;
    rig.release(flushed);
    Ok(())
}

#[test]
fn a_refused_descriptor_is_named_wherever_it_stands_and_the_queue_goes_on() {
    for plan in plans() {
        for kind in [Damage::NoType, Damage::NoGranularity] {
            for position in 0.. {
                let rig = plan.start();
                eprintln!("{:?}, {kind:?} at {position}", plan.mode);
                let (domain, _pages) = mapped(&rig, format(&plan), ONE);
                let length = damage(&rig, position, kind);
                let result = unmap_all(&rig, domain);
                let length = length.load(Ordering::Relaxed);
                assert!(length >= 4, "three ranges and a wait");
                if position >= length {
                    assert_eq!(result, Ok(()));
                    rig.assert_clean();
                    break;
                }
                assert_only_queue_errors(&rig);
                let waits = position + 1 == length;
                if waits {
                    // The wait is written anew: nothing was lost.
                    assert_eq!(result, Ok(()));
                } else {
                    let code = 4 - u8::from(matches!(kind, Damage::NoType));
                    let code_found = match result {
                        Err(FlushError::DescriptorRefused { unit: 0, code }) => code,
                        other => panic!("{other:?}"),
                    };
                    assert!([code, 4, 3].contains(&code_found));
                    assert!(rig.driver.quarantined().debts > 0);
                }
                // The queue works, and what was not told is told by a coarser flush.
                let (other, pages) = mapped(&rig, format(&plan), OTHER);
                unmap_all(&rig, other).expect("the queue goes on");
                rig.assert_blocked(&read(OTHER, 0x7000));
                pages
                    .into_iter()
                    .for_each(|page| rig.platform.release(page));
                assert_only_queue_errors(&rig);
            }
        }
    }
}

#[test]
fn a_device_that_never_answers_costs_nobody_else_an_invalidation() {
    for plan in plans() {
        for position in 0.. {
            let rig = plan.start();
            eprintln!("{:?} at {position}", plan.mode);
            rig.assign(ONE, 1);
            let (domain, pages) = mapped(&rig, format(&plan), ONE);
            let victim = rig.domain(SILENT, format(&plan));
            rig.attach(SILENT, None, victim);
            rig.platform.take_events();
            let length = damage(&rig, position, Damage::Silent);
            let result = unmap_all(&rig, domain);
            let length = length.load(Ordering::Relaxed);
            if position >= length {
                assert_eq!(result, Ok(()));
                rig.assert_clean();
                break;
            }
            let events = rig.platform.take_events();
            let silent = events
                .iter()
                .any(|event| matches!(event, Event::DeviceSilent { .. }));
            if position + 1 == length {
                // No wait is left: the time limit ends it, or the repair of the queue.
                assert!(result.is_err());
            } else {
                assert!(silent, "{events:?}");
                assert_eq!(result, Err(FlushError::DeviceTimedOut(device(SILENT))));
                // Every range was told again: nothing leads to the pages.
                pages
                    .into_iter()
                    .for_each(|page| rig.platform.release(page));
            }
            // Cut off, and nobody else.
            rig.assert_blocked(&read(SILENT, 0x7000));
            let page = rig.page(1);
            rig.map(domain, 0x3000, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&read(ONE, 0x3000), page.hpa());
            rig.unmap(domain, 0x3000, 1);
            rig.platform.release(page);
            crate::rig::assert_clean(&rig.platform);
        }
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_noted_and_changes_nothing() {
    for plan in plans() {
        let rig = plan.start();
        let (domain, pages) = mapped(&rig, format(&plan), ONE);
        rig.with(|machine| machine.stray_completion(SILENT));
        rig.platform.take_events();
        unmap_all(&rig, domain).expect("flushed");
        rig.faults();
        let noted = rig.platform.take_events().into_iter().any(|event| {
            matches!(event, Event::UnexpectedCompletion { source, .. } if source.bits() == SILENT)
        });
        assert!(noted);
        pages
            .into_iter()
            .for_each(|page| rig.platform.release(page));
        // Once.
        unmap_all(&rig, domain).expect("flushed");
        rig.faults();
        assert!(
            rig.platform
                .take_events()
                .iter()
                .all(|event| !matches!(event, Event::UnexpectedCompletion { .. }))
        );
        rig.assert_clean();
    }
}

#[test]
fn a_unit_that_stops_answering_is_an_error_and_keeps_what_it_may_know() {
    for freedom in FREEDOMS {
        let mut plan = Plan::new(Config::legacy()).freedom(freedom);
        plan.limits.flush = Nanoseconds::from_millis(1);
        let rig = plan.start();
        let (domain, _pages) = mapped(&rig, TableFormat::SecondStage4, ONE);
        let taken = rig.taken();
        // The tail never reaches the unit: its queue lies elsewhere meanwhile.
        rig.platform.before_writes(|machine, unit, offset, _| {
            if offset == IQT {
                machine.write(unit, 0x18, Width::Dword, 0x8200_0000);
                machine.settle(8);
            }
        });
        let mut batch = rig.batch();
        let all = rig.driver.unmap(domain, crate::rig::range(0, 1 << 30));
        batch.add(all.expect("unmapped")).expect("room");
        let error = rig.driver.commit(&mut batch).expect_err("nobody answers");
        assert!(matches!(error, FlushError::UnitTimedOut { unit: 0, .. }));
        assert_eq!(rig.taken(), taken, "tables are kept");
        assert!(rig.driver.quarantined().frames > 0);
        rig.platform.take_violations();
    }
}

#[test]
fn many_cpus_share_a_queue_in_which_descriptors_are_refused() {
    for seed in 0..4 {
        let plan = Plan::new(Config::legacy()).freedom(Freedom::Random(seed));
        let sources: Vec<u16> = (0x100..0x104).collect();
        let plan = sources
            .iter()
            .fold(plan, |plan, &source| plan.device(source, 0));
        let rig = plan.start();
        let mut random = fastrand::Rng::with_seed(seed);
        rig.platform
            .before_writes(move |machine, unit, offset, tail| {
                if offset == IQT && random.u8(..4) == 0 {
                    let slots = queued(machine, unit, tail);
                    if let Some(&slot) = slots.first() {
                        machine.write_u64(slot, 0);
                    }
                }
            });
        let rig = &rig;
        let refused: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = sources
                .iter()
                .map(|&source| scope.spawn(move || churn(rig, source)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a thread that ends"))
                .sum()
        });
        assert!(refused > 0);
        assert_only_queue_errors(rig);
    }
}

/// Maps, unmaps and flushes; says how often a flush was refused.
fn churn(rig: &Rig, source: u16) -> usize {
    let domain = rig.domain(source, TableFormat::SecondStage4);
    let replaced = rig
        .driver
        .replace(crate::rig::slot(source, None), Attachment::Domain(domain))
        .expect("it leads there");
    drop(replaced);
    let page = rig.page(1);
    let run = iommu_core::Run {
        hpa: page.hpa(),
        pages: 1,
    };
    let mut refused = 0;
    for round in 0..20 {
        let at = iommu_core::Iova::new(0x1000 * (1 + round));
        let mapped = rig.driver.map(domain, at, &[run], Access::READ_WRITE);
        let unmapped = rig
            .driver
            .unmap(domain, iommu_core::AddressRange::page_of(at));
        let mut batch = rig.batch();
        batch.add(mapped.expect("mapped")).expect("room");
        batch.add(unmapped.expect("unmapped")).expect("room");
        match rig.driver.commit(&mut batch) {
            Ok(flushed) => rig.release(flushed),
            Err(FlushError::DescriptorRefused { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    refused
}
