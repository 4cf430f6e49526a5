//! What the hardware remembers, and that it is made to forget.

use alloc::vec::Vec;
use iommu_core::{Access, Backend, Batch, Iova, PAGE_SIZE};

use crate::bench::{Bench, Copier, NOT_MAPPED};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

// Without this a test of invalidation would prove nothing: QEMU could be forgetting by itself.
boot_test!(
    a_translation_that_was_used_is_used_again_until_it_is_invalidated,
    provokes = "refused-dma"
);
fn a_translation_that_was_used_is_used_again_until_it_is_invalidated(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ_WRITE)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;

    let owed = domain.unmap_without_flush(at)?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;

    domain.settle(owed)?;
    bench.refused(&copier, at, Access::WRITE, NOT_MAPPED)?;
    bench.refused(&copier, at, Access::READ, NOT_MAPPED)?;
    Ok(())
}

boot_test!(a_page_that_is_replaced_is_reached_no_more);
fn a_page_that_is_replaced_is_reached_no_more(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (source, from) = (bench.page()?, bench.address(&domain));
    domain.map(from, &source, Access::READ)?;
    let (old, new, at) = (bench.page()?, bench.page()?, bench.address(&domain));
    domain.map(at, &old, Access::READ_WRITE)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;

    domain.unmap(at)?;
    domain.map(at, &new, Access::READ_WRITE)?;

    bench.permitted(|| copier.load(from, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(new.is_copy_of(&source), "the new page was not written");
    check!(old.is_unchanged(), "the old page was written");
    Ok(())
}

boot_test!(many_scattered_pages_cost_one_doorbell_and_one_wait);
fn many_scattered_pages_cost_one_doorbell_and_one_wait(bench: &mut Bench) -> Outcome {
    const PAGES: usize = 100;
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let page = bench.page()?;
    let mut addresses = Vec::new();
    for _ in 0..PAGES {
        // Every other page, or neighbours would be one range.
        let at = Iova::new(bench.address(&domain).as_u64() & !PAGE_SIZE);
        domain.map(at, &page, Access::READ)?;
        addresses.push(at);
    }

    let mut batch = Batch::with_capacity(PAGES).ok_or_else(Deviation::no_memory)?;
    for &at in &addresses {
        let owed = domain.unmap_without_flush(at)?;
        batch.add(owed).map_err(|_| Deviation::no_memory())?;
    }
    let flushed = bench.driver().commit(&mut batch)?;
    check_eq!(flushed.doorbells, 1, "doorbells");
    check_eq!(flushed.waits, 1, "waits");
    check!(
        flushed.descriptors > 1,
        "{} descriptors",
        flushed.descriptors
    );
    Ok(())
}

boot_test!(
    the_queue_goes_round,
    seconds = "60",
    provokes = "refused-dma"
);
fn the_queue_goes_round(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    let slots = bench.unit_registers()?.queue_slots();
    // Two descriptors at least for each unmapping.
    for _ in 0..slots / 2 + 8 {
        domain.map(at, &page, Access::READ)?;
        domain.unmap(at)?;
    }
    bench.refused(&copier, at, Access::READ, NOT_MAPPED)?;
    domain.map(at, &page, Access::READ)?;
    bench.permitted(|| copier.load(at, Copier::PAGE))
}
