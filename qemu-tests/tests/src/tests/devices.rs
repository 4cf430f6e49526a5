//! Several devices, each in its own domain.

use iommu_core::Access;

use crate::bench::{Arrival, Bench, Copier};
use crate::check::{Outcome, check, check_eq};
use crate::registry::boot_test;

boot_test!(
    one_address_of_two_devices_leads_to_two_pages,
    needs = "iommu-testdev",
    qemu = "11.1",
    provokes = "refused-dma"
);
fn one_address_of_two_devices_leads_to_two_pages(bench: &mut Bench) -> Outcome {
    let (copier, prober) = (bench.copier()?, bench.prober()?);
    let (ours, theirs) = (bench.domain(copier.id())?, bench.domain(prober.id())?);
    let (our_page, their_page, at) = (bench.page()?, bench.page()?, bench.address(&ours));
    ours.map(at, &our_page, Access::READ_WRITE)?;
    copier.attach(&ours)?;
    check_eq!(
        prober.write(at, our_page.hpa()),
        Arrival::Refused,
        "not attached"
    );

    theirs.map(at, &their_page, Access::READ_WRITE)?;
    theirs.attach(prober.id(), None)?;
    check_eq!(
        prober.write(at, their_page.hpa()),
        Arrival::Arrived,
        "its own page"
    );
    check!(
        our_page.is_unchanged(),
        "the other device's page was written"
    );

    bench.permitted(|| copier.load(at, Copier::PAGE))?;
    bench.permitted(|| copier.store(at, Copier::PAGE))?;
    check!(our_page.is_unchanged(), "the copier reads another's page");

    theirs.unmap(at)?;
    check_eq!(
        prober.write(at, their_page.hpa()),
        Arrival::Refused,
        "unmapped"
    );
    bench.permitted(|| copier.load(at, Copier::PAGE))
}
