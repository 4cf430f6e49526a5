//! Translation by PASID. No device of QEMU's tags requests with one; but QEMU 10.0 honours
//! RID_PASID of the context entry, so that the driver's test hooks can make a device's plain
//! requests walk the entry of any PASID.

pub(in crate::tests) mod guest;

use iommu_core::{Access, Pasid};

use crate::bench::{BLOCKED, Bench, Copier};
use crate::check::{Deviation, Outcome, check};
use crate::registry::boot_test;

/// Bits of PASID that the unit is taken to have.
pub(in crate::tests) const PASID_BITS: u8 = 10;

boot_test!(
    dma_goes_where_the_entry_of_a_pasid_says,
    qemu = "10.0 10.0.2",
    modes = "second-stage first-stage",
    provokes = "refused-dma"
);
fn dma_goes_where_the_entry_of_a_pasid_says(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let driver = bench.driver();
    driver.pretend_pasid_bits(copier.id(), PASID_BITS)?;
    let plain = bench.domain(copier.id())?;
    let tagged = bench.domain(copier.id())?;
    let (here, there, at) = (bench.page()?, bench.page()?, bench.address(&plain));
    plain.map(at, &here, Access::READ_WRITE)?;
    tagged.map(at, &there, Access::READ_WRITE)?;
    // Not in the directory's first table.
    let pasid = Pasid::new(0x155).ok_or_else(Deviation::no_memory)?;

    copier.attach(&plain)?;
    copier.attach_pasid(&tagged, pasid)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(there.is_unchanged(), "the domain of the PASID was written");

    driver.set_rid_pasid(copier.id(), pasid)?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(
        there.is_copy_of(&here),
        "the domain of the PASID was not written"
    );

    copier.block_pasid(&tagged, pasid)?;
    bench.refused(&copier, at, Access::WRITE, BLOCKED)
}

boot_test!(
    a_guest_binds_its_table_to_a_pasid_of_its_own_numbering,
    qemu = "10.0 10.0.2",
    modes = "second-stage first-stage",
    provokes = "refused-dma"
);
fn a_guest_binds_its_table_to_a_pasid_of_its_own_numbering(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    bench.driver().pretend_pasid_bits(copier.id(), PASID_BITS)?;
    bench.run_as_guest(guest::program)
}
