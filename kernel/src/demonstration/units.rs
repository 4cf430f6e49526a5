//! The units are on.

use super::step;
use crate::host::Host;
use crate::log::report::Verdict;

/// Reports which units translate, and whether interrupts are remapped.
pub fn units(host: &Host) {
    let remapping = host.remapping;
    step(
        Verdict::Pass,
        "translation",
        format_args!(
            "{} unit(s) translate in {} mode; every device without a reserved region is blocked",
            remapping.driver.units().count(),
            remapping.mode.name()
        ),
    );
    if remapping.interrupts {
        step(
            Verdict::Pass,
            "interrupt-remapping",
            format_args!("interrupts are remapped, compatibility format blocked"),
        );
    } else {
        step(
            Verdict::Skip,
            "interrupt-remapping",
            format_args!("the DMAR or a unit says that interrupts cannot be remapped"),
        );
    }
}
