//! Making slots lead elsewhere while devices do DMA.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, read, slot, write};
use crate::units::{self, Kind};
use iommu_core::{Access, Attachment, Backend, Stage, TableFormat};
use vtd_model::{Config, Rule};

pub(crate) fn formats(rig: &Rig) -> Vec<TableFormat> {
    let capabilities = rig.driver.capabilities(crate::rig::device(ONE));
    let capabilities = capabilities.expect("a unit");
    let mut formats = TableFormat::ALL.to_vec();
    formats.retain(|&format| capabilities.supports(format));
    formats
}

pub(crate) fn pasids(rig: &Rig) -> Vec<Option<u32>> {
    let capabilities = rig.driver.capabilities(crate::rig::device(ONE));
    match capabilities.expect("a unit").pasid_bits {
        0 => vec![None],
        _ => vec![None, Some(5)],
    }
}

fn request(pasid: Option<u32>, address: u64) -> vtd_model::Request {
    vtd_model::Request {
        pasid,
        ..read(ONE, address)
    }
}

#[test]
fn a_replacement_that_says_it_is_hitless_is() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            for pasid in pasids(&rig) {
                for before in formats(&rig) {
                    for after in formats(&rig) {
                        eprintln!("{name}, {pasid:?}, {before:?} to {after:?}, {freedom:?}");
                        replace_under_dma(&rig, pasid, before, after);
                    }
                }
            }
        }
    }
}

fn replace_under_dma(rig: &Rig, pasid: Option<u32>, before: TableFormat, after: TableFormat) {
    let page = rig.page(1);
    let [old, new] = [before, after].map(|format| {
        let domain = rig.domain(ONE, format);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        domain
    });
    rig.attach(ONE, pasid, old);
    let at = page.hpa().as_u64();
    rig.with(|machine| machine.expect(ONE, pasid, 0x7000, 0x1000, at, true));
    let replaced = rig
        .driver
        .replace(slot(ONE, pasid), Attachment::Domain(new))
        .expect("it leads there");
    assert_eq!(replaced.previous, Attachment::Domain(old));
    let hitless = replaced.hitless;
    rig.settle(replaced.owed);
    rig.with(|machine| {
        machine.release(ONE, pasid, 0x7000, 0x1000);
        machine.sweep();
    });
    let violations = rig.platform.take_violations();
    let missed = violations.iter().any(|v| v.rule == Rule::Availability);
    assert!(!(hitless && missed), "{violations:#?}");
    assert!(violations.iter().all(|v| v.rule == Rule::Availability));
    // Second to second stage, and legacy, are one store.
    if before.stage() == Stage::Second && after.stage() == Stage::Second {
        assert!(hitless);
    }
    rig.destroy(old);
    rig.assert_reaches(&request(pasid, 0x7008), page.hpa());
    rig.detach(ONE, pasid);
    rig.destroy(new);
    use iommu_core::Platform as _;
    rig.platform.release(page);
    rig.assert_clean();
}

#[test]
fn what_only_the_old_domain_had_is_gone_after_the_flush() {
    for Kind { name, config, mode } in units::all() {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            rig.assign(ONE, 1);
            for pasid in pasids(&rig) {
                for before in formats(&rig) {
                    for after in formats(&rig) {
                        eprintln!("{name}, {pasid:?}, {before:?} to {after:?}, {freedom:?}");
                        exchange_memory(&rig, pasid, before, after);
                    }
                }
            }
        }
    }
}

pub(crate) fn exchange_memory(
    rig: &Rig,
    pasid: Option<u32>,
    before: TableFormat,
    after: TableFormat,
) {
    use iommu_core::Platform as _;
    let [first, second] = [(); 2].map(|()| rig.page(1));
    let [old, new] = [before, after].map(|format| rig.domain(ONE, format));
    rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
    rig.map(old, 0x8000, first.hpa(), Access::READ_WRITE);
    rig.map(new, 0x7000, second.hpa(), Access::READ_WRITE);
    rig.attach(ONE, pasid, old);
    rig.assert_reaches(&request(pasid, 0x7000), first.hpa());
    rig.attach(ONE, pasid, new);
    rig.platform.release(first);
    rig.destroy(old);
    rig.assert_reaches(&request(pasid, 0x7000), second.hpa());
    rig.assert_blocked(&request(pasid, 0x8000));
    rig.detach(ONE, pasid);
    rig.platform.release(second);
    rig.assert_blocked(&request(pasid, 0x7000));
    rig.destroy(new);
    rig.assert_clean();
}

#[test]
fn pass_through_and_a_domain_take_turns() {
    for Kind { name, config, mode } in units::all() {
        if !config.pass_through {
            continue;
        }
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            for format in formats(&rig) {
                eprintln!("{name}, {format:?}, {freedom:?}");
                let page = rig.page(1);
                let domain = rig.domain(ONE, format);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                let through = write(ONE, page.hpa().as_u64());
                rig.lead(ONE, None, Attachment::PassThrough);
                rig.assert_reaches(&through, page.hpa());
                rig.attach(ONE, None, domain);
                rig.assert_blocked(&through);
                rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
                rig.lead(ONE, None, Attachment::PassThrough);
                rig.assert_reaches(&through, page.hpa());
                rig.detach(ONE, None);
                rig.assert_blocked(&through);
                rig.destroy(domain);
                use iommu_core::Platform as _;
                rig.platform.release(page);
                rig.assert_clean();
            }
        }
    }
}

#[test]
fn domain_ids_come_back_only_when_hardware_has_forgotten_them() {
    use iommu_core::Platform as _;
    use vtd::ModeRequest::{FirstStage, Legacy, SecondStage};
    let scalable = Config::scalable();
    for (config, mode, format) in [
        (Config::legacy(), Legacy, TableFormat::SecondStage4),
        (scalable.clone(), SecondStage, TableFormat::SecondStage4),
        (scalable, FirstStage, TableFormat::FirstStage4),
    ] {
        for freedom in FREEDOMS {
            let config = Config {
                domain_bits: 4,
                ..config.clone()
            };
            let rig = Plan::new(config).mode(mode).freedom(freedom).start();
            rig.assign(ONE, 1);
            rig.assign(OTHER, 1);
            // Far more domains than the 14 ids, each with another page at one address.
            for round in 0..40 {
                let source = [ONE, OTHER][round % 2];
                // So that tables do not lie where those of the domain before lay.
                let spacer = (round % 2 == 1).then(|| rig.page(1));
                let page = rig.page(1);
                let domain = rig.domain(source, format);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                rig.attach(source, None, domain);
                rig.assert_reaches(&read(source, 0x7000), page.hpa());
                rig.detach(source, None);
                rig.platform.release(page);
                rig.destroy(domain);
                spacer
                    .into_iter()
                    .for_each(|page| rig.platform.release(page));
            }
            rig.assert_clean();
        }
    }
}

#[test]
fn one_more_domain_than_there_are_ids_is_refused_and_changes_nothing() {
    let config = Config {
        domain_bits: 4,
        ..Config::legacy()
    };
    let mut plan = Plan::new(config);
    for source in 0x100..0x110 {
        plan = plan.device(source, 0);
    }
    let rig = plan.start();
    let mut attached = 0;
    for source in 0x100..0x110 {
        let domain = rig.domain(source, TableFormat::SecondStage4);
        match rig
            .driver
            .replace(slot(source, None), Attachment::Domain(domain))
        {
            Ok(replaced) => {
                rig.settle(replaced.owed);
                attached += 1;
            }
            Err(error) => {
                assert_eq!(error, iommu_core::BackendError::OutOfDomains);
                rig.assert_blocked(&read(source, 0x7000));
            }
        }
    }
    assert_eq!(attached, 14);
    rig.assert_clean();
}

#[test]
fn a_domain_across_units_changes_on_all_of_them() {
    use iommu_core::Platform as _;
    for freedom in FREEDOMS {
        let mut plan = Plan::new(Config::scalable()).freedom(freedom);
        plan.units.push(Config::scalable());
        plan.mode = vtd::ModeRequest::SecondStage;
        let rig = plan.device(OTHER, 1).start();
        rig.assign(ONE, 1);
        rig.assign(OTHER, 1);
        let domain = rig.domain(ONE, TableFormat::SecondStage4);
        rig.attach(ONE, None, domain);
        rig.attach(OTHER, None, domain);
        let page = rig.page(1);
        rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
        rig.assert_reaches(&read(ONE, 0x7000), page.hpa());
        rig.assert_reaches(&read(OTHER, 0x7000), page.hpa());
        rig.unmap(domain, 0x7000, 1);
        rig.platform.release(page);
        rig.assert_blocked(&read(ONE, 0x7000));
        rig.assert_blocked(&read(OTHER, 0x7000));
        rig.detach(ONE, None);
        rig.detach(OTHER, None);
        rig.destroy(domain);
        rig.assert_clean();
    }
}

#[test]
fn a_table_that_another_unit_could_not_read_is_refused_there() {
    let mut plan = Plan::new(Config::scalable()).mode(vtd::ModeRequest::SecondStage);
    plan.units.push(Config::scalable().non_coherent());
    let rig = plan.device(OTHER, 1).start();
    let snooped = rig.domain(ONE, TableFormat::SecondStage4);
    let written_back = rig.domain(OTHER, TableFormat::SecondStage4);
    let to = Attachment::Domain(snooped);
    assert!(rig.driver.replace(slot(OTHER, None), to).is_err());
    rig.attach(ONE, None, written_back);
    rig.attach(OTHER, None, written_back);
    let page = rig.page(1);
    rig.map(written_back, 0x7000, page.hpa(), Access::READ_WRITE);
    rig.assert_reaches(&read(OTHER, 0x7000), page.hpa());
    rig.assert_clean();
}

#[test]
fn an_id_that_another_device_of_the_domain_still_uses_is_given_to_nobody() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::legacy()).freedom(freedom).start();
        let [first, second] = [(); 2].map(|()| rig.page(1));
        let [old, new] = [(); 2].map(|()| rig.domain(ONE, TableFormat::SecondStage4));
        rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
        rig.map(new, 0x7000, second.hpa(), Access::READ_WRITE);
        rig.attach(ONE, None, old);
        rig.attach(OTHER, None, old);
        rig.detach(ONE, None);
        rig.attach(ONE, None, new);
        // Walks of both may be cached under one id now, if it was given out twice.
        rig.with(|machine| machine.sweep());
        rig.assert_reaches(&read(ONE, 0x7000), second.hpa());
        rig.assert_reaches(&read(OTHER, 0x7000), first.hpa());
        rig.assert_clean();
    }
}

#[test]
fn an_id_whose_flush_is_still_owed_is_given_to_nobody() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::legacy()).freedom(freedom).start();
        rig.assign(ONE, 1);
        rig.assign(OTHER, 2);
        let [first, second] = [1, 2].map(|owner| rig.page(owner));
        let [old, new] = [(); 2].map(|()| rig.domain(ONE, TableFormat::SecondStage4));
        rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
        rig.map(new, 0x8000, second.hpa(), Access::READ_WRITE);
        rig.attach(ONE, None, old);
        rig.assert_reaches(&read(ONE, 0x7000), first.hpa());
        let detached = rig.driver.replace(slot(ONE, None), Attachment::Blocked);
        let owed = detached.expect("detached").owed;
        rig.attach(OTHER, None, new);
        // What the first device's requests left in caches is under the old id.
        rig.assert_blocked(&read(OTHER, 0x7000));
        rig.assert_reaches(&read(OTHER, 0x8000), second.hpa());
        rig.settle(owed);
        rig.assert_clean();
    }
}

#[test]
fn one_of_two_devices_of_a_domain_is_led_elsewhere_without_the_other() {
    for freedom in FREEDOMS {
        let rig = Plan::new(Config::scalable())
            .mode(vtd::ModeRequest::FirstStage)
            .freedom(freedom)
            .start();
        let [first, second] = [(); 2].map(|()| rig.page(1));
        let [old, new] = [(); 2].map(|()| rig.domain(ONE, TableFormat::FirstStage4));
        rig.map(old, 0x7000, first.hpa(), Access::READ_WRITE);
        rig.map(new, 0x9000, second.hpa(), Access::READ_WRITE);
        rig.attach(ONE, None, old);
        rig.attach(OTHER, None, old);
        // Both are tagged alike in the caches: the new table must never stand beside the
        // old id.
        rig.attach(ONE, None, new);
        rig.assert_reaches(&read(ONE, 0x9000), second.hpa());
        rig.assert_reaches(&read(OTHER, 0x7000), first.hpa());
        rig.assert_blocked(&read(OTHER, 0x9000));
        rig.assert_clean();
    }
}
