//! Failures that drivers of remapping hardware, and hypervisors around them, are known for.
//!
//! Each test is named after one of them (an advisory of Xen's, a CVE), and shows that what
//! went wrong there does not happen here. `docs/security.md` has the table: what each was,
//! what keeps it from happening, and where its tests are.

mod entries;
mod flushes;
mod guests;
mod interrupts;
mod locks;
mod queues;
mod sources;
mod teardown;

use crate::rig::{FREEDOMS, ONE, Plan, Rig, device};
use crate::units;
use iommu_core::{Backend, TableFormat};

/// Units that differ in what these tests are about.
const KINDS: [&str; 9] = [
    "legacy",
    "legacy, 39 bits",
    "legacy, caching mode",
    "legacy, not coherent",
    "legacy, write buffer",
    "second stage",
    "first stage",
    "first stage, not coherent",
    "everything",
];

/// The first format that a device's unit has.
fn format(rig: &Rig) -> TableFormat {
    let capabilities = rig.driver.capabilities(device(ONE)).expect("a unit");
    let supported = |format: &TableFormat| capabilities.supports(*format);
    TableFormat::ALL
        .into_iter()
        .find(supported)
        .expect("a format")
}

/// On units of many kinds, with a format that each has.
fn each(mut test: impl FnMut(&Rig, TableFormat)) {
    let mut tried = 0;
    for kind in units::all() {
        if !KINDS.contains(&kind.name) {
            continue;
        }
        tried += 1;
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", kind.name);
            let plan = Plan::new(kind.config.clone());
            let rig = plan.mode(kind.mode).freedom(freedom).start();
            let format = format(&rig);
            test(&rig, format);
            rig.assert_clean();
        }
    }
    assert_eq!(tried, KINDS.len());
}
