//! What the driver says would become of a request is what becomes of it.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, read, reason_of, slot, write};
use crate::units;
use iommu_core::{Access, Backend, Iova, TableFormat};
use vtd_model::{Outcome, Request};

/// Asks the driver, and holds its word against hardware.
#[track_caller]
fn agree(rig: &Rig, request: &Request) {
    let access = match request.access {
        vtd_model::Access::Write => Access::WRITE,
        _ => Access::READ,
    };
    let mut steps = 0;
    let said = rig.driver.explain(
        slot(request.source, request.pasid),
        Iova::new(request.address),
        access,
        &mut |_| steps += 1,
    );
    assert!(steps > 0, "{request:x?}: a walk has steps");
    for outcome in rig.with(|machine| machine.possible(request)) {
        let becomes = match outcome {
            Outcome::Memory { address } => Ok(address & !0xfff),
            refused => Err(reason_of(&refused).expect("a reason")),
        };
        let said = said.map(|hpa| hpa.as_u64() & !0xfff);
        assert_eq!(said, becomes, "{request:x?}");
    }
}

#[test]
fn the_explanation_of_a_request_is_its_fate() {
    for kind in units::all() {
        for freedom in FREEDOMS {
            eprintln!("{} {freedom:?}", kind.name);
            let rig = Plan::new(kind.config.clone())
                .mode(kind.mode)
                .freedom(freedom)
                .start();
            let can = rig
                .driver
                .capabilities(crate::rig::device(ONE))
                .expect("a unit");
            for format in TableFormat::ALL {
                if !can.supports(format) {
                    continue;
                }
                rig.assign(ONE, 1);
                let domain = rig.domain(ONE, format);
                let pages = [(); 2].map(|()| rig.page(1));
                rig.map(domain, 0x7000, pages[0].hpa(), Access::READ_WRITE);
                rig.map(domain, 0x8000, pages[1].hpa(), Access::READ);
                rig.attach(ONE, None, domain);
                let beyond = [1u64 << 39, 1 << 48, 1 << 57, 0xffff_8000_0000_0000];
                for address in [0x7000, 0x8000, 0x9000, 0x4000_0000]
                    .into_iter()
                    .chain(beyond)
                {
                    agree(&rig, &read(ONE, address));
                    agree(&rig, &write(ONE, address));
                    agree(&rig, &read(OTHER, address));
                }
                rig.detach(ONE, None);
                agree(&rig, &read(ONE, 0x7000));
                rig.destroy(domain);
                for page in pages {
                    iommu_core::Platform::release(&*rig.platform, page);
                }
            }
            rig.faults();
            rig.assert_clean();
        }
    }
}
