//! A unit's registers after it was brought up, as the unit itself shows them.

use vtd::registers::{Fsts, Gsts, Iqh, Iqt, Rtaddr, TableMode};

use crate::bench::Bench;
use crate::check::{Outcome, check, check_eq};
use crate::registry::boot_test;

boot_test!(
    a_unit_that_was_brought_up_has_everything_on,
    qemu = "11.1 10.0 10.0.2"
);
fn a_unit_that_was_brought_up_has_everything_on(bench: &mut Bench) -> Outcome {
    let mode = bench.host().remapping.mode;
    let unit = bench.unit_registers()?;
    let status: Gsts = unit.read32();
    check!(status.tes(), "translation is off: {status:?}");
    check!(status.rtps(), "no root table: {status:?}");
    check!(status.qies(), "the queue is off: {status:?}");
    check!(status.ires(), "interrupt remapping is off: {status:?}");
    check!(status.irtps(), "no interrupt remapping table: {status:?}");

    let expected = match mode.is_scalable() {
        true => TableMode::Scalable,
        false => TableMode::Legacy,
    };
    check_eq!(unit.read64::<Rtaddr>().ttm(), expected, "table mode");
    let (head, tail): (Iqh, Iqt) = (unit.read64(), unit.read64());
    check_eq!(
        head.into_bits(),
        tail.into_bits(),
        "head and tail of the queue"
    );
    let faults: Fsts = unit.read32();
    check_eq!(faults.into_bits(), 0, "fault status");
    Ok(())
}
