//! Units that do not snoop: what is not written back is not seen.

use crate::rig::{FREEDOMS, ONE, Plan, read};
use iommu_core::{Access, TableFormat};
use vtd::ModeRequest;
use vtd_model::{Config, Outcome};

/// Maps a page with and without write-backs; says whether a device is sure to reach it.
fn reaches_what_is_mapped(config: &Config, mode: ModeRequest, lose: bool) -> Vec<bool> {
    FREEDOMS
        .iter()
        .map(|&freedom| {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .start();
            let format = match mode {
                ModeRequest::FirstStage => TableFormat::FirstStage4,
                _ => TableFormat::SecondStage4,
            };
            let domain = rig.domain(ONE, format);
            rig.attach(ONE, None, domain);
            let page = rig.page(1);
            rig.platform.lose_write_backs(lose);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            let possible = rig.with(|machine| machine.possible(&read(ONE, 0x7000)));
            possible
                == [Outcome::Memory {
                    address: page.hpa().as_u64(),
                }]
        })
        .collect()
}

#[test]
fn a_unit_that_does_not_snoop_reads_what_is_written_back() {
    for mode in [
        ModeRequest::Legacy,
        ModeRequest::SecondStage,
        ModeRequest::FirstStage,
    ] {
        let config = Config::scalable().non_coherent();
        let kept = reaches_what_is_mapped(&config, mode, false);
        assert!(kept.iter().all(|&reaches| reaches), "{mode:?}");
        let lost = reaches_what_is_mapped(&config, mode, true);
        assert!(lost.iter().all(|&reaches| !reaches), "{mode:?}");
    }
}

#[test]
fn a_unit_that_snoops_does_not_care() {
    for mode in [
        ModeRequest::Legacy,
        ModeRequest::SecondStage,
        ModeRequest::FirstStage,
    ] {
        for lose in [false, true] {
            let reaches = reaches_what_is_mapped(&Config::scalable(), mode, lose);
            assert!(reaches.iter().all(|&reaches| reaches), "{mode:?}");
        }
    }
}
