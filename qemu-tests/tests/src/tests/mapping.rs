//! Where DMA goes: where the tables say, and nowhere else.

use iommu_core::{Access, Iova, PAGE_SIZE, Run};

use crate::bench::{Bench, Copier, NOT_MAPPED, WRITE_DENIED};
use crate::check::{Outcome, check};
use crate::registry::boot_test;

boot_test!(dma_goes_where_the_tables_say);
fn dma_goes_where_the_tables_say(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    for _ in 0..8 {
        let (source, target, bystander) = (bench.page()?, bench.page()?, bench.page()?);
        let (from, to) = (bench.address(&domain), bench.address(&domain));
        domain.map(from, &source, Access::READ)?;
        domain.map(to, &target, Access::READ_WRITE)?;

        bench.permitted(|| copier.load(from, Copier::PAGE))?;
        bench.permitted(|| copier.store(to, Copier::PAGE))?;

        check!(target.is_copy_of(&source), "{to} is not a copy of {from}");
        check!(source.is_unchanged(), "the source was written");
        check!(
            bystander.is_unchanged(),
            "a page that is not mapped was written"
        );
    }
    Ok(())
}

boot_test!(pages_that_lie_apart_are_one_stretch_to_the_device);
fn pages_that_lie_apart_are_one_stretch_to_the_device(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (source, from) = (bench.page()?, bench.address(&domain));
    domain.map(from, &source, Access::READ)?;

    // Of two neighbours the upper one lies lower, so that only the tables lead across.
    let (one, other) = (bench.page()?, bench.page()?);
    let (first, second) = match one.hpa() < other.hpa() {
        true => (other, one),
        false => (one, other),
    };
    let to = bench.address(&domain);
    domain.map_runs(to, &[first.run(), second.run()], Access::READ_WRITE)?;

    let middle = Iova::new(to.as_u64() + PAGE_SIZE / 2);
    bench.permitted(|| copier.load(from, Copier::PAGE))?;
    bench.permitted(|| copier.store(middle, Copier::PAGE))?;
    check!(!first.is_unchanged(), "the first page was not written");
    check!(!second.is_unchanged(), "the second page was not written");

    bench.permitted(|| copier.load(middle, Copier::PAGE))?;
    let (back, last) = (bench.page()?, bench.address(&domain));
    domain.map(last, &back, Access::READ_WRITE)?;
    bench.permitted(|| copier.store(last, Copier::PAGE))?;
    check!(back.is_copy_of(&source), "what was read back differs");
    Ok(())
}

boot_test!(
    an_address_beside_a_mapping_is_refused,
    provokes = "refused-dma"
);
fn an_address_beside_a_mapping_is_refused(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ_WRITE)?;
    for beside in [at.as_u64() - PAGE_SIZE, at.as_u64() + PAGE_SIZE] {
        bench.permitted(|| copier.load(at, Copier::PAGE))?;
        bench.refused(&copier, Iova::new(beside), Access::WRITE, NOT_MAPPED)?;
        bench.refused(&copier, Iova::new(beside), Access::READ, NOT_MAPPED)?;
    }
    check!(page.is_unchanged(), "the page was written");
    Ok(())
}

boot_test!(
    a_page_that_may_be_read_cannot_be_written,
    provokes = "refused-dma"
);
fn a_page_that_may_be_read_cannot_be_written(bench: &mut Bench) -> Outcome {
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let (page, at) = (bench.page()?, bench.address(&domain));
    domain.map(at, &page, Access::READ)?;
    bench.refused(&copier, at, Access::WRITE, WRITE_DENIED)?;
    check!(page.is_unchanged(), "the page was written");
    bench.permitted(|| copier.load(at, Copier::PAGE))?;

    domain.unmap(at)?;
    domain.map(at, &page, Access::READ_WRITE)?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(page.is_unchanged(), "the device wrote back something else");
    Ok(())
}

boot_test!(two_mebibytes_in_one_run_are_reached_to_the_last_page);
fn two_mebibytes_in_one_run_are_reached_to_the_last_page(bench: &mut Bench) -> Outcome {
    /// Pages of a leaf at level 2.
    const PAGES: u64 = 512;
    let copier = bench.copier()?;
    let domain = bench.domain(copier.id())?;
    copier.attach(&domain)?;
    let block = bench.block_of_pages(9)?;
    let at = Iova::new(bench.address(&domain).as_u64() & !(PAGES * PAGE_SIZE - 1));
    let run = Run {
        hpa: block.hpa(),
        pages: PAGES,
    };
    domain.map_runs(at, &[run], Access::READ_WRITE)?;

    let (source, from) = (bench.page()?, bench.address(&domain));
    domain.map(from, &source, Access::READ)?;
    bench.permitted(|| copier.load(from, Copier::PAGE))?;
    for page in [0, PAGES / 2, PAGES - 1] {
        let to = Iova::new(at.as_u64() + page * PAGE_SIZE);
        bench.permitted(|| copier.store(to, Copier::PAGE))?;
        let copied = source.was_copied_to(&block, page as usize);
        check!(copied, "page {page} was not written");
    }
    Ok(())
}
