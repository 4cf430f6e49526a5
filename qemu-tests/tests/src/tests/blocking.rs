//! Devices that nothing is allowed to.

use iommu_core::{Access, Iova};

use crate::bench::{BLOCKED, Bench, Copier};
use crate::check::{Outcome, check};
use crate::registry::boot_test;

boot_test!(
    a_device_that_nobody_allowed_is_blocked,
    provokes = "refused-dma"
);
fn a_device_that_nobody_allowed_is_blocked(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let page = bench.page()?;
    let address = Iova::new(page.hpa().as_u64());
    bench.refused(&copier, address, Access::WRITE, BLOCKED)?;
    bench.refused(&copier, address, Access::READ, BLOCKED)?;
    check!(page.is_unchanged(), "the page was written");
    Ok(())
}

boot_test!(
    a_device_that_is_detached_is_blocked_again,
    provokes = "refused-dma"
);
fn a_device_that_is_detached_is_blocked_again(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ_WRITE)?;

    copier.attach(&domain)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;

    copier.block(&domain)?;
    bench.refused(&copier, at, Access::WRITE, BLOCKED)?;

    copier.attach(&domain)?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(page.is_unchanged(), "the device wrote back something else");
    Ok(())
}
